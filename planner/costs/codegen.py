"""Writes a set of expressions as one NumPy function with common parts computed once."""

import sympy
from sympy.printing.numpy import NumPyPrinter

from planner.costs.symbols import ARGUMENTS
from planner.costs.work import Expressions
from planner.errors import InternalError


class _Printer(NumPyPrinter):  # type: ignore[misc]
    """Prints code that broadcasts: SymPy's own Max and Min stack arrays of one shape only."""

    def _print_Max(self, expr: sympy.Max) -> str:
        return self._nested("numpy.maximum", expr.args)

    def _print_Min(self, expr: sympy.Min) -> str:
        return self._nested("numpy.minimum", expr.args)

    def _print_Piecewise(self, expr: sympy.Piecewise) -> str:
        (value, condition), (otherwise, last) = expr.args
        if last != sympy.true:
            msg = f"a piecewise expression needs two branches, the second unconditional: {expr}"
            raise InternalError(msg)
        return f"numpy.where({self._print(condition)}, {self._print(value)}, {self._print(otherwise)})"

    def _print_Pow(self, expr: sympy.Pow, rational: bool = False) -> str:
        if expr.exp == sympy.Rational(1, 3):
            return f"numpy.cbrt({self._print(expr.base)})"
        return str(super()._print_Pow(expr, rational=rational))

    def _nested(self, function: str, args: tuple[sympy.Expr, ...]) -> str:
        first, *rest = sorted(args, key=sympy.default_sort_key)
        text = self._print(first)
        for arg in rest:
            text = f"{function}({text}, {self._print(arg)})"
        return str(text)


def source(expressions: Expressions) -> str:
    """Return the source of ``kernel(*, <every symbol>) -> dict`` for a set of expressions.

    Raises:
        InternalError: an expression holds a symbol that neither the table nor a definition explains.
    """
    printer = _Printer({"fully_qualified_modules": True})
    wanted = [*expressions.definitions.values(), *expressions.outputs.values()]
    common, reduced = sympy.cse(wanted, symbols=sympy.numbered_symbols("_t"), order="none")
    names = list(expressions.definitions)
    results = dict(zip(expressions.outputs, reduced[len(names) :], strict=True))
    returned = [(sympy.Symbol(f"_result_{name}"), expr) for name, expr in results.items()]
    steps = _ordered([*common, *zip(names, reduced, strict=False), *returned])
    lines = ["import numpy", "", "", f"def kernel(*, {', '.join(ARGUMENTS)}):"]
    lines += [f"    {symbol} = {printer.doprint(expr)}" for symbol, expr in steps]
    pairs = ", ".join(f"{name!r}: _result_{name}" for name in results)
    return "\n".join([*lines, f"    return {{{pairs}}}", ""])


def _ordered(steps: list[tuple[sympy.Symbol, sympy.Expr]]) -> list[tuple[sympy.Symbol, sympy.Expr]]:
    """Put assignments into an order in which each uses only arguments and what was assigned before it."""
    known, waiting, ordered = set(ARGUMENTS), list(steps), []
    while waiting:
        ready = [step for step in waiting if {str(symbol) for symbol in step[1].free_symbols} <= known]
        if not ready:
            missing = {str(symbol) for _, expr in waiting for symbol in expr.free_symbols} - known
            msg = f"symbols without an entry in the table: {', '.join(sorted(missing))}"
            raise InternalError(msg)
        ordered += ready
        known |= {str(symbol) for symbol, _ in ready}
        waiting = [step for step in waiting if step not in ready]
    return ordered
