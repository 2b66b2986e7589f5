"""Cuts that leave a plan behind: what comes next has fewer of something that the plan has."""

from collections.abc import Sequence

import numpy as np

from planner.milp.model import INFINITY, Goal, Milp, Objective, Row, Variable, Weighted


def with_fewer(milp: Milp, plan: Sequence[tuple[Sequence[int], int]], name: str) -> Milp:
    """Return a problem without the points that have at least as many of everything as a plan.

    It leaves out the plan itself, and the plan with more added; a binary per part tells that there are fewer of it.

    Args:
        milp: the problem.
        plan: parts, each as integer variables and their sum in the plan.
        name: names the rows and variables.
    """
    variables, rows, first = list(milp.variables), list(milp.rows), len(milp.variables)
    for number, (columns, count) in enumerate(plan):
        most = sum(milp.variables[c].upper for c in columns)
        label = f"fewer[{name},{number}]"
        meaning = f"fewer than {count} of part {number} of plan {name}"
        variables.append(Variable(label, 0.0, 1.0, integer=True, meaning=meaning))
        # Σ n ≤ count − 1 where the binary is 1, else no more than there can be.
        parts = dict.fromkeys(sorted(columns), 1.0) | {first + number: most - (count - 1)}
        rows.append(Row(label, "fewer", parts, -INFINITY, most, "replica", meaning))
    some = {first + number: 1.0 for number in range(len(plan))}
    meaning = f"there are fewer of something that plan {name} has"
    rows.append(Row(f"another[{name}]", "another", some, 1.0, INFINITY, "part", meaning))
    goals = tuple(_longer(goal, len(variables)) for goal in milp.objectives)
    return Milp(tuple(variables), tuple(rows), goals)


def _longer(goal: Goal, count: int) -> Goal:
    """Return a goal over more variables, to which the new ones add nothing."""
    if isinstance(goal, Weighted):
        return goal._replace(parts=tuple((_padded(part, count), weight) for part, weight in goal.parts))
    return _padded(goal, count)


def _padded(objective: Objective, count: int) -> Objective:
    more = np.zeros(count - len(objective.coefficients))
    return objective._replace(coefficients=np.concatenate([objective.coefficients, more]))
