"""Matrix products, element-wise operators and feed-forward layers, counted by hand."""

import numpy as np
import pytest
import sympy

from planner.columns.values import precision_values
from planner.costs import symbols as s
from planner.costs.layers import dense_ffn, gqa, head
from planner.costs.operators import gemm, norm
from planner.costs.step import chunk_batch, decode_batch
from planner.costs.tiles import tiled
from planner.costs.work import ATTENTION_WEIGHTS, EXPERT_WEIGHTS, FFN_WEIGHTS, ONE, UNQUANTISED
from planner.schema.precision import FORMATS

TILES = {"tile_rows": 128, "least_tile_rows": 16}


@pytest.mark.parametrize(
    ("rows", "worked"), [(1, 16), (16, 16), (17, 32), (100, 128), (128, 128), (129, 256), (256, 256), (257, 384)]
)
def test_rows_come_in_whole_tiles(value, rows, worked):
    assert value(tiled(s.isl), isl=rows, **TILES) == worked
    assert float(tiled(sympy.Integer(rows)).subs({s.tile_rows: 128, s.least_tile_rows: 16})) == worked


def test_tiles_never_shrink_and_hold_the_rows(value):
    rows = np.arange(1, 2000)
    worked = value(tiled(s.isl), isl=rows, **TILES)
    assert (np.diff(worked) >= 0).all()
    assert (worked >= rows).all()
    assert (worked[rows >= 128] < rows[rows >= 128] + 128).all()
    expected = [-(-n // tile) * tile for n in rows for tile in [next((t for t in (16, 32, 64) if n <= t), 128)]]
    assert worked.tolist() == expected


def test_a_tile_of_one_row_is_no_tile(value):
    """Of rows a step has on average, too: tiles are whole, rows need not be."""
    assert value(tiled(s.isl), isl=7) == 7
    assert value(tiled(s.isl), isl=2.5) == 3


@pytest.mark.parametrize("rows", [16, 128, 256, 2048])
def test_a_rounding_error_costs_no_tile(value, rows):
    """Budgets and batches are multiples of tiles, and rows a quotient: 256.00000000000006 are 256."""
    assert value(tiled(s.isl), isl=rows * (1 + 4e-16), **TILES) == rows


@pytest.mark.parametrize(
    ("rows", "spread", "worked"),
    [
        (64, 8, (64 + 128) / 2),  # 56 fit a tile of 64, 72 do not
        (128, 20, (128 + 256) / 2),
        (100, 4, 128),  # 96 and 104 are one tile
        (400, 20, (384 + 512) / 2),  # 380 and 420 of 128 each
        (16, 4, (16 + 32) / 2),
        (64, 0, 64),
    ],
)
def test_rows_that_vary_take_the_mean_of_a_deviation_less_and_one_more(value, rows, spread, worked):
    assert value(tiled(s.isl, s.osl), isl=rows, osl=spread, **TILES) == worked
    product = gemm.linear("x", s.isl, 5, 7, FFN_WEIGHTS, s.osl)
    assert value(product.flops, isl=rows, osl=spread, **TILES) == 2 * worked * 5 * 7
    # bytes are those of the mean
    known = {"ffn_weight_bytes": 1, "activation_bytes": 2}
    assert value(product.hbm_bytes, isl=rows, osl=spread, **known) == 35 + rows * 12 * 2


@pytest.mark.parametrize(("rows", "step"), [(7, 16), (56, 64), (60, 64), (64, 64), (130, 128), (500, 128)])
def test_the_mean_of_two_tiles_is_within_a_third_of_a_step_of_a_poisson_number_s(value, rows, step):
    """A normal number is beyond an edge one deviation away in 16 % of steps, and the two-point one in half of them."""
    draws = np.maximum(1, np.random.default_rng(5).poisson(rows, 20_000))
    mean = np.mean(value(tiled(s.isl), isl=draws, **TILES))
    found = value(tiled(s.isl, sympy.sqrt(s.isl)), isl=rows, **TILES)
    assert abs(found - mean) <= (0.5 - 0.16) * step


def test_only_steps_of_decodes_whose_requests_come_at_random_vary(value):
    known = {"padded_batch": 16, "running": 16, "isl": 100, "osl": 10, "token_budget": 512}
    batch = decode_batch(s.padded_batch, s.running)
    assert value(batch.spread, **known, batch_varies=1) == 4
    assert value(batch.spread, **known, batch_varies=1, drafts=2) == 3 * 4  # rows come three by three
    assert value(batch.spread, **known, batch_varies=0) == 0
    assert chunk_batch(s.token_budget).spread == 0


def test_gemm_flops_are_2mnk_and_every_operand_moves_once(value):
    product = gemm.linear("x", s.isl, 5, 7, FFN_WEIGHTS)
    assert value(product.flops, isl=3) == 2 * 3 * 5 * 7
    assert value(product.flops, isl=3, **TILES) == 2 * 16 * 5 * 7
    # 35 weights of 1 byte, 3·5 inputs and 3·7 outputs of 2 byte, however many rows the tile has
    assert value(product.hbm_bytes, isl=3, ffn_weight_bytes=1, activation_bytes=2, **TILES) == 35 + 36 * 2
    assert value(product.weight_bytes, ffn_weight_bytes=1) == 35
    assert (product.traffic.near_bytes, product.traffic.far_bytes, product.traffic.latency) == (0, 0, 0)


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (ATTENTION_WEIGHTS, ("attention_weight_bytes", "attention_flops", "mfu_projections", "mbu_projections")),
        (FFN_WEIGHTS, ("ffn_weight_bytes", "ffn_flops", "mfu_ffn", "mbu_ffn")),
        (EXPERT_WEIGHTS, ("expert_weight_bytes", "expert_flops", "mfu_experts", "mbu_experts")),
        (UNQUANTISED, ("activation_bytes", "bf16_flops", "mfu_head", "mbu_activations")),
    ],
)
def test_each_part_of_the_weights_has_its_own_format_rate_and_shares(part, names):
    assert (part.weight_bytes, part.rate, part.mfu, part.mbu) == tuple(getattr(s, name) for name in names)


def test_unquantised_gemm_stays_in_bf16(value):
    product = gemm.unquantised("x", 3, 5, 7)
    assert product.part == UNQUANTISED
    assert value(product.flops) == 210
    assert value(product.hbm_bytes, activation_bytes=2) == (35 + 36) * 2


def test_dense_layer_splits_columns_then_rows(value, one, batch_of):
    layer = dense_ffn.layer(batch_of(10))
    known = {"hidden": 64, "ffn_width": 256, "tp": 4, "ffn_matrices": 3, "ffn_weight_bytes": 2, "activation_bytes": 2}
    up, down = one(layer, "up_projection"), one(layer, "down_projection")
    assert value(up.flops, **known) == 2 * 10 * 64 * (2 * 64)
    assert value(down.flops, **known) == 2 * 10 * 64 * 64
    assert value(one(layer, "activation").hbm_bytes, **known) == 3 * 10 * 64 * 2
    assert value(dense_ffn.ffn_parameters(), **known) == 3 * 64 * 256 / 4
    reduce = one(layer, "ffn_all_reduce").traffic
    links = {"tp_latency": 0, "tp_bandwidth": 1, "link_efficiency": 1}
    assert value(reduce.near_bytes, **known, **links) == 2 * 3 / 4 * (10 * 64 * 2)


def test_a_layer_without_a_gate_has_two_matrices(value, one, batch_of):
    layer = dense_ffn.layer(batch_of(10))
    known = {"hidden": 64, "ffn_width": 256, "ffn_matrices": 2, "activation_bytes": 2}
    assert value(one(layer, "up_projection").flops, **known) == 2 * 10 * 64 * 256
    assert value(one(layer, "activation").hbm_bytes, **known) == 2 * 10 * 256 * 2
    assert value(dense_ffn.ffn_parameters(), **known) == 2 * 64 * 256
    assert value(dense_ffn.unquantised_parameters(), **known, ffn_bias=1, norm_vectors=2) == 2 * 64 + 256 + 64


def test_head_multiplies_sampled_rows_only_and_splits_the_vocabulary(value, one, batch_of):
    layer = head.layer(batch_of(100, logit_rows=4))
    known = {"hidden": 8, "vocab": 1000, "tp": 2, "activation_bytes": 2}
    assert value(one(layer, "head").flops, **known) == 2 * 4 * 8 * 500
    assert value(one(layer, "head").hbm_bytes, **known) == (8 * 500 + 4 * (8 + 500)) * 2
    assert value(one(layer, "logits_all_gather").traffic.near_bytes, **known) == 4 * 1000 * 2 / 2


def test_sampling_reads_whole_rows_of_logits_twice_on_every_device(value, one, batch_of):
    """A logit in 16 bit and its fp32 copy, each read and written or read again: 2·6 byte, and 5 flop."""
    sampling = one(head.layer(batch_of(100, logit_rows=4)), "sampling")
    for tp in (1, 8):
        assert value(sampling.hbm_bytes, vocab=1000, logit_bytes=6, tp=tp) == 2 * 4 * 1000 * 6
        assert value(sampling.vector_flops, vocab=1000, tp=tp) == 5 * 4 * 1000
    assert sampling.flops == sampling.weight_bytes == 0


def test_norm_reads_and_writes_two_tensors_and_gating_three(value):
    plain, gating = norm.rms_norm("x", 3, 5), norm.gated_activation(3, 5)
    assert value(plain.hbm_bytes, activation_bytes=2) == 4 * 15 * 2
    assert value(gating.hbm_bytes, activation_bytes=2) == 3 * 15 * 2
    assert value(gating.hand_off_bytes, activation_bytes=2) == 3 * 15 * 2
    assert (plain.flops, gating.flops) == (0, 0)
    assert value(plain.vector_flops) == value(gating.vector_flops) == 6 * 15


def test_a_norm_fused_with_the_all_reduce_moves_half_and_is_not_launched(value):
    fused = norm.rms_norm("x", 3, 5, ONE)
    assert value(fused.hbm_bytes, activation_bytes=2) == 2 * 15 * 2
    assert fused.launched == 0
    assert value(fused.vector_flops) == 6 * 15


@pytest.mark.parametrize(("present", "expected"), [(1, 2 * 10 * (8 * 16 + 2 * 16) * 2), (0, 0)])
def test_qk_norm_reads_and_writes_queries_and_keys_where_the_model_has_it(value, one, batch_of, present, expected):
    layer = gqa.layer(batch_of(10))
    known = {"heads": 8, "kv_heads": 2, "head_dim": 16, "activation_bytes": 2, "qk_norm": present}
    assert value(one(layer, "qk_norm").hbm_bytes, **known) == expected


@pytest.mark.parametrize(("joint", "tp", "moved", "rounds"), [(1, 4, 3 * 10 * 2 * 4, 1), (1, 1, 0, 0), (0, 4, 0, 0)])
def test_a_norm_over_all_heads_adds_up_two_sums_per_token(value, one, batch_of, joint, tp, moved, rounds):
    """One-shot: three others get both sums of ten tokens, in fp32."""
    traffic = one(gqa.layer(batch_of(10)), "qk_norm_all_reduce").traffic
    known = {"qk_norm_joint": joint, "tp": tp, "tp_near": tp, "tp_latency": 1e-6 * (tp > 1)}
    known |= {"tp_bandwidth": 1e11, "link_efficiency": 1, "activation_bytes": 2}
    assert value(traffic.near_bytes, **known) == moved
    assert value(traffic.latency, **known) == pytest.approx(rounds * 1e-6)


@pytest.mark.parametrize("norms", [2, 4])
def test_norms_of_a_layer_are_split_over_its_halves(value, one, batch_of, norms):
    """Four norms: one before and one after each half (Gemma 3)."""
    known = {"hidden": 64, "norms": norms, "activation_bytes": 2}
    moved = [
        value(one(layer.layer(batch_of(10)), name).hbm_bytes, **known)
        for layer, name in ((gqa, "attention_norm"), (dense_ffn, "ffn_norm"))
    ]
    assert moved == [norms / 2 * 4 * 10 * 64 * 2] * 2


def test_a_query_gate_is_as_wide_as_the_queries(value, one, batch_of):
    known = {"hidden": 64, "heads": 8, "kv_heads": 2, "head_dim": 16, "tp": 2}
    flops = [value(one(gqa.layer(batch_of(10)), "qkv_projection").flops, **known, query_gate=gate) for gate in (0, 1)]
    assert flops == [2 * 10 * 64 * (64 + 2 * 16), 2 * 10 * 64 * (2 * 64 + 2 * 16)]
    weights = [value(gqa.parameters(), **known, query_gate=gate) for gate in (0, 1)]
    assert weights == [64 * 16 * (2 * 4 + 2), 64 * 16 * (3 * 4 + 2)]


@pytest.mark.parametrize(
    ("model", "hardware", "precision", "share"),
    [
        ("Llama-3.1-70B", "h100-sxm", "fp8", 0.5),  # one scale per matrix
        ("Qwen3-32B", "h100-sxm", "fp8", 1.0),  # blocks of 128
        ("Llama-3.1-70B", "h100-sxm", "bf16", 0.0),
        ("Llama-3.1-70B", "a100-80g-sxm", "fp8", 0.0),  # unpacked, so nothing is narrowed
        ("Llama-3.1-70B", "b200-sxm", "fp4", 1.0),  # blocks of 16
    ],
)
def test_activations_are_narrowed_apart_unless_their_scale_is_known(setting_of, model, hardware, precision, share):
    weight = np.array([list(FORMATS).index(precision)])
    found = precision_values(setting_of(model, hardware), weight, weight * 0)
    assert found["attention_narrow"][0] == found["ffn_narrow"][0] == share
