"""How a trial is run: command lines with places for values, in a YAML file of yours or one that is shipped."""

import shlex
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from planner import resources, yaml_io
from planner.catalog.validate import validate
from planner.errors import InputError, did_you_mean
from planner.importers import FORMATS
from planner.schema.base import Name, Schema, Seconds
from planner.yaml_io import Document

_SUFFIXES = (".yaml", ".yml")
Values = Mapping[str, Any]


class Option(Schema):
    """A part of a command line that only some trials need."""

    add: Name
    unless: dict[Name, int | str] = Field(description="left out where every one of these values is as given")


class Command(Schema):
    """A command line, split as a shell would, but run by none; ``{name}`` stands for a value of the trial."""

    command: Name
    options: tuple[Option, ...] = ()
    environment: dict[Name, str] = Field(default_factory=dict, description="variables added to those of the planner")

    def line(self, values: Values) -> list[str]:
        """Return the words of the command."""
        added = [o.add for o in self.options if any(str(values[name]) != str(v) for name, v in o.unless.items())]
        return [word.format_map(values) for part in (self.command, *added) for word in shlex.split(part)]

    def names(self) -> Iterator[str]:
        """Yield the values it has places for."""
        texts = (self.command, *(option.add for option in self.options), *self.environment.values())
        for text in texts:
            yield from placeholders(text)
        for option in self.options:
            yield from option.unless


class Launch(Command):
    """Starts an engine in the foreground; it is stopped by ending the process and all it started."""

    health: Name = Field("/health", description="path that answers 200 once the engine is ready")
    ready_timeout: Seconds = 1800.0
    stop_timeout: Seconds = Field(60.0, description="between asking it to end and ending it")


class Benchmark(Command):
    """Loads the engine and writes a result file."""

    result: Name = Field(description="the result file in the trial's folder; of a pattern, the last match")
    format: Name | None = Field(None, description="of the result file; default: told by its content")
    timeout: Seconds = 3600.0
    files: dict[Name, str] = Field(default_factory=dict, description="content of files to write to the folder before")

    def names(self) -> Iterator[str]:
        """Yield the values it has places for."""
        yield from super().names()
        for text in self.files.values():
            yield from placeholders(text)


class Adapter(Schema):
    """How trials are run. Without ``launch``, something else starts the engine, and ``url`` says where it answers."""

    called = "an adapter of trials"

    description: str = ""
    launch: Launch | None = None
    benchmark: Benchmark
    url: Name = Field("http://127.0.0.1:{port}", description="where the engine answers")


def placeholders(text: str) -> Iterator[str]:
    """Yield the names of places in a text."""
    for _, name, _, _ in string.Formatter().parse(text):
        if name is not None:
            yield name


def adapter_names() -> tuple[str, ...]:
    """Return the shipped adapters, sorted."""
    return tuple(sorted(path.stem for path in _folder().glob("*.yaml")))


def load_adapter(names: Sequence[str], settings: Sequence[str] = ()) -> Adapter:
    """Load an adapter made of several files: a section of a later one replaces that of an earlier one.

    Args:
        names: shipped names or paths, like ``("vllm", "aiperf")``: the engine of one, the client of the other.
        settings: changes like ``"launch.ready_timeout=10 min"``.

    Raises:
        InputError: an unknown name, and every fault of the files together.
    """
    document = Document(", ".join(names), {}, {})
    for name in names:
        found = yaml_io.load(_path(name))
        if not isinstance(found.data, dict):
            raise InputError.single(found.path, "must be a mapping with 'launch' and 'benchmark'", line=1, column=1)
        kept = {loc: at for loc, at in document.positions.items() if loc[:1] and loc[0] not in found.data}
        document = Document(document.path, {**document.data, **found.data}, {**kept, **found.positions})
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError.single(setting, "write it like 'launch.ready_timeout=10 min'")
        document = document.with_override(tuple(key.split(".")), yaml_io.parse_scalar(value), setting)
    adapter = validate(document, Adapter)
    if adapter.benchmark.format is not None and adapter.benchmark.format not in FORMATS:
        message = f"unknown format '{adapter.benchmark.format}'; {did_you_mean(adapter.benchmark.format, FORMATS)}"
        raise InputError([document.problem(("benchmark", "format"), message)])
    return adapter


def missing_values(adapter: Adapter, known: Sequence[str]) -> None:
    """Refuse places that no value stands for.

    Raises:
        InputError: every such place, with the names there are.
    """
    parts = [adapter.benchmark, *([adapter.launch] if adapter.launch else [])]
    asked = {name for part in parts for name in part.names()} | set(placeholders(adapter.url))
    unknown = sorted(asked - set(known))
    if unknown:
        names = ", ".join(f"{{{name}}}" for name in unknown)
        raise InputError.single("the adapter", f"has places for {names}; known: {', '.join(sorted(known))}")


def _path(name: str) -> Path:
    if name.endswith(_SUFFIXES):
        return Path(name)
    if name not in adapter_names():
        message = f"unknown adapter '{name}'; {did_you_mean(name, adapter_names())}; or give the path of a YAML file"
        raise InputError.single("", message)
    return _folder() / f"{name}.yaml"


def _folder() -> Path:
    return resources.shipped("trials") / "adapters"
