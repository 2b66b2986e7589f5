"""What passes between parts of pairs, re-checked with figures evaluated anew."""

from collections.abc import Iterator, Sequence

import numpy as np

from planner.problem import Flow, PlanningProblem

_TOLERANCE = 1e-6


def flow_violations(problem: PlanningProblem, replicas: Sequence[int], flows: Sequence[Flow]) -> list[str]:
    """Return what is wrong with flows between columns, given their replicas; empty if nothing is.

    Every flow needs a pair that works; no part does more than its replicas can, and no link carries more than it may.
    """
    routes = problem.routes
    at = {(p, d): r for r, (p, d) in enumerate(zip(routes.prefill.tolist(), routes.decode.tolist(), strict=True))}
    apart = [f for f in flows if (f.prefill, f.decode) not in at]
    if apart:
        label = problem.table.label
        return [
            f"routes: {label(f.prefill)} cannot pass requests to {label(f.decode)} within the limits" for f in apart
        ]
    used = [(flow, at[flow.prefill, flow.decode]) for flow in flows]
    return [*_rates(problem, replicas, flows), *_rank_links(problem, replicas, used), *_pool_links(problem, used)]


def _rates(problem: PlanningProblem, replicas: Sequence[int], flows: Sequence[Flow]) -> Iterator[str]:
    through = np.zeros(len(problem.table))
    for flow in flows:
        if flow.rate < 0:
            yield f"routes: {flow.rate:g} request/s is negative"
        through[flow.prefill] += flow.rate
        through[flow.decode] += flow.rate
    able = problem.table.figures["rate"] * np.array(replicas, dtype=np.float64)
    for column in np.nonzero((through > 0) & (through > able * (1 + _TOLERANCE)))[0].tolist():
        label = problem.table.label(column)
        yield f"routes: {through[column]:.6g} request/s pass through {label}, which can do {able[column]:.6g}"


def _rank_links(problem: PlanningProblem, replicas: Sequence[int], used: Sequence[tuple[Flow, int]]) -> Iterator[str]:
    busy = np.zeros(len(problem.table))
    for flow, route in used:
        busy[[flow.prefill, flow.decode]] += flow.rate * problem.routes.seconds[route]
    lanes = problem.table.axes["attention_dp"] * np.array(replicas, dtype=np.float64)
    for column in np.nonzero((busy > 0) & (busy > problem.link_load * lanes * (1 + _TOLERANCE)))[0].tolist():
        yield f"routes: links of {problem.table.label(column)} are busy {busy[column] / lanes[column]:.0%} of the time"


def _pool_links(problem: PlanningProblem, used: Sequence[tuple[Flow, int]]) -> Iterator[str]:
    table = problem.table
    for link in problem.links:
        total = 0.0
        for flow, route in used:
            ends = [table.pools[table.pool[column]].inventory for column in (flow.prefill, flow.decode)]
            total += flow.rate * float(problem.routes.bytes[route]) if sorted(ends) == sorted(link.between) else 0.0
        if total > link.bandwidth * (1 + _TOLERANCE):
            yield f"routes: {total:.6g} byte/s between {' and '.join(link.between)}, at most {link.bandwidth:g}"
