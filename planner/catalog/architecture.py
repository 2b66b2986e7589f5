"""Finds transformers: shipped ones by name or Hugging Face id, or the user's own ``config.json``."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from planner import resources, yaml_io
from planner.catalog.model_types import read_architecture
from planner.catalog.specs import Loaded, is_path, looks_like_path, resolve_path
from planner.errors import InputError, Problem, did_you_mean
from planner.schema.about import About
from planner.schema.architecture import Architecture, WeightFormats
from planner.schema.precision import Precision
from planner.yaml_io import Document

_PREFIXES = ("meta-", "nvidia-")
# Suffixes of checkpoint names, and the weight precision each says.
_SUFFIXES: dict[str, Precision | None] = {
    "-instruct": None, "-chat": None, "-base": None, "-hf": None, "-it": None, "-pt": None, "-thinking": None,
    "-0324": None, "-0528": None, "-0905": None, "-2507": None, "-v0.1": None, "-v2": None, "-preview": None,
    "-bf16": "bf16", "-fp8": "fp8", "-fp8-dynamic": "fp8", "-fp8-kv": "fp8", "-fp8-block": "fp8",
    "-fp4": "fp4", "-nvfp4": "fp4", "-mxfp4": "fp4", "-w8a8": "int8", "-int8": "int8", "-quantized.w8a8": "int8",
    "-quantized.w4a16": "int4", "-w4a16": "int4", "-awq": "int4", "-gptq": "int4", "-int4": "int4",
    "-gptq-int4": "int4",
}  # fmt: skip


class _Shipped(NamedTuple):
    """A shipped architecture that a name stands for."""

    folder: str
    precision: Precision | None = None  # what a suffix says
    keys: Mapping[str, Any] = MappingProxyType({})  # keys of config.json in which this id differs


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
        architecture, text = _read(resolve_path(name, folder), Path(name).stem, {})
        return Loaded(architecture, name, hashlib.sha256(text.encode()).hexdigest())
    found = _find(name)
    path = resources.shipped("architectures") / found.folder / "config.json"
    architecture, text = _read(path, found.folder, found.keys)
    special = load_about(found.folder).formats
    formats = {p: WeightFormats(stored.attention, stored.ffn, stored.experts) for p, stored in special.items()}
    architecture = architecture._replace(
        formats={**architecture.formats, **formats},
        precision=found.precision or architecture.precision,
        block_scaled=(*architecture.block_scaled, *(p for p, stored in special.items() if stored.blocks)),
    )
    shown = name if found.precision or found.keys else found.folder
    return Loaded(architecture, shown, hashlib.sha256(text.encode()).hexdigest())


def _read(path: Path, name: str, keys: Mapping[str, Any]) -> tuple[Architecture, str]:
    text = yaml_io.read_text(path)
    data = yaml_io.parse_json(text, str(path))
    document = Document(str(path), {**data, **keys} if keys else data, {})
    try:
        return read_architecture(document, name), text
    except InputError as error:
        raise InputError(_with_places(path, error.problems)) from None


def _find(name: str) -> _Shipped:
    """Find a shipped architecture, taking suffixes off the name until one is known."""
    known = {folder.lower(): folder for folder in architecture_names()}
    short = name.rsplit("/", 1)[-1].lower()
    precision: Precision | None = None
    while True:
        if short in known:
            return _Shipped(known[short], precision)
        other = _also(short)
        if other:
            return other._replace(precision=precision)
        shorter = next((short.removeprefix(p) for p in _PREFIXES if short.startswith(p)), None)
        suffix = next((s for s in sorted(_SUFFIXES, key=len, reverse=True) if short.endswith(s)), None)
        if shorter is None and suffix is None:
            raise _unknown(name, known.values())
        if suffix:
            precision = precision or _SUFFIXES[suffix]
        short = shorter or short.removesuffix(str(suffix))


def _also(short: str) -> _Shipped | None:
    """Find a name among the other ids; only the files that have it in their text are parsed."""
    for path in resources.shipped("architectures").glob("*/about.yaml"):
        if short not in path.read_text(encoding="utf-8").lower():
            continue
        about = load_about(path.parent.name)
        for written, keys in {about.huggingface_id: {}, **about.also}.items():
            if written.rsplit("/", 1)[-1].lower() == short:
                return _Shipped(path.parent.name, keys=keys)
    return None


def _unknown(name: str, known: Iterable[str]) -> InputError:
    message = f"unknown architecture '{name}'; {did_you_mean(name.rsplit('/', 1)[-1], known)}"
    if looks_like_path(name):
        message = f"'{name}' is no shipped name, and a path must end in .json"
    return InputError.single("", f"{message} (or give the path of a config.json)")


def _with_places(path: Path, problems: tuple[Problem, ...]) -> list[Problem]:
    """Find the places with the YAML reader, which a sound file need not pay for."""
    try:
        placed = yaml_io.load(path)
    except InputError:  # JSON that YAML does not allow, like a tab between tokens
        return list(problems)
    return [
        placed.problem(tuple(problem.field.split(".")) if problem.field else (), problem.message)
        for problem in problems
    ]
