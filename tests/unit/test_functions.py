"""Functions that SymPy keeps as written: equal to max, min and where in every way they are used."""

import itertools

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import codegen
from planner.costs import compile as compiler
from planner.costs import symbols as s
from planner.costs.functions import Either, Larger, Smaller, both, either
from planner.costs.tiles import Tiled
from planner.costs.work import Expressions

X, Y, Z = sympy.symbols("x y z", nonnegative=True)
POINTS = [(2.0, 5.0, 3.0), (5.0, 2.0, 3.0), (0.0, 4.0, 1.0), (0.25, 0.125, 7.0)]
SIZES = st.floats(1e-9, 1e3)


def at(expr, point):
    return float(expr.subs(dict(zip((X, Y, Z), point, strict=True))))


@pytest.mark.parametrize("point", POINTS)
def test_they_equal_max_min_and_where(point):
    x, y, z = point
    assert at(Larger(X, Y), point) == max(x, y)
    assert at(Smaller(X, Y), point) == min(x, y)
    assert at(either(X - Y, Y, Z), point) == (y if x > y else z)
    assert at(Larger(X, Smaller(Y, Z)), point) == max(x, min(y, z))
    assert at(both(X, Y), point) == pytest.approx((x**3 + y**3) ** (1 / 3))


def test_a_flag_of_zero_means_no():
    assert either(sympy.Integer(0), 1, 2) == 2
    assert either(sympy.Float(1e-9), 1, 2) == 1
    assert either(sympy.Integer(-1), 1, 2) == 2


def test_only_numbers_and_equal_arguments_are_simplified():
    assert (Larger(2, 3), Smaller(2, 3)) == (3, 2)
    assert (Larger(X, X), Smaller(X, X), either(Y, X, X)) == (X, X, X)
    assert (both(X, sympy.Integer(0)), both(sympy.Integer(0), Y)) == (X, Y)
    assert isinstance(Larger(X, 0), Larger)  # known to be X, but looking costs minutes on whole steps
    assert isinstance(either(X, 1, 0), Either)


FUNCTIONS = {
    "larger": Larger(X**2, Y * Z),
    "smaller": Smaller(X**2, Y * Z),
    "either": either(X - Y, X * Z, Y**2),
    "both": both(X * Z, Y),
    "nested": Larger(Smaller(X, Y) * Z, either(X - 1, X**2, Y)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("point", POINTS[:2])
def test_derivatives_equal_finite_differences(name, point):
    expr, step = FUNCTIONS[name], 1e-6
    for position, symbol in enumerate((X, Y, Z)):
        beside = [tuple(v + sign * step * (i == position) for i, v in enumerate(point)) for sign in (1, -1)]
        slope = (at(expr, beside[0]) - at(expr, beside[1])) / (2 * step)
        assert at(sympy.diff(expr, symbol), point) == pytest.approx(slope, abs=1e-6), symbol


def test_the_derivative_of_tiles_is_that_of_the_slope_across_them():
    assert sympy.diff(Tiled(X**2, 128, 16), X) == 2 * X


@pytest.mark.parametrize(
    ("expr", "text"),
    [
        (Larger(X, Y), r"\max\left(x, y\right)"),
        (Smaller(X, 3), r"\min\left(x, 3\right)"),
        (Larger(X, Y) ** 2, r"\max\left(x, y\right)^{2}"),
        (either(X, Y, 0), r"\begin{cases} y & x > 0 \\ 0 & \text{else} \end{cases}"),
        (Tiled(X, 128, 16), r"\left\lceil x \right\rceil_{m_t}"),
    ],
)
def test_latex(expr, text):
    assert sympy.latex(expr) == text


def test_latex_of_a_power_of_a_choice_has_parentheses():
    assert sympy.latex(either(X, Y, 0) ** 2) == (
        r"\left(\begin{cases} y & x > 0 \\ 0 & \text{else} \end{cases}\right)^{2}"
    )


def test_generated_code_broadcasts_and_equals_sympy():
    outputs = {
        "larger": Larger(s.tp, s.pp),
        "smaller": Smaller(s.tp, Larger(s.pp, 2)),
        "either": either(s.pp - 1, s.tp, 0),
        "root": sympy.cbrt(s.tp),
        "both": both(s.tp, s.pp),
        "tiled": Tiled(100 * s.tp, 128, 16),
        "cubed": Tiled(100 * s.tp, 128, 16) ** 3 / Larger(s.tp, s.pp) ** 2,
    }
    kernel = compiler._execute(codegen.source(Expressions({}, outputs)))
    tp, pp = np.array([[1.0], [8.0]]), np.array([[1.0, 2.0, 3.0]])
    found = kernel(**dict.fromkeys(s.ARGUMENTS, 1.0) | {"tp": tp, "pp": pp})
    assert found["larger"].tolist() == [[1, 2, 3], [8, 8, 8]]
    assert found["smaller"].tolist() == [[1, 1, 1], [2, 2, 3]]
    assert found["either"].tolist() == [[0, 1, 1], [0, 8, 8]]
    assert found["root"].ravel().tolist() == pytest.approx([1, 2])
    assert found["tiled"].ravel().tolist() == [128, 896]
    for name, expr in outputs.items():
        for (row, t), (column, p) in itertools.product(enumerate(tp.ravel()), enumerate(pp.ravel())):
            expected = float(expr.subs({s.tp: sympy.Integer(int(t)), s.pp: sympy.Integer(int(p))}))
            assert np.broadcast_to(found[name], (2, 3))[row, column] == pytest.approx(expected), name


def test_the_branch_not_taken_may_be_meaningless():
    """A choice by a flag does not spread the infinity of the other branch."""
    expr = either(s.pp - 1, s.tp / (s.pp - 1), s.osl)
    kernel = compiler._execute(codegen.source(Expressions({}, {"x": expr})))
    with np.errstate(all="ignore"):
        found = kernel(**dict.fromkeys(s.ARGUMENTS, 4.0) | {"pp": np.array([1.0, 3.0])})
    assert found["x"].tolist() == [4, 2]


@given(SIZES, SIZES)
def test_two_times_that_overlap_are_within_26_percent_of_the_larger(left, right):
    combined, larger = at(both(X, Y), (left, right, 0)), max(left, right)
    assert larger * (1 - 1e-12) <= combined <= larger * 1.26
