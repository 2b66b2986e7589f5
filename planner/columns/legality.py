"""Why a configuration cannot run, or cannot keep up: one rule each, checked in this order."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from planner.columns.setting import Setting
from planner.columns.values import multiplies_in
from planner.schema.precision import FORMATS
from planner.schema.scenario import Workload
from planner.table import Floats

Values = Mapping[str, Floats]
_GB = 1e9


_BY_SIZE = (
    "weights_do_not_fit", "longest_request_fits", "prefill_cannot_keep_up", "too_few_sequences", "kv_cache_too_small",
)  # fmt: skip


class LegalityRule(NamedTuple):
    """A rule with its meaning for people, a test on arrays (True = broken), and the numbers of one case."""

    name: str
    meaning: str
    broken: Callable[[Setting, Values], Any]
    detail: Callable[[Setting, Mapping[str, float]], str]

    @property
    def structural(self) -> bool:
        """Whether degrees and limits alone decide, whatever the load and the memory."""
        return self.name not in _BY_SIZE


def _multiplies(setting: Setting) -> list[bool]:
    """Whether every part of the model can be multiplied, for each format its weights may be asked for in."""
    formats = setting.architecture.formats
    parts = [formats.get(name, (name,)) for name in FORMATS]
    return [all(multiplies_in(setting.hardware, part) for part in set(names)) for names in parts]


def _widths_broken(s: Setting, v: Values) -> Any:
    if not s.architecture.num_experts:
        return s.architecture.intermediate_size % v["tp"] != 0
    return s.architecture.moe_intermediate_size % np.maximum(_group(v) // v["ep"], 1) != 0


def _group(v: Values) -> Any:
    """Devices that share the experts."""
    return v["tp"] * v.get("attention_dp", np.ones(1))


def _no_room(s: Setting, v: Values) -> Any:
    nodes = s.nodes
    whole = s.hardware.devices_per_node.value
    spans = v["devices"] > whole
    return np.where(
        spans,
        (v["devices"] % whole != 0) | (v["devices"] > whole * nodes.count(whole)),
        v["devices"] > max(nodes),
    )


def _gigabytes(value: float) -> str:
    return f"{value / _GB:.1f} GB"


DEVICE_RULES: tuple[LegalityRule, ...] = (
    LegalityRule(
        "no_such_arithmetic",
        "the device does not multiply in this precision",
        lambda s, v: ~np.array(_multiplies(s))[v["weight_precision"].astype(int)],
        lambda s, v: f"it multiplies in {', '.join(s.hardware.peak_flops)}",
    ),
    LegalityRule(
        "no_room_in_nodes",
        "a replica needs one node, or several whole ones, of this inventory",
        _no_room,
        lambda s, v: f"{v['devices']:.0f} devices in nodes of {', '.join(map(str, sorted(set(s.nodes))))}",
    ),
)

ENGINE_RULES: dict[str, LegalityRule] = {
    rule.name: rule
    for rule in (
        LegalityRule(
            "heads_divide_by_tp",
            "tp must divide the query heads",
            lambda s, v: s.architecture.num_attention_heads % v["tp"] != 0,
            lambda s, v: f"{s.architecture.num_attention_heads} heads, tp {v['tp']:.0f}",
        ),
        LegalityRule(
            "kv_heads_split_or_copy",
            "tp must divide the KV heads or be a multiple of them",
            lambda s, v: (
                (s.architecture.num_key_value_heads % v["tp"] != 0)
                & (v["tp"] % s.architecture.num_key_value_heads != 0)
            ),
            lambda s, v: f"{s.architecture.num_key_value_heads} KV heads, tp {v['tp']:.0f}",
        ),
        LegalityRule(
            "ep_is_one_or_all",
            "ep is 1 or the whole group: the engine spreads experts over all of it",
            lambda s, v: (v["ep"] != 1) & ((v["ep"] != _group(v)) | (s.architecture.num_experts == 0)),
            lambda s, v: f"ep {v['ep']:.0f}, tp {v['tp']:.0f}, {s.architecture.num_experts} experts",
        ),
        LegalityRule(
            "experts_divide_by_ep",
            "ep must divide the experts",
            lambda s, v: s.architecture.num_experts % v["ep"] != 0,
            lambda s, v: f"{s.architecture.num_experts} experts, ep {v['ep']:.0f}",
        ),
        LegalityRule(
            "widths_divide_by_tp",
            "tp (tp/ep for experts) must divide the feed-forward width",
            _widths_broken,
            lambda s, v: f"width {s.architecture.moe_intermediate_size or s.architecture.intermediate_size}",
        ),
        LegalityRule(
            "stage_has_a_layer",
            "every pipeline stage needs a layer",
            lambda s, v: v["pp"] > s.architecture.num_hidden_layers,
            lambda s, v: f"{s.architecture.num_hidden_layers} layers, pp {v['pp']:.0f}",
        ),
        LegalityRule(
            "budget_covers_sequences",
            "max_num_batched_tokens must be at least max_num_seqs",
            lambda s, v: v["max_num_batched_tokens"] < v["max_num_seqs"],
            lambda s, v: f"{v['max_num_batched_tokens']:.0f} tokens, {v['max_num_seqs']:.0f} requests",
        ),
        LegalityRule(
            "longest_request_fits",
            "the KV cache must hold one request of max_model_len",
            lambda s, v: v["kv_cache_bytes"] < v["kv_longest_request_bytes"],
            lambda s, v: (
                f"{_gigabytes(v['kv_cache_bytes'])} left, "
                f"{_gigabytes(v['kv_longest_request_bytes'])} needed for {s.max_model_len} tokens"
            ),
        ),
    )
}

MEMORY_RULE = LegalityRule(
    "weights_do_not_fit",
    "weights and activations exceed the usable memory",
    lambda s, v: v["kv_cache_bytes"] <= 0,
    lambda s, v: (
        f"{_gigabytes(v['weights_bytes'])} weights, {_gigabytes(v['activations_bytes'])} activations and "
        f"{_gigabytes(v['graphs_bytes'] + v['communication_bytes'] + v['runtime_bytes'])} buffers "
        f"of {_gigabytes(v['capacity_bytes'])}"
    ),
)

LOAD_RULES: tuple[LegalityRule, ...] = (
    LegalityRule(
        "prompt_exceeds_budget",
        "the engine does not cut prompts, and one does not fit max_num_batched_tokens",
        lambda s, v: (
            (v["max_num_batched_tokens"] < s.workload.input_tokens) & (not s.engine.scheduling.chunked_prefill.value)
        ),
        lambda s, v: f"{s.workload.input_tokens:.0f} prompt tokens, {v['max_num_batched_tokens']:.0f} in a step",
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
        lambda s, v: f"{_gigabytes(v['kv_cache_bytes'])} left, {_gigabytes(v['kv_needed_bytes'])} needed",
    ),
)


def rules(setting: Setting) -> tuple[LegalityRule, ...]:
    """Return the rules that apply, in the order they are checked: cheap and structural ones first."""
    engine = [ENGINE_RULES[rule.rule] for rule in setting.engine.rules]
    structural = [rule for rule in engine if rule.structural]
    by_size = [rule for rule in engine if not rule.structural]
    return (*DEVICE_RULES, *structural, MEMORY_RULE, *by_size, *LOAD_RULES)


def limits(workload: Workload) -> dict[str, float]:
    """Return the latency limits of a workload by figure [s]."""
    asked = {name: getattr(workload.slo, name) for name in ("ttft", "tpot", "itl")}
    return {name: limit for name, limit in asked.items() if limit is not None}
