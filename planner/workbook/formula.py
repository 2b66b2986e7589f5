"""Formulas of a spreadsheet, each with the value it has: both are made by the same expression.

A blank cell is None and counts as 0 in arithmetic, as it does in a spreadsheet; what is divided by 0 is not a number.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Value = str | float | int | None
UNKNOWN = "unknown"
_STRENGTH = {"": 3, "^": 2, "*": 1, "/": 1, "+": 0, "-": 0}
_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "^": operator.pow,
}


@dataclass(frozen=True, slots=True)
class Formula:
    """Text without the leading "=", its value, and the operator that binds its parts ("" for none)."""

    text: str
    value: Value
    binds: str = ""

    def __add__(self, other: "Operand") -> "Formula":
        return _binary(self, "+", other)

    def __sub__(self, other: "Operand") -> "Formula":
        return _binary(self, "-", other)

    def __mul__(self, other: "Operand") -> "Formula":
        return _binary(self, "*", other)

    def __truediv__(self, other: "Operand") -> "Formula":
        return _binary(self, "/", other)

    def __pow__(self, other: "Operand") -> "Formula":
        return _binary(self, "^", other)

    @property
    def number(self) -> float:
        """Its value in arithmetic; text does not count in any function used here."""
        return float(self.value) if isinstance(self.value, int | float) else 0.0


Operand = Formula | int | float
Cell = Formula | Value


class Range(tuple[Formula, ...]):
    """References to the cells of a column or row, and the text that names them together."""

    text: str

    def __new__(cls, cells: Sequence[Formula], text: str) -> "Range":
        """Put cells under a text."""
        made = super().__new__(cls, cells)
        made.text = text
        return made


def _binary(left: Formula, sign: str, right: Operand) -> Formula:
    other = right if isinstance(right, Formula) else Formula(f"{right}", right)
    a, b = left.number, other.number
    value = math.nan if sign == "/" and not b else _ARITHMETIC[sign](a, b)
    return Formula(_bound(left, sign) + sign + _bound(other, sign, right=True), value, sign)


def _bound(part: Formula, sign: str, *, right: bool = False) -> str:
    """Return a part's text, in brackets where the operator outside would tear it apart."""
    inner, outer = _STRENGTH[part.binds], _STRENGTH[sign]
    torn = inner < outer or (inner == outer and (right or sign == "^"))
    return f"({part.text})" if torn else part.text


def total(cells: Sequence[Formula]) -> Formula:
    """Return SUM over a range, or over single cells."""
    return Formula(f"SUM({_listed(cells)})", math.fsum(cell.number for cell in cells))


def largest(cells: Sequence[Formula]) -> Formula:
    """Return MAX."""
    return Formula(f"MAX({_listed(cells)})", max((cell.number for cell in cells), default=0))


def smallest(cells: Sequence[Formula]) -> Formula:
    """Return MIN."""
    return Formula(f"MIN({_listed(cells)})", min((cell.number for cell in cells), default=0))


def rounded_up(cell: Formula) -> Formula:
    """Return the next whole number from a number that is not much below 0."""
    return Formula(f"ROUNDUP({cell.text},0)", math.ceil(cell.number) if cell.number >= 0 else math.floor(cell.number))


def within(cells: Range, limit: Formula) -> Formula:
    """Return how many cells are at most a limit: COUNTIF."""
    count = sum(cell.number <= limit.number for cell in cells)
    return Formula(f'COUNTIF({cells.text},"<="&{limit.text})', count)


def at(cells: Range, place: Formula) -> Formula:
    """Return the cell of a range at a place, the first being 1: INDEX."""
    return Formula(f"INDEX({cells.text},{place.text})", cells[int(place.number) - 1].value)


def if_above(left: Formula, right: Formula, then: Formula | str, otherwise: Formula | str) -> Formula:
    """Return IF(left > right, then, otherwise)."""
    chosen = then if left.number > right.number else otherwise
    text = f"IF({left.text}>{right.text},{_operand(then)},{_operand(otherwise)})"
    return Formula(text, chosen.value if isinstance(chosen, Formula) else chosen)


def if_known(needed: Sequence[Formula], then: Formula) -> Formula:
    """Return a formula where all cells it needs hold numbers, otherwise the word "unknown"."""
    cells = list(dict.fromkeys(cell.text for cell in needed))
    known = all(isinstance(cell.value, int | float) for cell in needed)
    return Formula(
        f'IF(COUNT({",".join(cells)})={len(cells)},{then.text},"{UNKNOWN}")', then.value if known else UNKNOWN
    )


def may_be_unknown(cell: Cell) -> bool:
    """Tell whether a cell says that it is unknown as soon as what it needs is."""
    return isinstance(cell, Formula) and cell.text.endswith(f',"{UNKNOWN}")')


def change(now: Formula, before: Formula) -> Formula:
    """Return a relative change where both are known and there was something before."""
    return if_known([now, before], if_above(before, Formula("0", 0), now / before - 1, UNKNOWN))


def _operand(value: Formula | str) -> str:
    return value.text if isinstance(value, Formula) else f'"{value}"'


def _listed(cells: Sequence[Formula]) -> str:
    return cells.text if isinstance(cells, Range) else ",".join(cell.text for cell in cells)
