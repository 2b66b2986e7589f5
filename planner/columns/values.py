"""Values of the symbols: what an architecture, a calibration, a device and an engine say, in the cost model's names."""

import math
import re

import numpy as np

from planner.columns.setting import Setting
from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine, Fusion, FusionName
from planner.schema.hardware import Hardware
from planner.schema.precision import FORMATS, Precision
from planner.table import Floats, Ints

ACTIVATION_BYTES = FORMATS["bf16"].bytes_per_value
_LOGIT_BYTES = ACTIVATION_BYTES + 4.0  # a bf16 logit and its fp32 copy for sampling
_INDEX_BYTES = 1.0 + 4 / 128  # fp8 with an fp32 scale per 128 values, whatever the cache's own format
_STATE_BYTES = 4.0  # linear-attention states stay in fp32
# Forward, without dropout: scores written; read and written by the mask, and by softmax; probabilities read. With
# dropout and backward the same count is 19, and gives FlashAttention's published traffic (tests/gold/row12.yaml).
_SCORE_PASSES = 6.0

# Symbols that are a field of the architecture under the name Hugging Face gives it.
_FIELDS: dict[str, str] = {
    "layers": "num_hidden_layers", "hidden": "hidden_size", "norms": "norms_per_layer", "norm_vectors": "norm_vectors",
    "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim", "qk_norm": "qk_norm",
    "qk_norm_joint": "qk_norm_joint", "qk_norm_width": "qk_norm_width", "query_gate": "attention_output_gate",
    "attention_bias_width": "attention_bias_width", "window": "sliding_window", "query_rank": "q_lora_rank",
    "latent_rank": "kv_lora_rank", "nope_dim": "qk_nope_head_dim", "rope_dim": "qk_rope_head_dim",
    "value_dim": "v_head_dim", "index_heads": "index_n_heads", "index_dim": "index_head_dim",
    "index_topk": "index_topk", "nsa_block": "nsa_block", "nsa_stride": "nsa_stride",
    "nsa_selected_block": "nsa_selected_block", "nsa_selected": "nsa_selected", "nsa_window": "nsa_window",
    "delta_key_heads": "linear_num_key_heads",
    "delta_value_heads": "linear_num_value_heads", "delta_key_dim": "linear_key_head_dim",
    "delta_value_dim": "linear_value_head_dim", "delta_conv": "linear_conv_kernel_dim",
    "ffn_width": "intermediate_size", "ffn_matrices": "ffn_matrices", "ffn_bias": "ffn_biases",
    "experts": "num_experts", "experts_per_token": "num_experts_per_tok", "expert_width": "moe_intermediate_size",
    "shared_width": "shared_expert_size", "shared_gate": "shared_expert_gate", "router_bias": "router_bias",
    "expert_bias": "expert_biases", "vocab": "vocab_size", "positions": "learned_positions",
}  # fmt: skip


def layer_kinds(a: Architecture) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the kinds of attention and of feed-forward layers, in the order that names a cost function."""
    return tuple(sorted(a.attention_layers)), tuple(sorted(a.ffn_layers))


def architecture_values(a: Architecture, pp: Floats) -> dict[str, float | Floats]:
    """Return the symbols that an architecture gives a value, and the vocabulary matrices by pipeline stages."""
    matrices = 1.0 if a.tie_word_embeddings else 2.0
    attention = {str(kind): layers for kind, layers in a.attention_layers.items()}
    ffn = {str(kind): layers for kind, layers in a.ffn_layers.items()}
    return {
        **{symbol: float(getattr(a, field)) for symbol, field in _FIELDS.items()},
        **{
            f"{k}_layers": float(attention.get(k, 0))
            for k in ("gqa", "sliding", "mla", "sparse_mla", "gated_delta", "nsa")
        },
        **{f"{k}_layers": float(ffn.get(k, 0)) for k in ("dense", "moe")},
        "grouped_routing": float(a.num_expert_groups > 1),
        "vocab_matrices": np.where(pp > 1, 1.0, matrices),
        "vocab_matrices_total": matrices,
        "activation_bytes": ACTIVATION_BYTES,
        "logit_bytes": _LOGIT_BYTES,
        "index_bytes": _INDEX_BYTES,
        "state_bytes": _STATE_BYTES,
    }


def efficiency_values(e: Efficiencies) -> dict[str, float]:
    """Return the symbols that a set of efficiencies gives a value, those by precision left out."""
    sigmas = e.scheduling.occupancy_sigmas.value
    return {
        "mfu_head": e.compute.gemm_bf16.value,
        "mfu_attention": e.compute.attention.value,
        "mfu_experts": e.compute.experts.value,
        "vector_share": e.compute.vector.value,
        "mbu_activations": e.bandwidth.weights.value,
        "mbu_kv_cache": e.bandwidth.kv_cache.value,
        "link_efficiency": e.bandwidth.link.value,
        "tile_rows": float(e.compute.tile_rows.value),
        "least_tile_rows": float(e.compute.least_tile_rows.value),
        "sparse_head_tile": float(e.compute.sparse_head_tile.value),
        "overlap_chunks": float(e.compute.overlap_chunks.value),
        "exchange_latency": e.latency.exchange.value,
        "attention_floor": e.latency.attention_layer.value,
        "mla_floor": e.latency.mla_layer.value,
        "index_floor": e.latency.token_selection.value,
        "gated_delta_floor": e.latency.gated_delta_layer.value,
        "dense_ffn_floor": e.latency.dense_ffn_layer.value,
        "moe_ffn_floor": e.latency.moe_ffn_layer.value,
        "quantise_floor": e.latency.quantise.value,
        "eager_floor": e.latency.eager_layer.value,
        "draft_floor": e.latency.draft.value,
        "host_step": e.host.step.value,
        "host_sequence": e.host.sequence.value,
        "host_request": e.host.request.value,
        "host_prompt_token": e.host.prompt_token.value,
        "host_exposed": e.host.exposed.value,
        "prompt_interference": e.scheduling.prompt_interference.value,
        "burst_share": e.scheduling.closed_loop_burst.value,
        "return_share": e.scheduling.closed_loop_waves.value,
        "equal_burst_share": e.scheduling.equal_burst.value,
        "wave_share": e.scheduling.wave.value,
        "turn_share": e.scheduling.turn.value,
        "burst_growth": e.scheduling.burst_growth.value,
        "step_scale": e.scale.step.value,
        "ttft_scale": e.scale.ttft.value,
        "occupancy_sigmas": sigmas,
        "overflow_share": math.erfc(sigmas / math.sqrt(2)) / 2,
    }


def hardware_values(hardware: Hardware) -> dict[str, float]:
    """Return the rates of a device that do not depend on precision or on who talks to whom."""
    hand_off = hardware.engines.hand_off
    return {
        "cores": float(hardware.engines.cores.value),
        "bf16_flops": hardware.peak_flops["bf16"].value,
        # Indexers of sparse attention work in 8 bit where the device does.
        "index_flops": max(hardware.peak_flops[p].value for p in ("bf16", "fp8", "int8") if p in hardware.peak_flops),
        "vector_flops": hardware.engines.vector_flops.value,
        "hbm_bandwidth": hardware.memory.bandwidth.value,
        "hand_off": hand_off.value if hand_off else math.inf,
        # Without a published host link, swapping never pays: tokens are computed again.
        "host_link": hardware.host.link.value if hardware.host else math.ulp(0.0),
    }


def precision_values(setting: Setting, weight: Ints, kv: Ints) -> dict[str, Floats]:
    """Return rates, shares and sizes by precision, looked up along the precision axes (indices into ``FORMATS``)."""
    formats = setting.architecture.formats
    values: dict[str, Floats] = {"kv_bytes": np.array([f.bytes_per_value for f in FORMATS.values()])[kv]}
    for part, symbol in (("attention", "attention"), ("ffn", "ffn"), ("experts", "expert")):
        names: list[Precision] = [getattr(formats[p], part) if p in formats else p for p in FORMATS]
        columns = np.array([part_values(setting.hardware, setting.efficiencies, name, part) for name in names])
        narrow = [_narrowed(setting, p, name) for p, name in zip(FORMATS, names, strict=True)]
        values[f"{part}_narrow"] = np.array(narrow)[weight]
        share = {"attention": "projections", "ffn": "ffn", "experts": "experts"}[part]
        values[f"{symbol}_weight_bytes"] = columns[weight, 0]
        values[f"{symbol}_flops"] = columns[weight, 1]
        values[f"mfu_{share}"] = columns[weight, 2]
        values[f"mbu_{share}"] = columns[weight, 3]
        if part == "experts":
            values["dispatch_bytes"] = np.array([_sent_bytes(setting, name) for name in names])[weight]
    return values


def _narrowed(setting: Setting, precision: Precision, stored: Precision) -> float:
    """Return the share of products whose activations a kernel of its own narrows.

    Scales of blocks and of tokens are found as the model runs. One scale per matrix is known before, so that the norm
    ahead of the first of two products narrows as it writes (RMSNorm fusions of vLLM and TensorRT-LLM).
    """
    compute = multiplies_in(setting.hardware, stored)
    if compute in (None, "bf16"):
        return 0.0
    return 0.5 if compute == "fp8" and precision not in setting.architecture.block_scaled else 1.0


def multiplies_in(hardware: Hardware, precision: Precision) -> Precision | None:
    """Return the format a product runs in on a device, None where it cannot.

    Formats that may be unpacked to bf16 before the product need no arithmetic of their own.
    """
    stored = FORMATS[precision]
    if stored.compute in hardware.peak_flops:
        return stored.compute
    return "bf16" if stored.unpacks else None


def multiplies(hardware: Hardware, architecture: Architecture, name: Precision) -> bool:
    """Tell whether a device can multiply every part of a model whose weights are asked for in a format."""
    parts = architecture.formats.get(name, (name,))
    return all(multiplies_in(hardware, part) for part in set(parts))


def _sent_bytes(setting: Setting, name: Precision) -> float:
    """Return bytes of an activation on its way to an expert: narrow only where the product takes narrow ones."""
    if multiplies_in(setting.hardware, name) != name:
        return ACTIVATION_BYTES
    return setting.engine.dispatch_bytes.value.get(name, ACTIVATION_BYTES)


def part_values(hardware: Hardware, e: Efficiencies, name: Precision, part: str) -> tuple[float, float, float, float]:
    """Return bytes per weight, matrix rate [flop/s], and the shares of rate and bandwidth reached, of a part's weights.

    ``part``: attention, ffn or experts.
    """
    compute = multiplies_in(hardware, name)
    if compute is None:
        return FORMATS[name].bytes_per_value, math.nan, math.nan, math.nan
    mfu: dict[str, float] = {
        "bf16": e.compute.gemm_bf16.value,
        "fp8": e.compute.gemm_fp8.value,
        "int8": e.compute.gemm_int8.value,
        "fp4": e.compute.gemm_fp4.value,
    }
    narrow = {
        "int4": e.bandwidth.int4_weights.value,
        "fp8": e.bandwidth.fp8_weights.value,
        "fp4": e.bandwidth.fp4_weights.value,
    }.get(name, 1.0)
    mbu = (e.bandwidth.experts if part == "experts" else e.bandwidth.weights).value * narrow
    reached = e.compute.experts.value if part == "experts" else mfu[compute]
    return FORMATS[name].bytes_per_value, hardware.peak_flops[compute].value, reached, mbu


def engine_values(engine: Engine, version: str) -> dict[str, float]:
    """Return how a version of an engine schedules and exchanges tokens."""
    scheduling = engine.scheduling
    ahead = scheduling.host_overlap.value and at_least(version, scheduling.host_overlap_since)
    return {
        "block_size": float(engine.block_size.value),
        "context_workspace": float(engine.memory.latent_context.value if engine.memory.latent_context else 0),
        "mixed_steps": float(scheduling.prefill.value == "mixed"),
        "chunked": float(scheduling.chunked_prefill.value),
        "host_overlap": float(ahead),
        "all_to_all": exchanges_all_to_all(engine, ""),
    }


# Symbols of a switch, its fewest and its most tokens, and whether it needs prompts, by the name of the fusion.
_SWITCHES: dict[FusionName, tuple[str, str, str, str]] = {
    "fused_norm_all_reduce": ("fused_norm", "", "fused_norm_most", ""),
    "fused_moe_all_reduce": ("fused_moe_reduce", "", "fused_moe_most", ""),
    "mla_prolog": ("mla_prolog", "", "", ""),
    "matmul_all_reduce_overlap": ("overlap_matmul", "overlap_least", "", "overlap_prompts"),
    "dispatch_combine_fusion": ("fused_dispatch", "", "", ""),
    "dual_batch_overlap": ("dual_batch", "dual_least", "", ""),
    "weight_prefetch": ("weight_prefetch", "", "", ""),
    "shared_expert_overlap": ("shared_overlap", "", "shared_most", ""),
}


def fusion_values(
    setting: Setting, weight: Ints, tp: Floats, dp: Floats, overlaps: Floats
) -> dict[str, Floats | float]:
    """Return which fusions and overlaps are on, and the tokens of a step from or up to which each takes effect.

    ``overlaps``: bits that turn on those the engine leaves off, in the order of ``Pool.optional``.
    """
    values: dict[str, Floats | float] = {}
    optional = setting.pool.optional
    for name, (switch, least, most, prompts) in _SWITCHES.items():
        fusion = setting.engine.fusions.get(name)
        on = np.zeros(1)
        if fusion is not None and at_least(setting.engine_version, fusion.since):
            on = _fits(setting, name, fusion, weight, dp)
            if not fusion.value:
                on = on * (overlaps.astype(int) >> optional.index(name) & 1)
        values[switch] = on
        if least:
            values[least] = float((fusion and fusion.least_tokens) or 0)
        if most:
            values[most] = _most_tokens(setting, fusion, tp)
        if prompts:
            values[prompts] = float(fusion is not None and fusion.steps == "prompts")
    return values


def _fits(setting: Setting, name: FusionName, fusion: Fusion, weight: Ints, dp: Floats) -> Floats:
    """Return 1 where role, attention data parallelism and the weights' format allow a fusion, else 0."""
    if setting.role not in fusion.roles:
        return np.zeros(1)
    formats = setting.architecture.formats
    part = "attention" if name == "mla_prolog" else "experts"
    stored = [getattr(formats[p], part) if p in formats else p for p in FORMATS]
    format_fits = np.array([fusion.weights is None or p in fusion.weights for p in stored])[weight]
    ranks = {"any": np.ones_like(dp, dtype=bool), "with": dp > 1, "without": dp == 1}[fusion.attention_dp]
    on: Floats = np.where(format_fits & ranks, 1.0, 0.0)
    return on


def _most_tokens(setting: Setting, fusion: Fusion | None, tp: Floats) -> Floats:
    """Return the most tokens of a step a fusion takes effect in: stated, or by the bytes of its activations."""
    if fusion is None:
        return np.zeros(1)
    most = float(fusion.most_tokens or np.inf)
    if fusion.steps == "decodes":
        most = min(most, float(max(setting.engine.graph_capture_sizes.value)))
    if not fusion.most_activations:
        return np.zeros_like(tp) + most
    row = setting.architecture.hidden_size * ACTIVATION_BYTES
    largest: Floats = np.zeros_like(tp)
    for limit in fusion.most_activations:
        largest = np.where(tp == limit.tp, min(most, limit.size // row), largest)
    return largest


def choice_values(setting: Setting) -> dict[str, float]:
    """Return what the scenario says of attention kernel, scheduler and the spread of outputs."""
    workload, kernel = setting.workload, setting.attention_kernel
    least, most = workload.output_range or (workload.output_tokens, workload.output_tokens)
    return {
        "score_passes": _SCORE_PASSES if kernel == "standard" else 0.0,
        "sequence_blocks": float(kernel != "flash1"),
        "request_batches": float(setting.scheduler.policy == "request"),
        "whole_reserved": float(setting.scheduler.reserves_longest),
        "least_osl": least,
        "most_osl": most,
    }


def exchanges_all_to_all(engine: Engine, asked: str) -> float:
    """Return 1 where tokens go to the devices of their experts only: as asked, or the engine's default."""
    return float((asked or engine.expert_exchange.value) == "all_to_all")


def at_least(version: str, since: str | None) -> bool:
    """Tell whether a version, like '0.5.1.post1', is not older than another; one without numbers counts as new."""
    if since is None or not version[:1].isdigit():
        return True
    left, right = ([int(part) for part in re.findall(r"\d+", text)[:3]] for text in (version, since))
    return left >= right[: len(left)]
