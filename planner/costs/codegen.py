"""Writes a set of expressions as one NumPy function with common parts computed once."""

import sympy
from sympy.printing.numpy import NumPyPrinter

from planner.costs.symbols import ARGUMENTS
from planner.costs.work import Expressions
from planner.errors import InternalError

_CUBE = 3
# NumPy's own power of 3 takes ten times as long as two products.
_HEAD = ("import numpy", "", "", "def cube(x):", "    return x * x * x", "", "")
# Slopes of branches that are not taken may be undefined, like that of a root at zero; they count for nothing.
_SLOPE_HEAD = (*_HEAD, "def finite(x):", "    return numpy.where(numpy.isfinite(x), x, 0.0)", "", "")


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
        if expr.exp == sympy.Rational(-2, 3):
            return f"numpy.cbrt({self._print(expr.base)})**-2.0"
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
    steps = _steps(expressions)
    lines = [*_HEAD, f"def kernel({_signature(steps)}**others):"]
    lines += [f"    {symbol} = {printer.doprint(expr)}" for symbol, expr in steps]
    pairs = ", ".join(f"{name!r}: _result_{name}" for name in expressions.outputs)
    return "\n".join([*lines, f"    return {{{pairs}}}", ""])


def gradient_source(expressions: Expressions, wrt: tuple[str, ...]) -> str:
    """Return the source of ``kernel(*, <symbols>, **others) -> (figures, slopes)``.

    ``slopes`` holds, for each figure, its derivatives by the symbols ``wrt``, stacked along a first axis in their
    order. SymPy differentiates every intermediate result by those it is made of, and the chain rule runs along with
    the values (forward mode; Griewank and Walther, Evaluating Derivatives, ch. 3): the code grows with the expressions,
    not with the number of derivatives. Rows in tiles have the slope of their staircase; ``columns.dual`` has that of
    the step they are on, which is none.

    Raises:
        InternalError: as ``source``.
    """
    printer = _Printer({"fully_qualified_modules": True})
    steps = _steps(expressions)
    needed = set().union(*(expr.free_symbols for _, expr in steps))
    lines = [*_SLOPE_HEAD, f"def kernel({_signature(steps)}**others):"]
    lines += [f"    _unit = numpy.eye({len(wrt)})[:, :, None]"]
    active = {symbol: f"_unit[{wrt.index(symbol.name)}]" for symbol in needed if symbol.name in wrt}
    for symbol, expr in steps:
        lines.append(f"    {symbol} = {printer.doprint(expr)}")
        parts = [(_slope(expr, by), seed) for by, seed in _sorted(active) if by in expr.free_symbols]
        terms = [f"finite({printer.doprint(slope)}) * {seed}" for slope, seed in parts if slope != 0]
        if terms:
            active[symbol] = f"_d{symbol}"
            lines.append(f"    _d{symbol} = {' + '.join(terms)}")
    pairs = ", ".join(f"{name!r}: _result_{name}" for name in expressions.outputs)
    none = f"numpy.zeros(({len(wrt)}, 1))"
    slopes = ", ".join(f"{name!r}: {active.get(sympy.Symbol(f'_result_{name}'), none)}" for name in expressions.outputs)
    return "\n".join([*lines, f"    return {{{pairs}}}, {{{slopes}}}", ""])


def _slope(expr: sympy.Expr, by: sympy.Symbol) -> sympy.Expr:
    """Return the derivative; whole numbers (floor, ceiling) do not move."""
    return sympy.diff(expr, by).replace(lambda e: isinstance(e, sympy.Derivative | sympy.Subs), lambda _: sympy.S.Zero)


def _sorted(active: dict[sympy.Symbol, str]) -> list[tuple[sympy.Symbol, str]]:
    """Return symbols in a fixed order, so that the same expressions give the same code."""
    return sorted(active.items(), key=lambda pair: str(pair[0]))


def _steps(expressions: Expressions) -> list[tuple[sympy.Symbol, sympy.Expr]]:
    """Return assignments that compute the figures, common parts once, in the order of their use."""
    wanted = [*expressions.definitions.values(), *expressions.outputs.values()]
    common, reduced = sympy.cse(wanted, symbols=sympy.numbered_symbols("_t"), order="none")
    names = list(expressions.definitions)
    results = dict(zip(expressions.outputs, reduced[len(names) :], strict=True))
    returned = [(sympy.Symbol(f"_result_{name}"), expr) for name, expr in results.items()]
    return _ordered([*common, *zip(names, reduced, strict=False), *returned])


def _signature(steps: list[tuple[sympy.Symbol, sympy.Expr]]) -> str:
    """Return the keyword arguments that the steps need."""
    needed = {str(symbol) for _, expr in steps for symbol in expr.free_symbols}
    arguments = [name for name in ARGUMENTS if name in needed]
    return f"*, {', '.join(arguments)}, " if arguments else ""


def _ordered(steps: list[tuple[sympy.Symbol, sympy.Expr]]) -> list[tuple[sympy.Symbol, sympy.Expr]]:
    """Put assignments into an order in which each uses only arguments and what was assigned before it."""
    needs = {symbol: {str(other) for other in expr.free_symbols} for symbol, expr in steps}
    known, waiting, ordered = set(ARGUMENTS), list(steps), []
    while waiting:
        ready = [step for step in waiting if needs[step[0]] <= known]
        if not ready:
            missing = set().union(*(needs[symbol] for symbol, _ in waiting)) - known
            msg = f"symbols without an entry in the table: {', '.join(sorted(missing))}"
            raise InternalError(msg)
        ordered += ready
        known |= {str(symbol) for symbol, _ in ready}
        waiting = [step for step in waiting if str(step[0]) not in known]
    return ordered
