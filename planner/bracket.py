"""Best values of goals without looking at pairs one by one: what bounds them from outside is reached from inside.

A problem in which any two parts make a pair at once is small, and no plan of the real one is better; one without pairs
is small, too, and each of its plans is one of the real problem. Where both agree on the best value of a goal, that is
the best value of the real problem, whose pairs may be tens of thousands.
"""

import time
from collections.abc import Iterator

import numpy as np

from formulations import FORMULATIONS
from planner.columns.optimistic import best_of_size, every_pair
from planner.milp.model import Weighted
from planner.optimizers.lexicographic import Solve, hold
from planner.plan import LATENCIES
from planner.problem import PlanningProblem, no_routes

_MANY = 1000  # pairs from which on two small problems are quicker than the real one
_SAME = 1e-9  # relative: both are solved to this


def agreed(problem: PlanningProblem, solve: Solve, time_limit: float) -> tuple[float, ...]:
    """Return the best values of the first goals that are proven so, never of all; often none.

    None where certain columns are asked for, or so many replicas of them: neither small problem has them all.

    Args:
        problem: a reduced problem, whose goals are held in order.
        solve: the solver of both problems.
        time_limit: seconds both may take.
    """
    if len(problem.routes.prefill) < _MANY or set(LATENCIES) & set(problem.metrics) or problem.fixed or problem.asked:
        return ()
    return tuple(_agreed(problem, solve, time.monotonic() + time_limit))


def _agreed(problem: PlanningProblem, solve: Solve, deadline: float) -> Iterator[float]:
    best = best_of_size(problem)
    alone = problem.table.take(np.nonzero(problem.table.where(role="mixed"))[0])
    outer, inner = (
        FORMULATIONS["serving"].build(problem._replace(table=table, routes=routes)).milp
        for table, routes in ((best, every_pair(best)), (alone, no_routes()))
    )
    for bounding, reaching in list(zip(outer.objectives, inner.objectives, strict=True))[:-1]:
        if isinstance(bounding, Weighted) or isinstance(reaching, Weighted):
            return
        ends = [
            solve(milp.with_objective(goal), deadline - time.monotonic(), 0.0)
            for milp, goal in ((outer, bounding), (inner, reaching))
        ]
        bound, value = (end.value if end.termination.reason == "optimal" else None for end in ends)
        if bound is None or value is None or abs(bound - value) > _SAME * max(abs(bound), abs(value)):
            return
        yield value
        outer, inner = outer.with_row(hold(bounding, bound)), inner.with_row(hold(reaching, value))
