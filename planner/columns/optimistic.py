"""A problem as if any two parts made a pair and caches moved at once: small, and no plan of the real one is better."""

import dataclasses

import numpy as np

from planner.problem import PlanningProblem, Routes
from planner.table import ColumnTable


def best_of_size(problem: PlanningProblem) -> ColumnTable:
    """Return, of the columns of one role and size in one place, one that carries as much as any of them.

    That is exact of replicas that work alone; a part of a pair is given the best rate and the longest stay of all.
    """
    table, f = problem.table, problem.table.figures
    places = [(pool.workload, pool.inventory, pool.engine, pool.engine_version, pool.role) for pool in table.pools]
    place = np.array([places.index(key) for key in places], dtype=np.int64)[table.pool]
    mixed = table.where(role="mixed")
    value = np.where(mixed, problem.value, f["rate"])
    order = np.lexsort((-value, f["devices"], place))
    _, first, group = np.unique(
        np.stack([place[order], f["devices"][order].astype(np.int64)]), axis=1, return_index=True, return_inverse=True
    )
    stay = np.zeros(len(first))
    np.maximum.at(stay, group.ravel(), (f["in_flight"] / f["rate"])[order])
    best = table.take(order[first])
    in_flight = np.where(best.where(role="mixed"), best.figures["in_flight"], best.figures["rate"] * stay)
    return dataclasses.replace(best, figures={**best.figures, "in_flight": in_flight})


def every_pair(table: ColumnTable) -> Routes:
    """Return pairs of all parts that one engine could run for one workload, as if caches moved at once."""
    prefill, decode = (np.nonzero(table.where(role=role))[0] for role in ("prefill", "decode"))
    engines = [(pool.workload, pool.engine, pool.engine_version) for pool in table.pools]
    kind = np.array([engines.index(key) for key in engines], dtype=np.int64)[table.pool]
    i, j = np.nonzero(kind[prefill][:, None] == kind[decode][None, :])
    nothing = np.zeros(len(i))
    return Routes(prefill[i], decode[j], nothing, nothing, nothing, nothing)
