"""The question as it was asked: the scenario with all defaults, files by digest, and how large the search was."""

from collections.abc import Iterator
from typing import Any

from planner.catalog.case import Specification
from planner.plan import Plan
from planner.workbook.formula import Value
from planner.workbook.sheet import TOP, Column, Sheet, field, table

_LEFT_OUT = ("specifications", "grid")  # files have a table of their own; the grid follows from the scenario


def question(plan: Plan) -> Sheet:
    """Return the sheet of the scenario."""
    name = "Scenario"
    resolved = plan.scenario.resolved
    asked = {key: value for key, value in resolved.items() if key not in _LEFT_OUT}
    pairs = (
        Column("field", "field", "", "text", lambda row: row.item[0]),
        Column("value", "value", "", "text", lambda row: row.item[1]),
    )
    fields = table(name, "scenario", "Scenario", pairs, _fields(asked), TOP, "with all defaults")
    files = table(
        name,
        "files",
        "Specifications",
        tuple(Column(name, name, "", "text", field(name)) for name in Specification._fields),
        [Specification(**file) for file in resolved.get("specifications") or []],
        fields.below,
        "figures of other files give other plans",
    )
    search = table(name, "search", "Search", pairs, _search(plan), files.below)
    return Sheet(name, "The question", (fields, files, search))


def _search(plan: Plan) -> list[tuple[str, Value]]:
    s = plan.statistics
    return [
        ("planner", plan.planner_version),
        ("scenario.sha256", plan.scenario.sha256),
        ("solver", s.solver),
        ("result", plan.termination.detail),
        ("configurations", s.configurations),
        ("legal", s.legal),
        ("within limits", s.meeting_slo),
        ("columns after pruning", s.columns),
        *((f"left out: {rule}", count) for rule, count in s.rejected.items()),
    ]


def _fields(value: Any, place: str = "") -> Iterator[tuple[str, Value]]:
    """Yield every value with the path that leads to it."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if parts is None:
        yield place, value if isinstance(value, str | float | int | None) else str(value)
        return
    plain = isinstance(value, list) and not any(isinstance(part, dict | list) for part in value)
    if plain or not value:
        yield place, ", ".join(map(str, value))
        return
    for key, part in parts:
        yield from _fields(part, f"{place}.{key}" if place else str(key))
