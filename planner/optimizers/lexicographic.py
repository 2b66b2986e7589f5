"""Goals in order of importance: solve for the first, hold it, solve for the next."""

import itertools
import time
from collections.abc import Callable

import numpy as np

from planner.milp.model import INFINITY, Goal, Milp, Objective, Row, SolveResult, Termination, Weighted, row
from planner.table import Floats

# solve(problem with one goal, seconds left, relative gap)
Solve = Callable[[Milp, float, float], SolveResult]
_EXACT = 1e-6  # relative gap up to which a bound proves an optimum
_HELD = 1e-8  # how much of an earlier goal a later one may cost, relative
_ROUNDING = 4e-9  # and absolute: flows are right to 1e-9 in each of a few rows


def lexicographic(milp: Milp, solve: Solve, time_limit: float, relative_gap: float, held: float = _HELD) -> SolveResult:
    """Return the best point by the goals in order; value and bound are those of the first goal.

    The parts of a weighted goal are solved first, each alone, for the best values that they are divided by. The
    relative gap applies to the first goal only. When time runs out in a later stage, the point of the stage before is
    kept: it is as good in every goal up to there, and the termination names the limit in its notes. ``held``:
    how much of an earlier goal a later one may cost, relative to its value.
    """
    deadline = time.monotonic() + time_limit
    best: dict[str, float] = {}
    for goal in milp.objectives:
        for part in _unsettled(goal, best):
            alone = solve(milp.with_objective(part), deadline - time.monotonic(), 0.0)
            if alone.value is None or alone.termination.reason == "stopped":
                return alone._replace(point=None, value=None, bound=None)
            best[part.name] = alone.value
    goals = [goal.combined(best) if isinstance(goal, Weighted) else goal for goal in milp.objectives]
    first = solve(milp.with_objective(goals[0]), deadline - time.monotonic(), relative_gap)
    if first.point is None or first.termination.reason == "stopped":
        return first._replace(best=best)
    point, problem, notes = first.point, milp, first.notes
    settled: list[Objective] = []
    for earlier, goal in itertools.pairwise(goals):
        problem = problem.with_row(_hold(earlier, point, held))
        settled.append(earlier)
        if any(_same_order(goal, other) for other in settled):
            continue
        result = solve(problem.with_objective(goal), deadline - time.monotonic(), 0.0)
        if result.point is None or result.termination.reason != "optimal":
            notes = (*notes, f"ties not settled beyond '{earlier.name}': {result.termination.reason}")
            break
        point = result.point
    value, ended = goals[0].value(point), first.termination
    size = max(abs(value), 1.0) if isinstance(milp.objectives[0], Weighted) else abs(value)
    if ended.reason == "optimal" and first.bound is not None and abs(first.bound - value) > _EXACT * size:
        ended = Termination("within_gap")  # CP-SAT proves what it proves to its own scale of integers
    return SolveResult(ended, point, value, first.bound, first.solver, notes, best)


def _unsettled(goal: Goal, best: dict[str, float]) -> list[Objective]:
    """Return the parts of a weighted goal whose own best value is not known yet."""
    parts = [part for part, _ in goal.parts] if isinstance(goal, Weighted) else []
    return [part for part in parts if part.name not in best]


def _same_order(goal: Objective, other: Objective) -> bool:
    """Tell whether one goal is a positive multiple of another, as cost is of devices with one price."""
    size, least = float(np.abs(other.coefficients).max(initial=0.0)), float(np.abs(goal.coefficients).max(initial=0.0))
    if goal.sense != other.sense or not size or not least:
        return False
    return bool(np.allclose(goal.coefficients / least, other.coefficients / size, rtol=1e-12, atol=0.0))


def _hold(goal: Objective, point: Floats, held: float) -> Row:
    value = goal.value(point)
    slack = max(held * abs(value), _ROUNDING)
    bounds = (value - slack, INFINITY) if goal.sense == "maximize" else (-INFINITY, value + slack)
    return row(f"held[{goal.name}]", goal.coefficients, bounds, goal.unit, f"{goal.name} stays at its best")
