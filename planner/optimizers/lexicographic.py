"""Goals in order of importance: solve for the first, hold it, solve for the next."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from planner.milp.model import INFINITY, Goal, Milp, Objective, Row, SolveResult, Termination, Weighted, row
from planner.table import Floats

# solve(problem with one goal, seconds left, relative gap)
Solve = Callable[[Milp, float, float], SolveResult]
_EXACT = 1e-6  # relative gap up to which a bound proves an optimum
_HELD = 1e-8  # how much of an earlier goal a later one may cost, relative
_ROUNDING = 4e-9  # and absolute: flows are right to 1e-9 in each of a few rows


def lexicographic(
    milp: Milp,
    solve: Solve,
    time_limit: float,
    relative_gap: float,
    held: float = _HELD,
    known: Sequence[float] = (),
) -> SolveResult:
    """Return the best point by the goals in order; value and bound are those of the first goal.

    The parts of a weighted goal are solved first, each alone, for the best values that they are divided by. The
    relative gap applies to the first goal only. When time runs out in a later stage, the point of the stage before is
    kept: it is as good in every goal up to there, and the termination names the limit in its notes. ``held``:
    how much of an earlier goal a later one may cost, relative to its value. ``known``: best values of the first goals,
    not of all, where these are proven already; they are held, and the goals after them are solved for.
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
    problem = milp
    for goal, value in zip(goals, known, strict=False):
        problem = problem.with_row(hold(goal, value, held))
    gap = 0.0 if known else relative_gap
    first = solve(problem.with_objective(goals[len(known)]), deadline - time.monotonic(), gap)
    if first.point is None or (first.termination.reason == "stopped" and not known):
        return first._replace(best=best)
    if known:
        late = (_unsettled_ties(goals[len(known) - 1], first),) if first.termination.reason != "optimal" else ()
        first = first._replace(termination=Termination("optimal"), bound=known[0], notes=(*first.notes, *late))
    point, notes = _settled(problem, goals, len(known), first, solve, held, deadline)
    value, ended = goals[0].value(point), first.termination
    size = max(abs(value), 1.0) if isinstance(milp.objectives[0], Weighted) else abs(value)
    if ended.reason == "optimal" and first.bound is not None and abs(first.bound - value) > _EXACT * size:
        ended = Termination("within_gap")  # CP-SAT proves what it proves to its own scale of integers
    return SolveResult(ended, point, value, first.bound, first.solver, notes, best)


def _settled(
    problem: Milp,
    goals: Sequence[Objective],
    solved: int,
    found: SolveResult,
    solve: Solve,
    held: float,
    deadline: float,
) -> tuple[Floats, tuple[str, ...]]:
    """Return the point once the goals after one that was solved are, too, and what was left open for want of time."""
    assert found.point is not None
    point, notes = found.point, found.notes
    for number in range(solved + 1, len(goals)):
        earlier, goal = goals[number - 1], goals[number]
        problem = problem.with_row(hold(earlier, earlier.value(point), held))
        if any(_same_order(goal, other) for other in goals[:number]):
            continue
        result = solve(problem.with_objective(goal), deadline - time.monotonic(), 0.0)
        if result.point is None or result.termination.reason != "optimal":
            return point, (*notes, _unsettled_ties(earlier, result))
        point = result.point
    return point, notes


def _unsettled_ties(goal: Objective, ended: SolveResult) -> str:
    return f"ties not settled beyond '{goal.name}': {ended.termination.reason}"


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


def hold(goal: Objective, value: float, held: float = _HELD) -> Row:
    """Return the row that keeps a goal at its best value, or as little worse as is held for rounding."""
    slack = max(held * abs(value), _ROUNDING)
    bounds = (value - slack, INFINITY) if goal.sense == "maximize" else (-INFINITY, value + slack)
    return row(f"held[{goal.name}]", goal.coefficients, bounds, goal.unit, f"{goal.name} stays at its best")
