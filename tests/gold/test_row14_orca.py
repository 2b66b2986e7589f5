"""Row 14, Orca: what batches lose that start and end together, cause by cause."""

import pytest

from planner.costs import batching


@pytest.fixture
def longest(number):
    """Return the mean of the largest of ``count`` numbers, by our closed form."""
    return lambda count, least, most: number(batching.longest_of(count), least_osl=least, most_osl=most)


def exact(count, least, most):
    values = most - least + 1
    return most - sum((j / values) ** count for j in range(1, values))


def test_the_longest_of_a_batch(gold, longest):
    gold.check("longest_of_8", longest(8, **gold.inputs))
    mean = (gold.inputs["least"] + gold.inputs["most"]) / 2
    for count in (8, 16, 32):
        gold.check(f"efficiency_{count}", mean / longest(count, **gold.inputs))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 32, 128, 1000])
@pytest.mark.parametrize(("least", "most"), [(1, 128), (5, 5), (1, 2), (100, 2000), (3, 12)])
def test_the_closed_form_is_the_sum(longest, count, least, most):
    assert longest(count, least, most) == pytest.approx(exact(count, least, most), abs=0.2)


def test_whatever_ends_early_waits(gold):
    """Early finish alone: the same batches with outputs spread, and all of the mean length."""
    size = "search={mean_running: [8, 16, 24, 32]}"
    spread, equal = (gold.solve(*gold.ablations[name]["set"], size) for name in ("early_finish", "equal"))
    (waiting,), (even,) = spread.deployments, equal.deployments
    gold.check("early_finish", waiting.predicted.tpot_ms / even.predicted.tpot_ms)
    assert waiting.batch_efficiency < 0.565
    assert even.batch_efficiency == 1
    assert waiting.requests_per_s < even.requests_per_s


def test_what_each_cause_costs(gold):
    """Attribution: late joins, early finish and reservation, each on top of the one before."""
    steps = [gold.solve(), *(gold.ablated(name) for name in ("equal", "early_finish", "request"))]
    iteration, equal, early, request = (plan.predicted.requests_per_s for plan in steps)
    assert request < early < equal
    assert early < iteration
    gold.check("whole_policy", iteration / request)
    assert steps[1].predicted.ttft_ms > 5 * steps[0].predicted.ttft_ms  # whoever comes late waits half a batch


def test_reservation_keeps_the_batch_small(gold, number):
    plan = gold.ablated("request")
    (deployment,) = plan.deployments
    whole = 2048 * 2 * 40 * 5120 * 2  # byte of a request of 2048 tokens on OPT-13B
    gold.check("reserved_batch", deployment.memory_bytes.kv_cache // whole)
    eight = "search={mean_running: 8, max_num_seqs: [8, 16, 24, 32, 64]}"
    assert gold.solve(*gold.ablations["request"]["set"], eight).termination.reason == "infeasible"
    assert gold.solve(eight).termination.reason == "optimal"


def test_the_spread_at_which_waiting_costs_a_third(gold):
    """The sheet of the row: the wider outputs spread, the less a batch's steps are used."""

    def efficiency(spread):
        changes = (f"workloads.chat.output_range=[{64 - spread} token, {64 + spread} token]",)
        plan = gold.solve(*gold.ablations["early_finish"]["set"], *changes, "search={mean_running: 16}")
        return plan.deployments[0].batch_efficiency

    found = [efficiency(spread) for spread in (0, 8, 32, 63)]
    assert found == sorted(found, reverse=True)
    assert found[0] == 1
    assert found[2] > 2 / 3 > found[3]
