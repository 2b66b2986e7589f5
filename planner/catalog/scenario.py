"""Loads a scenario and everything it names, and checks that the parts fit together."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from planner import resources, yaml_io
from planner.catalog import architecture as architecture_catalog
from planner.catalog import specs
from planner.catalog.case import Case, EngineUse, Specification
from planner.catalog.checks import Parts, cross_problems, fleet_findings
from planner.catalog.presets import with_presets
from planner.catalog.specs import Loaded
from planner.catalog.table_columns import Inventories, TableCase, read_table, table_findings
from planner.catalog.validate import schema_problems, valid_parts
from planner.errors import InputError, Problem, did_you_mean
from planner.schema.architecture import Architecture, AttentionKind
from planner.schema.calibration import Calibration
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.scenario import Scenario, ServedModel, TableScenario
from planner.yaml_io import Document, Loc

K = TypeVar("K")
L = TypeVar("L")
AnyCase = Case | TableCase


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


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> AnyCase:
    """Load a scenario file, or a shipped scenario by name, with ``key.path=value`` overrides.

    A scenario with a table of ``columns`` is a ``TableCase``.

    Raises:
        InputError: every fault of the scenario and of the specifications it names.
    """
    path = find_scenario(path)
    document = yaml_io.load(path)
    if isinstance(document.data, dict) and {"planner_version", "deployments"} <= document.data.keys():
        raise InputError.single(str(path), "is a plan; here goes the scenario that it was made from")
    return _any_case(_overridden(document, overrides), path.parent)


def scenario_from_data(
    data: Mapping[str, Any], overrides: Sequence[str] = (), folder: Path = Path(), origin: str = "scenario"
) -> AnyCase:
    """Load a scenario given as mappings, like the resolved form that a plan carries; ``origin`` names it in messages.

    Raises:
        InputError: every fault of the scenario and of the specifications it names.
    """
    return _any_case(_overridden(Document(origin, dict(data), {}), overrides), folder)


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


def _any_case(document: Document, folder: Path) -> AnyCase:
    listed = isinstance(document.data, dict) and "columns" in document.data
    return _table_case(document, folder) if listed else _case(document, folder)


def _table_case(document: Document, folder: Path) -> TableCase:
    document, preset_problems = with_presets(document, folder)
    found = schema_problems(document, TableScenario)
    scenario = found if isinstance(found, TableScenario) else None
    problems = [*preset_problems, *(found if isinstance(found, list) else [])]
    fields = dict(scenario) if scenario else valid_parts(document, TableScenario)
    items = fields.get("inventory", {})
    named = _Named(document, folder, problems)
    parts = named.load({"inventory": {name: item for name, item in items.items() if item.hardware is not None}})
    parts = parts._replace(fields=fields)
    complete = scenario and all(item.hardware is None or name in parts.hardware for name, item in items.items())
    places = Inventories(items, parts.hardware) if complete else None
    table = read_table(document, fields.get("columns"), folder, places)
    findings = [*fleet_findings(parts), *table_findings(parts, document.data)]
    problems += [document.problem(loc, message) for loc, message in findings]
    problems += table.problems
    if problems or scenario is None:
        raise InputError(problems)
    return TableCase(scenario, tuple(table.columns), parts.hardware, (*named.specifications, *table.specification))


def _case(document: Document, folder: Path) -> Case:
    document, preset_problems = with_presets(document, folder)
    found = schema_problems(document, Scenario)
    scenario = found if isinstance(found, Scenario) else None
    problems = [*preset_problems, *(found if isinstance(found, list) else [])]
    fields = dict(scenario) if scenario else valid_parts(document, Scenario)
    named = _Named(document, folder, problems)
    parts = named.load(fields)
    problems += cross_problems(document, parts)
    if problems or scenario is None:
        raise InputError(problems)
    architectures = {name: as_served(scenario.models[name], a) for name, a in parts.architectures.items()}
    return Case(
        scenario=scenario,
        architectures=architectures,
        hardware=parts.hardware,
        engines=tuple(
            EngineUse(parts.engines[i], choice.version or parts.engines[i].versions[-1], choice.scheduler)
            for i, choice in enumerate(scenario.engine)
        ),
        calibration=parts.calibration,
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
        load_calibration = functools.partial(specs.load_calibration, folder=self.folder)
        models, inventory = fields.get("models", {}), fields.get("inventory", {})
        choices = fields.get("engine", ())
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
        engines: dict[int, Engine] = dict(
            self._each(
                "engine",
                specs.load_engine,
                [
                    (i, ("engine", i, "name") if self._lists("engine") else ("engine", "name"), c.name)
                    for i, c in enumerate(choices)
                ],
            )
        )
        sets: dict[int, Efficiencies | Calibration] = dict(
            self._each(
                "calibration",
                load_calibration,
                [
                    (i, ("calibration", i) if self._lists("calibration") else ("calibration",), name)
                    for i, name in enumerate(fields.get("calibration", ()))
                ],
            )
        )
        written = self.document.data.get("models") if isinstance(self.document.data, dict) else None
        names = frozenset(written if isinstance(written, dict) else ())
        return Parts(fields, names, architectures, hardware, engines, tuple(sets.values()))

    def _lists(self, field: str) -> bool:
        """Tell whether a field that takes one or several is written as a list."""
        return isinstance(self.document.data, dict) and isinstance(self.document.data.get(field), list)

    def _each(
        self, kind: str, load: Callable[[str], Loaded[L]], wanted: Sequence[tuple[K, Loc, str]]
    ) -> Iterator[tuple[K, L]]:
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
