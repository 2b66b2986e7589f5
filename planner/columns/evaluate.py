"""Evaluates configurations with the compiled costs, on an open mesh or one by one."""

import numpy as np

from planner.columns.setting import Setting
from planner.columns.topology import links
from planner.costs.compile import compiled
from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.precision import FORMATS, Precision
from planner.table import Floats, Ints

_ACTIVATION_BYTES = FORMATS["bf16"].bytes_per_value
_LOGIT_BYTES = _ACTIVATION_BYTES + 4.0  # a bf16 logit and its fp32 copy for sampling
_UNSUPPORTED = float("nan")

Axes = dict[str, Floats]


def figures(setting: Setting, axes: Axes) -> dict[str, Floats]:
    """Return every figure of the cost model for configurations given as arrays.

    Args:
        setting: what stays fixed.
        axes: arrays that broadcast together: ``weight_precision`` and ``kv_precision`` as indices into
            ``FORMATS``, and tp, pp, ep, mean_running, max_num_batched_tokens.

    Returns:
        The outputs of ``planner.costs.serving`` by name, each with only the axes it depends on. Figures of
        illegal configurations may be meaningless (NaN or infinite).
    """
    tp, pp, ep = axes["tp"], axes["pp"], axes["ep"]
    running = axes["mean_running"]
    rows, captured = padded(running / pp, setting.engine.graph_capture_sizes.value)
    kernel = compiled(setting.architecture.attention, setting.architecture.ffn)
    with np.errstate(all="ignore"):
        return kernel(
            **architecture_values(setting.architecture, pp),
            **_efficiencies(setting.efficiencies, ep),
            **_precisions(setting, axes["weight_precision"].astype(int), axes["kv_precision"].astype(int)),
            **links(setting, tp, pp),
            tp=tp,
            pp=pp,
            ep=ep,
            token_budget=axes["max_num_batched_tokens"],
            running=running,
            padded_batch=rows,
            captured=captured,
            hbm_bandwidth=setting.hardware.memory.bandwidth.value,
            block_size=float(setting.engine.block_size.value),
            isl=setting.workload.input_tokens,
            osl=setting.workload.output_tokens,
        )


def padded(batch: Floats, sizes: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return the rows of a decode step, padded to the next captured graph, and 1 where there is one, else 0."""
    ladder = np.array(sorted(sizes), dtype=np.float64)
    index = np.searchsorted(ladder, batch)
    captured = index < len(ladder)
    return np.where(captured, ladder[np.minimum(index, len(ladder) - 1)], batch), captured.astype(np.float64)


def architecture_values(a: Architecture, pp: Floats) -> dict[str, float | Floats]:
    """Return the symbols that an architecture gives a value, and the vocabulary matrices by pipeline stages."""
    matrices = 1.0 if a.tie_word_embeddings else 2.0
    return {
        "layers": float(a.num_hidden_layers),
        "hidden": float(a.hidden_size),
        "ffn_width": float(a.intermediate_size),
        "heads": float(a.num_attention_heads),
        "kv_heads": float(a.num_key_value_heads),
        "head_dim": float(a.head_dim),
        "vocab": float(a.vocab_size),
        "qk_norm": float(a.qk_norm),
        "vocab_matrices": np.where(pp > 1, 1.0, matrices),
        "vocab_matrices_total": matrices,
        "experts": float(a.num_experts),
        "experts_per_token": float(a.num_experts_per_tok),
        "expert_width": float(a.moe_intermediate_size),
        "activation_bytes": _ACTIVATION_BYTES,
        "logit_bytes": _LOGIT_BYTES,
    }


def _efficiencies(e: Efficiencies, ep: Floats) -> dict[str, float | Floats]:
    return {
        "mfu_head": e.compute.gemm_bf16.value,
        "mfu_attention": e.compute.attention.value,
        "mfu_experts": e.compute.experts.value,
        "mbu_activations": e.bandwidth.weights.value,
        "mbu_kv_cache": e.bandwidth.kv_cache.value,
        "link_efficiency": e.bandwidth.link.value,
        "expert_imbalance": np.where(ep > 1, e.scheduling.expert_imbalance.value, 1.0),
        "expert_token_exponent": e.scheduling.expert_token_exponent.value,
        "attention_floor": e.latency.attention_layer.value,
        "dense_ffn_floor": e.latency.dense_ffn_layer.value,
        "moe_ffn_floor": e.latency.moe_ffn_layer.value,
        "eager_floor": e.latency.eager_layer.value,
        "host_step": e.host.step.value,
        "host_sequence": e.host.sequence.value,
        "host_request": e.host.request.value,
        "host_prompt_token": e.host.prompt_token.value,
        "occupancy_sigmas": e.scheduling.occupancy_sigmas.value,
    }


def _precisions(setting: Setting, weight: Ints, kv: Ints) -> dict[str, Floats | float]:
    """Return rates and sizes by precision, looked up along the precision axes."""
    e, peaks = setting.efficiencies, setting.hardware.peak_flops
    gemm = {
        "bf16": e.compute.gemm_bf16.value,
        "fp8": e.compute.gemm_fp8.value,
        "int8": e.compute.gemm_int8.value,
        "fp4": e.compute.gemm_fp4.value,
    }
    narrow = {"int4": e.bandwidth.int4_weights.value, "fp4": e.bandwidth.fp4_weights.value}
    formats = list(FORMATS.items())

    def rate(precision: Precision) -> float:
        return peaks[precision].value if precision in peaks else _UNSUPPORTED

    def along(values: list[float], index: Ints) -> Floats:
        return np.array(values)[index]

    return {
        "gemm_flops": along([rate(f.compute) for _, f in formats], weight),
        "bf16_flops": rate("bf16"),
        "mfu_gemm": along([gemm[f.compute] for _, f in formats], weight),
        "weight_bytes": along([f.bytes_per_value for _, f in formats], weight),
        "kv_bytes": along([f.bytes_per_value for _, f in formats], kv),
        "mbu_weights": along([e.bandwidth.weights.value * narrow.get(n, 1.0) for n, _ in formats], weight),
        "mbu_experts": along([e.bandwidth.experts.value * narrow.get(n, 1.0) for n, _ in formats], weight),
    }
