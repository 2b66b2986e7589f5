"""The tables of a workbook for programs: a value for each cell, one kind of value in each column."""

from collections.abc import Iterable
from typing import NamedTuple

from planner.workbook.formula import Formula, Value
from planner.workbook.sheet import Column, Sheet, Table

KEYS = ("table", "column", "title", "unit")


class TidyColumn(NamedTuple):
    """A column: texts, whole numbers or numbers; None where a cell is blank, or a word where a number is unknown."""

    key: str
    title: str
    unit: str
    values: tuple[Value, ...]


class TidyTable(NamedTuple):
    """A table by its name among all."""

    name: str
    columns: tuple[TidyColumn, ...]


def tidy(sheets: Iterable[Sheet]) -> tuple[TidyTable, ...]:
    """Return all tables of sheets, without their totals."""
    return tuple(TidyTable(t.key, tuple(_columns(t))) for sheet in sheets for t in sheet.tables)


def _columns(table: Table) -> Iterable[TidyColumn]:
    for place, column in enumerate(table.columns):
        values = [_value(column, cells[place]) for cells in table.cells]
        if column.style == "count" and all(value is None or float(value) == int(value) for value in values):
            values = [None if value is None else int(value) for value in values]
        yield TidyColumn(column.key, column.title, column.unit, tuple(values))


def _value(column: Column, cell: Formula | Value) -> Value:
    value = cell.value if isinstance(cell, Formula) else cell
    if column.style == "text":
        return None if value is None else str(value)
    return float(value) if isinstance(value, int | float) else None
