"""The best a problem allows, by dynamic programming over devices: a second, solver-free proof.

For each inventory, the most value that d devices can carry is a max-plus product over its nodes; goals then read
only how many devices each inventory uses and the value carried, so trying every combination is exact.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from planner.milp.stock import Stock
from planner.problem import GoalSpec
from planner.table import Floats, Ints

MOST_STATES = 20_000_000
MOST_STEPS = 200_000_000  # the products over nodes grow with the square of their number; this takes seconds
_TOLERANCE = 1e-9


class Best(NamedTuple):
    """Result: optimal goal values, infeasible, or too large to enumerate."""

    status: Literal["optimal", "infeasible", "too_large"]
    values: tuple[float, ...] = ()


def most_value(stock: Stock, sizes: Ints, value: Floats) -> Floats:
    """Return the most value carried with exactly d devices, for d = 0 … all; −∞ where d cannot be reached.

    Args:
        stock: the nodes.
        sizes: devices per replica of each column, shape (C,).
        value: value per replica of each column, shape (C,).
    """
    whole = stock.devices_per_node
    inside, spanning = sizes <= whole, sizes > whole
    full = stock.nodes.count(whole)
    node = _within_node(whole, sizes[inside], value[inside])
    wide = {size // whole: float(value[sizes == size].max()) for size in sizes[spanning].tolist()}
    best = deque([np.zeros(1)], maxlen=max(wide, default=1))  # with 0, 1 … full nodes; the last few are enough
    for count in range(1, full + 1):
        reached = np.full(count * whole + 1, -np.inf)
        _raise_to(reached, 0, _max_plus(best[-1], node))
        for span, worth in wide.items():
            if span <= count:
                _raise_to(reached, span * whole, best[-span] + worth)
        best.append(reached)
    total = best[-1]
    for rest in (n for n in stock.nodes if n != whole):
        total = _max_plus(total, _within_node(rest, sizes[inside], value[inside]))
    return total


def _raise_to(target: Floats, offset: int, candidate: Floats) -> None:
    part = target[offset : offset + len(candidate)]
    np.maximum(part, candidate, out=part)


def _within_node(capacity: int, sizes: Ints, value: Floats) -> Floats:
    best = np.full(capacity + 1, -np.inf)
    best[0] = 0.0
    for used in range(1, capacity + 1):
        fitting = sizes <= used
        if fitting.any():
            best[used] = np.max(best[used - sizes[fitting]] + value[fitting])
    return best


def _max_plus(left: Floats, right: Floats) -> Floats:
    result = np.full(len(left) + len(right) - 1, -np.inf)
    for shift, worth in enumerate(right.tolist()):
        if worth > -np.inf:
            _raise_to(result, shift, left + worth)
    return result


def best(
    stocks: Mapping[str, Stock],
    columns: Mapping[str, tuple[Ints, Floats]],
    demand: float | None,
    goals: Sequence[GoalSpec],
    weights: Mapping[str, Mapping[str, float]],
) -> Best:
    """Return the optimal goal values in order.

    Args:
        stocks: nodes per inventory.
        columns: (devices, value) of the columns of each inventory.
        demand: value to reach, or None for "as much as fits" (then something must be deployed).
        goals: in order of importance; requests and tokens are multiples of the value.
        weights: per metric, what one device of an inventory adds (devices, cost, power), and under
            ``requests`` and ``tokens``, the multiple of the value, for any inventory.
    """
    steps = sum(stock.nodes.count(stock.devices_per_node) ** 2 * stock.devices_per_node for stock in stocks.values())
    if steps > MOST_STEPS:
        return Best("too_large")
    curves = {name: most_value(stock, *columns[name]) for name, stock in stocks.items()}
    if np.prod([float(len(curve)) for curve in curves.values()]) > MOST_STATES:
        return Best("too_large")
    value: Floats = np.zeros(1)
    totals = {goal.metric: np.zeros(1) for goal in goals if goal.sense == "minimize"}
    for name, curve in curves.items():
        value = (value[:, None] + curve[None, :]).ravel()
        used = np.arange(len(curve), dtype=np.float64)
        totals = {m: (t[:, None] + weights[m][name] * used[None, :]).ravel() for m, t in totals.items()}
    enough = value >= demand * (1 - _TOLERANCE) if demand is not None else value > 0
    if not enough.any():
        return Best("infeasible")
    found = []
    for goal in goals:
        sign = 1.0 if goal.sense == "maximize" else -1.0
        of = sign * (
            totals[goal.metric] if goal.sense == "minimize" else value * next(iter(weights[goal.metric].values()))
        )
        top = float(of[enough].max())
        enough = enough & (of >= top - _TOLERANCE * max(1.0, abs(top)))
        found.append(sign * top)
    return Best("optimal", tuple(found))
