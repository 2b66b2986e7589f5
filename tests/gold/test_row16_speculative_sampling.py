"""Row 16, speculative sampling: what drafts gain, how many are best, and the load at which they stop paying."""

import numpy as np
import pytest

from planner.columns.evaluate import accepted_tokens, figures
from planner.columns.setting import settings

ALONE = "search={roles: mixed, tp: 8, pp: 1, mean_running: %d}"
ANY_LATENCY = "workloads.chat.slo={}"


def gain(acceptance, drafts, cost):
    """Tokens per loop over the loop's time in tokens of the target alone; ``cost`` of a draft over that of a token."""
    return accepted_tokens((acceptance,) * 15, np.asarray(drafts)) / (1 + np.asarray(drafts) * cost)


@pytest.mark.parametrize("acceptance", [0.3, 0.6, 0.711, 0.9])
def test_accepted_tokens_are_the_closed_form(acceptance):
    drafts = np.arange(16)
    exact = (1 - acceptance ** (drafts + 1)) / (1 - acceptance)
    assert accepted_tokens((acceptance,) * 15, drafts) == pytest.approx(exact, rel=1e-12)


def test_the_papers_speeds(gold):
    given = gold.inputs
    loop = given["drafts"] * given["draft"] + given["target"]
    gold.check("loop", loop)
    for name in ("xsum_nucleus", "xsum_greedy", "humaneval"):
        tokens = accepted_tokens((given["acceptance"][name],) * given["drafts"], np.array(given["drafts"]))
        gold.check(f"{name}", loop / tokens)


@pytest.mark.parametrize("acceptance", ["0.6", "0.7", "0.8", "0.9"])
def test_the_best_number_of_drafts(gold, acceptance):
    cost = gold.inputs["draft"] / gold.inputs["target"]
    gains = gain(float(acceptance), np.arange(gold.inputs["most_drafts"] + 1), cost)
    gold.check(f"best_drafts_{acceptance}", int(np.argmax(gains)))
    gold.check(f"gain_{acceptance}", gains.max())


def test_a_loop_is_its_drafts_and_one_check(gold, axes_of):
    """A step of the scenario's model: k drafts, and a check that few requests pay little for.

    The first token of a decode replica comes after half a step and a step.
    """

    def loop(drafts, *changes):
        setting = next(s for s in settings(gold.case(*changes)) if s.role == "decode")
        return figures(setting, axes_of(tp=8, mean_running=1, speculative_tokens=drafts))["ttft"].item() / 1.5

    twice = loop(4, "models.chat.speculative.draft_time=3.6 ms")
    assert twice - loop(4) == pytest.approx(4 * gold.inputs["draft"], rel=1e-9)
    # What no longer hides is the time of the host: no engine schedules ahead of a separate draft model.
    assert loop(0) < loop(4) - 4 * gold.inputs["draft"] < 1.2 * loop(0)


def test_drafts_fall_to_none_as_load_grows(gold):
    """The sheet of the row: a check of many requests' drafts takes the time of so many tokens more."""
    chosen, gains = [], []
    for running in (1, 16, 32, 64, 256):
        ours, without = (
            gold.solve(ANY_LATENCY, ALONE % running, *changes) for changes in ([], gold.ablations["none"]["set"])
        )
        chosen.append(ours.deployments[0].speculative_tokens)
        gains.append(ours.objective.value / without.objective.value)
    # One request alone: its check is padded to the same graph whether it has three drafts or four.
    assert chosen[1:] == sorted(chosen[1:], reverse=True)
    assert min(chosen[:2]) == 3
    assert chosen[-1] == 0
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] == pytest.approx(1)
    gold.check("gain_of_one_request", gains[0])


def test_the_load_at_which_drafts_stop_paying(gold):
    low, high = 64, 512
    while high - low > 16:
        middle = (low + high) // 2
        drafts = gold.solve(ANY_LATENCY, ALONE % middle).deployments[0].speculative_tokens
        low, high = (middle, high) if drafts else (low, middle)
    assert 128 < low < 256


def test_the_acceptance_from_which_drafts_pay(gold):
    """At 16 requests a draft must be accepted about as often as it costs of a step, and one chance is enough."""

    def drafts(acceptance):
        changed = f"models.chat.speculative.acceptance=[{acceptance}, {acceptance}]"
        return gold.solve(ANY_LATENCY, ALONE % 16, changed).deployments[0].speculative_tokens

    low, high = 0.05, 0.9
    assert (drafts(low), drafts(high)) == (0, 2)
    while high - low > 0.02:
        middle = round((low + high) / 2, 3)
        low, high = (low, middle) if drafts(middle) else (middle, high)
    assert 0.15 < high < 0.45


def test_without_drafts_less_or_nothing(gold):
    ours, without, strict = gold.solve(), gold.ablated("none"), gold.ablated("strict")
    assert any(d.speculative_tokens for d in ours.deployments)
    assert without.objective.value < 0.25 * ours.objective.value
    assert any(d.speculative_tokens for d in strict.deployments)
    both = [*gold.ablations["strict"]["set"], *gold.ablations["none"]["set"]]
    assert gold.solve(*both).termination.reason == "infeasible"


def test_a_loose_limit_needs_no_drafts(gold):
    plan = gold.ablated("loose")
    assert {d.speculative_tokens for d in plan.deployments} == {0}
    assert plan.objective.value == pytest.approx(
        gold.solve(*gold.ablations["loose"]["set"], *gold.ablations["none"]["set"]).objective.value
    )
