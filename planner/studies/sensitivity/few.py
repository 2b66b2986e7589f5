"""The best of few plans, all of them looked at: where one node holds every replica, that is quicker than to branch.

Only for problems whose pairs are as free as those of ``columns.optimistic``: any prefill replica serves any decode
replica of its workload and engine, so what passes through is the lesser of what both sides can do.
"""

import functools
from typing import NamedTuple

import numpy as np

from planner.problem import PlanningProblem
from planner.table import Floats, Ints

_MOST = 50_000  # plans, beyond which a solver is quicker
_TIE = 1e-9  # relative difference of goals that rounding makes
_SHORT = 1e-9  # share of a demand that rounding may leave unmet
_FEWEST = {"devices", "cost", "power"}


class Best(NamedTuple):
    """The best value of a first goal and the replicas of each column that have it, shape (C,); None without a plan."""

    found: tuple[float, Ints] | None


def best_of_few(problem: PlanningProblem) -> Best | None:
    """Return the best plan of a problem with free pairs by its first goal, then fewest devices and replicas.

    None where there are too many plans to look at, or more is read of one than rates and sizes.
    """
    if len(problem.stocks) != 1 or any(load.kind != "rate" for load in problem.loads):
        return None
    (stock,) = problem.stocks.values()
    if len(stock.nodes) != 1:
        return None
    plans = _plans(tuple(problem.table.figures["devices"].astype(int).tolist()), stock.devices)
    if plans is None:
        return None
    carried = {load.workload: _carried(problem, load.workload, plans) for load in problem.loads}
    able = np.logical_and.reduce(
        [
            carried[load.workload] >= load.demand * (1 - _SHORT) if load.demand else carried[load.workload] > 0
            for load in problem.loads
        ]
    )
    totals = {name: plans @ each for name, each in _per_replica(problem).items()}
    for metric, most in problem.limits.items():
        able &= totals[metric] <= most * (1 + _SHORT)
    if not able.any():
        return Best(None)
    metric = problem.goals[0].metric
    tokens = [load.output_tokens if metric == "tokens" else 1.0 for load in problem.loads]
    goal = totals[metric] if metric in _FEWEST else np.array(tokens) @ np.stack(list(carried.values()))
    worse = np.where(able, goal if metric in _FEWEST else -goal, np.inf)
    ties = np.nonzero(worse <= worse.min() + _TIE * abs(float(worse.min())))[0]
    first = ties[np.lexsort((plans[ties].sum(axis=1), totals["devices"][ties]))[0]]
    return Best((float(goal[first]), plans[first]))


def _per_replica(problem: PlanningProblem) -> dict[str, Floats]:
    f = problem.table.figures
    return {"devices": f["devices"], "cost": f["devices"] * f["price"], "power": f["devices"] * f["power"]}


def _carried(problem: PlanningProblem, workload: str, plans: Ints) -> Floats:
    """Return what each plan carries of a workload [request/s], shape (plans,)."""
    table = problem.table
    mixed = table.where(role="mixed", workload=workload)
    able: Floats = plans.astype(np.float64) @ np.where(mixed, table.figures["rate"], 0.0)
    for engine, version in {(pool.engine, pool.engine_version) for pool in table.pools}:
        sides = [
            plans @ np.where(
                table.where(role=role, workload=workload, engine=engine, engine_version=version),
                table.figures["rate"], 0.0,
            )
            for role in ("prefill", "decode")
        ]  # fmt: skip
        able = able + np.minimum(*sides)
    return able


@functools.lru_cache(maxsize=64)
def _plans(sizes: tuple[int, ...], devices: int) -> Ints | None:
    """Return all numbers of replicas of sizes that fit into some devices, shape (plans, sizes); None of too many."""
    plans = np.zeros((1, 0), dtype=np.int64)
    taken = np.zeros(1, dtype=np.int64)
    for size in sizes:
        most = (devices - taken) // size + 1
        if most.sum() > _MOST:
            return None
        number = np.concatenate([np.arange(n) for n in most.tolist()])
        plans = np.column_stack([np.repeat(plans, most, axis=0), number])
        taken = np.repeat(taken, most) + number * size
    return plans
