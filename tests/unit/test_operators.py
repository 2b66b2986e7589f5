"""Operators, devices and memory in cases small enough to count by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from planner.catalog import load_scenario
from planner.columns.evaluate import padded
from planner.columns.setting import settings as case_settings
from planner.columns.topology import links
from planner.costs import symbols as s
from planner.costs.devices.roofline import overlap, seconds
from planner.costs.layers import dense_ffn, gqa, head, moe_ffn
from planner.costs.memory import activations, kv_cache
from planner.costs.memory.weights import device_bytes, stage_layers
from planner.costs.operators import attention, collective, gemm, moe, norm
from planner.costs.serving import _slots
from planner.costs.step import chunk_batch, decode_batch, stage_step
from planner.costs.structure import Structure
from planner.costs.work import ZERO, Batch, Operator

SCENARIOS = Path(__file__).parents[2] / "scenarios"


def value(expr, **known):
    """The number an expression has; fails while a symbol is left over."""
    found = sympy.sympify(expr).subs({getattr(s, name): number for name, number in known.items()})
    assert not found.free_symbols, found.free_symbols
    return float(found)


def one(layer, name):
    (found,) = [operator for operator in layer.operators if operator.name == name]
    return found


def batch_of(tokens):
    """Prompt and decode parts left out."""
    return Batch(tokens, ZERO, ZERO, ZERO, ZERO, ZERO, tokens)


# --- matrix products


def test_gemm_flops_are_2mnk_and_every_operand_moves_once():
    product = gemm.linear("x", 3, 5, 7)
    assert value(product.flops) == 2 * 3 * 5 * 7
    # 35 weights of 1 byte, 3·5 inputs and 3·7 outputs of 2 byte
    assert value(product.hbm_bytes, weight_bytes=1, activation_bytes=2) == 35 + 36 * 2
    assert (product.rate, product.mfu, product.mbu) == (s.gemm_flops, s.mfu_gemm, s.mbu_weights)
    assert (product.link_bytes, product.link_latency) == (0, 0)


def test_unquantised_gemm_stays_in_bf16():
    product = gemm.unquantised("x", 3, 5, 7)
    assert value(product.flops) == 210
    assert value(product.hbm_bytes, activation_bytes=2) == (35 + 36) * 2
    assert (product.rate, product.mfu) == (s.bf16_flops, s.mfu_head)


def test_dense_layer_splits_columns_then_rows():
    layer = dense_ffn.layer(batch_of(sympy.Integer(10)))
    known = {"hidden": 64, "ffn_width": 256, "tp": 4, "weight_bytes": 2, "activation_bytes": 2}
    up, down = one(layer, "gate_up_projection"), one(layer, "down_projection")
    assert value(up.flops, **known) == 2 * 10 * 64 * (2 * 64)
    assert value(down.flops, **known) == 2 * 10 * 64 * 64
    assert value(one(layer, "gated_activation").hbm_bytes, **known) == 3 * 10 * 64 * 2
    assert value(dense_ffn.parameters(), **known) == 3 * 64 * 256 / 4
    assert value(one(layer, "ffn_all_reduce").link_bytes, **known) == 2 * 3 / 4 * (10 * 64 * 2)


def test_head_multiplies_sampled_rows_only_and_splits_the_vocabulary():
    batch = Batch(sympy.Integer(100), ZERO, ZERO, ZERO, ZERO, ZERO, sympy.Integer(4))
    layer = head.layer(batch)
    known = {"hidden": 8, "vocab": 1000, "tp": 2, "activation_bytes": 2}
    assert value(one(layer, "head").flops, **known) == 2 * 4 * 8 * 500
    assert value(one(layer, "head").hbm_bytes, **known) == (8 * 500 + 4 * (8 + 500)) * 2
    assert value(one(layer, "logits_all_gather").link_bytes, **known) == 4 * 1000 * 2 / 2


# --- element-wise


def test_norm_reads_and_writes_two_tensors_and_gating_three():
    assert value(norm.rms_norm("x", 3, 5).hbm_bytes, activation_bytes=2) == 4 * 15 * 2
    assert value(norm.gated_activation(3, 5).hbm_bytes, activation_bytes=2) == 3 * 15 * 2
    assert norm.rms_norm("x", 3, 5).flops == 0


@pytest.mark.parametrize(("present", "expected"), [(1, 2 * 10 * (8 * 16 + 2 * 16) * 2), (0, 0)])
def test_qk_norm_reads_and_writes_queries_and_keys_where_the_model_has_it(present, expected):
    layer = gqa.layer(batch_of(sympy.Integer(10)))
    known = {"heads": 8, "kv_heads": 2, "head_dim": 16, "tp": 1, "activation_bytes": 2, "qk_norm": present}
    assert value(one(layer, "qk_norm").hbm_bytes, **known) == expected


# --- attention


def test_decode_attention_reads_the_cache_once():
    operator = attention.decode(4, 1000, 8, 2)
    # 2 products × 2 flop × 4 sequences × 1000 keys × 8 heads × 128
    assert value(operator.flops, head_dim=128) == 16_384_000
    # keys and values × 4 sequences × 1000 tokens × 2 heads × 128 × 2 byte
    assert value(operator.hbm_bytes, head_dim=128, kv_bytes=2) == 4_096_000


def test_decode_context_is_the_prompt_and_half_the_output():
    operator = one(gqa.layer(decode_batch(s.padded_batch, s.running)), "attention_decode")
    known = {"heads": 8, "kv_heads": 2, "head_dim": 128, "kv_bytes": 2, "tp": 2}
    load = {"isl": 900, "osl": 200, "running": 12, "pp": 3}
    assert value(operator.hbm_bytes, **known, **load) == 2 * 4 * 1000 * 1 * 128 * 2
    assert value(operator.flops, **known, **load) == 4 * 4 * 1000 * 4 * 128


def test_a_decode_step_multiplies_padded_rows_but_reads_the_cache_of_real_requests():
    batch = decode_batch(sympy.Integer(16), sympy.Integer(24))
    known = {"isl": 900, "osl": 200, "pp": 2}
    assert value(batch.tokens) == value(batch.logit_rows) == 16
    assert value(batch.decoding, **known) == 12
    assert value(batch.decode_context, **known) == 1000
    assert (batch.prefill, batch.prefill_context, batch.prefill_cached) == (0, 0, 0)


def test_prefill_attention_is_the_causal_half():
    prompt, heads, width = 1000, 8, 16
    operator = one(gqa.layer(chunk_batch(s.isl)), "attention_prefill")
    known = {"isl": prompt, "heads": heads, "kv_heads": 2, "head_dim": width, "tp": 1}
    square = 4 * prompt**2 * heads * width
    causal = sum(4 * seen * heads * width for seen in range(1, prompt + 1))
    assert value(operator.flops, **known) == square / 2
    assert value(operator.flops, **known) == pytest.approx(causal, rel=2 / prompt)
    # queries in and outputs out, and each key and value once
    moved = 2 * prompt * heads * width * 2 + 2 * prompt * 2 * width * 2
    assert value(operator.hbm_bytes, **known, activation_bytes=2, kv_bytes=2) == moved


@pytest.mark.parametrize(("tokens", "cached"), [(1000, 1000), (500, (500 + 1000) / 2), (2000, 2000)])
def test_a_chunk_reads_the_keys_before_it(tokens, cached):
    """Halves of a 1000-token prompt read 500 and 1000 keys; two whole prompts in one step read 2000."""
    assert value(chunk_batch(sympy.Integer(tokens)).prefill_cached, isl=1000) == cached


def test_chunk_step_has_prompt_and_decode_rows():
    batch = chunk_batch(sympy.Integer(500))
    known = {"isl": 1000, "osl": 200, "running": 12, "pp": 3}
    assert value(batch.tokens, **known) == 504
    assert value(batch.logit_rows, **known) == 5
    assert value(chunk_batch(sympy.Integer(3000)).logit_rows, **known) == 7


def test_kv_heads_are_copied_beyond_their_number():
    """tp 16 with 8 KV heads keeps as much per device as tp 8; below, tp divides."""
    known = {"layers": 64, "pp": 1, "kv_heads": 8, "head_dim": 128, "kv_bytes": 2}
    cached = kv_cache.bytes_per_token(Structure("gqa", "dense"))
    held = {tp: value(cached, **known, tp=tp) for tp in (1, 2, 4, 8, 16, 32)}
    assert held[1] == 2 * 64 * 8 * 128 * 2
    assert held[8] == held[1] / 8
    assert held[16] == held[32] == held[8]
    operator = one(gqa.layer(decode_batch(s.padded_batch, s.running)), "attention_decode")
    load = {"isl": 900, "osl": 200, "running": 12, "pp": 1, "heads": 64, "kv_heads": 8, "head_dim": 128, "kv_bytes": 2}
    reads = {tp: value(operator.hbm_bytes, **load, tp=tp) for tp in (4, 8, 16)}
    assert reads[4] == 2 * reads[8]
    assert reads[16] == reads[8]
    shape = {"hidden": 5120, "heads": 64, "kv_heads": 8, "head_dim": 128}
    assert value(gqa.parameters(), **shape, tp=16) == 5120 * 128 * (2 * 4 + 2 * 1)


# --- collectives


@pytest.mark.parametrize(("tp", "share"), [(1, 0), (2, 1), (4, 1.5), (8, 1.75)])
def test_all_reduce_volume(tp, share):
    assert value(collective.all_reduce("x", 1000).link_bytes, tp=tp) == share * 1000


@pytest.mark.parametrize(("tp", "share"), [(1, 0), (2, 0.5), (4, 0.75), (8, 0.875)])
def test_all_gather_volume(tp, share):
    assert value(collective.all_gather("x", 1000).link_bytes, tp=tp) == share * 1000


@pytest.mark.parametrize("operator", [collective.all_reduce("x", 1000), collective.all_gather("x", 1000)])
def test_collective_latency_is_alpha_at_four_devices_and_grows_with_the_tree(operator):
    latency = {tp: value(operator.link_latency, tp=tp, tp_latency=8e-6) for tp in (2, 4, 8, 16)}
    assert latency[4] == pytest.approx(8e-6)
    assert np.diff(list(latency.values())) == pytest.approx([2e-6] * 3)


def test_send_nothing_with_one_stage():
    operator = collective.send("x", sympy.Integer(1000))
    assert value(operator.link_bytes, pp=1) == 0
    assert value(operator.link_bytes, pp=2) == 1000
    assert value(operator.link_bytes, pp=8) == 1000
    assert operator.link_rate == s.pp_bandwidth
    assert operator.link_latency == s.pp_latency


def test_groups_of_one_have_no_latency():
    (setting,) = case_settings(load_scenario(SCENARIOS / "quickstart.yaml"))
    software = setting.efficiencies.latency.collective.value
    tp, pp = np.array([1.0, 2.0, 8.0, 16.0, 8.0]), np.array([1.0, 1.0, 1.0, 1.0, 2.0])
    found = links(setting, tp, pp)
    assert found["tp_latency"] == pytest.approx([0, software, software, software + 10e-6, software])
    assert found["pp_latency"] == pytest.approx([0, 0, 0, 0, software + 10e-6])
    assert software > 0
    assert found["tp_bandwidth"].tolist() == [450e9, 450e9, 450e9, 50e9, 450e9]
    assert found["pp_bandwidth"][4] == 50e9


# --- experts

EXPERTS = {"experts": 128, "experts_per_token": 8}


def touched(tokens, **known):
    return value(moe.touched_experts(sympy.Integer(tokens)), **EXPERTS, **known)


def test_one_token_touches_k_experts_and_many_touch_all():
    known = {"ep": 1, "expert_token_exponent": 1}
    assert touched(1, **known) == pytest.approx(8)
    # two tokens: 16 draws, of which 8/128 of the second eight meet the first
    assert touched(2, **known) == pytest.approx(8 + 8 * (1 - 8 / 128))
    assert touched(10_000, **known) == pytest.approx(128)


def test_tokens_that_draw_alike_touch_fewer():
    assert touched(32, ep=1, expert_token_exponent=0.5) == pytest.approx(128 * (1 - (15 / 16) ** math.sqrt(32)))
    assert touched(32, ep=1, expert_token_exponent=0.5) < touched(32, ep=1, expert_token_exponent=1)


def test_ep_divides_the_touched_experts():
    assert touched(32, ep=8, expert_token_exponent=1) == pytest.approx(touched(32, ep=1, expert_token_exponent=1) / 8)


def test_experts_whole_with_ep_and_sliced_without():
    shape = {"hidden": 64, "expert_width": 32, "tp": 8}
    assert value(moe.expert_parameters(), **shape, ep=8) == 3 * 64 * 32
    assert value(moe.expert_parameters(), **shape, ep=1) == 3 * 64 * 32 / 8
    weights = {ep: value(moe_ffn.parameters(), **shape, **EXPERTS, ep=ep) for ep in (1, 8)}
    assert weights[1] == weights[8] == 128 * 3 * 64 * 32 / 8


def test_routed_experts_with_every_expert_used_are_a_dense_layer():
    operator = moe.routed_experts(sympy.Integer(10))
    known = {"experts": 4, "experts_per_token": 4, "hidden": 64, "expert_width": 32, "tp": 1, "ep": 1}
    rest = {"expert_imbalance": 1, "expert_token_exponent": 1, "weight_bytes": 1, "activation_bytes": 2}
    assert value(operator.flops, **known, **rest) == 2 * 10 * 4 * 3 * 64 * 32
    expected = 4 * 3 * 64 * 32 + 40 * (2 * 64 + 3 * 32) * 2
    assert value(operator.hbm_bytes, **known, **rest) == expected


def test_the_hottest_rank_sets_the_time():
    operator = moe.routed_experts(sympy.Integer(10))
    known = EXPERTS | {"hidden": 64, "expert_width": 32, "tp": 8, "ep": 8}
    mean = value(operator.flops, **known, expert_imbalance=1)
    assert mean == 2 * (10 * 8 / 8) * 3 * 64 * 32
    assert value(operator.flops, **known, expert_imbalance=1.3) == pytest.approx(1.3 * mean)


def hottest(tokens, ep):
    """In floating point: exact powers of fractions would have thousands of digits."""
    known = EXPERTS | {"ep": ep, "expert_token_exponent": 1}
    return value(moe.hottest_touched_experts(sympy.Float(tokens)), **{k: sympy.Float(v) for k, v in known.items()})


@pytest.mark.parametrize("tokens", [1, 7, 100])
def test_without_expert_parallelism_no_rank_touches_more_than_the_mean(tokens):
    assert hottest(tokens, ep=1) == pytest.approx(touched(tokens, ep=1, expert_token_exponent=1), rel=1e-12)


def test_the_hottest_rank_touches_more_than_the_mean_and_at_most_all_its_experts():
    # one token touches 8 of 128 experts, so 1 of the 16 on each of 8 ranks; the largest of 8 binomials(16, 1/16)
    assert hottest(1, ep=8) == pytest.approx(1 + math.sqrt(2 * 1 * (1 - 1 / 16) * math.log(8)))
    assert hottest(100_000, ep=8) == pytest.approx(16)
    found = [hottest(tokens, ep=8) for tokens in (1, 2, 5, 10, 30, 100, 1000)]
    assert found == sorted(found)
    assert max(found) <= 16


def test_the_bound_on_the_hottest_rank_is_above_what_draws_give_and_not_far():
    """8 distinct experts per token on 8 ranks of 16, drawn 2000 times: the mean of the largest rank's count."""
    draws = np.random.default_rng(3)
    for tokens in (2, 8, 24):
        most = [
            max(np.bincount(np.unique([draws.choice(128, 8, replace=False) for _ in range(tokens)]) // 16, minlength=8))
            for _ in range(2000)
        ]
        assert np.mean(most) <= hottest(tokens, ep=8) <= 1.35 * np.mean(most)


def test_routed_experts_read_the_hottest_rank_s_experts():
    operator = moe.routed_experts(sympy.Integer(1))
    known = EXPERTS | {"hidden": 64, "expert_width": 32, "tp": 8, "ep": 8}
    rest = {"expert_imbalance": 1.3, "expert_token_exponent": 1, "weight_bytes": 1, "activation_bytes": 2}
    visits = 1 * 8 / 8 * 1.3
    expected = hottest(1, ep=8) * 3 * 64 * 32 + visits * (2 * 64 + 3 * 32) * 2
    assert value(operator.hbm_bytes, **known, **rest) == pytest.approx(expected)


# --- time


def test_overlap_equals_the_larger_far_from_the_ridge():
    x, y = sympy.symbols("x y", positive=True)
    combined = sympy.lambdify((x, y), overlap(x, y))
    for small in (1e-6, 1e-4):
        assert combined(1.0, small) == pytest.approx(1.0, rel=1e-11)
        assert combined(small, 1.0) == pytest.approx(1.0, rel=1e-11)
    assert combined(1.0, 1.0) == pytest.approx(2 ** (1 / 3))
    assert overlap(x, ZERO) == x
    assert overlap(ZERO, y) == y


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1e3))
def test_overlap_is_within_26_percent_of_the_larger(left, right):
    x, y = sympy.symbols("x y", positive=True)
    combined = float(overlap(x, y).subs({x: left, y: right}))
    larger = max(left, right)
    assert larger * (1 - 1e-12) <= combined <= larger * 1.26


def test_seconds_overlap_flop_and_bytes_and_add_communication():
    operator = Operator(
        "x",
        flops=sympy.Integer(400),
        hbm_bytes=sympy.Integer(1),
        link_bytes=sympy.Integer(60),
        link_latency=sympy.Integer(3),
    )
    known = {"bf16_flops": 100, "mfu_head": 0.5, "hbm_bandwidth": 1000, "mbu_activations": 0.8}
    known |= {"tp_bandwidth": 30, "link_efficiency": 0.5}
    found = seconds(operator)
    assert value(found.compute, **known) == 8
    assert value(found.hbm, **known) == pytest.approx(1 / 800)
    assert value(found.link, **known) == 4
    assert value(found.latency) == 3
    assert value(found.total, **known) == pytest.approx(8 + 4 + 3)


@pytest.mark.parametrize("kind", ["dense", "moe"])
def test_a_step_by_symbol_equals_the_step_captured_or_not(kind):
    """``captured`` chooses: a graph pays floors on top of its work, launches only bound what work does not cover."""
    structure, batch = Structure("gqa", kind), decode_batch(s.padded_batch, s.running)
    known = {entry.symbol: sympy.Float(2) for entry in s.SYMBOLS} | {s.eager_floor: sympy.Float(1e9)}
    by_symbol, yes, no = (
        stage_step(structure, batch, captured=captured) for captured in (s.captured, sympy.Integer(1), ZERO)
    )
    totals = {}
    for name, fixed, flag in (("graph", yes, 1), ("eager", no, 0)):
        chosen = known | {s.captured: sympy.Float(flag)}
        totals[name] = float(fixed.total.xreplace(chosen))
        assert float(by_symbol.total.xreplace(chosen)) == pytest.approx(totals[name])
        for resource, expr in fixed.resources.items():
            assert float(by_symbol.resources[resource].xreplace(chosen)) == pytest.approx(float(expr.xreplace(chosen)))
    assert totals["eager"] >= 1e9 > totals["graph"]


# --- memory and load


@pytest.mark.parametrize(("layers", "pp", "largest"), [(64, 1, 64), (64, 8, 8), (64, 3, 22), (3, 3, 1)])
def test_the_largest_stage_rounds_up(layers, pp, largest):
    assert value(stage_layers(), layers=layers, pp=pp) == largest


@pytest.mark.parametrize(("tokens", "reserved"), [(1, 16), (16, 16), (17, 32)])
def test_kv_cache_comes_in_whole_blocks(tokens, reserved):
    assert value(kv_cache.blocks(sympy.Integer(tokens)), block_size=16) == reserved


def test_likely_kv_tokens_are_the_mean_and_z_deviations_of_a_compound_sum():
    known = {"isl": 1000, "osl": 100, "block_size": 16, "running": 4}
    mean = 1000 + 50 + 8
    found = {
        z: value(kv_cache.likely_tokens(sympy.Integer(3), sympy.Rational(3, 2)), **known, occupancy_sigmas=z)
        for z in (0, 2)
    }
    assert found[0] == pytest.approx(4 * mean + 3 * 1008)  # prompts in prefill hold all their blocks
    spread = math.sqrt(4 * 1.5 * (mean**2 + 100**2 / 12))
    assert found[2] == pytest.approx(found[0] + 2 * spread)


def test_a_compound_sum_spreads_as_its_formula_says():
    """Poisson numbers of requests, each at a uniformly random point of its output (dispersion 1)."""
    draws = np.random.default_rng(5)
    held = [np.sum(1008 + draws.uniform(0, 100, draws.poisson(4))) for _ in range(40_000)]
    known = {"isl": 1000, "osl": 100, "block_size": 16, "running": 4}
    for z, rel in ((0, 0.02), (1, 0.02)):
        expected = value(kv_cache.likely_tokens(ZERO, sympy.Integer(1)), **known, occupancy_sigmas=z)
        assert np.mean(held) + z * np.std(held) == pytest.approx(expected, rel=rel)


LOAD = {"running": 100, "isl": 1000, "osl": 101, "pp": 1}


def slots(prefilling, dispersion, **known):
    return value(_slots(sympy.Rational(prefilling), sympy.Rational(dispersion)), **LOAD, **known)


def test_slots_leave_z_deviations_above_running_and_prefilling():
    roomy = {"token_budget": 10**6}
    assert slots(1, 1, occupancy_sigmas=0, **roomy) == pytest.approx(101)
    assert slots(1, 1, occupancy_sigmas=2, **roomy) == pytest.approx(101 + 2 * math.sqrt(101))
    assert slots(4, 3, occupancy_sigmas=2, **roomy) == pytest.approx(104 + 2 * math.sqrt(304))


def test_slots_never_exceed_what_the_budget_can_keep_running():
    """b decodes and the b·isl/(osl−1) prompt tokens they need fill a budget of b·(isl+osl−1)/(osl−1) tokens: here 1 and
    10 per request, so 1210 tokens keep 110 running, and only prompts in prefill come on top."""
    assert slots(4, 1, occupancy_sigmas=2, token_budget=1210) == pytest.approx(100 + 4 + 10)
    # the deviations of those in prefill are always left
    assert slots(4, 1, occupancy_sigmas=2, token_budget=1111) == pytest.approx(100 + 4 + 2 * math.sqrt(4))
    # two stages hold two micro-batches
    assert slots(4, 1, occupancy_sigmas=2, token_budget=605) < slots(4, 1, occupancy_sigmas=2, token_budget=1210)
    both = LOAD | {"pp": 2, "occupancy_sigmas": 2, "token_budget": 605}
    assert value(_slots(sympy.Integer(4), sympy.Integer(1)), **both) == pytest.approx(114)


def test_activations_of_a_token_and_of_a_request():
    known = {"hidden": 8, "ffn_width": 32, "tp": 2, "activation_bytes": 2}
    assert value(activations.bytes_per_token(Structure("gqa", "dense")), **known) == (2 * 8 + 3 * 32 / 2) * 2
    # k visits of 2·width·ep/tp and their output
    experts = known | {"experts_per_token": 4, "expert_width": 16, "ep": 2}
    assert value(activations.bytes_per_token(Structure("gqa", "moe")), **experts) == (2 * 8 + 4 * (2 * 16 + 8)) * 2
    assert value(activations.bytes_per_request(), vocab=50, logit_bytes=6) == 300


def test_weights_of_a_device_hold_the_final_norm_once():
    known = {"hidden": 8, "ffn_width": 32, "heads": 4, "kv_heads": 2, "head_dim": 2, "tp": 1, "qk_norm": 0}
    known |= {"vocab": 50, "vocab_matrices": 2, "weight_bytes": 1, "activation_bytes": 2, "pp": 1}
    layer = 8 * 2 * (2 * 4 + 2 * 2) + 3 * 8 * 32
    for layers in (1, 3):
        expected = layers * (layer * 1 + 2 * 8 * 2) + (2 * 50 * 8 + 8) * 2
        assert value(device_bytes(Structure("gqa", "dense")), **known, layers=layers) == expected


def test_decode_batches_are_padded_to_captured_sizes():
    sizes = (8, 1, 2, 4, 16)
    batch = np.array([0.3, 1.0, 1.5, 4.0, 9.0, 16.0, 16.5, 100.0])
    rows, captured = padded(batch, sizes)
    assert rows.tolist() == [1, 1, 2, 4, 16, 16, 16.5, 100]
    assert captured.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
