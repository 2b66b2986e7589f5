"""What a pinned version of an engine accepts, and whether options are among it."""

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planner.errors import InternalError

_FOLDER = Path(__file__).resolve().parent / "definitions"
_CONVERT: Mapping[str, Callable[[str], Any]] = {"int": int, "float": float, "json": json.loads, "str": str}
_PREFIXES = ("VLLM_", "SGLANG_", "TRTLLM_", "MIES_", "MINDIE_", "ATB_LLM_")
Options = Mapping[str, Any]


class Definition(NamedTuple):
    """An engine's version, where its definition was read, and its options by program (serve, bench, route)."""

    engine: str
    version: str
    source: Mapping[str, Any]
    fields: Mapping[str, list[str]]
    environment: frozenset[str]
    options: Mapping[str, Mapping[str, Mapping[str, Any]]]

    def faults(self, program: str, options: Options) -> Iterator[str]:
        """Yield what the pinned version would not take of some options."""
        known = self.options[program]
        for name, value in options.items():
            negated = name.removeprefix("no-")
            if name not in known and known.get(negated, {}).get("form") == "pair":
                name = negated
            if name not in known:
                yield f"{self.engine} {self.version} does not know --{name}"
            else:
                yield from (f"{self.engine} {self.version}: --{name} {why}" for why in _wrong(known[name], value))
                if isinstance(value, Mapping):
                    yield from self._object_faults(known, name, value)

    def _object_faults(
        self, known: Mapping[str, Mapping[str, Any]], name: str, value: Mapping[str, Any]
    ) -> Iterator[str]:
        """Yield faults of an object's fields; those whose values are known too have options of their own."""
        fields = self.fields.get(name)
        for key, inner in value.items():
            here = f"{name}.{key}"
            if fields is not None and key not in fields:
                yield f"{self.engine} {self.version}: --{name} has no field '{key}'"
            elif isinstance(inner, Mapping):
                yield from self._object_faults(known, here, inner)
            elif isinstance(inner, list) and inner and isinstance(inner[0], Mapping):
                for item in inner:
                    yield from self._object_faults(known, here, item)
            elif here in known:
                yield from (f"{self.engine} {self.version}: {here} {why}" for why in _wrong(known[here], inner))

    def unread(self, names: Iterable[str]) -> Iterator[str]:
        """Yield variables with the engine's own prefix that it does not read."""
        for name in names:
            if name.startswith(_PREFIXES) and name not in self.environment:
                yield f"{self.engine} {self.version} does not read {name}"


def _wrong(option: Mapping[str, Any], value: Any) -> Iterator[str]:
    """Yield why a value does not suit an option."""
    form = option["form"]
    if option.get("deprecated"):
        yield "is deprecated"
    if form in ("switch", "pair"):
        if not isinstance(value, bool):
            yield f"takes no value (got {value})"
        return
    values = value if isinstance(value, list | tuple) else [value]
    if form == "one" and len(values) != 1:
        yield f"takes one value (got {len(values)})"
    for item in values:
        if not _is_a(option["type"], item):
            yield f"must be of type {option['type']} (got {item})"
        elif option.get("choices") and str(item) not in option["choices"]:
            yield f"must be one of {', '.join(option['choices'])} (got {item})"


def _is_a(kind: str, value: Any) -> bool:
    if kind == "any":
        return True
    if isinstance(value, bool) or kind == "bool":
        return isinstance(value, bool) and kind == "bool"
    if kind == "int":
        return isinstance(value, int)
    if kind == "float":
        return isinstance(value, int | float)
    return isinstance(value, Mapping) if kind == "json" else isinstance(value, str | int | float | Mapping)


@functools.cache
def definition(engine: str) -> Definition:
    """Return the definition of an engine, or of its router."""
    data = json.loads((_FOLDER / f"{engine}.json").read_text(encoding="utf-8"))
    base = definition(data["extends"]) if "extends" in data else Definition("", "", {}, {}, frozenset(), {})
    return Definition(
        data["engine"], data["version"], data["source"], {**base.fields, **data["fields"]},
        base.environment | frozenset(data["environment"]), {**base.options, **data["options"]},
    )  # fmt: skip


def checked(engine: str, program: str, options: Options) -> Options:
    """Return options that the pinned version takes.

    Raises:
        InternalError: one that it does not: the exporter is wrong, not the plan.
    """
    _refuse(definition(engine).faults(program, options))
    return options


def checked_variables(engine: str, variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return environment variables that the pinned version reads; see ``checked``."""
    _refuse(definition(engine).unread(variables))
    return variables


def _refuse(faults: Iterator[str]) -> None:
    found = list(faults)
    if found:
        raise InternalError("\n".join(found))


def flags(options: Options) -> list[str]:
    """Return options as the words of a command line; objects become JSON."""
    words: list[str] = []
    for name, value in options.items():
        values = value if isinstance(value, list | tuple) else [] if value is True else [value]
        words += [f"--{name}", *(json.dumps(item) if isinstance(item, Mapping) else str(item) for item in values)]
    return words


def repeated(options: Options) -> list[str]:
    """Return options as the words of a command line where those of many values are written once for each."""
    words: list[str] = []
    for name, value in options.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            words += flags({name: item})
    return words


def from_flags(engine: str, program: str, words: Sequence[str]) -> dict[str, Any]:
    """Return the options that the words of a command line say, with values of the types they are defined with."""
    known, options, name = definition(engine).options[program], dict[str, Any](), ""
    for word in words:
        if word.startswith("--"):
            name = word[2:]
            options[name] = True
        elif known[name]["form"] == "many":
            options[name] = [*([] if options[name] is True else options[name]), _value(known[name]["type"], word)]
        else:
            options[name] = _value(known[name]["type"], word)
    return options


def _value(kind: str, word: str) -> Any:
    return _CONVERT[kind](word)
