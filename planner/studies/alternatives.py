"""The best plans next to the best one, each proven to be next, and what each trades."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from planner.catalog import Case
from planner.columns.enumerate import grid_table
from planner.explain.trades import trades
from planner.explanation import Alternative, Alternatives
from planner.milp.fewer import with_fewer
from planner.milp.model import INFINITY, Milp, Weighted, row
from planner.pipeline import best_plan
from planner.plan import Deployment, Plan
from planner.problems import planning_problem, reduced
from planner.studies.resolve import checked
from planner.table import DECIDED, ColumnTable, Configuration, Ints, codes

# What does not tell plans apart: how hard replicas are run, and for ``shape`` how their engine is set.
_LOAD = ("mean_running", "prefill_utilisation")
_SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "block_size", "prefill_policy", "overlaps")
IGNORED = {"shape": (*_LOAD, *_SETTINGS), "settings": _LOAD}
_ROUNDING = 1e-9


def alternatives(
    case: Case,
    plan: Plan,
    count: int = 5,
    within: float | None = None,
    distinct: str = "shape",
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Alternatives:
    """Return the best plans in order, ``plan`` the first.

    Each is the best, by all goals and tie-breaks, of those that do not contain a plan before it: that have fewer
    replicas of at least one of its configurations. So a plan with replicas added to a better one does not count.

    Args:
        case: the case.
        plan: its best plan.
        count: how many to return at most, the best among them.
        within: how much worse than the best the first goal may be, relative; None for any distance.
        distinct: what sets two plans apart: shape, how the model is split, or settings, those of the engine as well.
        on_stage: is told what is being done.
    """
    on_stage("evaluating configurations")
    table = grid_table(case, within_limits=True)
    identities, number = _identities(table, distinct)
    found, ended = [plan], ""
    while len(found) < count:
        on_stage(f"looking for plan {len(found) + 1}")
        parts = [_parts(one, distinct) for one in found]
        known = {part: mark for mark, part in enumerate(dict.fromkeys(p for mine in parts for p in mine), start=1)}
        # Columns of plans before are told apart; the others may stand in for each other: what they stand in for is in
        # no plan before, so that a plan with them is left out only if the one they stand in for is.
        marks = np.array([known.get(identity, 0) for identity in identities], dtype=np.int64)[number]
        problem = planning_problem(case, dataclasses.replace(table, marks=marks))
        small = reduced(case, problem)
        before = [
            [(np.nonzero(small.table.marked == known[p])[0].tolist(), n) for p, n in one.items()] for one in parts
        ]
        restrict = functools.partial(_beyond, before=before, plan=plan, within=within)
        other, result = best_plan(case, problem, small, time.perf_counter(), restrict, plan.objective.best)
        if not other.deployments:
            ended = result.termination.reason
            break
        found.append(checked(case, other, problem, small))
    return Alternatives(
        name=plan.scenario.name,
        objective=f"{plan.objective.sense} {plan.objective.metric}",
        distinct=distinct,
        plans=tuple(Alternative(rank, one, trades(plan, one)) for rank, one in enumerate(found, start=1)),
        complete=ended == "infeasible",
        detail=_detail(found, ended, within),
    )


def _identities(table: ColumnTable, distinct: str) -> tuple[list[Configuration], Ints]:
    """Return what sets columns apart, and the number of it for every column, shape (C,)."""
    ignored = IGNORED[distinct]
    keys = codes([table.pool, *(table.axes[axis] for axis in DECIDED if axis not in ignored)])
    _, first, number = np.unique(keys, return_index=True, return_inverse=True)
    return [_identity(table.configuration(int(column)), distinct) for column in first], number


def _identity(configuration: Configuration, distinct: str) -> Configuration:
    left_out: dict[str, Any] = dict.fromkeys(IGNORED[distinct], 0)
    return configuration._replace(**left_out)


def _parts(plan: Plan, distinct: str) -> dict[Configuration, int]:
    """Return how many replicas a plan has of what sets plans apart."""
    found: dict[Configuration, int] = {}
    for d in plan.deployments:
        if isinstance(d, Deployment):
            part = _identity(d.configuration(), distinct)
            found[part] = found.get(part, 0) + d.replicas
    return found


def _beyond(
    milp: Milp, before: Sequence[Sequence[tuple[Sequence[int], int]]], plan: Plan, within: float | None
) -> Milp:
    """Return a problem without the plans before, and within a distance of the best."""
    goals = [goal.combined(plan.objective.best) if isinstance(goal, Weighted) else goal for goal in milp.objectives]
    milp = milp._replace(objectives=tuple(goals))
    if within is not None and plan.objective.value is not None:
        best, first = plan.objective.value, goals[0]
        far = within * abs(best) + _ROUNDING
        bounds = (best - far, INFINITY) if first.sense == "maximize" else (-INFINITY, best + far)
        meaning = f"{first.name} within {within:.2%} of the best"
        milp = milp.with_row(row(f"within[{first.name}]", first.coefficients, bounds, first.unit, meaning))
    for number, parts in enumerate(before, start=1):
        milp = with_fewer(milp, parts, str(number))
    return milp


def _detail(found: Sequence[Plan], ended: str, within: float | None) -> str:
    """Say what is proven of the list, and how complete it is."""
    far = "" if within is None else f" within {within * 100:.4g}% of the best"
    loose = [str(rank) for rank, plan in enumerate(found, start=1) if plan.termination.reason != "optimal"]
    proof = "each is proven to be the next best"
    if loose:
        proof += f", but for {', '.join(loose)}: the search for them ended before the proof"
    if ended == "infeasible":
        return f"{proof}; there are no others{far}"
    if ended:
        return f"{proof}; the search for another ended: {ended}"
    return f"{proof}; there may be more{far}"
