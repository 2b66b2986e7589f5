"""Tables as CSV: numbers as they are; of the capacity workbook, units in the heads."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from planner.launch.facts import Facts
from planner.plan import Plan
from planner.workbook import sheets
from planner.workbook.formula import Value
from planner.workbook.tidy import KEYS, TidyTable, tidy


def files(plan: Plan, facts: Facts) -> dict[str, str]:
    """Return a file for each table, and one that says what their columns are."""
    tables = tidy(sheets(plan, facts.capacity))
    meanings = [(t.name, c.key, c.title, c.unit) for t in tables for c in t.columns]
    written = {f"{t.name}.csv": _text([c.key for c in t.columns], _rows(t)) for t in tables}
    return {**written, "columns.csv": _text(KEYS, meanings)}


def rows_file(rows: Sequence[Mapping[str, Any]], head: Sequence[str]) -> str:
    """Return the text of rows under their keys."""
    return _text(head, ([row[key] for key in head] for row in rows))


def _rows(table: TidyTable) -> Iterable[Sequence[Value]]:
    return zip(*(column.values for column in table.columns), strict=True)


def _text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return stream.getvalue()
