"""Numbers that carry slopes: those of every function that compiled costs are made of."""

import numpy as np
import pytest

from planner.columns.dual import duals, split

AT = {"x": np.array([0.3, 1.7, 2.5]), "y": np.array([1.1, 0.4, 2.2])}
STEP = 1e-6

FUNCTIONS = {
    "sum": lambda x, y: 3.0 + x + y + 1.0,
    "difference": lambda x, y: 2.0 - x - y - 0.5,
    "product": lambda x, y: 2.0 * x * y * x,
    "ratio": lambda x, y: x / y + 2.0 / x,
    "power": lambda x, y: x**y + 2.0**x + y**-2.0,
    "minus": lambda x, y: -x * y,
    "roots": lambda x, y: np.sqrt(x) * np.cbrt(y),
    "logarithm": lambda x, y: np.log(x * y) / np.log(2.0),
    "extremes": lambda x, y: np.maximum(x, y) * np.minimum(x, 1.0),
    "choice": lambda x, y: np.where(x > 1.0, x * y, y / x),
    "whole": lambda x, y: np.ceil(x) * y + np.floor(y) * x,
    "constant": lambda x, y: np.ceil(x) + 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_slopes_are_central_differences(name):
    function = FUNCTIONS[name]
    values, slopes = split({"f": function(**duals(AT, ("x", "y")))}, 2)
    np.testing.assert_allclose(values["f"], function(**AT))
    for number, symbol in enumerate(AT):
        up, down = (function(**{**AT, symbol: AT[symbol] + sign * STEP}) for sign in (1, -1))
        expected = (up - down) / (2 * STEP)
        np.testing.assert_allclose(np.broadcast_to(slopes["f"], (2, 3))[number], expected, rtol=1e-6, atol=1e-6)


def test_branches_that_are_not_taken_have_no_slope():
    x = duals({"x": np.array([0.0, 4.0])}, ("x",))["x"]
    with np.errstate(all="ignore"):
        _, slopes = split({"f": np.where(x > 0, np.sqrt(x), 2.0 * x)}, 1)
    np.testing.assert_allclose(slopes["f"], [[2.0, 0.25]])


def test_functions_without_a_known_slope_are_refused():
    with pytest.raises(TypeError):
        np.sin(duals(AT, ("x",))["x"])
    with pytest.raises(TypeError):
        np.add.reduce(duals(AT, ("x",))["x"])
