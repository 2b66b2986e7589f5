"""Writes a set of expressions as one NumPy function with common parts computed once."""

import sympy
from sympy.printing.numpy import NumPyPrinter

from planner.costs.symbols import ARGUMENTS
from planner.costs.work import Expressions
from planner.errors import InternalError

_CUBE = 3
# NumPy's own power of 3 takes ten times as long as two products.
_HEAD = ("import numpy", "", "", "def cube(x):", "    return x * x * x", "", "")


class _Printer(NumPyPrinter):  # type: ignore[misc]
    """Prints the functions of ``planner.costs.functions`` as code that broadcasts."""

    def _print_Larger(self, expr: sympy.Expr) -> str:
        return f"numpy.maximum({self._print(expr.args[0])}, {self._print(expr.args[1])})"

    def _print_Smaller(self, expr: sympy.Expr) -> str:
        return f"numpy.minimum({self._print(expr.args[0])}, {self._print(expr.args[1])})"

    def _print_Either(self, expr: sympy.Expr) -> str:
        flag, yes, no = (self._print(arg) for arg in expr.args)
        return f"numpy.where({flag} > 0, {yes}, {no})"

    def _print_Tiled(self, expr: sympy.Expr) -> str:
        return f"({self._print(expr.expanded())})"

    def _print_Pow(self, expr: sympy.Pow, rational: bool = False) -> str:
        if expr.exp == sympy.Rational(1, 3):
            return f"numpy.cbrt({self._print(expr.base)})"
        if expr.exp == _CUBE:
            return f"cube({self._print(expr.base)})"
        return str(super()._print_Pow(expr, rational=rational))


def source(expressions: Expressions) -> str:
    """Return the source of ``kernel(*, <symbols>, **others) -> dict`` for a set of expressions.

    It takes the symbols the expressions hold, and ignores the others of the table.

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
    needed = set().union(*(expr.free_symbols for _, expr in steps)) if steps else set()
    arguments = [name for name in ARGUMENTS if name in {str(symbol) for symbol in needed}]
    named = f"*, {', '.join(arguments)}, " if arguments else ""
    lines = [*_HEAD, f"def kernel({named}**others):"]
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
