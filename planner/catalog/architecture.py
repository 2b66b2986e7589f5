"""Reads transformers from Hugging Face ``config.json`` files, shipped ones or the user's own."""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from planner import resources, yaml_io
from planner.catalog.specs import Loaded, is_path, looks_like_path, resolve_path
from planner.catalog.validate import schema_problems
from planner.errors import InputError, Problem, did_you_mean
from planner.schema.about import About
from planner.schema.architecture import Architecture, ModelType, TransformerConfig
from planner.schema.base import Schema
from planner.schema.precision import Precision
from planner.yaml_io import Document

_PREFIXES = ("meta-",)
# Suffixes of checkpoint names, and the weight precision each says.
_SUFFIXES: dict[str, Precision | None] = {
    "-instruct": None, "-chat": None, "-base": None, "-hf": None, "-2507": None,
    "-fp8": "fp8", "-fp8-dynamic": "fp8", "-nvfp4": "fp4", "-fp4": "fp4", "-w8a8": "int8", "-int8": "int8",
    "-awq": "int4", "-gptq": "int4", "-int4": "int4", "-gptq-int4": "int4",
}  # fmt: skip
_EXPERT_KEYS = ("num_experts", "num_experts_per_tok", "moe_intermediate_size")
_DTYPES: dict[str, Precision] = {"bfloat16": "bf16", "float16": "bf16"}


class _ModelTypes(Schema):
    without_cost: dict[str, tuple[Any, ...]]
    hints: dict[str, str]
    model_types: dict[str, ModelType]


def architecture_names() -> tuple[str, ...]:
    """Return the shipped architectures, sorted."""
    return tuple(sorted(path.parent.name for path in resources.shipped("architectures").glob("*/config.json")))


def load_about(name: str) -> About:
    """Return where a shipped architecture comes from."""
    document = yaml_io.load(resources.shipped("architectures") / name / "about.yaml")
    return About.model_validate(document.data)


def load_architecture(name: str, folder: Path = Path()) -> Loaded[Architecture]:
    """Load a transformer by shipped name, Hugging Face id, or path of a ``config.json``.

    The organisation and suffixes such as -Instruct are ignored; a suffix such as -FP8 sets the precision.

    Raises:
        InputError: unknown name, or every key that is missing, wrong, or not understood.
    """
    if is_path(name):
        path, shown, precision = resolve_path(name, folder), name, None
    else:
        shown, precision = _shipped_name(name)
        path = resources.shipped("architectures") / shown / "config.json"
    text = yaml_io.read_text(path)
    document = Document(str(path), yaml_io.parse_json(text, str(path)), {})
    architecture = _architecture(document, Path(shown).stem if is_path(name) else shown, precision)
    return Loaded(architecture, name if precision else shown, hashlib.sha256(text.encode()).hexdigest())


def _shipped_name(name: str) -> tuple[str, Precision | None]:
    known = {folder.lower(): folder for folder in architecture_names()}
    short = name.rsplit("/", 1)[-1].lower()
    precision: Precision | None = None
    while short not in known:
        shorter = next((short.removeprefix(p) for p in _PREFIXES if short.startswith(p)), None)
        suffix = next((s for s in sorted(_SUFFIXES, key=len, reverse=True) if short.endswith(s)), None)
        if shorter is None and suffix is None:
            wanted = name.rsplit("/", 1)[-1]
            message = f"unknown architecture '{name}'; {did_you_mean(wanted, known.values())}"
            if looks_like_path(name):
                message = f"'{name}' is no shipped name, and a path must end in .json"
            raise InputError.single("", f"{message} (or give the path of a config.json)")
        if suffix:
            precision = precision or _SUFFIXES[suffix]
        short = shorter or short.removesuffix(str(suffix))
    return known[short], precision


@functools.cache
def _model_types() -> _ModelTypes:
    document = yaml_io.load(resources.shipped("architectures") / "model_types.yaml")
    return _ModelTypes.model_validate(document.data)


def _architecture(document: Document, name: str, precision: Precision | None) -> Architecture:
    config = schema_problems(document, TransformerConfig)
    known = config if isinstance(config, TransformerConfig) else None
    problems = config if isinstance(config, list) else []
    model_type = _model_types().model_types.get(_text(document.data, "model_type"))
    if model_type is None and not any(problem.field in ("", "model_type") for problem in problems):
        hint = did_you_mean(_text(document.data, "model_type"), _model_types().model_types)
        problems.append(document.problem(("model_type",), f"this model type is not understood; {hint}"))
    if model_type is not None:
        problems += _key_problems(document, model_type)
    if problems or known is None or model_type is None:
        raise InputError(_with_places(document, problems))
    return _build(known, model_type, name, precision or _own_precision(document))


def _text(data: Any, key: str) -> str:
    return str(data.get(key)) if isinstance(data, dict) else ""


def _key_problems(document: Document, model_type: ModelType) -> list[Problem]:
    """Check the keys that only this model type has, and refuse those nobody has looked at."""
    data: dict[str, Any] = document.data
    problems = [document.problem((key,), "is required") for key in model_type.required if data.get(key) is None]
    used = {*TransformerConfig.model_fields, "dtype"} - (set(_EXPERT_KEYS) - set(model_type.required))
    without_cost = {**_model_types().without_cost, **model_type.without_cost}
    for key, value in data.items():
        if key in used:
            continue
        allowed = without_cost.get(key)
        if allowed is None:
            hint = _model_types().hints.get(key, "its cost would be missed")
            problems.append(document.problem((key,), f"this key is not understood; {hint}"))
        elif allowed and value not in allowed:
            options = " or ".join(json.dumps(option) for option in allowed)
            problems.append(document.problem((key,), f"only {options} is modelled (got {json.dumps(value)})"))
    return problems


def _own_precision(document: Document) -> Precision:
    key = "dtype" if "dtype" in document.data else "torch_dtype"  # the newer name, and the older
    dtype = _text(document.data, key)
    if dtype not in _DTYPES:
        message = f"must be one of {', '.join(_DTYPES)} (got '{dtype}')"
        raise InputError(_with_places(document, [document.problem((key,), message)]))
    return _DTYPES[dtype]


def _with_places(document: Document, problems: list[Problem]) -> list[Problem]:
    """Find the places with the YAML reader, which a sound file need not pay for."""
    try:
        placed = yaml_io.load(Path(document.path))
    except InputError:  # JSON that YAML does not allow, like a tab between tokens
        return problems
    return [
        placed.problem(tuple(problem.field.split(".")) if problem.field else (), problem.message)
        for problem in problems
    ]


def _build(config: TransformerConfig, model_type: ModelType, name: str, precision: Precision) -> Architecture:
    return Architecture(
        name=name,
        attention=model_type.attention,
        ffn=model_type.ffn,
        num_hidden_layers=config.num_hidden_layers,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim or config.hidden_size // config.num_attention_heads,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=config.tie_word_embeddings,
        qk_norm=model_type.qk_norm,
        precision=precision,
        num_experts=config.num_experts or 0,
        num_experts_per_tok=config.num_experts_per_tok or 0,
        moe_intermediate_size=config.moe_intermediate_size or 0,
    )
