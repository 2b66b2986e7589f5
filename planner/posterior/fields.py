"""What is fitted: efficiencies by the name of their field, and the scale each is fitted on."""

from collections.abc import Mapping

import numpy as np

from planner.schema.efficiency import Efficiencies
from planner.table import Floats

# Shares between 0 and 1 are fitted as log-odds, times and factors as logarithms.
SHARES = (
    "compute.gemm_bf16", "compute.gemm_fp8", "compute.gemm_int8", "compute.gemm_fp4", "compute.attention",
    "compute.experts",
    "bandwidth.weights", "bandwidth.experts", "bandwidth.kv_cache", "bandwidth.int4_weights", "bandwidth.fp8_weights",
    "bandwidth.fp4_weights", "bandwidth.link", "scheduling.closed_loop_burst", "scheduling.closed_loop_waves",
    "scheduling.equal_burst", "scheduling.wave", "scheduling.burst_growth",
)  # fmt: skip
FACTORS = (
    "latency.attention_layer", "latency.mla_layer", "latency.token_selection", "latency.gated_delta_layer",
    "latency.dense_ffn_layer", "latency.moe_ffn_layer", "latency.quantise", "latency.eager_layer", "latency.collective",
    "latency.exchange", "latency.draft", "host.step", "host.sequence", "host.request", "host.prompt_token",
    "scheduling.prompt_interference", "scheduling.hot_expert_load", "scheduling.turn",
)  # fmt: skip
FIELDS = (*SHARES, *FACTORS)
# Fields that measurements of single operators tell.
OPERATORS = frozenset((*(f for f in SHARES if f.startswith(("compute", "bandwidth"))), "latency.collective"))
# Symbols that these fields have a part in.
SYMBOLS = (
    "mfu_projections", "mfu_ffn", "mfu_experts", "mfu_head", "mfu_attention", "mbu_projections", "mbu_ffn",
    "mbu_experts", "mbu_activations", "mbu_kv_cache", "link_efficiency", "exchange_latency", "attention_floor",
    "mla_floor", "index_floor", "gated_delta_floor", "dense_ffn_floor", "moe_ffn_floor", "quantise_floor",
    "eager_floor", "draft_floor", "host_step", "host_sequence", "host_request", "host_prompt_token",
    "prompt_interference", "burst_share", "return_share", "equal_burst_share", "wave_share", "turn_share",
    "burst_growth", "hot_load",
    "tp_latency", "ep_latency", "pp_latency", "tp_far_latency", "ep_far_latency",
)  # fmt: skip
_MOST = 0.98  # of a share: log-odds have no 1
_IS_SHARE = np.array([field in SHARES for field in FIELDS])


def values_of(efficiencies: Efficiencies) -> Floats:
    """Return the values of the fields, shape (fields,)."""
    found = []
    for field in FIELDS:
        group, name = field.split(".")
        found.append(float(getattr(getattr(efficiencies, group), name).value))
    return np.array(found)


def to_scale(values: Floats) -> Floats:
    """Return where values of the fields lie on the scale they are fitted on; fields along the first axis."""
    share = _along(values)
    inside = np.clip(values, 1e-6, _MOST)
    return np.where(share, np.log(inside / (1 - np.where(share, inside, 0.5))), np.log(np.maximum(values, 1e-12)))


def from_scale(places: Floats) -> Floats:
    """Return values of the fields, and the reverse of ``to_scale``."""
    share = _along(places)
    return np.where(share, 1 / (1 + np.exp(-places)), np.exp(np.where(share, 0.0, places)))


def slope(values: Floats) -> Floats:
    """Return the derivative of values by their places on the scale."""
    return np.where(_along(values), values * (1 - values), values)


def _along(values: Floats) -> np.ndarray:
    return _IS_SHARE.reshape(-1, *([1] * (np.ndim(values) - 1)))


def with_fields(base: Efficiencies, values: Mapping[str, float]) -> Efficiencies:
    """Return efficiencies with some fields replaced."""
    groups: dict[str, dict[str, object]] = {}
    for field, value in values.items():
        group, name = field.split(".")
        old = getattr(getattr(base, group), name)
        groups.setdefault(group, {})[name] = old.model_copy(update={"value": value})
    changed = {name: getattr(base, name).model_copy(update=fields) for name, fields in groups.items()}
    return base.model_copy(update=changed)


def datasheet(base: Efficiencies) -> Efficiencies:
    """Return efficiencies of software that reaches every rate of the data sheet and adds no time of its own."""
    found = with_fields(base, {**dict.fromkeys(SHARES, 1.0), **dict.fromkeys(FACTORS, 0.0)})
    even = found.scheduling.hot_expert_load.model_copy(update={"value": 1.0})
    return found.model_copy(update={"scheduling": found.scheduling.model_copy(update={"hot_expert_load": even})})
