"""Loads a scenario and everything it names, and checks that the parts fit together."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from planner import resources, yaml_io
from planner.catalog import architecture as architecture_catalog
from planner.catalog import specs
from planner.catalog.case import Case, Specification
from planner.catalog.checks import Parts, cross_problems
from planner.catalog.specs import Loaded
from planner.catalog.validate import schema_problems, valid_parts
from planner.errors import InputError, Problem, did_you_mean
from planner.schema.architecture import Architecture, AttentionKind
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.scenario import Scenario, ServedModel
from planner.yaml_io import Document, Loc

L = TypeVar("L")


def scenario_names() -> tuple[str, ...]:
    """Return the shipped scenarios, sorted; those of published systems as rows/NAME."""
    folder = resources.shipped("scenarios")
    return tuple(sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")))


def find_scenario(path: Path) -> Path:
    """Return the file of a scenario: the path itself, or a shipped one where only a name is given.

    Raises:
        InputError: neither a file nor a shipped name.
    """
    if path.suffix or _exists(path):
        return path
    if path.as_posix() in scenario_names():
        return resources.shipped("scenarios") / f"{path.as_posix()}.yaml"
    if len(path.parts) > 1:
        return path
    message = f"neither a file nor a shipped scenario; {did_you_mean(path.name, scenario_names())}"
    raise InputError.single(str(path), message)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name no file can have, like one that is too long
        return False


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> Case:
    """Load a scenario file, or a shipped scenario by name, with ``key.path=value`` overrides.

    Raises:
        InputError: every fault of the scenario and of the specifications it names.
    """
    path = find_scenario(path)
    return _case(_overridden(yaml_io.load(path), overrides), path.parent)


def scenario_from_data(
    data: Mapping[str, Any], overrides: Sequence[str] = (), folder: Path = Path(), origin: str = "scenario"
) -> Case:
    """Load a scenario given as mappings, like the resolved form that a plan carries; ``origin`` names it in messages.

    Raises:
        InputError: every fault of the scenario and of the specifications it names.
    """
    return _case(_overridden(Document(origin, dict(data), {}), overrides), folder)


def _overridden(document: Document, overrides: Sequence[str]) -> Document:
    for override in overrides:
        loc, value = _parse_override(override)
        document = document.with_override(loc, value, f"--set {override}")
    return document


def _parse_override(text: str) -> tuple[Loc, Any]:
    key, separator, value = text.partition("=")
    if not separator or not all(key.split(".")):
        raise InputError.single(f"--set {text}", "write it like 'workloads.chat.slo.tpot=30 ms'")
    return tuple(key.split(".")), yaml_io.parse_scalar(value)


def _case(document: Document, folder: Path) -> Case:
    found = schema_problems(document, Scenario)
    scenario = found if isinstance(found, Scenario) else None
    problems = found if isinstance(found, list) else []
    fields = dict(scenario) if scenario else valid_parts(document, Scenario)
    named = _Named(document, folder, problems)
    parts = named.load(fields)
    problems += cross_problems(document, parts)
    if problems or scenario is None or parts.engine is None or parts.efficiencies is None:
        raise InputError(problems)
    version = scenario.engine.version or parts.engine.versions[-1]
    architectures = {name: as_served(scenario.models[name], a) for name, a in parts.architectures.items()}
    return Case(
        scenario=scenario,
        architectures=architectures,
        hardware=parts.hardware,
        engine=parts.engine,
        engine_version=version,
        efficiencies=parts.efficiencies,
        specifications=tuple(named.specifications),
    )


def as_served(model: ServedModel, architecture: Architecture) -> Architecture:
    """Return the architecture with its full attention replaced where a sparse form of it is served."""
    sparse = model.sparse_attention
    if sparse is None:
        return architecture
    names: dict[AttentionKind, AttentionKind] = {"gqa": "nsa"}
    layers = {names.get(kind, kind): count for kind, count in architecture.attention_layers.items()}
    sizes = {f"nsa_{name}": value for name, value in sparse.model_dump(exclude={"kind"}).items()}
    return architecture._replace(attention_layers=layers, **sizes)


class _Named:
    """Loads the specifications a scenario names; faults go to the list it was given."""

    def __init__(self, document: Document, folder: Path, problems: list[Problem]) -> None:
        self.document = document
        self.folder = folder
        self.problems = problems
        self.specifications: list[Specification] = []

    def load(self, fields: Mapping[str, Any]) -> Parts:
        load_architecture = functools.partial(architecture_catalog.load_architecture, folder=self.folder)
        load_hardware = functools.partial(specs.load_hardware, folder=self.folder)
        load_efficiencies = functools.partial(specs.load_efficiencies, folder=self.folder)
        models, inventory = fields.get("models", {}), fields.get("inventory", {})
        engine, calibration = fields.get("engine"), fields.get("calibration")
        architectures: dict[str, Architecture] = dict(
            self._each(
                "architecture",
                load_architecture,
                [(name, ("models", name, "architecture"), model.architecture) for name, model in models.items()],
            )
        )
        hardware: dict[str, Hardware] = dict(
            self._each(
                "hardware",
                load_hardware,
                [(name, ("inventory", name, "hardware"), item.hardware) for name, item in inventory.items()],
            )
        )
        engines: dict[str, Engine] = dict(
            self._each("engine", specs.load_engine, [("", ("engine", "name"), engine.name)] if engine else [])
        )
        sets: dict[str, Efficiencies] = dict(
            self._each("calibration", load_efficiencies, [("", ("calibration",), calibration)] if calibration else [])
        )
        written = self.document.data.get("models") if isinstance(self.document.data, dict) else None
        names = frozenset(written if isinstance(written, dict) else ())
        return Parts(fields, names, architectures, hardware, engines.get(""), sets.get(""))

    def _each(
        self, kind: str, load: Callable[[str], Loaded[L]], wanted: Sequence[tuple[str, Loc, str]]
    ) -> Iterator[tuple[str, L]]:
        for key, loc, name in wanted:
            try:
                loaded = load(name)
            except InputError as error:
                self.problems += [self._placed(problem, loc) for problem in error.problems]
                continue
            specification = Specification(kind, loaded.name, loaded.sha256)
            if specification not in self.specifications:
                self.specifications.append(specification)
            yield key, loaded.value

    def _placed(self, problem: Problem, loc: Loc) -> Problem:
        """Put a problem without a place (an unknown name, a missing file) at the field that asked."""
        if problem.line:
            return problem
        message = f"{problem.path}: {problem.message}" if problem.path else problem.message
        return self.document.problem(loc, message)
