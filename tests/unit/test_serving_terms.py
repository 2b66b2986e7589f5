"""What steps carry, and how steps become rates and latencies: batches, drafts, slots, preemption."""

import itertools
import math

import numpy as np
import pytest
import sympy

from planner.columns.evaluate import accepted_tokens, figures, structure_of, symbol_values
from planner.costs.compile import compiled
from planner.costs.serving import slots_for
from planner.costs.step import chunk_batch, decode_batch, decode_context
from planner.table import RESOURCES


def first(values):
    return {name: float(np.ravel(value)[0]) for name, value in values.items()}


@pytest.fixture
def evaluated(inside, axes_of):
    """Return a function that gives figures and intermediate results of one configuration by name."""

    def found(setting, **axes):
        given = axes_of(**axes)
        return first(figures(setting, given)) | first(inside(setting, given))

    return found


# --- batches


def test_a_decode_step_multiplies_padded_rows_but_reads_the_cache_of_real_requests(value):
    batch = decode_batch(sympy.Integer(16), sympy.Integer(24))
    known = {"isl": 900, "osl": 200, "pp": 2}
    assert value(batch.tokens) == value(batch.logit_rows) == 16
    assert value(batch.decoding, **known) == 12
    assert value(batch.decode_context, **known) == 1000
    assert (batch.prefill, batch.prefill_context, batch.prefill_cached) == (0, 0, 0)


def test_drafts_are_rows_to_verify(value):
    batch = decode_batch(sympy.Integer(16), sympy.Integer(16))
    known = {"drafts": 3, "dp": 4, "isl": 900, "osl": 200}
    assert value(batch.tokens, **known) == value(batch.logit_rows, **known) == 16 * 4
    assert value(batch.group_tokens, **known) == 4 * 16 * 4
    assert value(batch.queries, **known) == 4
    assert value(batch.decoding, **known) == 16 / 4


@pytest.mark.parametrize(("tokens", "cached"), [(1000, 1000), (500, (500 + 1000) / 2), (2000, 2000)])
def test_a_chunk_reads_the_keys_before_it(value, tokens, cached):
    """Halves of a 1000-token prompt read 500 and 1000 keys; two whole prompts in one step read 2000."""
    assert value(chunk_batch(sympy.Integer(tokens)).prefill_cached, isl=1000) == cached


@pytest.mark.parametrize("tokens", [1, 100, 500, 999, 1000, 3000])
def test_the_last_chunk_of_a_prompt_is_the_worst(value, tokens):
    """Its tokens attend to nearly all of the prompt, and it reads all keys; a whole prompt is its own last chunk."""
    mean, last = (chunk_batch(sympy.Integer(tokens), last=last) for last in (False, True))
    for field in ("prefill_context", "prefill_cached"):
        assert value(getattr(last, field), isl=1000) >= value(getattr(mean, field), isl=1000)
    if tokens <= 1000:
        seen = np.mean(1000 - tokens + np.arange(tokens) + 0.5)
        assert value(last.prefill_context, isl=1000) == pytest.approx(seen)
        assert value(last.prefill_cached, isl=1000) == 1000
    if tokens >= 1000:
        assert value(last.prefill_context, isl=1000) == value(mean.prefill_context, isl=1000) == 500


def test_chunks_of_a_prompt_attend_to_half_of_it_on_average(value):
    """The causal triangle, whatever the size of the chunks."""
    parts = [(start, min(start + 300, 1000)) for start in range(0, 1000, 300)]
    attended = sum((end - start) * (start + end) / 2 for start, end in parts)
    assert value(chunk_batch(sympy.Integer(300)).prefill_context, isl=1000) == attended / 1000


def test_chunk_step_has_prompt_and_decode_rows(value):
    batch = chunk_batch(sympy.Integer(500))
    known = {"isl": 1000, "osl": 200, "running": 12, "pp": 3}
    assert value(batch.tokens, **known) == 504
    assert value(batch.logit_rows, **known) == 5
    assert value(chunk_batch(sympy.Integer(3000)).logit_rows, **known) == 7
    alone = chunk_batch(sympy.Integer(500), decoding=sympy.Integer(0))
    assert (value(alone.tokens), value(alone.logit_rows, isl=1000)) == (500, 1)


def test_one_attention_rank_has_the_mean_context(value):
    for requests in (1, 7, 100):
        assert value(decode_context(sympy.Integer(requests)), isl=900, osl=200) == 1000


@pytest.mark.parametrize("ranks", [2, 8, 32])
@pytest.mark.parametrize("requests", [1, 4, 64])
def test_ranks_in_lock_step_wait_for_the_one_with_most_cache(value, ranks, requests):
    """Requests at random points of their output: the largest of the ranks' mean contexts, drawn 4000 times."""
    draws = np.random.default_rng(9)
    held = 900 + draws.uniform(0, 200, (4000, ranks, requests)).mean(axis=2).max(axis=1)
    found = value(decode_context(sympy.Integer(requests)), isl=900, osl=200, dp=ranks)
    assert held.mean() - 900 <= found - 900 <= 1.3 * (held.mean() - 900)
    assert found <= 1100  # no request is longer


# --- drafts


@pytest.mark.parametrize("chance", [0.1, 0.7, 0.95])
@pytest.mark.parametrize("drafts", [0, 1, 3, 7])
def test_equal_chances_accept_a_geometric_series(chance, drafts):
    found = accepted_tokens((chance,) * 7, np.array([float(drafts)]))
    assert found[0] == pytest.approx((1 - chance ** (drafts + 1)) / (1 - chance))


def test_a_draft_counts_only_if_all_before_it_do():
    draws = np.random.default_rng(4)
    chances = (0.9, 0.6, 0.3)
    kept = np.cumprod(draws.random((100_000, 3)) < chances, axis=1)
    found = accepted_tokens(chances, np.array([0.0, 1.0, 2.0, 3.0]))
    assert found == pytest.approx([1, *(1 + kept.cumsum(axis=1).mean(axis=0))], rel=0.01)
    assert accepted_tokens((1.0, 1.0), np.array([2.0])) == 3
    assert accepted_tokens((), np.array([0.0])) == 1


DRAFTED = ("models.chat.speculative={acceptance: [0.8, 0.6], draft_time: 2 ms}",)


def test_drafts_take_their_time_and_gain_tokens(setting_of, evaluated):
    setting = setting_of("Qwen3-8B", changes=DRAFTED)
    plain, drafted = (evaluated(setting, mean_running=16, speculative_tokens=n) for n in (0, 2))
    assert plain["draft_step"] == 0
    assert drafted["draft_step"] == pytest.approx(2 * 2e-3)
    # the step with drafts is longer by them and by what verifying adds; TPOT is shared out over the tokens gained
    assert drafted["decode_step"] > plain["decode_step"] + 2 * 2e-3
    slower = setting._replace(speculative=setting.speculative._replace(seconds=5e-3))
    assert evaluated(slower, mean_running=16, speculative_tokens=2)["decode_step"] == pytest.approx(
        drafted["decode_step"] + 2 * 3e-3
    )
    # A free draft still is the model's own: there the engine prepares the next step while the device works.
    free = setting._replace(speculative=setting.speculative._replace(seconds=0.0))
    assert evaluated(free, mean_running=16, speculative_tokens=2)["decode_step"] < drafted["decode_step"] - 4e-3
    assert drafted["tpot_steady"] == pytest.approx(drafted["fluid_step"] / (1 + 0.8 + 0.48))


def test_the_model_s_own_draft_module_costs_a_layer_and_a_head(setting_of, evaluated):
    setting = setting_of("DeepSeek-V3", "h200-sxm", changes=("models.chat.speculative={acceptance: [0.85]}",))
    found = [evaluated(setting, tp=8, ep=8, mean_running=16, speculative_tokens=n) for n in (0, 1)]
    assert found[0]["draft_step"] == 0
    one_of_61 = found[0]["decode_step"] / 61
    assert 0.8 * one_of_61 < found[1]["draft_step"] < 4 * one_of_61
    assert found[1]["weights_bytes"] > found[0]["weights_bytes"]
    assert found[1]["tpot_steady"] < found[0]["tpot_steady"]


# --- slots


LOAD = {"running": 100, "isl": 1000, "osl": 101}


@pytest.fixture
def slots(value):
    return lambda prefilling, dispersion, **known: value(
        slots_for(sympy.Rational(prefilling), sympy.Rational(dispersion)), **LOAD | known
    )


def test_slots_leave_z_deviations_above_running_and_prefilling(slots):
    roomy = {"token_budget": 10**6}
    assert slots(1, 1, occupancy_sigmas=0, **roomy) == pytest.approx(101)
    assert slots(1, 1, occupancy_sigmas=2, **roomy) == pytest.approx(101 + 2 * math.sqrt(101))
    assert slots(4, 3, occupancy_sigmas=2, **roomy) == pytest.approx(104 + 2 * math.sqrt(304))
    # of four attention ranks, each has a quarter
    assert slots(4, 3, occupancy_sigmas=2, dp=4, **roomy) == pytest.approx(29 + 2 * math.sqrt(79))


def test_slots_never_exceed_what_the_budget_can_keep_running(slots):
    """b decodes and the b·isl/(osl−1) prompt tokens they need fill a budget of b·(isl+osl−1)/(osl−1) tokens: here 1 and
    10 per request, so 1210 tokens keep 110 running, and only prompts in prefill come on top."""
    assert slots(4, 1, occupancy_sigmas=2, token_budget=1210) == pytest.approx(100 + 4 + 110 - 100)
    # the deviations of those in prefill are always left
    assert slots(4, 1, occupancy_sigmas=2, token_budget=1111) == pytest.approx(100 + 4 + 2 * math.sqrt(4))
    # two stages hold two micro-batches
    assert slots(4, 1, occupancy_sigmas=2, token_budget=605) < slots(4, 1, occupancy_sigmas=2, token_budget=1210)
    assert slots(4, 1, occupancy_sigmas=2, token_budget=605, pp=2) == pytest.approx(114)
    # with two tokens gained of three rows, as many prompts start in half as many steps
    drafted = slots(4, 1, occupancy_sigmas=2, token_budget=2530, drafts=2, accepted=2)
    assert drafted == pytest.approx(114)


# --- preemption, stalls, worst token


@pytest.fixture
def override(axes_of):
    """Return a function that evaluates one configuration with some symbols changed."""

    def found(setting, changes, **axes):
        values = symbol_values(setting, axes_of(**axes)) | changes
        with np.errstate(all="ignore"):
            return first(compiled(*structure_of(setting))(**values))

    return found


def test_preemption_costs_a_share_of_recomputing_or_swapping(setting_of, evaluated, override):
    setting = setting_of("Qwen3-8B")
    found = evaluated(setting, mean_running=32)
    share = math.erfc(2 / math.sqrt(2)) / 2
    held = 3000 + 150 + 8
    again = held / found["prompt_budget"] * found["full_step"]
    swap = 2 * found["kv_mean_request_bytes"] / 64e9
    assert found["preemption_time"] == pytest.approx(share * min(again, swap) / 300)
    never = override(setting, {"overflow_share": 0.0}, mean_running=32)
    assert never["tpot"] == pytest.approx(found["tpot"] - found["preemption_time"])
    assert never["tpot_steady"] == found["tpot_steady"]
    # with a slow link it is computed again, with a fast one it is moved
    for link, each in ((1e6, again), (1e15, 0.0)):
        slow = override(setting, {"host_link": link}, mean_running=32)
        assert slow["tpot"] == pytest.approx(never["tpot"] + share * each / 300)


def test_prompts_share_steps_or_stall_them(setting_of, override):
    """An engine that does not mix runs the prompt's step, then the decode step that waited."""
    setting = setting_of("Qwen3-8B", "ascend-910b3")
    mixed, separate = (override(setting, {"mixed_steps": m}, mean_running=32) for m in (1.0, 0.0))
    assert separate["itl"] > mixed["itl"]
    assert separate["prefill_budget"] == 2048
    assert mixed["prefill_budget"] == 2048 - 32


def test_the_worst_token_waits_for_the_last_chunk(setting_of, evaluated):
    setting = setting_of("Llama-3.1-8B", isl=12000)
    found = evaluated(setting, mean_running=8)
    assert found["itl"] == found["worst_token_step"] > found["mixed_step"] > found["decode_step"]
    # a prompt in one chunk is its own last one
    short = evaluated(setting_of("Llama-3.1-8B", isl=1000), mean_running=8)
    assert short["itl"] == pytest.approx(short["mixed_step"])


@pytest.mark.parametrize(
    ("model", "degrees"),
    [("Qwen3-32B", {"tp": 4, "pp": 2}), ("DeepSeek-V3", {"attention_dp": 16, "ep": 16}), ("gpt-oss-120b", {"tp": 2})],
)
def test_figures_agree_with_the_steps_behind_them(setting_of, evaluated, model, degrees):
    setting = setting_of(model, "h200-sxm")
    found = evaluated(setting, mean_running=64, **degrees)
    stages = degrees.get("pp", 1)
    assert found["rate"] == pytest.approx(64 / (found["tpot"] * 299))
    assert found["in_flight"] == pytest.approx(found["rate"] * (found["ttft"] + 299 * found["tpot"]))
    steps = [found[f"{name}_step"] for name in ("decode", "fluid", "mixed", "full")]
    assert all(low <= high * (1 + 1e-12) for low, high in itertools.pairwise(steps))
    assert found["tpot"] >= found["tpot_steady"] == pytest.approx(stages * found["fluid_step"])
    assert found["prompt_seconds"] >= stages * found["mixed_step"] * (1 - 1e-12)
    for step in ("decode", "chunk", "full", "worst"):
        assert found[f"{step}_step"] >= max(found[f"{step}_{name}"] for name in RESOURCES if name != "host") * (
            1 - 1e-9
        )


def test_a_step_with_more_attention_ranks_is_more_often_slowed_by_a_prompt(setting_of, evaluated):
    """All ranks wait where one of them has a prompt: 1 − (1 − share)^ranks of the steps."""
    setting = setting_of("DeepSeek-V3", "h200-sxm")
    found = evaluated(setting, attention_dp=8, ep=8, mean_running=128)
    slowed = 1 - (1 - found["mixed_share"]) ** 8
    expected = found["decode_step"] + slowed * (found["mixed_step"] - found["decode_step"])
    assert found["fluid_step"] == pytest.approx(expected)
    # tokens of all ranks in such a step, so that nothing is lost on average
    assert found["group_chunk"] * slowed == pytest.approx(8 * found["prompt_inflow"])
