"""Tiles that matrix units work on."""

from typing import Any

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, Smaller

_ROUNDING = sympy.Rational(1, 10**9)  # a full tile computed in floating point is no more than full


class Tiled(sympy.Function):  # type: ignore[misc]
    """Rows rounded up to whole tiles: Tiled(rows, tile, least); see ``tiled``."""

    nargs = 3

    def expanded(self) -> sympy.Expr:
        """Return the definition: the tile is the smallest power of two that holds the rows, within least and tile."""
        rows, largest, least = self.args
        tile = Smaller(largest, 2 ** sympy.ceiling(sympy.log(Larger(rows, least), 2) - _ROUNDING))
        return tile * sympy.ceiling(rows / tile - _ROUNDING)

    @classmethod
    def eval(cls, rows: sympy.Expr, largest: sympy.Expr, least: sympy.Expr) -> sympy.Expr | None:
        """Evaluate numbers only."""
        if rows.is_number and largest.is_number and least.is_number:
            return cls(rows, largest, least, evaluate=False).expanded()
        return None

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return 1 for the rows: the slope across a staircase, since within a step there is none."""
        return sympy.Integer(1 if argindex == 1 else 0)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = rf"\left\lceil {printer.doprint(self.args[0])} \right\rceil_{{m_t}}"
        return text if exp is None else rf"{text}^{{{exp}}}"


def tiled(rows: sympy.Expr, spread: sympy.Expr = sympy.S.Zero) -> sympy.Expr:
    """Rows that a matrix unit works on: whole tiles.

    Kernels choose the smallest power of two that holds few rows, and tiles of ``tile_rows`` beyond it, so that 257
    rows cost as much as 384 (Sarathi-Serve, OSDI 2024, §4.4: 257 tokens are a third slower than 256). Rows that vary
    with a standard deviation of ``spread`` take the mean of one deviation less and one more.
    """
    if spread == 0:
        return Tiled(rows, s.tile_rows, s.least_tile_rows)
    around = (Larger(Smaller(1, rows), rows - spread), rows + spread)
    fewer, more = (Tiled(some, s.tile_rows, s.least_tile_rows) for some in around)
    return (fewer + more) / 2
