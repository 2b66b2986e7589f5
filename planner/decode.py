"""From replicas of columns back to the user's words: a complete plan, and what it claims."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from planner._version import __version__
from planner.catalog import Case
from planner.catalog.case import node_sizes
from planner.columns.believed import believed
from planner.columns.grid import searched_values, sequence_limits
from planner.columns.setting import Setting, settings
from planner.deployments import PoolContext, deployments, predicted
from planner.milp.model import Termination
from planner.milp.stock import Stock
from planner.plan import (
    PLAN_SCHEMA_VERSION,
    AnyDeployment,
    Comparison,
    ObjectiveValue,
    Plan,
    PlanTermination,
    Predicted,
    Route,
    ScenarioRecord,
    Statistics,
    Totals,
    as_data,
    metric_value,
    relative_gap,
    totals,
)
from planner.problem import Flow, GoalSpec, PlanningProblem
from planner.schema.hardware import Hardware
from planner.schema.search import Search
from planner.table import ColumnTable
from planner.text import grouped
from planner.units import METRIC_UNITS


class Claim(NamedTuple):
    """What is claimed of a search: why it ended, the bound on the first goal, what could be reached instead.

    ``best``: of a weighted goal, the best value of each metric alone.
    """

    termination: Termination
    bound: float | None
    shortfall: tuple[str, ...] = ()
    best: Mapping[str, float] = {}


class Choice(NamedTuple):
    """What a solver chose: replicas per column, shape (C,), and flows between parts of pairs."""

    replicas: Sequence[int]
    flows: Sequence[Flow] = ()


def stocks(case: Case) -> dict[str, Stock]:
    """Return the usable nodes of every inventory."""
    found = {}
    for name, item in case.scenario.inventory.items():
        hardware = case.hardware[name]
        whole, domain = hardware.devices_per_node.value, hardware.domain
        found[name] = Stock(node_sizes(item, whole, domain), whole, domain if domain > whole else 0)
    return found


def _context(setting: Setting) -> PoolContext:
    return PoolContext(
        model=setting.workload.model,
        hardware=setting.hardware.name,
        engines=_engine_names(setting.hardware),
        attention_kernel=setting.attention_kernel,
        attention_layers={str(kind): count for kind, count in setting.architecture.attention_layers.items()},
        capture_sizes=setting.engine.graph_capture_sizes.value,
        memory_fraction=setting.engine.memory_fraction.value,
        max_model_len=setting.max_model_len,
    )


def _engine_names(hardware: Hardware) -> dict[str, str]:
    """Return what the device calls the resources it has an engine for."""
    names = hardware.engines.names
    return {
        "compute": names.matrix,
        "vector": names.vector,
        "hbm_bandwidth": names.memory,
        "link_bandwidth": names.link,
    }


def decode(
    case: Case,
    problem: PlanningProblem,
    choice: Choice,
    claim: Claim,
    statistics: Statistics,
    baseline: tuple[Comparison, ...] = (),
) -> Plan:
    """Return the plan that deploys ``choice.replicas[c]`` replicas of each column c of the problem's table."""
    chosen, routes = chosen_deployments(case, problem, choice)
    default, whole = _grid_is_default(case), grouped(statistics.configurations)
    restricted = "" if default else ", restricted by the scenario"
    scope = f"{whole} configurations of the published grid{restricted}, for this cost model and static routing"
    return assembled(
        problem, chosen, routes, total_of(case, problem.stocks, chosen), claim, statistics, baseline,
        record_of(case.scenario.name, resolved_scenario(case)), scope,
    )  # fmt: skip


def chosen_deployments(
    case: Case, problem: PlanningProblem, choice: Choice
) -> tuple[tuple[AnyDeployment, ...], tuple[Route, ...]]:
    """Return the deployments of a choice, and the routes between them."""
    table, by_pool = problem.table, {setting.pool: setting for setting in settings(case)}
    pools = [by_pool[pool] for pool in table.pools]
    chosen = [i for i, count in enumerate(choice.replicas) if count]
    beliefs = {i: believed(pools[table.pool[i]], table.configuration(i)) for i in chosen}
    contexts = [_context(setting) for setting in pools]
    return deployments(problem, choice.replicas, choice.flows, contexts, beliefs)


def total_of(case: Case, room: Mapping[str, Stock], chosen: Sequence[AnyDeployment]) -> Totals:
    """Return what deployments use of the scenario's inventory, and what that costs."""
    prices = {name: item.price for name, item in case.scenario.inventory.items()}
    powers = {name: hardware.power.value if hardware.power else None for name, hardware in case.hardware.items()}
    return totals(chosen, prices, powers, {name: stock.devices for name, stock in room.items()})


def _devices(problem: PlanningProblem) -> dict[str, int]:
    return {name: stock.devices for name, stock in problem.stocks.items()}


def assembled(
    problem: PlanningProblem,
    chosen: tuple[AnyDeployment, ...],
    routes: tuple[Route, ...],
    total: Totals,
    claim: Claim,
    statistics: Statistics,
    baseline: tuple[Comparison, ...],
    record: ScenarioRecord,
    scope: str,
) -> Plan:
    """Put a plan together; ``scope`` says what it is optimal over."""
    tokens = {load.workload: load.output_tokens for load in problem.loads}
    figures = predicted(chosen, routes, tokens)
    each = {
        name: predicted([d for d in chosen if d.name in mine], [r for r in routes if r.prefill in mine], tokens)
        for name in tokens
        for mine in [{d.name for d in chosen if d.workload == name}]
    }
    goals = [_goal(goal, total, figures, claim.best, deployed=bool(chosen)) for goal in problem.goals]
    first = _bounded(goals[0], claim.bound)
    return Plan(
        schema_version=PLAN_SCHEMA_VERSION,
        planner_version=__version__,
        scenario=record,
        termination=_termination(claim.termination, first, scope),
        objective=first,
        later_objectives=tuple(goals[1:]),
        deployments=chosen,
        routes=routes,
        totals=total,
        predicted=figures,
        by_workload=each,
        shortfall=claim.shortfall,
        baseline=baseline,
        certainty=(),
        statistics=statistics,
    )


def _goal(
    goal: GoalSpec, total: Totals, figures: Predicted, best: Mapping[str, float], *, deployed: bool
) -> ObjectiveValue:
    known = {name: best[name] for name, _ in goal.weights if name in best}
    value = None
    if deployed and not goal.weights:
        value = metric_value(goal.metric, total, figures)
    elif deployed and len(known) == len(goal.weights):
        parts = [
            (metric_value(name, total, figures), weight / (abs(known[name]) or 1.0), name)
            for name, weight in goal.weights
        ]
        if all(part is not None for part, _, _ in parts):
            value = sum((part or 0.0) * scale * _sign(name) for part, scale, name in parts)
    unit = METRIC_UNITS[goal.metric]
    return ObjectiveValue(goal.sense, goal.metric, unit, value, None, None, None, known)


def _bounded(goal: ObjectiveValue, bound: float | None) -> ObjectiveValue:
    if bound is None:
        return goal
    gap = None if goal.value is None else relative_gap(goal.metric, goal.value, bound)
    return goal._replace(bound=bound, relative_gap=gap, bound_kind="milp")


def _sign(metric: str) -> float:
    return -1.0 if metric in ("requests", "tokens") else 1.0


def statistics_of(table: ColumnTable, kept: int, solver: str, wall_s: float) -> Statistics:
    """Return the sizes of a search whose pruned table kept some columns."""
    return Statistics(
        configurations=table.searched,
        legal=table.legal,
        meeting_slo=table.meeting,
        columns=kept,
        rejected={rejection.rule: rejection.configurations for rejection in table.rejected},
        solver=solver,
        wall_s=wall_s,
    )


def _termination(termination: Termination, goal: ObjectiveValue, scope: str) -> PlanTermination:
    gap = f"{goal.relative_gap:.2%}" if goal.relative_gap is not None else "an unknown distance"
    detail = {
        "optimal": f"optimal over {scope}",
        "within_gap": f"within {gap} of the optimum over {scope}",
        "infeasible": f"proven infeasible over {scope}",
        "stopped": f"stopped by the {termination.limit} limit, {gap} from the bound over {scope}",
    }[termination.reason]
    return PlanTermination(termination.reason, termination.limit, detail)


def _grid_is_default(case: Case) -> bool:
    search = case.scenario.search
    default = [setting._replace(search=Search(roles=search.roles)) for setting in settings(case)]
    same = all(searched_values(a) == searched_values(b) for a, b in zip(settings(case), default, strict=True))
    return same and search.roles is None and sequence_limits(search) == sequence_limits(Search())


def record_of(name: str, resolved: dict[str, Any]) -> ScenarioRecord:
    """Return the question of a plan with the digest of its resolved form."""
    text = json.dumps(resolved, sort_keys=True, ensure_ascii=False)
    return ScenarioRecord(name, hashlib.sha256(text.encode()).hexdigest(), resolved)


def resolved_scenario(case: Case) -> dict[str, Any]:
    """Return the scenario with every default filled in, and its specifications by name and digest."""
    scenario = case.scenario.model_dump(mode="json", exclude_none=True)
    for written, use in zip(scenario["engine"], case.engines, strict=True):
        written["version"] = use.version
    for workload in case.scenario.workloads.values():
        model, architecture = scenario["models"][workload.model], case.architectures[workload.model]
        model.setdefault("precisions", [architecture.precision])
        model.setdefault("max_model_len", f"{architecture.max_position_embeddings} token")
    scenario["grid"] = [
        {**as_data(setting.pool), "values": {name: list(values) for name, values in searched_values(setting).items()}}
        for setting in settings(case)
    ]
    scenario["specifications"] = [specification._asdict() for specification in case.specifications]
    return scenario
