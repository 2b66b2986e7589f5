"""Attention of every kind: flop and bytes by hand, and where one kind must equal another."""

import numpy as np
import pytest
import sympy

from planner.costs import symbols as s
from planner.costs.layers import gated_delta, gqa, mla, sliding, sparse_mla
from planner.costs.memory import kv_cache
from planner.costs.operators import attention
from planner.costs.step import chunk_batch, decode_batch
from planner.costs.structure import Structure
from planner.costs.work import UNQUANTISED

DECODE = decode_batch(s.padded_batch, s.running)
GQA = {"hidden": 512, "heads": 8, "kv_heads": 2, "head_dim": 16, "kv_bytes": 2, "activation_bytes": 2}
LATENT = {"hidden": 7168, "heads": 128, "query_rank": 1536, "latent_rank": 512, "nope_dim": 128, "rope_dim": 64}
LATENT |= {"value_dim": 128, "kv_bytes": 2, "activation_bytes": 2}
INDEX = {"index_heads": 64, "index_dim": 128, "index_topk": 2048, "index_bytes": 1}
DELTA = {"hidden": 2048, "delta_key_heads": 16, "delta_value_heads": 32, "delta_key_dim": 128, "delta_value_dim": 128}
DELTA |= {"delta_conv": 4, "state_bytes": 4, "activation_bytes": 2}
LOAD = {"isl": 900, "osl": 200, "running": 12, "padded_batch": 12}


@pytest.fixture
def decoding(value, one):
    """Return a function that gives the value of a field of a kind's attention kernel in a decode step."""

    def found(kind, field, name="attention_decode", **known):
        return value(getattr(one(kind.layer(DECODE), name), field), **LOAD | known)

    return found


# --- full attention


def test_decode_attention_reads_the_cache_once(value):
    operator = attention.decode(4, s.drafts + 1, 1000, attention.Shape(8, 128, 128, 2 * 2 * 128))
    # 2 products × 2 flop × 4 sequences × 1000 keys × 8 heads × 128, for each draft to verify once more
    assert value(operator.flops) == 16_384_000
    assert value(operator.flops, drafts=2) == 3 * 16_384_000
    # keys and values × 4 sequences × 1000 tokens × 2 heads × 128 × 2 byte, however many drafts
    assert value(operator.hbm_bytes, kv_bytes=2, activation_bytes=2, drafts=2) == 4_096_000
    assert value(operator.vector_flops) == 5 * 4 * 1000 * 8


def test_scores_cross_between_cores_and_come_back_as_probabilities(value):
    """16 bit each way for every score; only where matrix and vector units are separate cores."""
    operator = attention.decode(4, 1, 1000, attention.Shape(8, 128, 128, 2 * 2 * 128))
    assert value(operator.hand_off_bytes, activation_bytes=2) == (2 + 2) * 4 * 1000 * 8


def test_decode_context_is_the_prompt_and_half_the_output(decoding):
    known = GQA | {"head_dim": 128, "tp": 2, "pp": 3}
    assert decoding(gqa, "hbm_bytes", **known) == 2 * 4 * 1000 * 1 * 128 * 2
    assert decoding(gqa, "flops", **known) == 4 * 4 * 1000 * 4 * 128


def test_prefill_attention_is_the_causal_half(value, one):
    prompt, heads, width = 1000, 8, 16
    operator = one(gqa.layer(chunk_batch(s.isl)), "attention_prefill")
    known = GQA | {"isl": prompt}
    square = 4 * prompt**2 * heads * width
    causal = sum(4 * seen * heads * width for seen in range(1, prompt + 1))
    assert value(operator.flops, **known) == square / 2
    assert value(operator.flops, **known) == pytest.approx(causal, rel=2 / prompt)
    # queries in and outputs out, and each key and value once
    moved = 2 * prompt * heads * width * 2 + 2 * prompt * 2 * width * 2
    assert value(operator.hbm_bytes, **known) == moved


def test_kv_heads_are_copied_beyond_their_number(value, decoding):
    """tp 16 with 8 KV heads keeps as much per device as tp 8; below, tp divides."""
    known = {"layers": 64, "gqa_layers": 64, "kv_heads": 8, "head_dim": 128, "kv_bytes": 2}
    cached = kv_cache.token_bytes(Structure(("gqa",), ("dense",)))
    held = {tp: value(cached, **known, tp=tp) for tp in (1, 2, 4, 8, 16, 32)}
    assert held[1] == 2 * 64 * 8 * 128 * 2
    assert held[8] == held[1] / 8
    assert held[16] == held[32] == held[8]
    heads = {"heads": 64, "kv_heads": 8, "head_dim": 128, "kv_bytes": 2, "activation_bytes": 2}
    reads = {tp: decoding(gqa, "hbm_bytes", **heads, tp=tp) for tp in (4, 8, 16)}
    assert reads[4] == 2 * reads[8]
    assert reads[16] == reads[8]
    assert value(gqa.parameters(), hidden=5120, heads=64, kv_heads=8, head_dim=128, tp=16) == 5120 * 128 * (8 + 2)


def test_context_parallel_devices_share_the_cache_and_pay_for_the_exchange(value, one, decoding):
    known = GQA | {"tp": 4, "tp_latency": 8e-6}
    assert decoding(gqa, "hbm_bytes", **known, cp=2) == decoding(gqa, "hbm_bytes", **known) / 2
    assert decoding(gqa, "flops", **known, cp=2) == decoding(gqa, "flops", **known)  # of more heads, less context
    traffic = one(gqa.layer(DECODE), "context_exchange").traffic
    assert value(traffic.near_bytes, **LOAD, **known) == value(traffic.latency, **LOAD, **known) == 0
    assert value(traffic.near_bytes, **LOAD, **known, cp=2) == 12 * (8 / 4) * (16 + 16) * 2
    assert value(traffic.latency, **LOAD, **known, cp=2) == pytest.approx(2 * 8e-6)


# --- latent attention


def test_absorbed_decode_works_on_the_latent(value):
    """DeepSeek-V3: scores over 576 values, sums over 512, for 128 heads; 576 values cached, once for all heads."""
    operator = attention.decode(1, 1, 1, mla.absorbed())
    assert value(operator.flops, **LATENT) == 2 * 128 * (576 + 512)
    assert value(operator.hbm_bytes, **LATENT) == 576 * 2


def test_the_latent_is_whole_on_every_tensor_parallel_rank_and_shared_by_context_parallel_ones(value, decoding):
    structure = Structure(("mla",), ("dense", "moe"))
    known = LATENT | {"layers": 61, "mla_layers": 61}
    held = {
        (tp, cp): value(kv_cache.token_bytes(structure), **known, tp=tp, cp=cp) for tp, cp in ((1, 1), (8, 1), (8, 2))
    }
    assert held[1, 1] == held[8, 1] == 61 * 576 * 2
    assert held[8, 2] == held[8, 1] / 2
    read = [decoding(mla, "hbm_bytes", **LATENT, tp=tp) for tp in (1, 8)]
    assert read[0] == read[1]
    assert decoding(mla, "hbm_bytes", **LATENT, tp=8, cp=2) == read[0] / 2
    assert decoding(mla, "flops", **LATENT, tp=8) == decoding(mla, "flops", **LATENT) / 8


def test_the_cache_of_deepseek_v3_is_the_same_on_tp_1_and_tp_8(setting_of, axes_of):
    from planner.columns.evaluate import figures

    setting = setting_of("DeepSeek-V3", "h200-sxm")
    held = figures(setting, axes_of(tp=[1, 8], ep=[1, 8]))["kv_bytes_per_token"]
    assert np.broadcast_to(held, (2,)).tolist() == [61 * (512 + 64) * 2] * 2


def test_latent_projections_count_every_matrix_once(value, one, batch_of):
    """DeepSeek-V3, one rank, one decoding row: 2 flop for each weight of a layer's attention."""
    layer = mla.layer(batch_of(1))
    names = ("down_projection", "query_projection", "absorbed_projections", "output_projection")
    flops = sum(value(one(layer, name).flops, **LATENT) for name in names)
    weights = 7168 * (1536 + 576) + 1536 * 128 * 192 + 512 * 128 * 256 + 128 * 128 * 7168
    assert flops == 2 * weights
    assert value(mla.parameters(), **LATENT) == weights


def test_queries_that_are_not_compressed_come_from_the_residual_stream(value, one, batch_of):
    plain = LATENT | {"query_rank": 0}
    assert value(one(mla.layer(batch_of(1)), "query_projection").flops, **plain) == 2 * 7168 * 128 * 192
    assert value(one(mla.layer(batch_of(1)), "down_projection").flops, **plain) == 2 * 7168 * 576


def test_prefill_expands_the_latent_of_the_chunks_before_it(value, one):
    """The second half of a prompt multiplies 1000 latents by the up-projection; a decoding row only its own."""
    layer = mla.layer(chunk_batch(sympy.Integer(500), decoding=sympy.Integer(3), last=True))
    rows = value(one(layer, "kv_up_projection").flops, **LATENT, isl=1000, osl=200) / (2 * 512 * 128 * 256)
    assert rows == 1000
    absorbed = value(one(layer, "absorbed_projections").flops, **LATENT, isl=1000, osl=200)
    assert absorbed == 3 * 2 * 512 * 128 * 256
    attended = value(one(layer, "attention_prefill").flops, **LATENT, isl=1000, osl=200)
    assert attended == 2 * 500 * 750 * 128 * (192 + 128)


def test_absorbed_products_run_in_16_bit_whatever_the_weights(value, one, batch_of):
    layer = mla.layer(batch_of(3))
    operator = one(layer, "absorbed_projections")
    assert operator.part == UNQUANTISED
    for size in (0.5, 1, 2):
        known = LATENT | {"attention_weight_bytes": size}
        assert value(operator.weight_bytes, **known, tp=8) == 512 * 16 * 256 * 2
        # a head's queries in and out of the latent's width, and its results back
        moved = 3 * 16 * ((128 + 512) + (512 + 128)) * 2
        assert value(operator.hbm_bytes, **known, tp=8) == 512 * 16 * 256 * 2 + moved
    # nothing is read where no row decodes
    prompts = one(mla.layer(batch_of(100, prefill=100)), "absorbed_projections")
    assert value(prompts.weight_bytes, **LATENT) == value(prompts.flops, **LATENT) == 0


# --- sliding window


@pytest.mark.parametrize("field", ["flops", "hbm_bytes", "vector_flops"])
@pytest.mark.parametrize("name", ["attention_decode", "attention_prefill"])
def test_a_window_that_holds_everything_is_full_attention(value, one, field, name):
    known = GQA | LOAD | {"window": 5000}
    batch = chunk_batch(s.isl, decoding=sympy.Integer(4))
    assert value(getattr(one(sliding.layer(batch), name), field), **known) == pytest.approx(
        value(getattr(one(gqa.layer(batch), name), field), **known)
    )


def test_a_window_bounds_what_decode_reads(decoding):
    read = [decoding(sliding, "hbm_bytes", **GQA | {"window": 128}, **{"isl": isl}) for isl in (10, 900, 9000)]
    assert read[0] < read[1] == read[2] == 12 * 128 * 2 * 2 * 16 * 2


def test_the_cache_of_a_request_stops_growing_with_the_window(value):
    known = GQA | {"layers": 4, "sliding_layers": 3, "gqa_layers": 1, "window": 128, "block_size": 16}
    structure = Structure(("gqa", "sliding"), ("dense",))
    tokens = np.array([16, 128, 144, 1024, 4096])
    held = value(kv_cache.request_bytes(structure, s.isl), **known, isl=tokens)
    token = 2 * 2 * 16 * 2
    assert held.tolist() == [token * (n + 3 * min(n, 144)) for n in tokens]


@pytest.mark.parametrize("window", [1, 7, 64, 200, 1000])
def test_causal_attention_within_a_window_is_counted_token_by_token(value, window):
    prompt = 200
    seen = np.minimum(np.arange(prompt) + 0.5, window).mean()  # a token sees those before it and half of itself
    found = value(attention.windowed_context(s.isl / 2, s.isl, sympy.Integer(window)), isl=prompt)
    assert found == pytest.approx(seen, abs=0.01)
    assert value(attention.windowed_context(s.isl, s.isl, sympy.Integer(window)), isl=0) == 0


@pytest.mark.parametrize("chunk", [1, 100, 400])
@pytest.mark.parametrize("window", [50, 450, 5000])
def test_a_later_chunk_of_a_prompt_is_counted_token_by_token(value, window, chunk):
    """Tokens 300 … 300 + chunk of a prompt, of which the first see their window whole before the last do."""
    seen = np.minimum(300 + np.arange(chunk) + 0.5, window).mean()
    context = sympy.Rational(600 + chunk, 2)
    found = value(attention.windowed_context(context, s.isl, sympy.Integer(window)), isl=chunk)
    assert found == pytest.approx(seen, abs=0.01)


# --- tokens selected by an indexer


def test_the_indexer_reads_everything_and_attention_what_it_selects(decoding):
    known = LATENT | INDEX
    for isl, attended in ((900, 1000), (9900, 2048), (99900, 2048)):
        load = {"isl": isl}
        assert decoding(sparse_mla, "hbm_bytes", **known, **load) == 12 * attended * 576 * 2
        assert decoding(sparse_mla, "flops", **known, **load) == 12 * attended * 2 * 128 * (576 + 512)
        assert decoding(sparse_mla, "hbm_bytes", "select_tokens", **known, **load) == 12 * (isl + 100) * 128
        assert decoding(sparse_mla, "flops", "select_tokens", **known, **load) == 12 * (isl + 100) * 64 * 2 * 128


@pytest.mark.parametrize(("tp", "worked"), [(1, 128), (2, 64), (8, 64), (128, 64)])
def test_kernels_over_selected_tokens_work_on_a_tile_of_heads(decoding, tp, worked):
    """Fewer heads cost as much as a tile of 64; what is cached is read once all the same, and the indexer is whole."""
    known = LATENT | INDEX | {"isl": 9900, "tp": tp, "sparse_head_tile": 64}
    assert decoding(sparse_mla, "flops", **known) == 12 * 2048 * 2 * worked * (576 + 512)
    assert decoding(sparse_mla, "hbm_bytes", **known) == 12 * 2048 * 576 * 2
    assert decoding(sparse_mla, "flops", "select_tokens", **known) == 12 * 10_000 * 64 * 2 * 128
    assert decoding(mla, "flops", **known) == 12 * 10_000 * 2 * (128 / tp) * (576 + 512)


@pytest.mark.parametrize(("isl", "drafts", "read"), [(900, 3, 1000), (4900, 1, 4096), (4900, 3, 5000), (9900, 0, 2048)])
def test_every_draft_reads_the_tokens_selected_for_it_as_far_as_there_are_others(decoding, isl, drafts, read):
    known = LATENT | INDEX | {"isl": isl, "drafts": drafts}
    assert decoding(sparse_mla, "hbm_bytes", **known) == 12 * read * 576 * 2
    attended = min(2048, isl + 100)
    assert decoding(sparse_mla, "flops", **known) == 12 * (1 + drafts) * attended * 2 * 128 * (576 + 512)
    # full attention reads its cache once for all drafts
    assert decoding(mla, "hbm_bytes", **known) == 12 * (isl + 100) * 576 * 2


def test_the_indexer_s_keys_are_cached_too(value):
    found = value(sparse_mla.cached_bytes(s.isl), isl=1000, **LATENT, **INDEX)
    assert found == value(mla.cached_bytes(s.isl), isl=1000, **LATENT) + 1000 * 128
    indexer = 1536 * 64 * 128 + 7168 * (128 + 64) + 2 * 128
    assert value(sparse_mla.parameters(), **LATENT, **INDEX) == value(mla.parameters(), **LATENT) + indexer


# --- linear attention


def test_linear_attention_does_not_depend_on_the_context(decoding):
    name = "linear_attention_decode"
    for field in ("hbm_bytes", "vector_flops"):
        assert len({decoding(gated_delta, field, name, **DELTA, isl=isl) for isl in (10, 1000, 100_000)}) == 1
    # the state of every request is read and written
    assert decoding(gated_delta, "hbm_bytes", name, **DELTA) == 12 * 2 * 32 * 128 * 128 * 4
    assert decoding(gated_delta, "hbm_bytes", name, **DELTA, tp=8) == 12 * 2 * 4 * 128 * 128 * 4


@pytest.mark.parametrize("drafts", [0, 1, 3])
def test_a_state_is_kept_after_every_draft(value, decoding, drafts):
    """Read once, written once per row: a state cannot be taken back to an accepted draft."""
    name, states = "linear_attention_decode", 12 * 32 * 128 * 128
    assert decoding(gated_delta, "hbm_bytes", name, **DELTA, drafts=drafts) == (1 + 1 + drafts) * states * 4
    assert decoding(gated_delta, "vector_flops", name, **DELTA, drafts=drafts) == 8 * (1 + drafts) * states
    held = value(gated_delta.state_bytes(), **DELTA, drafts=drafts)
    assert held == (1 + drafts) * value(gated_delta.state_bytes(), **DELTA)


def test_a_request_holds_a_state_and_the_last_inputs_of_the_convolution(value):
    convolved = 2 * 16 * 128 + 32 * 128
    state = 32 * 128 * 128 * 4 + 3 * convolved * 2
    assert value(gated_delta.state_bytes(), **DELTA) == state
    assert value(gated_delta.state_bytes(), **DELTA, tp=8) == state / 8
    assert gated_delta.cached_bytes(s.isl) == 0
    structure = Structure(("gated_delta", "gqa"), ("moe",))
    known = GQA | DELTA | {"layers": 4, "gated_delta_layers": 3, "gqa_layers": 1}
    held = value(kv_cache.request_bytes(structure, s.isl), **known, isl=np.array([0, 1000]))
    assert held.tolist() == [3 * state, 3 * state + 1000 * 2 * 2 * 16 * 2]


def test_prefill_of_linear_attention_grows_with_the_prompt_alone(value, one):
    flops = [
        value(one(gated_delta.layer(chunk_batch(sympy.Integer(n))), "linear_attention_prefill").flops, **LOAD, **DELTA)
        for n in (100, 200)
    ]
    # chunks of 64: keys against keys and queries, then values; and three products with the state
    each = 32 * (2 * 64 * (2 * 128 + 128) + 6 * 128 * 128)
    assert flops == [100 * each, 200 * each]


# --- published


@pytest.mark.parametrize(("model", "kib"), [("OPT-13B", 800), ("Llama-3.1-8B", 128), ("Llama-2-7B", 512)])
def test_cache_of_a_token_as_published(setting_of, axes_of, model, kib):
    """OPT-13B: 800 KiB per token (PagedAttention, SOSP 2023, §3)."""
    from planner.columns.evaluate import figures

    changes = ("models.chat.max_model_len=2048 token", "workloads.chat.output_tokens=100 token")
    setting = setting_of(model, isl=1000, changes=changes)
    assert float(np.ravel(figures(setting, axes_of())["kv_bytes_per_token"])[0]) == kib * 1024
