"""From a case and its columns to the numbers a formulation needs."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from planner.catalog import Case
from planner.columns.pairs import Needs, routes_of
from planner.columns.prune import prune
from planner.columns.setting import Setting, settings
from planner.decode import stocks
from planner.levels import STEP, level
from planner.plan import LATENCIES
from planner.posterior import Posterior
from planner.problem import GoalSpec, LinkLimit, Load, PlanningProblem, Routes, no_routes
from planner.schema.scenario import Scenario
from planner.table import ColumnTable, Floats, codes

_ROUNDING = 1e-9
Pairs = Callable[[ColumnTable, Needs, Mapping[str, float]], Routes]


def planning_problem(case: Case, table: ColumnTable) -> PlanningProblem:
    """Return the problem over all columns of a table; pairs are made once it is reduced."""
    scenario = case.scenario
    return PlanningProblem(
        table=table,
        routes=no_routes(),
        loads=tuple(
            Load(
                workload=name,
                kind="in_flight" if workload.requests.kind == "concurrency" else "rate",
                demand=None if workload.requests.kind == "max" else workload.requests.value,
                output_tokens=workload.output_tokens,
            )
            for name, workload in scenario.workloads.items()
        ),
        stocks=stocks(case),
        goals=goals(scenario),
        limits=plan_limits(scenario),
        links=[LinkLimit(link.between, link.bandwidth) for link in scenario.links],
        link_load=Posterior.of(case.calibration).textbook.scheduling.link_load_limit.value,
    )


def goals(scenario: Scenario) -> list[GoalSpec]:
    """Return the goals of a scenario in order."""
    return [
        GoalSpec(goal.metric, goal.sense, tuple((str(name), weight) for name, weight in (goal.weighted or {}).items()))
        for goal in scenario.objective
    ]


def plan_limits(scenario: Scenario) -> dict[str, float]:
    """Return the limits of the whole plan by metric."""
    asked = {name: getattr(scenario.limits, name) for name in ("devices", "cost", "power")}
    return {name: float(most) for name, most in asked.items() if most is not None}


def reduced(case: Case, problem: PlanningProblem, priced: Sequence[Setting] = ()) -> PlanningProblem:
    """Return the problem over the columns that an optimal plan may need, with the pairs among them.

    ``priced``: the settings its columns were priced in, those of the case where not given.
    Where a goal reads latencies, those are the columns that a plan may need under any limit of them: of every step that
    they count in (``levels.level``), the columns and pairs of the problem with that limit.
    """
    limited = any(workload.slo.ttft is not None for workload in case.scenario.workloads.values())
    every = priced or settings(case)
    return reduced_by(problem, lambda table, needs, most: routes_of(every, table, needs, most), ttft_limited=limited)


def reduced_within(case: Case, problem: PlanningProblem, most: Mapping[str, float]) -> PlanningProblem:
    """Return the problem over what a plan may need that uses no column or pair beyond some latencies [s].

    Those limits come on top of the scenario's; its goals read no latency.
    """
    limited = "ttft" in most or any(workload.slo.ttft is not None for workload in case.scenario.workloads.values())
    every = settings(case)
    able = np.ones(len(problem.table), dtype=bool)
    for name, limit in most.items():
        able &= problem.table.figures[name] <= limit
    table = problem.table.take(np.nonzero(able)[0])
    return _within(problem, table, most, lambda *asked: routes_of(every, *asked), ttft_limited=limited)


def reduced_by(problem: PlanningProblem, pairs: Pairs, *, ttft_limited: bool) -> PlanningProblem:
    """Reduce a problem whose pairs a function finds: of a table, for what is read of them, within limits [s]."""
    latencies = [name for name in LATENCIES if name in problem.metrics]
    if not latencies:
        return _within(problem, problem.table, {}, pairs, ttft_limited=ttft_limited)
    rows = np.arange(len(problem.table), dtype=np.float64)
    numbered = dataclasses.replace(problem.table, figures={**problem.table.figures, "row": rows})
    parts = []
    for steps in itertools.product(*(_steps(problem.table, name) for name in latencies)):
        most = dict(zip(latencies, steps, strict=True))
        able = np.logical_and.reduce([numbered.figures[name] <= limit for name, limit in most.items()])
        limited = ttft_limited or "ttft" in most
        parts.append(_within(problem, numbered.take(np.nonzero(able)[0]), most, pairs, ttft_limited=limited))
    return _united(problem, parts)


def _steps(table: ColumnTable, name: str) -> Floats:
    """Return the steps in which a latency of the columns may count, and no limit for slower pairs."""
    values = table.figures[name][table.figures[name] > 0]
    if not len(values):
        return np.array([np.inf])
    least, most = float(level(values.min())), float(level(2 * values.max()))
    steps = least * STEP ** np.arange(round(np.log(most / least) / np.log(STEP)) + 1)
    return np.append(steps * (1 + _ROUNDING), np.inf)


def _within(
    problem: PlanningProblem, table: ColumnTable, most: Mapping[str, float], pairs: Pairs, *, ttft_limited: bool
) -> PlanningProblem:
    """Reduce the problem over some of its columns, with further limits of latencies [s]."""
    value = problem._replace(table=table).value
    ttft = "ttft" if "ttft" in most else "ttft_allotted"
    kept = prune(table, value, problem.stocks, ttft_limited=ttft_limited, ttft=ttft)
    in_flight = any(load.kind == "in_flight" for load in problem.loads)
    routes = pairs(kept, Needs(problem.stocks, ttft_limited, bool(problem.links), in_flight), most)
    # Parts without a partner are of no use.
    used = np.unique(np.concatenate([np.nonzero(kept.where(role="mixed"))[0], routes.prefill, routes.decode]))
    place = np.zeros(len(kept), dtype=np.int64)
    place[used] = np.arange(len(used))
    routes = routes._replace(prefill=place[routes.prefill], decode=place[routes.decode])
    return problem._replace(table=kept.take(used), routes=routes)


def _united(problem: PlanningProblem, parts: Sequence[PlanningProblem]) -> PlanningProblem:
    """Put the columns and pairs of several reductions together, each once."""
    own = [part.table.figures["row"].astype(np.int64) for part in parts]
    used = np.unique(np.concatenate(own))
    prefill, decode = (
        np.concatenate([rows[getattr(part.routes, side)] for rows, part in zip(own, parts, strict=True)])
        for side in ("prefill", "decode")
    )
    seconds, size, ttft, tpot = (
        np.concatenate([getattr(part.routes, name) for part in parts]) for name in ("seconds", "bytes", "ttft", "tpot")
    )
    _, first = np.unique(codes([prefill, decode]), return_index=True)
    here, there = (np.searchsorted(used, side).astype(np.int64) for side in (prefill, decode))
    routes = Routes(here, there, seconds, size, ttft, tpot).take(first)
    return problem._replace(table=problem.table.take(used), routes=routes)


def is_simple(problem: PlanningProblem) -> bool:
    """Tell whether devices per inventory and the load carried are all that the goals and rows read.

    Then dynamic programming finds the best plan without a solver (``planner.verify.optimum``).
    """
    roles = {pool.role for pool in problem.table.pools}
    used = {problem.table.pools[p].role for p in np.unique(problem.table.pool)}
    whole = all(len(stock.domains) == 1 for stock in problem.stocks.values())
    plain = not any(goal.weights or goal.metric in LATENCIES for goal in problem.goals)
    plain = plain and not (problem.limits or problem.fixed or problem.asked)
    return roles >= used and used <= {"mixed"} and len(problem.loads) == 1 and plain and whole
