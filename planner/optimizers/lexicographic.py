"""Goals in order of importance: solve for the first, hold it, solve for the next."""

import itertools
import time
from collections.abc import Callable

import numpy as np

from planner.milp.model import INFINITY, Milp, Objective, Row, SolveResult, row
from planner.table import Floats

# solve(problem with one goal, seconds left, relative gap)
Solve = Callable[[Milp, float, float], SolveResult]
_HELD = 1e-9  # how much of an earlier goal a later one may cost, relative: rounding only


def lexicographic(milp: Milp, solve: Solve, time_limit: float, relative_gap: float) -> SolveResult:
    """Return the best point by the goals in order; value and bound are those of the first goal.

    The relative gap applies to the first goal only. When time runs out in a later stage, the point of the
    stage before is kept: it is as good in every goal up to there, and the termination names the limit in
    its notes.
    """
    deadline = time.monotonic() + time_limit
    first = solve(milp.with_objective(milp.objectives[0]), time_limit, relative_gap)
    if first.point is None or first.termination.reason == "stopped":
        return first
    point, problem, notes = first.point, milp, first.notes
    settled: list[Objective] = []
    for held, goal in itertools.pairwise(milp.objectives):
        problem = problem.with_row(_hold(held, point))
        settled.append(held)
        if any(_same_order(goal, earlier) for earlier in settled):
            continue
        result = solve(problem.with_objective(goal), deadline - time.monotonic(), 0.0)
        if result.point is None or result.termination.reason != "optimal":
            notes = (*notes, f"ties not settled beyond '{held.name}': {result.termination.reason}")
            break
        point = result.point
    value = milp.objectives[0].value(point)
    bound = value if first.termination.reason == "optimal" else first.bound
    return SolveResult(first.termination, point, value, bound, first.solver, notes)


def _same_order(goal: Objective, other: Objective) -> bool:
    """Tell whether one goal is a positive multiple of another, as cost is of devices with one price."""
    size, least = float(np.abs(other.coefficients).max(initial=0.0)), float(np.abs(goal.coefficients).max(initial=0.0))
    if goal.sense != other.sense or not size or not least:
        return False
    return bool(np.allclose(goal.coefficients / least, other.coefficients / size, rtol=1e-12, atol=0.0))


def _hold(goal: Objective, point: Floats) -> Row:
    value = goal.value(point)
    scale = max(1.0, abs(value))
    slack = _HELD
    bounds = (value / scale - slack, INFINITY) if goal.sense == "maximize" else (-INFINITY, value / scale + slack)
    return row(f"held[{goal.name}]", goal.coefficients / scale, bounds, goal.unit, f"{goal.name} stays at its best")
