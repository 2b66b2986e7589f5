"""Tables of columns: what a replica is and how many requests it serves, measured or of another model."""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from planner import yaml_io
from planner.catalog import cells
from planner.catalog.case import Specification
from planner.catalog.cells import BadValueError
from planner.catalog.checks import Finding, Parts
from planner.catalog.specs import resolve_path
from planner.errors import InputError, Problem, as_written, did_you_mean
from planner.schema.calibration import MEDIAN
from planner.schema.hardware import Hardware
from planner.schema.objective import Goal
from planner.schema.scenario import TableInventoryItem, TableScenario, TableWorkload
from planner.yaml_io import Document

Role = Literal["mixed", "prefill", "decode"]
ROLES: tuple[Role, ...] = ("mixed", "prefill", "decode")
SPECIFICATION = "columns"  # the kind of a table's file among the specifications
_WANTED = ("role", "devices_per_replica", "requests_per_s_per_replica")
_OPTIONAL = ("label", "hardware", "rate_matching_factor")
# Far beyond any replica, and within what solvers tell apart.
_RATES = (1e-5, 1e6)  # request/s
_FACTORS = (0.1, 10.0)
# Fields of a scenario that decide nothing where a table has the rates.
UNUSED = ("models", "engine", "search", "calibration", "confidence")


class ListedColumn(NamedTuple):
    """A replica that a table lists.

    ``requests_per_s_per_replica`` as listed, ``rate_matching_factor`` the share of it that the plan may count on;
    ``hardware`` names an inventory, or what it holds, and is empty where a replica may stand on any.
    """

    role: Role
    devices_per_replica: int
    requests_per_s_per_replica: float
    label: str
    hardware: str = ""
    rate_matching_factor: float = 1.0

    @property
    def rate(self) -> float:
        """What a replica carries [request/s]."""
        return self.requests_per_s_per_replica * self.rate_matching_factor


class TableCase(NamedTuple):
    """Everything a plan over a table is computed from; ``hardware`` by inventory, where one names it."""

    scenario: TableScenario
    columns: tuple[ListedColumn, ...]
    hardware: Mapping[str, Hardware]
    specifications: tuple[Specification, ...]

    @property
    def workload(self) -> tuple[str, TableWorkload]:
        """Return the name of the only workload, and the workload."""
        ((name, workload),) = self.scenario.workloads.items()
        return name, workload


class _Row(NamedTuple):
    """A row, and how a problem with one of its cells is made."""

    cells: Mapping[Any, Any]
    problem: Callable[[str, str], Problem]


class Table(NamedTuple):
    """The columns of a table as far as they can be read, every fault, and the file they are from."""

    columns: list[ListedColumn]
    problems: list[Problem]
    specification: tuple[Specification, ...] = ()


def read_table(document: Document, columns: object, folder: Path, inventories: "Inventories | None") -> Table:
    """Read the field ``columns`` of a scenario: the path of a CSV file from ``folder``, or the rows themselves.

    Without ``inventories``, whether columns have a place is not checked.
    """
    if isinstance(columns, list | tuple):
        return _read((_Row(row, _in_document(document, i)) for i, row in enumerate(columns)), inventories)
    if not isinstance(columns, str):
        return Table([], [])
    try:
        path = resolve_path(columns, folder)
        written = yaml_io.read_text(path)
        lines = list(cells.lines(written, str(path), _WANTED, _OPTIONAL))
    except InputError as error:
        return Table(
            [], [p if p.line else document.problem(("columns",), f"{p.path}: {p.message}") for p in error.problems]
        )
    if not lines:
        return Table([], [Problem(str(path), 1, 1, "", "has no row under its column names; list a column or more")])
    specification = Specification(SPECIFICATION, columns, _digest(path))
    found = _read((_Row(row, functools.partial(Problem, str(path), line, 1)) for line, row in lines), inventories)
    return found._replace(specification=(specification,))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _in_document(document: Document, row: int) -> Callable[[str, str], Problem]:
    return lambda name, message: document.problem(("columns", row, name), message)


def _read(rows: Iterable[_Row], inventories: "Inventories | None") -> Table:
    table = Table([], [])
    for row in rows:
        values: dict[str, Any] = {}
        if None in row.cells:
            table.problems.append(row.problem("", "has more cells than there are columns"))
        for name, read in _READERS.items():
            try:
                values[name] = read(row.cells.get(name))
            except BadValueError as error:
                table.problems.append(row.problem(name, str(error)))
        place = values.get("hardware", "")
        if inventories is not None and not inventories.named(place):
            hint = did_you_mean(place, inventories.known)
            table.problems.append(row.problem("hardware", f"no inventory here is called '{place}' or holds it; {hint}"))
        if len(values) == len(_READERS):
            values["label"] = values["label"] or _named(row.cells, values)
            table.columns.append(ListedColumn(**values))
    return table


def _named(row: Mapping[Any, Any], values: Mapping[str, Any]) -> str:
    """Return a label where the table has none: how the replica is split, or else its role and size."""
    size = values["devices_per_replica"]
    return _text(row.get("parallelism")) or f"{values['role']} of {size} device{'s' if size > 1 else ''}"


def _text(value: Any) -> str:
    return str("" if value is None else value).strip()


def _role(value: Any) -> str:
    role = cells.text(value)
    if role not in ROLES:
        msg = f"must be one of {', '.join(ROLES)} (got {as_written(role)})"
        raise BadValueError(msg)
    return role


def _rate(value: Any) -> float:
    return cells.number(value, *_RATES)


def _factor(value: Any) -> float:
    return cells.number(value, *_FACTORS) if _text(value) else 1.0


_READERS = {
    "role": _role,
    "devices_per_replica": cells.count,
    "requests_per_s_per_replica": _rate,
    "label": _text,
    "hardware": _text,
    "rate_matching_factor": _factor,
}


class Inventories(NamedTuple):
    """What columns may stand on: the inventories by name, and the hardware that they name."""

    items: Mapping[str, TableInventoryItem]
    hardware: Mapping[str, Hardware]

    @property
    def known(self) -> tuple[str, ...]:
        """Names that a column may give."""
        return (*self.items, *(hardware.name for hardware in self.hardware.values()))

    def named(self, name: str) -> tuple[str, ...]:
        """Return the inventories that a name means: one of this name, else all that hold this hardware; all for none.

        ``_`` may stand for ``-`` in names of hardware, and a form factor may be left out.
        """
        if not name or name in self.items:
            return (name,) if name else tuple(self.items)
        wanted = name.lower().replace("_", "-")
        return tuple(
            inventory
            for inventory, item in self.items.items()
            if item.hardware == name
            or (inventory in self.hardware and f"{self.hardware[inventory].name}-".startswith(f"{wanted}-"))
        )


def table_findings(parts: Parts, given: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what a table cannot answer, and what its inventory lacks; ``given`` are the fields as written."""
    yield from _unanswerable(parts)
    yield from _without_hardware(parts)
    for name in ("links", "baseline"):
        if given.get(name):
            why = {"links": "has no sizes of caches", "baseline": "says nothing of what runs today"}[name]
            yield (name,), f"a table of columns {why}; leave '{name}' out"
    confidence = parts.fields.get("confidence")
    if confidence not in (None, MEDIAN):
        yield ("confidence",), f"a table of columns has no error intervals, so only {MEDIAN} can be planned for"


def _unanswerable(parts: Parts) -> Iterator[Finding]:
    goals: tuple[Goal, ...] = parts.fields.get("objective", ())
    workloads: Mapping[str, TableWorkload] = parts.fields.get("workloads", {})
    if len(workloads) > 1:
        yield ("workloads",), f"a table has rates of one workload; keep one of {', '.join(workloads)}"
    for name, workload in workloads.items():
        if workload.requests.kind == "concurrency":
            message = "a table has no latencies, so not what is in flight; write 'max' or a rate like '12 /s'"
            yield ("workloads", name, "requests"), message
        if workload.output_tokens is None and any("tokens" in goal.metrics for goal in goals):
            message = "is required for a goal in tokens; write it like '300 token'"
            yield ("workloads", name, "output_tokens"), message
    for metric in ("ttft", "tpot"):
        if any(metric in goal.metrics for goal in goals):
            message = f"a table has rates, no {metric}; choose requests, tokens, devices, cost or power"
            yield ("objective",), message


def _without_hardware(parts: Parts) -> Iterator[Finding]:
    goals: tuple[Goal, ...] = parts.fields.get("objective", ())
    limits = parts.fields.get("limits")
    by_power = any("power" in goal.metrics for goal in goals) or (limits is not None and limits.power is not None)
    for name, item in parts.fields.get("inventory", {}).items():
        if item.hardware is not None:
            continue
        if by_power:
            yield ("inventory", name, "hardware"), "is required for the power of its devices; name it like 'h200-sxm'"
        if item.devices is None:
            field = "nodes" if item.nodes else "domains"
            message = f"the hardware decides what {field} are; name it under inventory.{name}.hardware, or give devices"
            yield ("inventory", name, field), message
        elif item.devices <= item.reserved_devices:
            yield ("inventory", name, "reserved_devices"), "leaves no device to plan with"


def with_recorded(case: TableCase, recorded: object) -> TableCase:
    """Return a case whose columns a plan carries, with the file that the plan says they were read from."""
    entries = [
        Specification(SPECIFICATION, str(entry.get("name")), str(entry.get("sha256")))
        for entry in (recorded if isinstance(recorded, list) else ())
        if isinstance(entry, Mapping) and entry.get("kind") == SPECIFICATION
    ]
    known = [entry for entry in entries if entry not in case.specifications]
    return case._replace(specifications=(*case.specifications, *known))


def changed_tables(case: TableCase, folder: Path) -> list[str]:
    """Name the files of columns that are there and no longer what a plan was made from."""
    found = []
    for specification in case.specifications:
        if specification.kind == SPECIFICATION:
            try:
                path = resolve_path(specification.name, folder)
                changed = path.is_file() and _digest(path) != specification.sha256
            except (InputError, OSError, ValueError):
                continue  # not to be read: the plan carries what it was made from
            if changed:
                found.append(f"columns '{specification.name}' is not the file this plan was made from: solve again")
    return found
