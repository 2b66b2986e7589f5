"""Interprets the keys of a ``config.json`` by what is known of its ``model_type``; refuses what nobody looked at."""

import functools
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from planner import resources, yaml_io
from planner.catalog.quantization import all_formats, read_quantization
from planner.catalog.validate import schema_problems
from planner.errors import InputError, Problem, did_you_mean
from planner.schema.architecture import (
    Architecture,
    AttentionKind,
    FfnKind,
    ModelType,
    TransformerConfig,
    WeightFormats,
)
from planner.schema.precision import Precision
from planner.yaml_io import Document

_DTYPES: dict[str, Precision] = {"bfloat16": "bf16", "float16": "bf16"}
# Keys of every model type, and those that a model with vision may write beside its language model or in it.
_ALWAYS = frozenset(
    ("model_type", "num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings", "num_attention_heads",
     "tie_word_embeddings", "torch_dtype", "dtype", "quantization_config")
)  # fmt: skip
_EITHER = ("tie_word_embeddings", "torch_dtype", "dtype", "quantization_config")
_NESTED = "text_config"


class _Text(NamedTuple):
    """The keys of the language model, and where they stand."""

    document: Document
    kind: ModelType
    keys: Mapping[str, Any]
    nested: frozenset[str] = frozenset()  # those under text_config

    def problem(self, key: str, message: str, rest: tuple[str, ...] = ()) -> Problem:
        """Make a problem at a key, by the name and place it has in the file."""
        written = next((w for w, ours in self.kind.rename.items() if ours == key and w in self.keys), key)
        above = () if written in self.keys and written not in self.nested else (_NESTED,) * bool(self.nested)
        return self.document.problem((*above, written, *rest), message)


def read_architecture(document: Document, name: str) -> Architecture:
    """Return the transformer that a parsed ``config.json`` describes, in its own precision.

    Raises:
        InputError: every key that is missing, wrong, or not understood.
    """
    text, problems = _find_text(document)
    config = schema_problems(Document(document.path, _filled(text), {}), TransformerConfig)
    if isinstance(config, list):
        for fault in config:
            key, *rest = fault.field.split(".")
            problems.append(text.problem(key, fault.message, tuple(rest)))
    problems += _key_problems(text)
    if problems or isinstance(config, list):
        raise InputError(problems)
    attention = _attention_layers(text, config)
    ffn = _ffn_layers(text, config)
    return _build(name, text.kind, config, attention, ffn)._replace(**_own_format(text, config)._asdict())


def _folder() -> Any:
    return resources.shipped("architectures") / "model_types"


@functools.cache
def _common() -> dict[str, Any]:
    """Return the keys without cost in every model type."""
    found: dict[str, Any] = yaml_io.load(_folder() / "every.yaml").data
    return found


@functools.cache
def _model_type(name: str) -> ModelType | None:
    """Return what is known of a model type."""
    return ModelType.model_validate(_entry(name)) if name in _names() else None


def _entry(name: str) -> dict[str, Any]:
    """Read a model type; ``like`` names another one, from which it differs in what it says itself."""
    data: dict[str, Any] = yaml_io.load(_folder() / f"{name}.yaml").data
    like = data.pop("like", None)
    base = _entry(like) if like else {}
    merged = {key: {**base[key], **value} for key, value in data.items() if isinstance(base.get(key), dict)}
    return {**base, **data, **merged}


def _names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml") if path.stem != "every"))


def _find_text(document: Document) -> tuple[_Text, list[Problem]]:
    """Find the language model, which models with vision nest, and the faults of the keys around it."""
    data = document.data if isinstance(document.data, dict) else {}
    kind = _model_type(str(data.get("model_type")))
    if kind is None:
        found = schema_problems(document, TransformerConfig)
        problems = found if isinstance(found, list) else []
        hint = did_you_mean(str(data.get("model_type")), _names())
        unknown = document.problem(("model_type",), f"this model type is not understood; {hint}")
        # What other keys mean is not known without the type, so faults in them may be none.
        raise InputError([problem for problem in problems if problem.field in ("", "model_type")] or [unknown])
    if not kind.text_config:
        return _Text(document, kind, data), []
    inner = data.get(_NESTED)
    if not isinstance(inner, dict):
        message = "is required" if inner is None else "must be a mapping of fields"
        raise InputError([document.problem((_NESTED,), message)])
    text = str(inner.get("model_type", kind.text_config[0]))
    inner_kind = _model_type(text)
    if inner_kind is None or text not in kind.text_config:
        options = " or ".join(kind.text_config)
        raise InputError([document.problem((_NESTED, "model_type"), f"only {options} is modelled here (got '{text}')")])
    beside = {key: data[key] for key in _EITHER if key in data}
    around = {key: value for key, value in data.items() if key not in (_NESTED, "model_type", *_EITHER)}
    problems = _without_cost_problems(_Text(document, kind, around), around)
    keys = {"model_type": text, **beside, **inner}
    return _Text(document, inner_kind, keys, frozenset(inner)), problems


def _filled(text: _Text) -> dict[str, Any]:
    """Return the keys under the names used here, with the defaults of absent ones."""
    rename, fields = text.kind.rename, TransformerConfig.model_fields
    keys = {rename.get(key, key): value for key, value in text.keys.items() if value is not None}
    for key, default in text.kind.defaults.items():
        value = keys.get(default) if isinstance(default, str) and default in fields else default
        if value is not None:
            keys.setdefault(key, value)
    return keys


def _key_problems(text: _Text) -> list[Problem]:
    """Check the keys that only this model type has, and refuse those nobody has looked at."""
    kind = text.kind
    problems = [text.problem(key, "is required") for key in kind.required if text.keys.get(key) is None]
    filled = _filled(text)
    for key, other in kind.same.items():
        if key in text.keys and text.keys[key] != filled.get(other):
            problems.append(text.problem(key, f"only {filled.get(other)}, {other}, is modelled (got {text.keys[key]})"))
    ours = set(kind.defaults) - set(kind.rename.values())
    used = _ALWAYS.union(kind.required, kind.optional, kind.rename, kind.same, ours)
    return problems + _without_cost_problems(text, {key: v for key, v in text.keys.items() if key not in used})


def _without_cost_problems(text: _Text, keys: Mapping[str, Any]) -> list[Problem]:
    problems = []
    without_cost = {**_common(), **text.kind.without_cost}
    for key, value in keys.items():
        allowed = without_cost.get(key)
        if allowed is None:
            problems.append(text.problem(key, "this key is not understood; its cost would be missed"))
        elif allowed and value not in allowed:
            options = " or ".join(json.dumps(option) for option in allowed)
            problems.append(text.problem(key, f"only {options} is modelled (got {json.dumps(value)})"))
    return problems


def _attention_layers(text: _Text, config: TransformerConfig) -> dict[AttentionKind, int]:
    kind, layers = text.kind, config.num_hidden_layers
    known = kind.layer_types
    if config.layer_types is not None:
        unknown = [written for written in config.layer_types if written not in known]
        if unknown:
            options = " or ".join(f'"{written}"' for written in known)
            raise InputError([text.problem("layer_types", f'only {options} is modelled (got "{unknown[0]}")')])
        return dict(Counter(known[written] for written in config.layer_types))
    if kind.between is None or config.full_attention_interval is None:
        return {kind.attention: layers}
    full = layers // config.full_attention_interval
    return {k: n for k, n in ((kind.between, layers - full), (kind.attention, full)) if n}


def _ffn_layers(text: _Text, config: TransformerConfig) -> dict[FfnKind, int]:
    if text.kind.ffn == "dense":
        return {"dense": config.num_hidden_layers}
    leading = min(config.first_k_dense_replace, config.num_hidden_layers)
    dense = leading + len({n for n in config.mlp_only_layers if leading <= n < config.num_hidden_layers})
    if dense and not config.intermediate_size:
        raise InputError([text.problem("intermediate_size", "is required")])
    counts: dict[FfnKind, int] = {"dense": dense, "moe": config.num_hidden_layers - dense}
    return {kind: count for kind, count in counts.items() if count}


def _some_dense(kind: ModelType, config: TransformerConfig) -> tuple[int, ...]:
    if kind.ffn == "dense":
        return (config.num_hidden_layers - 1,)
    return (0,) if config.first_k_dense_replace else config.mlp_only_layers[:1]


class _Own(NamedTuple):
    precision: Precision
    formats: Mapping[Precision, WeightFormats]
    block_scaled: tuple[Precision, ...] = ()


def _own_format(text: _Text, config: TransformerConfig) -> _Own:
    written = text.keys.get("quantization_config")
    if written is not None:
        try:
            found = read_quantization(written, config.num_hidden_layers, _some_dense(text.kind, config))
        except ValueError as error:
            raise InputError([text.problem("quantization_config", str(error))]) from None
        blocks = (found.precision,) if found.blocks else ()
        return _Own(found.precision, all_formats({found.precision: found.formats}), blocks)
    key = "dtype" if "dtype" in text.keys else "torch_dtype"  # the newer name, and the older
    dtype = str(text.keys.get(key, ""))
    if dtype not in _DTYPES:
        raise InputError([text.problem(key, f"must be one of {', '.join(_DTYPES)} (got '{dtype}')")])
    return _Own(_DTYPES[dtype], all_formats({}))


def _build(
    name: str,
    kind: ModelType,
    config: TransformerConfig,
    attention: Mapping[AttentionKind, int],
    ffn: Mapping[FfnKind, int],
) -> Architecture:
    """Put the keys in order: a width that this model has no use for stays 0."""
    found: dict[str, Any] = {field: getattr(config, field) or 0 for field in _COPIED}
    shared = config.n_shared_experts * (config.moe_intermediate_size or 0)
    positions = kind.learned_positions_extra
    return Architecture(
        name=name,
        attention_layers=attention,
        ffn_layers=ffn,
        tie_word_embeddings=config.tie_word_embeddings,
        formats={},
        learned_positions=0 if positions is None else config.max_position_embeddings + positions,
        **_heads(kind, config, attention),
        sliding_window=(config.sliding_window or 0) if "sliding" in attention else 0,
        intermediate_size=(config.intermediate_size or 0) if "dense" in ffn else 0,
        ffn_matrices=kind.ffn_matrices,
        ffn_biases=kind.ffn_biases,
        shared_expert_size=shared or config.shared_expert_intermediate_size,
        shared_expert_gate=kind.shared_expert_gate,
        router_bias=kind.router_bias,
        expert_biases=kind.expert_biases,
        norms_per_layer=kind.norms_per_layer,
        norm_vectors=kind.norm_vectors,
        **found,
    )


_COPIED = tuple(
    field
    for field in Architecture._fields
    if field in TransformerConfig.model_fields
    and field not in ("tie_word_embeddings", "head_dim", "num_key_value_heads", "sliding_window", "intermediate_size")
)


def _heads(kind: ModelType, config: TransformerConfig, attention: Mapping[AttentionKind, int]) -> dict[str, Any]:
    """Return the heads of gqa and sliding layers, with what else is counted by head."""
    heads, shared = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
    if not {"gqa", "sliding"} & set(attention):
        return {"num_key_value_heads": shared}
    width = config.head_dim or config.hidden_size // heads
    projected = (heads + 2 * shared) * width if kind.attention_biases != "none" else 0
    output = config.hidden_size if kind.attention_biases == "all" else 0
    norms = {"none": 0, "head": 2 * width, "full": (heads + shared) * width}
    return {
        "num_key_value_heads": shared,
        "head_dim": width,
        "qk_norm": kind.qk_norm != "none",
        "qk_norm_joint": kind.qk_norm == "full",
        "qk_norm_width": norms[kind.qk_norm],
        "attention_output_gate": kind.attention_output_gate,
        "attention_bias_width": projected + output + heads * kind.attention_sinks,
    }
