"""What a plan is judged by: its configurations priced one by one, and the best there is, found a second way."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formulations import FORMULATIONS
from planner.baseline import compared
from planner.catalog import Case
from planner.certainty import certainty
from planner.columns import enumerate as columns
from planner.columns.legality import limits
from planner.columns.pairs import routes_of
from planner.columns.pricing import price
from planner.columns.setting import settings
from planner.constants import MILLISECONDS_PER_SECOND
from planner.decode import Choice, Claim, decode, statistics_of
from planner.explain.shortfall import latency_shortfall, load_shortfall
from planner.milp.model import Termination, Weighted
from planner.optimizers.lexicographic import lexicographic
from planner.plan import Deployment, Plan, Statistics
from planner.problem import Flow, GoalSpec, PlanningProblem
from planner.problems import is_simple, planning_problem, reduced
from planner.solvers import solver as solver_named
from planner.table import ColumnTable, Floats, Ints
from planner.text import figure, scaled
from planner.units import METRIC_UNITS
from planner.verify import Evidence
from planner.verify import optimum as dynamic
from planner.verify.flows import flow_violations

_CP_SAT_GAP = 1e-3  # docs/adr/0010
NO_PAIR = "parts of pairs meet the limits alone, but no two that room, links, caches and the TTFT of both allow"
_SECOND_TIME = 120.0  # seconds that a second solver may take for its proof


def evidence(
    case: Case, plan: Plan, problem: PlanningProblem, small: PlanningProblem, *, solve_again: bool
) -> Evidence:
    """Evaluate a plan's configurations one by one, and the best of the whole grid, ``problem``, ``small`` once reduced.

    ``solve_again``: where dynamic programming cannot find the best, let another solver than the plan's do it.
    """
    found = found_again(problem, small, per_device(case), case.scenario.solver.name, solve_again=solve_again)
    statistics = statistics_of(problem.table, len(small.table), plan.statistics.solver, plan.statistics.wall_s)
    reasons = shortfall(case, problem, plan.termination.reason)
    return _of_figures(case, plan, (problem, statistics, reasons), found, whole=solve_again)


def evidence_of_figures(case: Case, plan: Plan) -> Evidence:
    """Evaluate a plan's configurations one by one, and take from the plan what only a search can tell."""
    priced, _ = price(case, [d.configuration() for d in plan.deployments if isinstance(d, Deployment)])
    stated = planning_problem(case, priced), plan.statistics, plan.shortfall
    return _of_figures(case, plan, stated, (dynamic.Best("too_large"), {}), whole=False)


def _of_figures(
    case: Case,
    plan: Plan,
    searched: tuple[PlanningProblem, Statistics, tuple[str, ...]],
    found: tuple[dynamic.Best, Mapping[str, float]],
    *,
    whole: bool,
) -> Evidence:
    problem, statistics, reasons = searched
    mine = [d for d in plan.deployments if isinstance(d, Deployment)]
    priced, refused = price(case, [d.configuration() for d in mine])
    ended = Termination(plan.termination.reason, plan.termination.limit)
    stated = {name: best for goal in (plan.objective, *plan.later_objectives) for name, best in goal.best.items()}
    claim = Claim(ended, plan.objective.bound, reasons, stated)
    of_plan = problem._replace(table=priced, routes=routes_of(settings(case), priced))
    kept = [d for i, d in enumerate(mine) if i not in refused]
    choice = Choice([d.replicas for d in kept], _flows(plan, [d.name for d in kept]))
    wrong = [] if refused else flow_violations(of_plan, choice.replicas, choice.flows)
    rebuilt = decode(case, of_plan, choice if not wrong else Choice(choice.replicas), claim, statistics)
    rebuilt = rebuilt._replace(
        baseline=compared(case, rebuilt) if whole else plan.baseline,
        certainty=certainty(case, rebuilt) if whole else plan.certainty,
    )
    optimum, best = found
    return Evidence(
        digest=rebuilt.scenario.sha256,
        rebuilt=rebuilt,
        refused={mine[i].name: f"{r.meaning} ({r.detail})" for i, r in refused.items()},
        limits={
            name: {f"{figure}_ms": s * MILLISECONDS_PER_SECOND for figure, s in limits(workload).items()}
            for name, workload in case.scenario.workloads.items()
        },
        stocks=problem.stocks,
        flow_violations=tuple(wrong),
        demands={load.workload: load for load in problem.loads},
        plan_limits=problem.limits,
        optimum=optimum,
        best=best,
        allowed_gap=allowed_gap(case.scenario.solver.relative_gap, case.scenario.solver.name),
    )


def allowed_gap(asked: float, solver: str) -> float:
    """Return the gap that a plan "within the gap" may have: as asked, or what CP-SAT's integers can prove."""
    return max(asked, _CP_SAT_GAP) if solver.startswith("cp-sat") else asked


def _flows(plan: Plan, names: Sequence[str]) -> list[Flow]:
    at = {name: i for i, name in enumerate(names)}
    known = [route for route in plan.routes if route.prefill in at and route.decode in at]
    return [Flow(at[route.prefill], at[route.decode], route.requests_per_s) for route in known]


def per_device(case: Case) -> dict[str, Mapping[str, Any]]:
    """Return cost [USD/h] and power [W] of a device by inventory, None where it is not known."""
    items, hardware = case.scenario.inventory, case.hardware
    return {
        "cost": {name: item.price for name, item in items.items()},
        "power": {name: power.value if (power := hardware[name].power) else None for name in items},
    }


def found_again(
    problem: PlanningProblem,
    small: PlanningProblem,
    per_device: Mapping[str, Mapping[str, Any]],
    solver: str,
    *,
    solve_again: bool,
) -> tuple[dynamic.Best, Mapping[str, float]]:
    """Return the best goal values and, of a weighted goal, the best of each part alone.

    ``problem`` and ``small``, which it is once reduced; ``per_device``: cost and power of a device by inventory;
    ``solver``: the one that must not prove it again.
    """
    if is_simple(small):
        return _by_dynamic_programming(problem, per_device), {}
    if not solve_again:
        return dynamic.Best("too_large"), {}
    other = solver_named("cbc" if solver.startswith("highs") else "highs")
    encoded = FORMULATIONS["serving"].build(small)
    # The goals that were asked for; how ties below them are settled is the plan's own business.
    asked = encoded.milp.objectives[: len(problem.goals)]
    result = lexicographic(encoded.milp._replace(objectives=asked), other.solve, _SECOND_TIME, 0.0)
    if result.termination.reason == "infeasible":
        return dynamic.Best("infeasible"), {}
    if result.termination.reason != "optimal" or result.point is None or result.notes:
        return dynamic.Best("too_large"), {}
    goals = [goal.combined(result.best) if isinstance(goal, Weighted) else goal for goal in asked]
    return dynamic.Best("optimal", tuple(goal.value(result.point) for goal in goals)), result.best


def _by_dynamic_programming(problem: PlanningProblem, per_device: Mapping[str, Mapping[str, Any]]) -> dynamic.Best:
    (load,) = problem.loads
    columns_of = {name: _columns_of(problem, name, problem.table.meets_limits) for name in problem.stocks}
    weights: dict[str, Mapping[str, Any]] = {
        **per_device,
        "devices": dict.fromkeys(problem.stocks, 1.0),
        "requests": dict.fromkeys(problem.stocks, 1.0),
        "tokens": dict.fromkeys(problem.stocks, load.output_tokens),
    }
    return dynamic.best(problem.stocks, columns_of, load.demand, problem.goals, weights)


def _columns_of(problem: PlanningProblem, inventory: str, allowed: NDArray[np.bool_]) -> tuple[Ints, Floats]:
    """Return devices and value of the allowed columns of an inventory that work alone."""
    mine = allowed & problem.table.where(inventory=inventory, role="mixed")
    return problem.table.figures["devices"][mine].astype(np.int64), problem.value[mine]


def shortfall(case: Case, problem: PlanningProblem, reason: str) -> tuple[str, ...]:
    """Say what an infeasible case could reach instead."""
    if reason != "infeasible":
        return ()
    lines: list[str] = []
    every = columns.grid_table(case)
    for load in problem.loads:
        slo = limits(case.scenario.workloads[load.workload])
        mine = every.take(np.nonzero(every.where(workload=load.workload))[0])
        of_load = problem._replace(table=mine, loads=(load,), limits={}, links=())
        among = f" for {load.workload}" if len(problem.loads) > 1 else ""
        able = _most_load(case, of_load)
        if able == 0:
            found = latency_shortfall(_alone(mine), slo) if slo else []
            lines += [line + among for line in found or [NO_PAIR]]
        elif load.demand is not None and able < load.demand:
            lines += load_shortfall(load.demand, dict(_reach(case, of_load, slo, able)), _unit(load.kind) + among)
    if not lines:
        lines = list(together(problem))
    return tuple(lines)


def _alone(table: ColumnTable) -> ColumnTable:
    """Return the columns that serve requests alone, or where there are none those that decode: a part has no TTFT."""
    mixed = np.nonzero(table.where(role="mixed"))[0]
    return table.take(mixed if len(mixed) else np.nonzero(table.where(role="decode"))[0])


def _reach(case: Case, problem: PlanningProblem, slo: Mapping[str, float], able: float) -> Iterator[tuple[str, float]]:
    """Yield the most load within all limits, and without each of them."""
    yield "", able
    (load,) = problem.loads
    for name in slo:
        workload = case.scenario.workloads[load.workload]
        relaxed = workload.model_copy(update={"slo": workload.slo.model_copy(update={name: None})})
        scenario = case.scenario.model_copy(update={"workloads": {**case.scenario.workloads, load.workload: relaxed}})
        other = case._replace(scenario=scenario)
        table = columns.grid_table(other)
        mine = table.take(np.nonzero(table.where(workload=load.workload))[0])
        yield name, _most_load(other, problem._replace(table=mine))


def together(problem: PlanningProblem) -> Iterator[str]:
    """Say what is too much where every workload alone would fit."""
    if len(problem.loads) > 1:
        yield "each workload alone would fit: together they do not"
    for link in problem.links:
        ends = " and ".join(link.between)
        yield f"caches between {ends} may take {scaled(link.bandwidth, 'B/s')}: with more there may be a plan"
    if problem.limits:
        asked = ", ".join(f"{name} {figure(most)} {METRIC_UNITS[name]}" for name, most in problem.limits.items())
        yield f"without the limits of the whole plan ({asked}) there may be a plan: set them aside one by one"


def _most_load(case: Case, problem: PlanningProblem) -> float:
    return most_load(problem, reduced(case, problem))


def most_load(problem: PlanningProblem, small: PlanningProblem) -> float:
    """Return the most load of one workload that the whole inventory carries within its limits.

    ``small`` is the problem once reduced.
    """
    (load,) = problem.loads
    if is_simple(small):
        curves = (
            dynamic.most_value(stock, *_columns_of(problem, name, problem.table.meets_limits))
            for name, stock in problem.stocks.items()
        )
        return sum(float(curve.max()) for curve in curves)
    if not len(small.table):
        return 0.0
    free = small._replace(loads=(load._replace(demand=None),), goals=[GoalSpec("load", "maximize")])
    encoded = FORMULATIONS["serving"].build(free)
    result = solver_named("highs").solve(encoded.milp.with_objective(encoded.milp.objectives[0]), _SECOND_TIME, 0.0)
    return result.value or 0.0


def _unit(kind: str) -> str:
    return "request/s" if kind == "rate" else "requests in flight"
