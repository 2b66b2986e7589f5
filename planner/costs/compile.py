"""Turns the expressions of a structure into a NumPy function, kept as Python source between runs.

A warm run imports the cached source and never loads SymPy. Only code is cached, never plans or columns.
"""

import functools
import hashlib
import importlib.util
import os
import py_compile
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import platformdirs

from planner.errors import InternalError

# Where a role was just compiled, its budget is next: who finds a plan asks where its time goes, without SymPy then.
_FOLLOWING = {"mixed": "budget_mixed", "prefill": "budget_prefill", "decode": "budget_decode"}

Arrays = dict[str, Any]
Kernel = Callable[..., Arrays]


@functools.cache
def compiled(
    attention: tuple[str, ...],
    ffn: tuple[str, ...],
    device: str,
    role: str = "mixed",
    wrt: tuple[str, ...] = (),
) -> Kernel:
    """Return the cost function of a structure for a role: mixed (or its bounds), prefill, decode, or for a transfer.

    It takes every symbol of the table by name (numbers or arrays that broadcast together) and returns the figures by
    name: those of ``serving.expressions``, for a transfer those of ``disaggregated.transfer_expressions``, for
    ``budget_`` before a role those of ``budget.budget_expressions``. With symbols ``wrt`` it returns the derivatives of
    each figure by them as well, see ``codegen.gradient_source``.

    Raises:
        InternalError: the expressions hold a symbol the table does not define.
    """
    slopes = (hashlib.sha256(",".join(wrt).encode()).hexdigest()[:8],) if wrt else ()
    name = "_".join(("costs", role, *slopes, *attention, *ffn, device))

    def generate() -> str:
        if not wrt and role in _FOLLOWING:
            compiled(attention, ffn, device, _FOLLOWING[role])
            meanings()
        return _generate(attention, ffn, device, role, wrt)

    kernel: Kernel = _code(name, generate)
    return kernel


class Meaning(NamedTuple):
    """What the table of symbols says of one; ``smooth``: whether slopes by it mean anything."""

    latex: str
    unit: str
    text: str
    origin: str
    smooth: bool


@functools.cache
def meanings() -> dict[str, Meaning]:
    """Return the table of symbols by name."""
    return {name: Meaning(*line) for name, line in _code("symbols", _symbols, "SYMBOLS").items()}


def _symbols() -> str:
    from planner.costs.symbols import NOT_SMOOTH, SYMBOLS

    lines = [
        (e.symbol.name, (e.latex, e.unit, e.meaning, e.origin, e.symbol not in NOT_SMOOTH and not e.is_flag))
        for e in SYMBOLS
    ]
    return f"SYMBOLS = {dict(lines)!r}\n"


def _code(name: str, generate: Callable[[], str], wanted: str = "kernel") -> Any:
    """Return what generated code defines under a name, from the cache where it is there."""
    name = f"{name}_{_fingerprint()}"
    path = _cache_folder()
    file = path / f"{name}.py" if path else None
    if file is None or not file.is_file():
        source = generate()
        if file is None or not _write(file, source):
            return _execute(source, wanted)
    return getattr(_import(name, file), wanted)


@functools.cache
def _fingerprint() -> str:
    """Digest of the sources that decide what is generated."""
    digest = hashlib.sha256(sys.version.encode())
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:20]


def _cache_folder() -> Path | None:
    """Return the user's private folder for generated code, or None where none can be had.

    The code in it is executed, so a folder that others may write to is not used.
    """
    chosen = os.environ.get("PLANNER_CACHE_DIR")
    default = Path(platformdirs.user_cache_dir("llm-deployment-planner"), "code")
    folder = Path(chosen).expanduser() if chosen else default
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        info = folder.stat()
    except OSError:
        return None
    foreign = hasattr(os, "getuid") and (info.st_uid != os.getuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    return None if foreign or not os.access(folder, os.W_OK) else folder


def _write(file: Path, source: str) -> bool:
    """Write atomically, so that runs side by side never import half a file; tell whether it worked."""
    try:
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".", suffix=".py")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(source)
        Path(temporary).replace(file)
        py_compile.compile(str(file), doraise=False, quiet=2)  # some environments never write it by themselves
    except OSError:
        return file.is_file()
    return True


def _import(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        msg = f"cannot import {file}"
        raise InternalError(msg)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _execute(source: str, wanted: str = "kernel") -> Any:
    namespace: dict[str, Any] = {}
    exec(source, namespace)  # our own generated code, where no cache folder can be had
    return namespace[wanted]


def _generate(attention: tuple[str, ...], ffn: tuple[str, ...], device: str, role: str, wrt: tuple[str, ...]) -> str:
    """Return Python source of the cost function (imports SymPy: a cold run only)."""
    from planner.costs import budget, closed_loop, closed_network, codegen, disaggregated, serving
    from planner.costs.structure import Structure

    expressions = {
        "mixed": serving.expressions,
        "bounds": serving.bounding_expressions,
        "prefill": disaggregated.prefill_expressions,
        "decode": disaggregated.decode_expressions,
        "loop": closed_loop.loop_expressions,
        "network": closed_network.network_expressions,
        "transfer": disaggregated.transfer_expressions,
        "budget_mixed": budget.mixed_expressions,
        "budget_prefill": budget.prefill_expressions,
        "budget_decode": budget.decode_expressions,
    }
    wanted = expressions[role](Structure(attention, ffn, device))
    return codegen.gradient_source(wanted, wrt) if wrt else codegen.source(wanted)
