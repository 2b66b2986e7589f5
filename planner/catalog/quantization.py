"""Reads ``quantization_config`` of a ``config.json``: the checkpoint's precision, and which parts keep bf16."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

from planner.schema.architecture import WeightFormats
from planner.schema.precision import Precision

_FP8_ALGORITHMS: dict[str, Precision] = {"FP8": "fp8", "FP8_PB_WO": "fp8", "NVFP4": "fp4"}
_BITS: dict[tuple[str, int], Precision] = {
    ("int", 4): "int4", ("int", 8): "int8", ("float", 4): "fp4", ("float", 8): "fp8",
}  # fmt: skip
_GENERAL = re.compile(r"^re:|\*")  # an entry that is no plain path
_LISTS = ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")

# The large matrices of each part as checkpoints name them; small ones that stay bf16 do not make a part bf16.
_ATTENTION = ("self_attn.q_proj", "self_attn.q_b_proj", "self_attn.o_proj", "linear_attn.in_proj_qkv")
_DENSE = ("mlp.gate_proj", "mlp.down_proj", "fc1")
_SHARED = ("mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj")
_EXPERTS = ("mlp.experts.0.gate_proj", "mlp.experts.gate_up_proj", "block_sparse_moe.experts.0.w1")
_ROOTS = ("model.", "language_model.model.", "model.language_model.", "model.decoder.")


class Quantization(NamedTuple):
    """A checkpoint's precision and how it stores its parts; ``blocks``: with a scale per block of weights."""

    precision: Precision
    formats: WeightFormats
    blocks: bool


def all_formats(special: Mapping[Precision, WeightFormats]) -> dict[Precision, WeightFormats]:
    """Return how checkpoints of every precision store their parts: all in that precision, but for special ones."""
    return {**{p: WeightFormats(p, p, p) for p in get_args(Precision)}, **special}


def read_quantization(written: Any, layers: int, dense_layers: tuple[int, ...]) -> Quantization:
    """Interpret a ``quantization_config``.

    A part of which any large matrix is left out counts as bf16: its bytes may be overstated, never missed.

    Args:
        written: the value of the key.
        layers: how many layers the model has; lists name them one by one.
        dense_layers: some layers with a dense feed-forward part, if there are any.

    Raises:
        ValueError: a method that is not understood.
    """
    if not isinstance(written, dict):
        raise ValueError(f"must be a mapping of fields (got {json.dumps(written)})")
    precision = _precision(written)
    if written.get("quant_method") == "mxfp4":  # of gpt-oss, whose loader converts nothing but the experts
        return Quantization(precision, WeightFormats("bf16", "bf16", precision), blocks=True)
    lists = [written.get(key) for key in _LISTS]
    left_out = [str(item) for listed in lists if isinstance(listed, list) for item in listed]
    last = (layers - 1, max(layers - 2, 0))  # two layers, since kinds of attention may alternate
    parts = (_in(last, _ATTENTION), _in(dense_layers, _DENSE) + _in(last, _SHARED), _in(last, _EXPERTS))
    stored: list[Precision] = ["bf16" if _any_left_out(left_out, part) else precision for part in parts]
    return Quantization(precision, WeightFormats(*stored), _in_blocks(written))


def _in(layers: tuple[int, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"layers.{layer}.{name}" for layer in layers for name in names)


def _in_blocks(written: Mapping[str, Any]) -> bool:
    """Tell whether weights have a scale per block: DeepSeek's way to write it, ModelOpt's, compressed-tensors'."""
    groups = written.get("config_groups")
    found = [group.get("weights") for group in groups.values()] if isinstance(groups, dict) else []
    strategies = [weights.get("strategy") for weights in found if isinstance(weights, dict)]
    named = bool(written.get("weight_block_size")) or written.get("quant_algo") == "FP8_PB_WO"
    return named or any(strategy == "block" for strategy in strategies)


def _precision(written: Mapping[str, Any]) -> Precision:
    method = written.get("quant_method", "modelopt" if "quant_algo" in written else None)
    found: Precision | None = None
    if method in ("fp8", "mxfp4"):
        found = "fp8" if method == "fp8" else "fp4"
    elif method == "compressed-tensors":
        found = _of_groups(written.get("config_groups"))
    elif method == "modelopt":
        found = _FP8_ALGORITHMS.get(str(written.get("quant_algo")))
    elif method in ("awq", "gptq"):
        found = _of_bits("int", written.get("bits"))
    if found is None:
        asked = {key: written[key] for key in ("quant_method", "quant_algo", "bits", "config_groups") if key in written}
        raise ValueError(
            "this quantisation is not understood; known: fp8, mxfp4, compressed-tensors, modelopt (FP8 or NVFP4), "
            f"awq and gptq of 4 or 8 bits (got {json.dumps(asked)[:120]})"
        )
    return found


def _of_groups(groups: Any) -> Precision | None:
    """Return the one weight format of all groups, or None."""
    if not isinstance(groups, dict):
        return None
    weights = [group.get("weights") for group in groups.values() if isinstance(group, dict)]
    found = {_of_bits(w.get("type"), w.get("num_bits")) if isinstance(w, dict) else None for w in weights}
    return found.pop() if len(found) == 1 else None


def _of_bits(kind: Any, bits: Any) -> Precision | None:
    return _BITS.get((str(kind), bits)) if isinstance(bits, int) else None


def _any_left_out(patterns: Iterable[str], names: tuple[str, ...]) -> bool:
    """Tell whether a list of modules covers one of the names: by its path, a part of it, or an expression."""
    full = [root + name for root in _ROOTS for name in names]
    plain = {run for name in full for run in _runs(name.split("."))}  # lists have hundreds of entries
    return any(
        pattern in plain or (_GENERAL.search(pattern) and any(_matches(pattern, name) for name in full))
        for pattern in patterns
    )


def _runs(parts: list[str]) -> Iterator[str]:
    for start in range(len(parts)):
        for end in range(start, len(parts)):
            yield ".".join(parts[start : end + 1])


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], name) is not None
        except re.error:
            raise ValueError(f"'{pattern}' is no regular expression") from None
    start = pattern.removesuffix("*")
    if "*" not in start:
        return f".{start}" in f".{name}"
    expression = re.escape(pattern).replace(r"\*", ".*")
    return re.search(rf"(^|\.){expression}(\.|$)", name) is not None
