"""A problem as if any two parts made a pair and caches moved at once: small, and no plan of the real one is better."""

import dataclasses

import numpy as np

from planner.problem import PlanningProblem, Routes
from planner.table import ColumnTable, Ints


def fastest_of_size(problem: PlanningProblem) -> Ints:
    """Return, of the columns of one role and size in one place, one that carries as much as any of them."""
    order, first, _ = _by_size(problem)
    return order[first]


def best_of_size(problem: PlanningProblem) -> ColumnTable:
    """Return ``fastest_of_size`` in their order; a part of a pair is given the longest stay of all of its size, too.

    That is exact of replicas that work alone.
    """
    order, first, group = _by_size(problem)
    f = problem.table.figures
    stay = np.zeros(len(first))
    np.maximum.at(stay, group, (f["in_flight"] / f["rate"])[order])
    best = problem.table.take(order[first])
    in_flight = np.where(best.where(role="mixed"), best.figures["in_flight"], best.figures["rate"] * stay)
    return dataclasses.replace(best, figures={**best.figures, "in_flight": in_flight})


def _by_size(problem: PlanningProblem) -> tuple[Ints, Ints, Ints]:
    """Return columns by place and size, the fastest first; where each such group starts; and the group of each."""
    table, f = problem.table, problem.table.figures
    places = [(pool.workload, pool.inventory, pool.engine, pool.engine_version, pool.role) for pool in table.pools]
    place = np.array([places.index(key) for key in places], dtype=np.int64)[table.pool]
    value = np.where(table.where(role="mixed"), problem.value, f["rate"])
    order = np.lexsort((-value, f["devices"], place))
    keys = np.stack([place[order], f["devices"][order].astype(np.int64)])
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (np.diff(keys, axis=1) != 0).any(axis=0)
    return order, np.nonzero(starts)[0], np.cumsum(starts) - 1


def every_pair(table: ColumnTable) -> Routes:
    """Return pairs of all parts that one engine could run for one workload, as if caches moved at once."""
    prefill, decode = (np.nonzero(table.where(role=role))[0] for role in ("prefill", "decode"))
    engines = [(pool.workload, pool.engine, pool.engine_version) for pool in table.pools]
    kind = np.array([engines.index(key) for key in engines], dtype=np.int64)[table.pool]
    i, j = np.nonzero(kind[prefill][:, None] == kind[decode][None, :])
    nothing = np.zeros(len(i))
    return Routes(prefill[i], decode[j], nothing, nothing, nothing, nothing)
