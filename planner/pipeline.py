"""Wires the rooms together: solve a case, price configurations, verify a plan."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formulations import FORMULATIONS
from planner.catalog import Case, scenario_from_data
from planner.columns import enumerate as columns
from planner.columns.legality import limits
from planner.columns.prune import prune
from planner.constants import MILLISECONDS_PER_SECOND
from planner.decode import Claim, decode, statistics_of, stocks
from planner.errors import InternalError
from planner.explain.limits import limits_of
from planner.explain.shortfall import latency_shortfall, load_shortfall
from planner.milp.model import SolveResult, Termination
from planner.optimizers.lexicographic import lexicographic
from planner.plan import Plan
from planner.problem import GoalSpec, PlanningProblem
from planner.report import Report
from planner.solvers import SOLVERS
from planner.table import ColumnTable, Floats, Ints, Rejection
from planner.verify import Evidence, Verdict, judge
from planner.verify import optimum as dynamic

OPTIMUM_NOT_RECOMPUTED = "too many devices to prove the optimum a second time; the solver's proof stands alone"
ATTENTION_DP_NOT_SEARCHED = (
    "latent attention is usually served with attention data parallelism, which this version does not search"
)
Stage = Callable[[str], None]


def _silent(stage: str) -> None:
    """Ignore progress."""


def solve(case: Case, on_stage: Stage = _silent) -> Report:
    """Find the best plan of a case, check it, and explain it.

    Infeasible and out-of-time are results: see ``report.plan.termination``.

    Raises:
        InternalError: the plan found fails its own verification.
    """
    started = time.perf_counter()
    on_stage("evaluating configurations")
    table = columns.grid_table(case)
    problem = planning_problem(case, table)
    pruned = problem._replace(table=prune(table, problem.value))
    on_stage("optimising")
    left = case.scenario.solver.time_limit - (time.perf_counter() - started)
    replicas, result = _optimise(case, pruned, left)
    claim = Claim(result.termination, result.bound, _shortfall(case, problem, result.termination.reason))
    statistics = statistics_of(table, len(pruned.table), result.solver, time.perf_counter() - started)
    plan = decode(case, pruned.table, replicas, claim, statistics)
    on_stage("verifying")
    verdict = judge(plan, _evidence(case, plan, table))
    if verdict.reasons:
        msg = "the plan fails its own verification; please report this:\n" + "\n".join(verdict.reasons)
        raise InternalError(msg)
    plan = plan._replace(statistics=plan.statistics._replace(wall_s=time.perf_counter() - started))
    return Report(
        plan=plan,
        asked=_asked(problem),
        limits=limits_of(plan, limits(case.workload)),
        rejected=(*table.rejected, *_missed_limits(case, table)),
        notes=_notes(case, result, verdict),
    )


def _notes(case: Case, result: SolveResult, verdict: Verdict) -> tuple[str, ...]:
    """Say what a reader must know to trust the plan as far as it goes, and no further."""
    latent = {"mla", "sparse_mla"} & set(case.architecture.attention_layers)
    return (
        *result.notes,
        *([] if verdict.optimum_proven else [OPTIMUM_NOT_RECOMPUTED]),
        *([ATTENTION_DP_NOT_SEARCHED] if latent else []),
    )


def planning_problem(case: Case, table: ColumnTable) -> PlanningProblem:
    """Return the numbers a formulation needs."""
    demand = case.workload.requests
    return PlanningProblem(
        table=table,
        workload=case.workload_name,
        load="in_flight" if demand.kind == "concurrency" else "rate",
        demand=None if demand.kind == "max" else demand.value,
        output_tokens=case.workload.output_tokens,
        stocks=stocks(case),
        goals=[GoalSpec(goal.metric, goal.sense) for goal in case.scenario.objective],
    )


def verify_plan(plan: Plan, folder: Path) -> Verdict:
    """Judge a plan from its scenario and the specifications it names.

    Raises:
        InputError: the scenario inside the plan cannot be loaded.
    """
    resolved = {key: value for key, value in plan.scenario.resolved.items() if key != "specifications"}
    case = scenario_from_data(resolved, folder=folder, origin="scenario.resolved")
    changed = _changed_specifications(case, plan.scenario.resolved.get("specifications"))
    if changed:
        return Verdict(tuple(changed))
    return judge(plan, _evidence(case, plan, columns.grid_table(case)))


def _optimise(case: Case, problem: PlanningProblem, time_limit: float) -> tuple[list[int], SolveResult]:
    none = [0] * len(problem.table)
    if time_limit <= 0:
        return none, SolveResult(Termination("stopped", "time"))
    options = case.scenario.solver
    encoded = FORMULATIONS["serving"].build(problem)
    result = lexicographic(encoded.milp, SOLVERS[options.name].solve, time_limit, options.relative_gap)
    return (none if result.point is None else encoded.replicas(result.point)), result


def _asked(problem: PlanningProblem) -> str:
    return "" if problem.demand is None else f"{problem.demand:g} {_load_unit(problem)}"


def _load_unit(problem: PlanningProblem) -> str:
    return "request/s" if problem.load == "rate" else "requests in flight"


def _missed_limits(case: Case, table: ColumnTable) -> Iterator[Rejection]:
    """Count the legal columns that miss each latency limit; one column may miss several."""
    for name, limit in limits(case.workload).items():
        missed = int((table.figures[name] > limit).sum())
        if missed:
            yield Rejection(name, f"miss the {name} limit", missed, structural=False)


def _shortfall(case: Case, problem: PlanningProblem, reason: str) -> tuple[str, ...]:
    """Say what an infeasible case could reach instead."""
    if reason != "infeasible":
        return ()
    slo = limits(case.workload)
    if not problem.table.meets_limits.any():
        return tuple(latency_shortfall(problem.table, slo))
    reach = {"": _most_load(problem, problem.table.meets_limits)}
    for name in slo:
        others = [problem.table.figures[other] <= limit for other, limit in slo.items() if other != name]
        reach[name] = _most_load(problem, np.logical_and.reduce(others, initial=True))
    return tuple(load_shortfall(float(problem.demand or 0), reach, _load_unit(problem)))


def _most_load(problem: PlanningProblem, allowed: NDArray[np.bool_]) -> float:
    """Return the most load that the allowed columns, shape (C,), carry on the whole inventory."""
    curves = (dynamic.most_value(stock, *_columns_of(problem, name, allowed)) for name, stock in problem.stocks.items())
    return sum(float(curve.max()) for curve in curves)


def _evidence(case: Case, plan: Plan, table: ColumnTable) -> Evidence:
    """Evaluate a plan's configurations one by one, and the best of the whole grid by dynamic programming."""
    priced, refused = columns.price(case, [d.configuration() for d in plan.deployments])
    problem = planning_problem(case, table)
    ended = Termination(plan.termination.reason, plan.termination.limit)
    claim = Claim(ended, plan.objective.bound, _shortfall(case, problem, ended.reason))
    kept = len(prune(table, problem.value))
    statistics = statistics_of(table, kept, plan.statistics.solver, plan.statistics.wall_s)
    replicas = [d.replicas for i, d in enumerate(plan.deployments) if i not in refused]
    rebuilt = decode(case, priced, replicas, claim, statistics)
    return Evidence(
        digest=rebuilt.scenario.sha256,
        rebuilt=rebuilt,
        refused={plan.deployments[i].name: f"{r.meaning} ({r.detail})" for i, r in refused.items()},
        limits={f"{name}_ms": s * MILLISECONDS_PER_SECOND for name, s in limits(case.workload).items()},
        stocks=problem.stocks,
        load=float(priced.figures[problem.load] @ np.array(replicas, dtype=np.float64)),
        demand=problem.demand,
        optimum=_optimum(case, problem),
        allowed_gap=case.scenario.solver.relative_gap,
    )


def _optimum(case: Case, problem: PlanningProblem) -> dynamic.Best:
    """Return the best goal values over every column that meets the limits, found without a solver."""
    columns_of = {name: _columns_of(problem, name, problem.table.meets_limits) for name in problem.stocks}
    items, hardware = case.scenario.inventory, case.hardware
    weights: dict[str, dict[str, Any]] = {
        "devices": dict.fromkeys(items, 1.0),
        "cost": {name: item.price for name, item in items.items()},
        "power": {name: power.value if (power := hardware[name].power) else None for name in items},
        "requests": dict.fromkeys(items, 1.0),
        "tokens": dict.fromkeys(items, problem.output_tokens),
    }
    return dynamic.best(problem.stocks, columns_of, problem.demand, problem.goals, weights)


def _changed_specifications(case: Case, recorded: object) -> list[str]:
    """Name the specifications that are no longer what the plan was made from."""
    known = recorded if isinstance(recorded, list) else []
    return [
        f"{s.kind} '{s.name}' is not the one this plan was made from: solve again"
        for s in case.specifications
        if s._asdict() not in known
    ]


def _columns_of(problem: PlanningProblem, inventory: str, allowed: NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """Return devices and value of the allowed columns of an inventory."""
    mine = allowed & problem.table.of(inventory)
    return problem.table.figures["devices"][mine].astype(np.int64), problem.value[mine]
