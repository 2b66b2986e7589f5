"""Why a configuration cannot run, or cannot keep up: one rule each, checked in this order."""

from typing import Any

import numpy as np

from planner.columns.engine_rules import LegalityRule, Values, engine_rules, gigabytes
from planner.columns.setting import Setting
from planner.columns.values import multiplies
from planner.schema.precision import FORMATS
from planner.schema.scenario import Workload


def _no_room(s: Setting, v: Values) -> Any:
    nodes, whole, domain = s.nodes, s.hardware.devices_per_node.value, s.hardware.domain
    spans = v["devices"] > whole
    full = whole * nodes.count(whole)
    if domain > whole:
        # Inside one domain, or over several whole ones.
        inside = v["devices"] <= min(full, domain)
        over = (v["devices"] % domain == 0) & (v["devices"] <= full // domain * domain)
        torn = ~(inside | over)
    else:
        torn = v["devices"] > full
    return np.where(spans, (v["devices"] % whole != 0) | torn, v["devices"] > max(nodes))


def _no_effect(s: Setting, v: Values) -> Any:
    """Configurations that another one stands for: what they turn on does nothing."""
    idle = (v["redundant_experts"] > 0) & (v["ep"] == 1)
    bits = v["overlaps"].astype(int)
    tp, dp, ep = v["tp"] > 1, v["attention_dp"] > 1, v["ep"] > 1
    experts = s.architecture.num_experts > 0
    useful = {
        "fused_norm_all_reduce": tp,
        "fused_moe_all_reduce": tp & experts,
        "matmul_all_reduce_overlap": tp,
        "dispatch_combine_fusion": (ep | dp) & experts,
        "dual_batch_overlap": tp | dp | ep,
        "shared_expert_overlap": _all(tp, s.architecture.shared_expert_size > 0),
        "mla_prolog": _all(tp, bool({"mla", "sparse_mla"} & set(s.architecture.attention_layers))),
        "fused_norm_quantisation": _all(tp, False),  # not priced
        "weight_prefetch": _all(tp, True),
    }
    for name, fusion in s.engine.fusions.items():
        if not fusion.value:
            ranks = {"any": _all(dp, True), "with": dp, "without": ~dp}[fusion.attention_dp]
            works = useful[name] & ranks & (s.role in fusion.roles)
            idle = idle | ((bits >> s.pool.optional.index(name) & 1 > 0) & ~works)
    return idle


def _all(like: Any, value: bool) -> Any:
    return np.full(np.shape(like), value)


DEVICE_RULES: tuple[LegalityRule, ...] = (
    LegalityRule(
        "no_such_arithmetic",
        "the device does not multiply in this precision",
        lambda s, v: (
            ~np.array([multiplies(s.hardware, s.architecture, name) for name in FORMATS])[
                v["weight_precision"].astype(int)
            ]
        ),
        lambda s, v: f"it multiplies in {', '.join(s.hardware.peak_flops)}",
    ),
    LegalityRule(
        "no_room_in_nodes",
        "a replica needs one node, or several whole ones of one scale-up domain, of this inventory",
        _no_room,
        lambda s, v: f"{v['devices']:.0f} devices in nodes of {', '.join(map(str, sorted(set(s.nodes))))}",
    ),
    LegalityRule(
        "no_effect",
        "turns on what has no effect there: the same as another configuration",
        _no_effect,
        lambda s, v: f"redundant experts {v['redundant_experts']:.0f}, overlaps {v['overlaps']:.0f}",
    ),
)

MEMORY_RULE = LegalityRule(
    "weights_do_not_fit",
    "weights and activations exceed the usable memory",
    lambda s, v: v["kv_cache_bytes"] <= 0,
    lambda s, v: (
        f"{gigabytes(v['weights_bytes'])} weights, {gigabytes(v['activations_bytes'])} activations and "
        f"{gigabytes(v['graphs_bytes'] + v['communication_bytes'] + v['runtime_bytes'])} buffers "
        f"of {gigabytes(v['capacity_bytes'])}"
    ),
)

LOAD_RULES: tuple[LegalityRule, ...] = (
    LegalityRule(
        "prompt_exceeds_budget",
        "the engine does not cut prompts, and one does not fit max_num_batched_tokens",
        lambda s, v: (
            (v["max_num_batched_tokens"] < s.workload.input_tokens) & (v["chunked"] == 0) & (s.role != "decode")
        ),
        lambda s, v: f"{s.workload.input_tokens:.0f} prompt tokens, {v['max_num_batched_tokens']:.0f} in a step",
        by_limits=True,
    ),
    LegalityRule(
        "prefill_cannot_keep_up",
        "prompts arrive faster than the chunk budget prefills them, or nearly so",
        lambda s, v: (
            ~(
                (v["prefill_inflow"] < v["prefill_budget"])
                & (v["prefill_load"] <= s.efficiencies.scheduling.prefill_load_limit.value)
            )
        ),
        lambda s, v: (
            f"{v['prefill_inflow']:.0f} prompt tokens per step with room for {v['prefill_budget']:.0f}, "
            f"busy {v['prefill_load']:.0%} of the time"
        ),
    ),
    LegalityRule(
        "too_few_sequences",
        "max_num_seqs would often be reached at this load",
        lambda s, v: ~(v["slots_needed"] <= v["max_num_seqs"]),
        lambda s, v: f"max_num_seqs {v['max_num_seqs']:.0f}, {v['slots_needed']:.1f} needed",
    ),
    LegalityRule(
        "kv_cache_too_small",
        "the KV cache cannot hold the running requests without preemption",
        lambda s, v: v["kv_cache_bytes"] < v["kv_needed_bytes"],
        lambda s, v: f"{gigabytes(v['kv_cache_bytes'])} left, {gigabytes(v['kv_needed_bytes'])} needed",
    ),
)


def rules(setting: Setting) -> tuple[LegalityRule, ...]:
    """Return the rules that apply, in the order they are checked: cheap and structural ones first."""
    engine = engine_rules(setting)
    structural = [rule for rule in engine if rule.structural]
    by_size = [rule for rule in engine if not rule.structural]
    return (*DEVICE_RULES, *structural, MEMORY_RULE, *by_size, *LOAD_RULES)


def limits(workload: Workload) -> dict[str, float]:
    """Return the latency limits of a workload by figure [s]."""
    asked = {name: getattr(workload.slo, name) for name in ("ttft", "tpot", "itl")}
    return {name: limit for name, limit in asked.items() if limit is not None}
