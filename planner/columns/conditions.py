"""Conditions of engine rules, read on arrays of configurations."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from planner.columns.setting import Setting
from planner.schema.engine import Conditions, Quantity
from planner.schema.precision import FORMATS
from planner.table import Floats

Values = Mapping[str, Floats]
_VOCABULARY_PAD = 64  # vLLM and SGLang pad the vocabulary to a multiple of it before they split it
_FORMAT_NAMES = tuple(FORMATS)
# What follows from the load, not from the structure of a replica.
LIMITS = frozenset(
    ("max_num_seqs", "seqs_per_rank", "max_num_batched_tokens", "speculative_tokens", "verified_per_tp_rank")
)


def axis(s: Setting, v: Values, name: str) -> Any:
    """Return the values of an axis, or what the engine does where the configurations do not say."""
    if name in v:
        return v[name]
    if name == "devices":
        return v["tp"] * v["pp"] * axis(s, v, "attention_dp")
    plain = {
        "attention_dp": 1,
        "context_parallel": 1,
        "redundant_experts": 0,
        "speculative_tokens": 0,
        "block_size": s.engine.block_size.value,
        "mixed_steps": s.engine.scheduling.prefill.value == "mixed",
        "chunked": s.engine.scheduling.chunked_prefill.value,
    }
    return np.array(float(plain[name]))


def role(setting: Setting) -> str:
    """Return what the replicas of a setting do: mixed where it does not say."""
    return str(getattr(setting, "role", "mixed"))


def _group(s: Setting, v: Values) -> Any:
    return v["tp"] * axis(s, v, "attention_dp")


def _expert_tp(s: Setting, v: Values) -> Any:
    return np.maximum(_group(s, v) // v["ep"], 1)


def _kv_heads(s: Setting) -> int:
    """Heads in the KV cache: MLA keeps one latent for all."""
    return 1 if _latent(s) else s.architecture.num_key_value_heads


def _latent(s: Setting) -> bool:
    return bool({"mla", "sparse_mla"} & set(s.architecture.attention_layers))


def _of(field: str) -> Callable[[Setting, Values], Any]:
    return lambda s, v: float(getattr(s.architecture, field))


_QUANTITIES: dict[Quantity, Callable[[Setting, Values], Any]] = {
    "group": _group,
    "expert_tp": _expert_tp,
    "kv_copies": lambda s, v: v["tp"] // _kv_heads(s),
    "kv_heads": lambda s, v: float(_kv_heads(s)),
    "heads_per_kv_head": lambda s, v: float(s.architecture.num_attention_heads // _kv_heads(s)),
    "heads": _of("num_attention_heads"),
    "linear_key_heads": _of("linear_num_key_heads"),
    "linear_value_heads": _of("linear_num_value_heads"),
    "layers": _of("num_hidden_layers"),
    "vocabulary": _of("vocab_size"),
    "padded_vocabulary": lambda s, v: float(-(-s.architecture.vocab_size // _VOCABULARY_PAD) * _VOCABULARY_PAD),
    "hidden": _of("hidden_size"),
    "ffn_width": _of("intermediate_size"),
    "expert_width": _of("moe_intermediate_size"),
    "expert_width_per_rank": lambda s, v: s.architecture.moe_intermediate_size / _expert_tp(s, v),
    "experts": _of("num_experts"),
    "placed_experts": lambda s, v: s.architecture.num_experts + axis(s, v, "redundant_experts"),
    "draft_layers": lambda s, v: float(max(s.architecture.num_nextn_predict_layers, 1)),
    "positions": _of("max_position_embeddings"),
    "max_model_len": lambda s, v: float(s.max_model_len),
    "seqs_per_rank": lambda s, v: v["max_num_seqs"] / axis(s, v, "attention_dp"),
    "verified_per_tp_rank": lambda s, v: v["max_num_seqs"] * (1 + axis(s, v, "speculative_tokens")) / _group(s, v),
    "devices_per_node": lambda s, v: float(s.hardware.devices_per_node.value),
}


def quantity(s: Setting, v: Values, name: Quantity | int) -> Any:
    """Return a quantity of the configurations, or the number itself."""
    if isinstance(name, int):
        return float(name)
    return _QUANTITIES[name](s, v) if name in _QUANTITIES else axis(s, v, name)


_FEATURES: dict[str, Callable[[Setting], bool]] = {
    "dense": lambda s: s.architecture.num_experts == 0,
    "mixture": lambda s: s.architecture.num_experts > 0,
    "latent_attention": _latent,
    "sparse_attention": lambda s: bool({"sparse_mla", "nsa"} & set(s.architecture.attention_layers)),
    "window_attention": lambda s: "sliding" in s.architecture.attention_layers,
    "linear_attention": lambda s: "gated_delta" in s.architecture.attention_layers,
    "own_drafts": lambda s: s.speculative.layers > 0,
}


def may_hold(c: Conditions, s: Setting) -> bool:
    """Tell whether conditions can hold for some configuration of a setting: role, model and device fit."""
    return (
        (not c.roles or role(s) in c.roles)
        and (not c.models or s.architecture.name.startswith(c.models))
        and (not c.hardware or s.hardware.name.startswith(c.hardware))
        and (not c.vendors or s.hardware.vendor in c.vendors)
        and all(_FEATURES[name](s) for name in c.features if name in _FEATURES)
        and not any(_FEATURES[name](s) for name in c.without if name in _FEATURES)
    )


def hold(c: Conditions, s: Setting, v: Values) -> Any:
    """Tell for each configuration whether all conditions hold."""
    if not may_hold(c, s):
        return np.array(False)
    found: Any = np.array(True)
    for part in _parts(c, s, v):
        found = found & part
    return found


def _parts(c: Conditions, s: Setting, v: Values) -> Iterator[Any]:
    """Yield where each condition holds that differs between configurations."""
    if c.policies:
        mixed, chunked = axis(s, v, "mixed_steps") > 0, axis(s, v, "chunked") > 0
        named = {policy.partition("_")[::2] for policy in c.policies}
        yield np.any(
            np.broadcast_arrays(*((mixed == (m == "mixed")) & (chunked == (w == "chunked")) for m, w in named)), axis=0
        )
    for formats, name in ((c.weights, "weight_precision"), (c.kv_cache, "kv_precision")):
        if formats:
            yield np.isin(v[name].astype(int), [_FORMAT_NAMES.index(f) for f in formats])
    yield from (_several_nodes(s, v) for name in c.features if name == "several_nodes")
    yield from (~_several_nodes(s, v) for name in c.without if name == "several_nodes")
    yield from _comparisons(c, s, v)


def _several_nodes(s: Setting, v: Values) -> Any:
    return axis(s, v, "devices") > s.hardware.devices_per_node.value


def _comparisons(c: Conditions, s: Setting, v: Values) -> Iterator[Any]:
    for name, numbers in c.one_of.items():
        yield np.isin(quantity(s, v, name), numbers)
    tests: tuple[tuple[dict[Any, Any], Callable[[Any, Any], Any]], ...] = (
        (c.divides, lambda left, right: right % left == 0),
        (c.multiple_of, lambda left, right: left % right == 0),
        (c.at_least, lambda left, right: left >= right),
        (c.at_most, lambda left, right: left <= right),
        (c.above, lambda left, right: left > right),
    )
    for pairs, test in tests:
        for left, right in pairs.items():
            yield test(np.asarray(quantity(s, v, left)), np.asarray(quantity(s, v, right)))


def quantities(c: Conditions) -> tuple[Quantity, ...]:
    """Return the quantities that conditions read, each once."""
    pairs = [pair for field in (c.divides, c.multiple_of, c.at_least, c.at_most, c.above) for pair in field.items()]
    names = [*c.one_of, *(name for pair in pairs for name in pair if not isinstance(name, int))]
    return tuple(dict.fromkeys(names))


def numbers(c: Conditions, s: Setting, at: Mapping[str, float]) -> Iterator[str]:
    """Yield what conditions look at, with its value in one configuration."""
    v: Values = {name: np.array(value) for name, value in at.items()}
    if c.roles:
        yield f"role {role(s)}"
    if c.policies:
        words = (
            ("separate", "mixed")[int(axis(s, v, "mixed_steps"))],
            ("whole", "chunked")[int(axis(s, v, "chunked"))],
        )
        yield f"prefill {'_'.join(words)}"
    if c.weights:
        yield f"weights {_FORMAT_NAMES[int(at['weight_precision'])]}"
    if c.kv_cache:
        yield f"KV cache {_FORMAT_NAMES[int(at['kv_precision'])]}"
    if "several_nodes" in (*c.features, *c.without):
        yield f"devices {float(axis(s, v, 'devices')):.0f} in nodes of {s.hardware.devices_per_node.value}"
    for name in quantities(c):
        yield f"{name} {float(quantity(s, v, name)):g}"
