"""Functions that SymPy keeps as they are written.

SymPy's own Max and Min compare their arguments when they are built, which takes minutes on whole steps; these do not
look at them. Derivatives exist everywhere but at the corner, where the first argument counts.
"""

from typing import Any, cast

import sympy


class _Extreme(sympy.Function):  # type: ignore[misc]
    """One of two values of one unit, by their order."""

    nargs = 2

    @classmethod
    def eval(cls, left: sympy.Expr, right: sympy.Expr) -> sympy.Expr | None:
        """Simplify numbers and equal arguments only."""
        if left == right:
            return left
        return cls.of_numbers(left, right) if left.is_number and right.is_number else None

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return 1 for the argument that counts, 0 for the other."""
        left, right = self.args
        first = self.sign * (left - right)
        return either(first, 1, 0) if argindex == 1 else either(first, 0, 1)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        inside = ", ".join(printer.doprint(arg) for arg in self.args)
        text = rf"{self.name_in_latex}\left({inside}\right)"
        return text if exp is None else rf"{text}^{{{exp}}}"


class Larger(_Extreme):
    """The larger of two values of one unit."""

    of_numbers, sign, name_in_latex = sympy.Max, 1, r"\max"


class Smaller(_Extreme):
    """The smaller of two values of one unit."""

    of_numbers, sign, name_in_latex = sympy.Min, -1, r"\min"


class Either(sympy.Function):  # type: ignore[misc]
    """``yes`` where a flag is above zero, else ``no``; unlike Piecewise, never merged with its neighbours."""

    nargs = 3

    @classmethod
    def eval(cls, flag: sympy.Expr, yes: sympy.Expr, no: sympy.Expr) -> sympy.Expr | None:
        """Simplify numbers and equal branches only."""
        if yes == no:
            return yes
        if flag.is_number:
            return yes if flag > 0 else no
        return None

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Return 1 for the branch that is taken, 0 for the other and for the flag."""
        flag = self.args[0]
        return (sympy.Integer(0), either(flag, 1, 0), either(flag, 0, 1))[argindex - 1]

    def _latex(self, printer: Any, exp: Any = None) -> str:
        flag, yes, no = (printer.doprint(arg) for arg in self.args)
        text = rf"\begin{{cases}} {yes} & {flag} > 0 \\ {no} & \text{{else}} \end{{cases}}"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


def either(flag: sympy.Expr, yes: sympy.Expr, no: sympy.Expr) -> sympy.Expr:
    """Return ``yes`` where ``flag`` is above zero, else ``no``."""
    return Either(flag, yes, no)


def both(left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    """Combine two times that overlap: (x³ + y³)^⅓ is within 26 % of max(x, y) and equals it far from the ridge."""
    if left == 0 or right == 0:
        return cast("sympy.Expr", left + right)
    # Unevaluated, SymPy asks no questions about the sum: a fifth of the time to compile a structure.
    return sympy.Pow(left**3 + right**3, sympy.Rational(1, 3), evaluate=False)
