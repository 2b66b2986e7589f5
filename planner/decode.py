"""From replicas of columns back to the user's words: a complete plan, and what it claims."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from planner._version import __version__
from planner.catalog import Case
from planner.catalog.case import node_sizes
from planner.columns.grid import searched_values, sequence_limits
from planner.milp.model import Termination
from planner.plan import (
    PLAN_SCHEMA_VERSION,
    EngineVersion,
    ObjectiveValue,
    Plan,
    PlanContext,
    PlanTermination,
    ScenarioRecord,
    Statistics,
    deployments,
    metric_value,
    predicted,
    relative_gap,
    totals,
)
from planner.problem import Stock
from planner.schema.hardware import Hardware
from planner.schema.scenario import Search
from planner.table import ColumnTable
from planner.text import grouped
from planner.units import METRIC_UNITS


class Claim(NamedTuple):
    """What is claimed of a search: why it ended, the bound on the first goal, what could be reached instead."""

    termination: Termination
    bound: float | None
    shortfall: tuple[str, ...] = ()


def stocks(case: Case) -> dict[str, Stock]:
    """Return the usable nodes of every inventory."""
    found = {}
    for name, item in case.scenario.inventory.items():
        whole = case.hardware[name].devices_per_node.value
        found[name] = Stock(node_sizes(item, whole), whole)
    return found


def _context(case: Case) -> PlanContext:
    return PlanContext(
        model=case.workload.model,
        workload=case.workload_name,
        engine=EngineVersion(case.engine.name, case.engine_version),
        hardware={name: hardware.name for name, hardware in case.hardware.items()},
        engines={name: _engine_names(hardware) for name, hardware in case.hardware.items()},
        attention_kernel=case.model.attention_kernel,
        attention_layers={str(kind): count for kind, count in case.architecture.attention_layers.items()},
        block_size=case.engine.block_size.value,
        memory_fraction=case.engine.memory_fraction.value,
        max_model_len=case.max_model_len,
        basis=case.efficiencies.basis,
        output_tokens=case.workload.output_tokens,
        idle_before={name: stock.devices for name, stock in stocks(case).items()},
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


def decode(case: Case, table: ColumnTable, replicas: Sequence[int], claim: Claim, statistics: Statistics) -> Plan:
    """Return the plan that deploys ``replicas[c]`` replicas of each column c of the table."""
    context = _context(case)
    chosen = deployments(table, replicas, context)
    prices = {name: item.price for name, item in case.scenario.inventory.items()}
    powers = {name: hardware.power.value if hardware.power else None for name, hardware in case.hardware.items()}
    total = totals(chosen, prices, powers, context)
    figures = predicted(chosen, context.output_tokens)
    goals = [
        ObjectiveValue(
            sense=goal.sense,
            metric=goal.metric,
            unit=METRIC_UNITS[goal.metric],
            value=metric_value(goal.metric, total, figures) if chosen else None,
            bound=None,
            relative_gap=None,
            bound_kind=None,
        )
        for goal in case.scenario.objective
    ]
    first = _bounded(goals[0], claim.bound)
    return Plan(
        schema_version=PLAN_SCHEMA_VERSION,
        planner_version=__version__,
        scenario=_record(case),
        termination=_termination(case, claim.termination, first, statistics),
        objective=first,
        later_objectives=tuple(goals[1:]),
        deployments=chosen,
        totals=total,
        predicted=figures,
        shortfall=claim.shortfall,
        statistics=statistics,
    )


def _bounded(goal: ObjectiveValue, bound: float | None) -> ObjectiveValue:
    if bound is None:
        return goal
    gap = None if goal.value is None else relative_gap(goal.value, bound)
    return goal._replace(bound=bound, relative_gap=gap, bound_kind="milp")


def statistics_of(table: ColumnTable, kept: int, solver: str, wall_s: float) -> Statistics:
    """Return the sizes of a search whose pruned table kept some columns."""
    return Statistics(
        configurations=table.searched,
        legal=len(table),
        meeting_slo=int(table.meets_limits.sum()),
        columns=kept,
        rejected={rejection.rule: rejection.configurations for rejection in table.rejected},
        solver=solver,
        wall_s=wall_s,
    )


def _termination(case: Case, termination: Termination, goal: ObjectiveValue, statistics: Statistics) -> PlanTermination:
    default = searched_values(Search(), case.model, case.architecture)
    chosen = searched_values(case.scenario.search, case.model, case.architecture)
    whole = chosen == default and sequence_limits(case.scenario.search) == sequence_limits(Search())
    restricted = "" if whole else ", restricted by the scenario"
    count = grouped(statistics.configurations)
    scope = f"{count} configurations of the published grid{restricted}, for this cost model and static routing"
    gap = f"{goal.relative_gap:.2%}" if goal.relative_gap is not None else "an unknown distance"
    detail = {
        "optimal": f"optimal over {scope}",
        "within_gap": f"within {gap} of the optimum over {scope}",
        "infeasible": f"proven infeasible over {scope}",
        "stopped": f"stopped by the {termination.limit} limit, {gap} from the bound over {scope}",
    }[termination.reason]
    return PlanTermination(termination.reason, termination.limit, detail)


def _record(case: Case) -> ScenarioRecord:
    resolved = resolved_scenario(case)
    text = json.dumps(resolved, sort_keys=True, ensure_ascii=False)
    return ScenarioRecord(case.scenario.name, hashlib.sha256(text.encode()).hexdigest(), resolved)


def resolved_scenario(case: Case) -> dict[str, Any]:
    """Return the scenario with every default filled in, and its specifications by name and digest."""
    scenario = case.scenario.model_dump(mode="json", exclude_none=True)
    scenario["engine"]["version"] = case.engine_version
    model = scenario["models"][case.workload.model]
    model.setdefault("precisions", [case.architecture.precision])
    model.setdefault("max_model_len", f"{case.max_model_len} token")
    values = searched_values(case.scenario.search, case.model, case.architecture)
    plural = {"role": "roles", "kv_precision": "kv_precisions"}
    search = {plural.get(n, n): list(v) for n, v in values.items() if n != "weight_precision"}
    scenario["search"] = {**search, "max_num_seqs": list(sequence_limits(case.scenario.search))}
    scenario["specifications"] = [specification._asdict() for specification in case.specifications]
    return scenario
