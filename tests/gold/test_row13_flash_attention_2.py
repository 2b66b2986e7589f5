"""Row 13, FlashAttention-2: blocks along the prompt fill the cores that whole heads leave idle."""

import pytest
import sympy

from planner.costs.devices import roofline
from planner.costs.operators.attention import Shape, in_waves, prefill


@pytest.fixture
def occupancy(gold, number):
    """Return the share of an A100's cores at work on ``batch`` prompts of ``tokens``, for either version."""
    given = gold.inputs
    shape = Shape(*map(sympy.Integer, (given["heads"], given["head_dim"], given["head_dim"], 4096)))

    def found(batch, tokens, version):
        every = sympy.Integer(batch * tokens)
        operator = prefill(every, sympy.Integer(tokens) / 2, every, shape)
        known = {"isl": tokens, "cores": given["cores"], "tile_rows": given["block_rows"]}
        return number(operator.occupancy, **known, sequence_blocks=version - 1)

    return found


def test_forward_peak(gold, number, occupancy):
    """With the published share, a prompt that fills the cores reaches the published rate: waves cost little."""
    n, given = 16384, gold.inputs
    heads, d = sympy.Integer(given["heads"]), sympy.Integer(given["head_dim"])
    operator = prefill(sympy.Integer(n), sympy.Integer(n), sympy.Integer(n), Shape(heads, d, d, 2 * d * heads))
    known = {
        "isl": n, "cores": given["cores"], "tile_rows": given["block_rows"], "sequence_blocks": 1, "score_passes": 0,
        "bf16_flops": given["peak"], "mfu_attention": given["share"], "vector_flops": 39e12, "vector_share": 1,
        "hbm_bandwidth": 2.039e12, "mbu_kv_cache": 1, "kv_bytes": 2, "activation_bytes": 2, "link_efficiency": 1,
        "tp_bandwidth": 1, "tp_far_bandwidth": 1,
    }  # fmt: skip
    gold.check("forward_peak", number(operator.flops) / number(roofline.seconds(operator).device, **known))
    assert occupancy(1, n, 2) > 0.99


def test_waves_are_whole(gold, number):
    cores = gold.inputs["cores"]
    gold.check("wave_of_109_blocks", 109 / number(in_waves(sympy.Integer(109)), cores=cores))
    assert number(in_waves(sympy.Integer(108)), cores=cores) == 108


def test_the_second_version_gains_most_with_few_long_prompts(gold, occupancy):
    """The paper's sweep: 16k tokens in all, as 32 prompts of 512 up to one of 16k."""
    gains = [occupancy(16384 // n, n, 2) / occupancy(16384 // n, n, 1) for n in (512, 1024, 2048, 4096, 8192, 16384)]
    gold.check("smallest_gain", min(gains))
    gold.check("largest_gain", max(gains))
    assert gains[-1] == max(gains)
    assert gains[-1] > gains[0]


def test_a_partly_filled_block_never_makes_more_tokens_faster(occupancy):
    """Time goes with tokens²/occupancy: it may stay, and never falls, as a prompt grows."""
    times = [n * n / occupancy(1, n, 2) for n in range(64, 4096, 37)]
    assert times == sorted(times)


def test_the_plan_carries_less_with_whole_heads_per_core(gold):
    second, first = gold.solve(), gold.ablated("flash1")
    assert first.predicted.requests_per_s < 0.8 * second.predicted.requests_per_s
    assert first.deployments[0].attention.time_share > second.deployments[0].attention.time_share
    assert first.deployments[0].attention.kernel == "flash1"


def test_the_gap_closes_with_shorter_prompts(gold):
    """The sheet of the row: at 500 tokens, where steps hold many prompts, the versions are within 5 %."""

    def gap(tokens):
        prompt = f"workloads.long.input_tokens={tokens} token"
        first = gold.solve(prompt, *gold.ablations["flash1"]["set"]).predicted.requests_per_s
        return gold.solve(prompt).predicted.requests_per_s / first

    gaps = [gap(tokens) for tokens in (500, 4000, 32000)]
    assert gaps == sorted(gaps)
    assert gaps[0] < 1.05
