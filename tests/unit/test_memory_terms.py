"""Weights, cache, activations and buffers of the fullest device."""

import math

import numpy as np
import pytest
import sympy

from planner.columns.evaluate import figures
from planner.columns.memory import ledger
from planner.costs import symbols as s
from planner.costs.memory import activations, kv_cache
from planner.costs.memory.weights import active_parameters, device_bytes, total_parameters
from planner.costs.structure import Structure

ONE_BYTE = {"layers": 1, "gqa_layers": 1, "kv_heads": 1, "head_dim": 1, "kv_bytes": 0.5}  # of cache per token
PLAIN = {"hidden": 8, "ffn_width": 32, "ffn_matrices": 3, "heads": 4, "kv_heads": 2, "head_dim": 2, "vocab": 50}
PLAIN |= {"vocab_matrices": 2, "attention_weight_bytes": 1, "ffn_weight_bytes": 1, "activation_bytes": 2}
ROUTED = {"experts": 4, "experts_per_token": 2, "expert_width": 16, "expert_weight_bytes": 1}


# --- cache


@pytest.mark.parametrize(("tokens", "reserved"), [(1, 16), (16, 16), (17, 32)])
def test_kv_cache_comes_in_whole_blocks(value, tokens, reserved):
    assert value(kv_cache.blocks(sympy.Integer(tokens)), block_size=16) == reserved


def test_a_decoding_request_holds_its_prompt_half_its_output_and_half_a_block(value):
    assert value(kv_cache.mean_tokens(), isl=1000, osl=100, block_size=16) == 1058


def test_likely_kv_bytes_are_the_mean_and_z_deviations_of_a_compound_sum(value, dense):
    known = ONE_BYTE | {"isl": 1000, "osl": 100, "block_size": 16, "running": 4}
    mean = 1000 + 50 + 8
    likely = kv_cache.likely_bytes(dense, sympy.Integer(3), sympy.Rational(3, 2))
    found = {z: value(likely, **known, occupancy_sigmas=z) for z in (0, 2)}
    assert found[0] == pytest.approx(4 * mean + 3 * 1008)  # prompts in prefill hold all their blocks
    spread = math.sqrt(4 * 1.5 * (mean**2 + 100**2 / 12))
    assert found[2] == pytest.approx(found[0] + 2 * spread)
    # two attention ranks have two requests each
    halves = value(likely, **known, occupancy_sigmas=2, dp=2)
    assert halves == pytest.approx(2 * mean + 3 * 1008 + 2 * spread / math.sqrt(2))


def test_a_compound_sum_spreads_as_its_formula_says(value, dense):
    """Poisson numbers of requests, each at a uniformly random point of its output (dispersion 1)."""
    draws = np.random.default_rng(5)
    held = [np.sum(1008 + draws.uniform(0, 100, draws.poisson(4))) for _ in range(40_000)]
    known = ONE_BYTE | {"isl": 1000, "osl": 100, "block_size": 16, "running": 4}
    for z in (0, 1):
        likely = kv_cache.likely_bytes(dense, sympy.Integer(0), sympy.Integer(1))
        expected = value(likely, **known, occupancy_sigmas=z)
        assert np.mean(held) + z * np.std(held) == pytest.approx(expected, rel=0.02)


def test_the_quantile_leaves_the_cache_short_as_rarely_as_stated(value, dense):
    """Two standard deviations of a normal number are exceeded 2.3 % of the time; of 40 Poisson requests, 3 %."""
    draws = np.random.default_rng(6)
    held = np.array([np.sum(1008 + draws.uniform(0, 100, draws.poisson(40))) for _ in range(20_000)])
    known = ONE_BYTE | {"isl": 1000, "osl": 100, "block_size": 16, "running": 40, "occupancy_sigmas": 2}
    enough = value(kv_cache.likely_bytes(dense, sympy.Integer(0), sympy.Integer(1)), **known)
    assert 0.015 < (held > enough).mean() < 0.035


# --- weights


def test_weights_of_a_device_hold_the_final_norm_once(value, dense):
    layer = 8 * 2 * (2 * 4 + 2 * 2) + 3 * 8 * 32
    for layers in (1, 3):
        known = PLAIN | dict.fromkeys(("layers", "gqa_layers", "dense_layers"), layers)
        expected = layers * (layer * 1 + 2 * 8 * 2) + (2 * 50 * 8 + 8) * 2
        assert value(device_bytes(dense), **known) == expected


def test_the_fullest_stage_holds_experts_rather_than_dense_layers(value):
    """6 layers of which the first 2 are dense, in 4 stages of up to 2: a later stage has 2 layers of experts."""
    structure = Structure(("gqa",), ("dense", "moe"))
    known = PLAIN | ROUTED | {"layers": 6, "gqa_layers": 6, "dense_layers": 2, "moe_layers": 4}
    attention, dense, experts = 8 * 2 * 12 + 8 * 2, 3 * 8 * 32 + 8 * 2, 4 * 3 * 8 * 16 + (8 * 4 + 8) * 2
    vocabulary = (2 * 50 * 8 + 8) * 2
    assert value(device_bytes(structure), **known) == 6 * attention + 2 * dense + 4 * experts + vocabulary
    assert value(device_bytes(structure), **known, pp=4) == 2 * attention + 2 * experts + vocabulary


def test_quantised_parts_are_counted_at_their_own_size(value):
    structure = Structure(("gqa",), ("dense", "moe"))
    known = PLAIN | ROUTED | {"layers": 2, "gqa_layers": 2, "dense_layers": 1, "moe_layers": 1}
    base = value(device_bytes(structure), **known)
    parts = {"attention_weight_bytes": 2 * 8 * 2 * 12, "ffn_weight_bytes": 3 * 8 * 32}
    parts |= {"expert_weight_bytes": 4 * 3 * 8 * 16}
    for name, count in parts.items():
        assert value(device_bytes(structure), **known | {name: 2}) - base == count, name


@pytest.mark.parametrize("kind", ["mla", "sparse_mla"])
@pytest.mark.parametrize("stored", [0.5, 1, 2])
def test_the_up_projection_of_the_latent_is_held_twice(value, kind, stored):
    """As stored, and unpacked to 16 bit for the absorbed form."""
    known = PLAIN | {"layers": 3, f"{kind}_layers": 3, "dense_layers": 3, "query_rank": 6, "latent_rank": 5}
    known |= {"rope_dim": 1, "nope_dim": 2, "value_dim": 3, "attention_weight_bytes": stored, "tp": 2}
    known |= {"index_heads": 2, "index_dim": 4}
    indexer = 6 * 2 * 4 + 8 * (4 + 2) + 2 * 4 if kind == "sparse_mla" else 0
    projections = 8 * (6 + 5 + 1) + 6 * 2 * (2 + 1) + 5 * 2 * (2 + 3) + 2 * 3 * 8 + indexer
    attention = projections * stored + (8 + 6 + 5) * 2 + 5 * 2 * (2 + 3) * 2
    dense = 3 * 8 * 16 + 8 * 2
    expected = 3 * (attention + dense) + (2 * 50 / 2 * 8 + 8) * 2
    assert value(device_bytes(Structure((kind,), ("dense",))), **known) == expected
    # parameters of the model are counted once
    parameters = value(total_parameters(Structure((kind,), ("dense",))), **known | {"vocab_matrices_total": 2, "tp": 1})
    whole = 8 * (6 + 5 + 1) + 6 * 4 * (2 + 1) + 5 * 4 * (2 + 3) + 4 * 3 * 8 + indexer
    assert parameters == 3 * (whole + 8 + 6 + 5 + 3 * 8 * 32 + 8) + (2 * 50 + 1) * 8


def test_a_draft_module_adds_a_layer_of_the_last_kinds_and_a_merge(value):
    """DeepSeek-V3, §2.2: a transformer layer, and a projection of two residual streams to one."""
    structure = Structure(("gqa",), ("dense", "moe"))
    known = PLAIN | ROUTED | {"layers": 2, "gqa_layers": 2, "dense_layers": 1, "moe_layers": 1}
    added = value(device_bytes(structure), **known, draft_layers=1) - value(device_bytes(structure), **known)
    attention, experts = 8 * 2 * 12, 4 * 3 * 8 * 16
    assert added == attention + experts + (2 * 8 + 8 * 4) * 2 + 2 * 8 * 8 * 2
    held = [
        value(kv_cache.request_bytes(structure, s.isl), isl=100, kv_bytes=1, **known, draft_layers=n) for n in (0, 1)
    ]
    assert held[1] == pytest.approx(held[0] * 3 / 2)


def test_one_token_passes_through_all_but_the_experts_it_does_not_visit(value, moe):
    known = PLAIN | ROUTED | {"layers": 3, "gqa_layers": 3, "moe_layers": 3, "vocab_matrices_total": 2}
    unused = 3 * 2 * 3 * 8 * 16
    total, active = (value(count(moe), **known) for count in (total_parameters, active_parameters))
    assert total - active == unused
    # of a learned position table it needs one row
    positions = [value(count(moe), **known, positions=100) for count in (total_parameters, active_parameters)]
    assert positions == [total + 100 * 8, active + 8]


# --- activations and the ledger


def test_activations_of_a_token_and_of_a_request(value, dense, moe):
    known = {"hidden": 8, "ffn_width": 32, "ffn_matrices": 3, "tp": 2, "activation_bytes": 2, "heads": 4, "longest": 9}
    assert value(activations.bytes_per_token(dense), **known) == (2 * 8 + 3 * 32 / 2) * 2
    # k visits of 2·width·ep/tp and their output
    experts = known | {"experts_per_token": 4, "expert_width": 16, "ep": 2}
    assert value(activations.bytes_per_token(moe), **experts) == (2 * 8 + 4 * (2 * 16 + 8)) * 2
    # the widest of both
    both = Structure(("gqa",), ("dense", "moe"))
    assert value(activations.bytes_per_token(both), **experts) == (2 * 8 + 4 * (2 * 16 + 8)) * 2
    assert value(activations.bytes_per_token(both), **experts | {"ffn_width": 4000}) == (2 * 8 + 3 * 2000) * 2
    assert value(activations.bytes_per_request(), vocab=50, logit_bytes=6) == 300


def test_tokens_gathered_from_all_attention_ranks_are_alive_with_their_results(value, dense, moe):
    known = {"hidden": 8, "ffn_width": 32, "ffn_matrices": 3, "activation_bytes": 2, "heads": 4, "longest": 9}
    known |= {"experts_per_token": 4, "expert_width": 16, "dp": 4, "ep": 4}
    alone = (2 * 8 + 4 * (2 * 16 + 8)) * 2
    assert value(activations.bytes_per_token(moe), **known) == alone + 2 * 4 * 8 * 2
    assert value(activations.bytes_per_token(moe), **known, all_to_all=1) == alone
    # one rank holds all its tokens anyway, and dense layers send none
    assert value(activations.bytes_per_token(moe), **known | {"dp": 1, "ep": 1}) == alone
    assert value(activations.bytes_per_token(dense), **known) == (2 * 8 + 3 * 32) * 2


@pytest.mark.parametrize("kind", ["mla", "sparse_mla", "gqa", "sliding", "gated_delta", "nsa"])
def test_context_is_expanded_in_a_workspace_of_latents_keys_and_values(value, kind):
    """DeepSeek-V3: 576 values of a token's latent, and 128 + 128 of each head for its keys and values."""
    known = {"heads": 128, "latent_rank": 512, "rope_dim": 64, "nope_dim": 128, "value_dim": 128, "activation_bytes": 2}
    held = activations.context_bytes(Structure((kind,), ("moe",)))
    for tp in (1, 8):
        expected = 65536 * (576 + 128 / tp * 256) * 2 if kind == "mla" else 0
        assert value(held, **known, tp=tp, context_workspace=65536) == expected
        assert value(held, **known, tp=tp, context_workspace=0) == 0


PARTS = ("weights_bytes", "activations_bytes", "graphs_bytes", "communication_bytes", "runtime_bytes")


def of_share(setting, meaning):
    engine = setting.engine
    changed = engine.memory_fraction_of.model_copy(update={"value": meaning})
    return setting._replace(engine=engine.model_copy(update={"memory_fraction_of": changed}))


@pytest.fixture
def held(axes_of):
    """Return a function that gives the parts of a device's memory, and what is left for the cache."""

    def found(setting, max_num_seqs=64, **axes):
        given = axes_of(**axes)
        values = figures(setting, given)
        parts = ledger(setting, values, given, np.array([float(max_num_seqs)])) | {
            "weights_bytes": values["weights_bytes"]
        }
        return {name: float(np.ravel(size)[0]) for name, size in parts.items()}

    return found


@pytest.mark.parametrize("meaning", ["total", "static", "free"])
@pytest.mark.parametrize("tp", [1, 8])
def test_the_parts_of_the_ledger_add_up_to_what_the_engine_takes(setting_of, held, meaning, tp):
    setting = of_share(setting_of("Qwen3-8B"), meaning)
    capacity, share = setting.hardware.memory.capacity.value, setting.engine.memory_fraction.value
    parts = held(setting, tp=tp)
    cache, taken = parts["kv_cache_bytes"], sum(parts[name] for name in PARTS)
    assert set(parts) == {*PARTS, "kv_cache_bytes"}
    assert all(size >= 0 for size in parts.values())
    if meaning == "total":
        assert taken + cache == pytest.approx(share * capacity)
    elif meaning == "static":
        base = capacity - setting.engine.memory.runtime.value - parts["communication_bytes"]
        assert cache == pytest.approx(min(share * base - parts["weights_bytes"], capacity - taken))
    else:
        assert cache == pytest.approx(share * (capacity - taken))
    assert taken + cache <= capacity


def test_a_static_share_never_takes_more_than_there_is(setting_of, held):
    """Where the share of weights and cache leaves too little for the rest, the cache gives way."""
    setting = of_share(setting_of("Qwen3-8B"), "static")
    whole = setting.engine.memory_fraction.model_copy(update={"value": 1.0})
    setting = setting._replace(engine=setting.engine.model_copy(update={"memory_fraction": whole}))
    parts = held(setting)
    assert sum(parts.values()) == pytest.approx(setting.hardware.memory.capacity.value)


def test_graphs_and_communicators_are_counted(setting_of, held):
    setting = setting_of("Qwen3-30B-A3B")
    memory = setting.engine.memory
    sizes = setting.engine.graph_capture_sizes.value
    for seqs in (1, 64, 1024):
        graphs = held(setting, max_num_seqs=seqs)["graphs_bytes"]
        assert graphs == pytest.approx(memory.graphs.value * sum(size <= seqs for size in sizes))
    # drafts are verified in the same step, so larger batches are captured
    assert held(setting, speculative_tokens=3)["graphs_bytes"] == held(setting, max_num_seqs=256)["graphs_bytes"]
    groups = {(1, 1, 1, 1): 0, (2, 1, 1, 1): 1, (2, 2, 1, 1): 2, (2, 1, 4, 1): 2, (2, 2, 4, 8): 4}
    for (tp, pp, dp, ep), count in groups.items():
        found = held(setting, tp=tp, pp=pp, attention_dp=dp, ep=ep)["communication_bytes"]
        assert found == count * memory.communication.value


def test_activations_grow_with_the_budget_and_the_requests(setting_of, held):
    setting = setting_of("Qwen3-8B")
    small, budget, requests = (
        held(setting, **changes)["activations_bytes"]
        for changes in ({}, {"max_num_batched_tokens": 4096}, {"max_num_seqs": 128})
    )
    assert requests - small == 64 * setting.architecture.vocab_size * 6
    per_token = (2 * setting.architecture.hidden_size + 3 * setting.architecture.intermediate_size) * 2
    assert budget - small == 2048 * per_token


def test_the_workspace_of_context_is_counted_whatever_the_budget(setting_of, held):
    setting = setting_of("DeepSeek-V3", "h200-sxm")
    without = setting.engine.memory.model_copy(update={"latent_context": None})
    lacking = setting._replace(engine=setting.engine.model_copy(update={"memory": without}))
    tokens = setting.engine.memory.latent_context.value
    for budget in (2048, 8192):
        one, other = (held(given, tp=8, ep=8, max_num_batched_tokens=budget) for given in (setting, lacking))
        assert one["activations_bytes"] - other["activations_bytes"] == tokens * (576 + 16 * 256) * 2
        assert other["kv_cache_bytes"] - one["kv_cache_bytes"] == pytest.approx(tokens * (576 + 16 * 256) * 2)


def test_more_drafts_and_copies_of_experts_take_memory(setting_of, held):
    setting = setting_of("Qwen3-30B-A3B")
    plain, copies = (held(setting, tp=8, ep=8, redundant_experts=n) for n in (0, 16))
    one = 3 * 2048 * 768 * 2
    assert copies["weights_bytes"] - plain["weights_bytes"] == pytest.approx(48 * 2 * one)
    assert plain["kv_cache_bytes"] - copies["kv_cache_bytes"] == pytest.approx(48 * 2 * one)
