"""Every claim of a plan against figures evaluated anew."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from planner.errors import as_written
from planner.milp.stock import Stock
from planner.plan import Deployment, ObjectiveValue, Plan, as_data, metric_value, relative_gap
from planner.problem import Load
from planner.verify.optimum import Best
from planner.verify.placement import fits

RELATIVE_TOLERANCE = 1e-6
# These do not follow from configurations and replicas. The digest covers the resolved scenario, and other checks
# the gap.
_NOT_RECOMPUTED = frozenset(
    ("planner_version", "scenario.resolved", "statistics.solver", "statistics.wall_s", "objective.relative_gap")
)


class Evidence(NamedTuple):
    """What the scenario and the cost model say now.

    ``rebuilt`` is the plan as it follows from the configurations and replicas alone; ``refused`` maps
    deployments to the rule they break; ``limits`` are the latency limits [ms] by workload and field of the predictions;
    ``flow_violations`` say what is wrong between parts of pairs; ``demands`` are the loads by workload and
    ``plan_limits`` those of the whole plan by metric; ``optimum`` is the proven best, ``best`` of a weighted goal the
    best of each part.
    """

    digest: str
    rebuilt: Plan
    refused: Mapping[str, str]
    limits: Mapping[str, Mapping[str, float]]
    stocks: Mapping[str, Stock]
    flow_violations: tuple[str, ...]
    demands: Mapping[str, Load]
    plan_limits: Mapping[str, float]
    optimum: Best
    best: Mapping[str, float]
    allowed_gap: float


class Verdict(NamedTuple):
    """Reasons to refuse a plan (none: all its claims hold), and whether its optimality was proven a second time."""

    reasons: tuple[str, ...]
    optimum_proven: bool = True


def judge(plan: Plan, evidence: Evidence) -> Verdict:
    """Hold every claim of a plan against the evidence."""
    return Verdict(tuple(_refusals(plan, evidence)), evidence.optimum.status != "too_large")


def _refusals(plan: Plan, evidence: Evidence) -> list[str]:
    if plan.scenario.sha256 != evidence.digest:
        return ["scenario.sha256: the resolved scenario is not the one this plan was made for"]
    found = [f"{name}: not legal: {why}" for name, why in evidence.refused.items()]
    found += evidence.flow_violations
    if found:
        return found
    found += _differences(as_data(plan), as_data(evidence.rebuilt), "")
    found += _inventory(plan, evidence)
    found += _limits(plan, evidence)
    found += _demands(plan, evidence)
    found += _weighted(plan, evidence)
    found += _ending(plan)
    found += _termination(plan, evidence)
    return found


def _differences(given: Any, expected: Any, place: str) -> Iterator[str]:
    """Compare every figure of a plan with its recomputed value."""
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        for key in sorted(set(given) | set(expected), key=str):
            here = f"{place}.{key}" if place else str(key)
            if here in _NOT_RECOMPUTED:
                continue
            if key not in given or key not in expected:
                yield f"{here}: {'is missing' if key not in given else 'should not be there'}"
            else:
                yield from _differences(given[key], expected[key], here)
    elif isinstance(expected, list | tuple) and isinstance(given, list | tuple):
        if len(given) != len(expected):
            yield f"{place}: has {len(given)} entries, recomputed {len(expected)}"
        for index, (left, right) in enumerate(zip(given, expected, strict=False)):
            yield from _differences(left, right, f"{place}[{index}]")
    elif not _same(given, expected):
        yield f"{place}: is {_show(given)}, recomputed {_show(expected)}"


def _same(given: Any, expected: Any) -> bool:
    if isinstance(given, int | float) and isinstance(expected, int | float):
        return math.isclose(given, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12)
    return bool(given == expected)


def _show(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) else as_written(value)


def _inventory(plan: Plan, evidence: Evidence) -> Iterator[str]:
    for d in plan.deployments:
        if d.replicas < 1:
            yield f"{d.name}.replicas: {d.replicas} is no number of replicas"
    for name, stock in evidence.stocks.items():
        sizes: dict[int, int] = {}
        for d in plan.deployments:
            if d.inventory == name:
                sizes[d.devices_per_replica] = sizes.get(d.devices_per_replica, 0) + d.replicas
        sound = all(size > 0 and count >= 0 for size, count in sizes.items())
        if not (sound and fits(sizes, stock)):
            yield f"inventory.{name}: the replicas do not fit into nodes of {', '.join(map(str, stock.nodes))} devices"


def _limits(plan: Plan, evidence: Evidence) -> Iterator[str]:
    for d in plan.deployments:
        limits = evidence.limits.get(d.workload, {}) if isinstance(d, Deployment) else {}
        for name, limit in limits.items():
            value = float(getattr(d.predicted, name)) if isinstance(d, Deployment) else 0.0
            if value > limit * (1 + RELATIVE_TOLERANCE):
                yield f"{d.name}.predicted.{name}: {value:.6g} misses the limit of {limit:.6g}"
    for metric, most in evidence.plan_limits.items():
        total = metric_value(metric, plan.totals, plan.predicted)
        if plan.deployments and (total is None or total > most * (1 + RELATIVE_TOLERANCE)):
            yield f"limits.{metric}: {_show(total)} is more than {most:g}"


def _demands(plan: Plan, evidence: Evidence) -> Iterator[str]:
    for name, load in evidence.demands.items() if plan.deployments else ():
        carried = _carried(plan, name, load.kind)
        if load.demand is None and carried <= 0:
            yield f"demand: nothing serves {name}"
        elif load.demand is not None and carried < load.demand * (1 - RELATIVE_TOLERANCE):
            yield f"demand: the plan carries {carried:.6g} of {load.demand:.6g} of {name}"


def _carried(plan: Plan, workload: str, kind: str) -> float:
    """Return the load of a workload that mixed deployments and routes carry, in the unit of its demand."""
    field = "requests_per_s" if kind == "rate" else "requests_in_flight"
    mine = {d.name: d for d in plan.deployments if d.workload == workload}
    total = math.fsum(getattr(d, field) for d in mine.values() if d.role == "mixed")
    for route in plan.routes:
        if route.decode in mine:
            side = mine[route.decode]
            each = 1.0 if kind == "rate" else side.requests_in_flight / side.requests_per_s
            total += route.requests_per_s * each
    return total


def _weighted(plan: Plan, evidence: Evidence) -> Iterator[str]:
    """Check the best values that a weighted goal is divided by, where they were found again."""
    for name, value in evidence.best.items():
        stated = plan.objective.best.get(name)
        if stated is not None and not _close(stated, value):
            yield f"objective.best.{name}: is {_show(stated)}, recomputed {_show(value)}"


def _ending(plan: Plan) -> Iterator[str]:
    """Check what only the search itself could know, as far as it must hold for any search."""
    reason, seconds = plan.termination.reason, plan.statistics.wall_s
    if seconds < 0:
        yield f"statistics.wall_s: {_show(seconds)} is negative"
    if plan.termination.limit is not None and reason != "stopped":
        yield f"termination.limit: must be null, since the search was not stopped: it ended '{reason}'"


def _termination(plan: Plan, evidence: Evidence) -> Iterator[str]:
    """Check the claims about optimality against the best found by dynamic programming."""
    reason, goal, optimum = plan.termination.reason, plan.objective, evidence.optimum
    if bool(plan.deployments) != (goal.value is not None):
        yield "objective.value: there must be one exactly when there are deployments"
        return
    yield from _gap(goal)
    if reason == "infeasible" or not plan.deployments:
        yield from _without_plan(plan, optimum)
        return
    yield from _bound(goal, evidence.allowed_gap if reason == "within_gap" else 0.0, proven=reason != "stopped")
    if optimum.status == "infeasible":
        yield "termination: there is a plan, but the scenario is infeasible"
    if optimum.status != "optimal":
        return
    goals = (plan.objective, *plan.later_objectives) if reason == "optimal" else (plan.objective,)
    for index, (stated, top) in enumerate(zip(goals, optimum.values, strict=False)):
        if index == 0:
            yield from _against_optimum(stated, top)
        if reason == "optimal" and not _close(stated.value, top):
            yield f"termination.reason: not optimal in {stated.metric}: {_show(stated.value)}, the best is {_show(top)}"


def _without_plan(plan: Plan, optimum: Best) -> Iterator[str]:
    if plan.deployments:
        yield "termination.reason: says infeasible, but there are deployments"
    if plan.termination.reason not in ("infeasible", "stopped"):
        yield f"termination.reason: '{plan.termination.reason}' needs deployments"
    if plan.termination.reason == "infeasible" and optimum.status == "optimal":
        yield f"termination.reason: not infeasible: {_show(optimum.values[0])} can be reached"
    if plan.termination.reason == "infeasible" and plan.objective.bound is not None:
        yield "objective.bound: must be null, since nothing is feasible"
    elif optimum.status == "optimal":
        yield from _against_optimum(plan.objective, optimum.values[0])


def _gap(goal: ObjectiveValue) -> Iterator[str]:
    """Check that the gap is that of value and bound, and null where one of them is."""
    stated = goal.relative_gap
    gap = None if goal.value is None or goal.bound is None else relative_gap(goal.metric, goal.value, goal.bound)
    agree = stated is gap if stated is None or gap is None else abs(stated - gap) <= RELATIVE_TOLERANCE
    if not agree:
        yield f"objective.relative_gap: is {_show(stated)}, value and bound give {_show(gap)}"


def _bound(goal: ObjectiveValue, allowed: float, *, proven: bool) -> Iterator[str]:
    """Check that value and bound agree with each other and with what is claimed."""
    if goal.bound is None or goal.value is None:
        if proven:
            yield "objective.bound: is missing"
        return
    gap = relative_gap(goal.metric, goal.value, goal.bound)
    if proven and gap > allowed + RELATIVE_TOLERANCE:
        yield f"objective.bound: {_show(goal.bound)} leaves a gap of {gap:.3g}, more than the {allowed:g} claimed"
    wrong_side = goal.bound < goal.value if goal.sense == "maximize" else goal.bound > goal.value
    if wrong_side and not _close(goal.bound, goal.value):
        yield f"objective.bound: {_show(goal.bound)} is on the wrong side of the value {_show(goal.value)}"


def _against_optimum(goal: ObjectiveValue, top: float) -> Iterator[str]:
    if goal.bound is None or _close(goal.bound, top):
        return
    too_strong = goal.bound < top if goal.sense == "maximize" else goal.bound > top
    if too_strong:
        yield f"objective.bound: {_show(goal.bound)} is not a bound: {_show(top)} can be reached"


def _close(left: float | None, right: float) -> bool:
    return left is not None and math.isclose(left, right, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12)
