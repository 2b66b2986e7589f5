"""Row 12, FlashAttention: traffic of the scores, and a context that fits only without them in memory."""

import math

import pytest
import sympy

from planner.costs.operators.attention import Shape, prefill


@pytest.fixture
def kernel(gold, number):
    """Return traffic [byte] of the published case under our kernel, for a number of passes over the scores."""
    n, d, heads, batch = (gold.inputs[key] for key in ("tokens", "head_dim", "heads", "batch"))
    shape = Shape(*map(sympy.Integer, (heads, d, d, 2 * d * heads)))

    def traffic(passes):
        known = {"isl": n, "kv_bytes": 2, "activation_bytes": 2, "score_passes": passes}
        return batch * number(prefill(sympy.Integer(n), sympy.Integer(n), sympy.Integer(n), shape).hbm_bytes, **known)

    return traffic


def test_traffic_of_scores_in_memory(gold, kernel):
    gold.check("standard_traffic", kernel(gold.inputs["score_passes"]))


def test_traffic_of_scores_on_chip(gold, kernel):
    gold.check("flash_traffic_at_least", kernel(0))
    n, d, tensors = gold.inputs["tokens"], gold.inputs["head_dim"], gold.inputs["batch"] * gold.inputs["heads"]
    rounds = n / math.ceil(gold.inputs["on_chip_bytes"] / 2 / (4 * d))  # blocks of keys: B_c = ⌈M/4d⌉
    # forward: K, V once, Q read, O read and written per block; backward: K, V read, dK, dV written, Q, O, dO, dQ twice
    passes = 2 + 3 * math.ceil(rounds) + 4 + 5 * math.ceil(rounds)
    gold.check("flash_traffic", passes * n * d * 2 * tensors)


def test_ratios(gold):
    standard, flash = gold.inputs["standard"], gold.inputs["flash"]
    gold.check("bytes_ratio", standard["gb"] / flash["gb"])
    gold.check("runtime_ratio", standard["ms"] / flash["ms"])
    gold.check("flop_ratio", 7 / 6)
    assert gold.figures["flop_ratio"]["published"] == pytest.approx(flash["gflop"] / standard["gflop"], rel=1e-3)


def test_the_roofline_picks_compute_with_flash_and_memory_without(gold, number):
    gold.check("flash_memory_time", gold.figures["flash_traffic"]["published"] / gold.inputs["memory_bandwidth"])
    n, d, heads = (sympy.Integer(gold.inputs[key]) for key in ("tokens", "head_dim", "heads"))
    operator = prefill(n, n / 2, n, Shape(heads, d, d, 2 * d * heads))
    seconds = {}
    for passes in (0, 6):
        known = {"isl": n, "kv_bytes": 2, "activation_bytes": 2, "score_passes": passes}
        seconds[passes] = number(operator.flops) / 312e12, number(operator.hbm_bytes, **known) / 1.555e12
    assert seconds[0][0] > seconds[0][1]
    assert seconds[6][0] < seconds[6][1]


def test_without_flash_the_longest_context_does_not_fit(gold):
    assert gold.solve().deployments[0].attention.kernel == "flash2"
    plan = gold.ablated("standard")
    assert plan.termination.reason == "infeasible"
    assert plan.statistics.rejected["longest_request_fits"] > 0


def test_where_it_fits_scores_in_memory_are_slower(gold):
    wide = "inventory.a100.hardware=a100-80g-sxm"
    flash, standard = gold.solve(wide), gold.solve(wide, *gold.ablations["standard"]["set"])
    assert standard.predicted.requests_per_s < flash.predicted.requests_per_s
    assert standard.deployments[0].attention.time_share > flash.deployments[0].attention.time_share


def test_memory_of_scores_grows_with_the_square_of_the_length(gold):
    """Activations of a whole prompt in one step: linear with flash, quadratic without."""

    def activations(kernel, length):
        plan = gold.solve(
            f"models.long.attention_kernel={kernel}",
            f"models.long.max_model_len={length} token",
            "inventory.a100.hardware=b200-sxm",
            f"workloads.long.input_tokens={length - 200} token",
            "search={max_num_batched_tokens: " + str(length) + ", tp: 1, pp: 1}",
        )
        return plan.deployments[0].memory_bytes.activations

    flash, standard = ([activations(kernel, n) for n in (2048, 4096)] for kernel in ("flash2", "standard"))
    assert flash[1] <= 2 * flash[0]
    assert standard[1] - flash[1] == pytest.approx(4 * (standard[0] - flash[0]), rel=1e-6)


@pytest.mark.parametrize("tokens", [512, 65536])
def test_the_length_at_which_kernels_part(gold, tokens):
    """The sheet of the row: with prompts of 512 tokens the kernels differ by less than a fifth, at 64k by half."""
    changes = ("inventory.a100.hardware=a100-80g-sxm", f"workloads.long.input_tokens={tokens} token")
    changes += (f"models.long.max_model_len={tokens + 200} token", "workloads.long.slo={}")
    flash = gold.solve(*changes).predicted.requests_per_s
    standard = gold.solve(*changes, *gold.ablations["standard"]["set"]).predicted.requests_per_s
    assert (standard / flash > 0.8) == (tokens == 512)
