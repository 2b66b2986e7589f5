"""Sheets as data: tables of columns, each column saying how a row's cell is filled; charts and names over them."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from planner.workbook.formula import Cell, Formula, Range, if_known, may_be_unknown, total

Style = Literal["text", "count", "number", "money", "percent", "share", "factor", "general"]
_LONGEST = 200
_NO_LETTER = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Row:
    """A row while it is filled; ``row[key]`` refers to a cell further left.

    ``item`` is what it is about, ``place`` counts from 0, ``above`` refers to the cells of the first row.
    """

    item: Any
    place: int
    cells: Mapping[str, Formula]
    above: Mapping[str, Formula]

    def __getitem__(self, key: str) -> Formula:
        """Return the reference to a cell by the key of its column."""
        return self.cells[key]


class Column(NamedTuple):
    """A column: ``key`` is its tidy name with the unit; ``title`` and ``unit`` head it.

    ``fill`` gives the value or formula of a row; ``style`` may depend on its item. ``editable``: values that are the
    reader's to change. ``summed``: the table ends with their total, which is unknown where one of them is. ``named``:
    what a row's cell is called in formulas.
    """

    key: str
    title: str
    unit: str
    style: Style | Callable[[Any], Style]
    fill: Callable[[Row], Cell]
    editable: bool = False
    summed: bool = False
    named: Callable[[Any], str] | None = None


class Table(NamedTuple):
    """A table in its place on a sheet: title, note, heads, rows, totals; ``top`` is the row of its title, from 0.

    ``items`` are what rows are about, ``cells`` what they hold, ``refs`` references to them by key. ``sums`` are the
    formulas of a last row of totals, by key, and ``totals`` references to them; empty without. ``names``: defined names
    with the address each stands for.
    """

    sheet: str
    key: str
    title: str
    note: str
    top: int
    columns: tuple[Column, ...]
    items: tuple[Any, ...]
    cells: tuple[tuple[Cell, ...], ...]
    refs: tuple[Mapping[str, Formula], ...]
    sums: Mapping[str, Formula]
    totals: Mapping[str, Formula]
    names: Mapping[str, str]

    @property
    def first(self) -> int:
        """The row of its first cells."""
        return self.top + 3

    @property
    def below(self) -> int:
        """The first free row after it and a blank one."""
        return self.first + len(self.cells) + bool(self.sums) + 1

    def range(self, key: str) -> Range:
        """Return the cells of a column, without its total."""
        place = [column.key for column in self.columns].index(key)
        ends = [address(row, place) for row in (self.first, self.first + max(len(self.cells), 1) - 1)]
        return Range([row[key] for row in self.refs], f"{self.sheet}!{ends[0]}:{ends[1]}")

    def by(self, key: str) -> dict[Any, Mapping[str, Formula]]:
        """Return the references of each row, by the value of one of its cells."""
        return {row[key].value: row for row in self.refs}


def field(*names: str) -> Callable[[Row], Cell]:
    """Return what fills a column with a field of the item, by the names that lead to it; tuples are listed."""

    def fill(row: Row) -> Cell:
        value: Any = row.item
        for name in names:
            value = getattr(value, name)
        return ", ".join(map(str, value)) if isinstance(value, tuple) else value

    return fill


class Series(NamedTuple):
    """One line or group of bars of a chart; ``x`` are its categories."""

    name: str
    x: Range
    y: Range


class Chart(NamedTuple):
    """A chart with titled axes."""

    kind: Literal["column", "line"]
    title: str
    x_title: str
    y_title: str
    series: tuple[Series, ...]


class Sheet(NamedTuple):
    """A sheet: its name on the tab, its title, tables from top to bottom, charts beside them."""

    name: str
    title: str
    tables: tuple[Table, ...]
    charts: tuple[Chart, ...] = ()


def address(row: int, column: int) -> str:
    """Return an absolute address like $B$3, of places from 0."""
    letters, left = "", column + 1
    while left:
        left, rest = divmod(left - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"${letters}${row + 1}"


def defined_name(*parts: str) -> str:
    """Return a name that a workbook may define, from words of any kind."""
    return _NO_LETTER.sub("_", "_".join(parts)).strip("_")[:_LONGEST]


TOP = 2  # below the title of the sheet


def table(
    sheet: str, key: str, title: str, columns: Sequence[Column], items: Iterable[Any], top: int = TOP, note: str = ""
) -> Table:
    """Fill a table with a row for each item.

    Args:
        sheet: the name of its sheet.
        key: its name among all tables.
        title: what stands above it.
        columns: its columns; a column may refer to those before it.
        items: what rows are about.
        top: the row of its title, from 0.
        note: what stands below the title.
    """
    filled: list[tuple[Cell, ...]] = []
    refs: list[Mapping[str, Formula]] = []
    names: dict[str, str] = {}
    rows = tuple(items)
    for place, item in enumerate(rows):
        row: dict[str, Formula] = {}
        cells = []
        for number, column in enumerate(columns):
            cell = column.fill(Row(item, place, row, refs[0] if refs else row))
            where = f"{sheet}!{address(top + 3 + place, number)}"
            if column.named is not None:
                name = _unused(column.named(item), names)
                names[name] = where
                where = name
            cells.append(cell)
            row[column.key] = Formula(where, cell.value if isinstance(cell, Formula) else cell)
        filled.append(tuple(cells))
        refs.append(row)
    made = Table(sheet, key, title, note, top, tuple(columns), rows, tuple(filled), tuple(refs), {}, {}, names)
    sums = {column.key: _sum(made, column.key) for column in columns if column.summed} if filled else {}
    end, places = made.first + len(filled), [column.key for column in columns]
    totals = {key: Formula(f"{sheet}!{address(end, places.index(key))}", cell.value) for key, cell in sums.items()}
    return made._replace(sums=sums, totals=totals)


def _sum(made: Table, key: str) -> Formula:
    """Return the sum of a column, which a word in place of a number makes unknown, now or once one is put there."""
    place = [column.key for column in made.columns].index(key)
    cells = [row[key] for row, written in zip(made.refs, made.cells, strict=True) if may_be_unknown(written[place])]
    whole = total(made.range(key))
    return if_known(cells, whole) if cells else whole


def _unused(name: str, taken: Mapping[str, str]) -> str:
    """Return a name with a number behind it where it is taken; case does not tell names apart."""
    lower, number, free = {other.lower() for other in taken}, 1, name
    while free.lower() in lower:
        number += 1
        free = f"{name}_{number}"
    return free
