"""Plans over a table of columns: the table's rates instead of the cost model, and nothing of latencies or memory."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from planner.catalog import TableCase
from planner.catalog.case import node_sizes
from planner.catalog.table_columns import UNUSED, Inventories
from planner.columns.prune import fits_instead
from planner.decode import Claim, assembled, record_of, statistics_of
from planner.deployments import deployments
from planner.evidence import allowed_gap, found_again, most_load, together
from planner.explain.shortfall import load_shortfall
from planner.milp.model import Termination
from planner.milp.stock import Stock
from planner.plan import AnyDeployment, ListedDeployment, Plan, Statistics, totals
from planner.problem import Flow, Load, PlanningProblem, Routes, no_routes
from planner.problems import goals, plan_limits
from planner.table import ColumnTable, Pool, Rejection
from planner.text import grouped
from planner.verify import Evidence
from planner.verify.placement import fits

NO_ROOM = "are larger than their inventory, or no whole number of its nodes"
_FIGURES = ("devices", "rate", "price", "power")


def listed_problem(case: TableCase) -> PlanningProblem:
    """Return the problem over every column of a table on every inventory where it has room."""
    scenario = case.scenario
    name, workload = case.workload
    stocks = {inventory: _stock(case, inventory) for inventory in scenario.inventory}
    tokens = math.nan if workload.output_tokens is None else workload.output_tokens
    demand = None if workload.requests.kind == "max" else workload.requests.value
    return PlanningProblem(
        table=_table(case, name, stocks),
        routes=no_routes(),
        loads=(Load(name, "rate", demand, tokens),),
        stocks=stocks,
        goals=goals(scenario),
        limits=plan_limits(scenario),
    )


def _stock(case: TableCase, inventory: str) -> Stock:
    """Return the usable nodes of an inventory; where its hardware is not named, all devices are one node."""
    item, hardware = case.scenario.inventory[inventory], case.hardware.get(inventory)
    if hardware is None:
        devices = int(item.devices or 0) - item.reserved_devices
        return Stock((devices,), devices)
    whole, domain = hardware.devices_per_node.value, hardware.domain
    return Stock(node_sizes(item, whole, domain), whole, domain if domain > whole else 0)


def _table(case: TableCase, workload: str, stocks: Mapping[str, Stock]) -> ColumnTable:
    places = Inventories(case.scenario.inventory, case.hardware)
    per_device = _per_device(case)
    pools: dict[Pool, int] = {}
    labels, pool = [], []
    figures: dict[str, list[float]] = {name: [] for name in _FIGURES}
    searched = 0
    for column in case.columns:
        for inventory in places.named(column.hardware):
            searched += 1
            if not fits({column.devices_per_replica: 1}, stocks[inventory]):
                continue
            price, power = (per_device[metric][inventory] for metric in ("cost", "power"))
            pool.append(pools.setdefault(Pool(workload, inventory, "", "", column.role), len(pools)))
            labels.append(column.label)
            row = (column.devices_per_replica, column.rate, _or_nan(price), _or_nan(power))
            for name, value in zip(_FIGURES, row, strict=True):
                figures[name].append(value)
    count = len(labels)
    left_out = Rejection("no_room", NO_ROOM, searched - count, structural=False)
    return ColumnTable(
        pools=tuple(pools),
        pool=np.array(pool, dtype=np.int64),
        axes={"attention_dp": np.ones(count, dtype=np.int64)},
        figures={name: np.array(values) for name, values in figures.items()} | {"in_flight": np.zeros(count)},
        meets_limits=np.ones(count, dtype=bool),
        searched=searched,
        legal=count,
        meeting=count,
        missed={},
        rejected=(left_out,) if searched > count else (),
        labels=tuple(labels),
    )


def _per_device(case: TableCase) -> dict[str, dict[str, float | None]]:
    """Return price [USD/h] and power [W] of a device by inventory, None where it is not known."""
    powers = {name: hardware.power.value if hardware.power else None for name, hardware in case.hardware.items()}
    return {
        "cost": {name: item.price for name, item in case.scenario.inventory.items()},
        "power": {name: powers.get(name) for name in case.scenario.inventory},
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def listed_reduced(problem: PlanningProblem) -> PlanningProblem:
    """Return the problem over the columns that an optimal plan may need, with every pair of them.

    Of a role on an inventory only devices and rate are read. A column goes if another of its size does more, or as much
    and stands before it; or if several smaller ones fit in its place and do more together.
    """
    table = problem.table
    rate, sizes = table.figures["rate"], table.figures["devices"].astype(np.int64)
    kept: list[int] = []
    for number, pool in enumerate(table.pools):
        best: dict[int, int] = {}
        for column in np.nonzero(table.pool == number)[0].tolist():
            size = int(sizes[column])
            if size not in best or rate[column] > rate[best[size]]:
                best[size] = column
        stock = problem.stocks[pool.inventory]
        for size, column in best.items():
            smaller = [(size // other, k) for other, k in best.items() if fits_instead(size, other, stock)]
            if not any(times * rate[k] > rate[column] for times, k in smaller):
                kept.append(column)
    small = table.take(np.array(sorted(kept), dtype=np.int64))
    return problem._replace(table=small, routes=_every_pair(small))


def _every_pair(table: ColumnTable) -> Routes:
    sides = [np.nonzero(table.where(role=role))[0] for role in ("prefill", "decode")]
    prefill, decode = (part.ravel() for part in np.meshgrid(*sides, indexing="ij"))
    return _pairs(prefill.tolist(), decode.tolist())


def _pairs(prefill: Sequence[int], decode: Sequence[int]) -> Routes:
    nothing = np.zeros(len(prefill))
    here, there = np.array(prefill, dtype=np.int64), np.array(decode, dtype=np.int64)
    return Routes(here, there, nothing, nothing, nothing, nothing)


def _flows(table: ColumnTable, replicas: Sequence[int]) -> list[Flow]:
    """Return what passes between columns: all that the weaker side can do, in proportion to what each column can."""
    able = np.maximum(np.array(replicas, dtype=np.float64), 0.0) * table.figures["rate"]
    prefill, decode = (np.nonzero(table.where(role=role) & (able > 0))[0] for role in ("prefill", "decode"))
    stronger = max(float(able[prefill].sum()), float(able[decode].sum()))
    return [
        Flow(p, d, float(able[p] * able[d]) / stronger) for p, d in itertools.product(prefill.tolist(), decode.tolist())
    ]


def listed_plan(
    case: TableCase, problem: PlanningProblem, replicas: Sequence[int], claim: Claim, statistics: Statistics
) -> Plan:
    """Return the plan that deploys ``replicas[c]`` replicas of each column c; all follows from them."""
    table = problem.table
    flows = _flows(table, replicas)
    pairs = _pairs([flow.prefill for flow in flows], [flow.decode for flow in flows])
    chosen, routes = deployments(problem._replace(routes=pairs), replicas, flows, [], {})
    per_device = _per_device(case)
    devices = {name: stock.devices for name, stock in problem.stocks.items()}
    total = totals(chosen, per_device["cost"], per_device["power"], devices)
    count = len(case.columns)
    scope = f"{grouped(count)} column{'s' if count > 1 else ''} of the table, inside the table's own linear model"
    record = record_of(case.scenario.name, _resolved(case))
    return assembled(problem, chosen, routes, total, claim, statistics, (), record, scope)


def _resolved(case: TableCase) -> dict[str, Any]:
    """Return the scenario with every default filled in, its columns written out, and the files they are from."""
    given = case.scenario.model_fields_set
    left_out = {"links", "baseline", *(name for name in UNUSED if name not in given)}
    scenario = case.scenario.model_dump(mode="json", exclude_none=True, exclude=left_out)
    scenario["columns"] = [column._asdict() for column in case.columns]
    scenario["specifications"] = [specification._asdict() for specification in case.specifications]
    return scenario


def listed_shortfall(problem: PlanningProblem, reason: str) -> tuple[str, ...]:
    """Say what an infeasible case could reach instead."""
    if reason != "infeasible":
        return ()
    roles = {problem.table.pools[p].role for p in problem.table.pool}
    if not roles:
        return ("no column of the table has room in its inventory",)
    if len(roles) == 1 and roles < {"prefill", "decode"}:
        (there,) = roles
        other = "decode" if there == "prefill" else "prefill"
        return (f"every column that has room is for {there} alone: a request needs {other}, too",)
    free = problem._replace(limits={})
    able, (load,) = most_load(free, listed_reduced(free)), problem.loads
    if load.demand is not None and able < load.demand:
        return tuple(load_shortfall(load.demand, {"": able}, "request/s"))
    return tuple(together(problem))


def listed_notes(case: TableCase) -> Iterator[str]:
    """Yield what of a scenario a table leaves unchecked or unused."""
    _, workload = case.workload
    limits = [name for name, limit in workload.slo if limit is not None]
    if limits:
        yield f"limits of {', '.join(limits)} are not checked: a table has rates, no latencies"
    unused = [name for name in UNUSED if name in case.scenario.model_fields_set]
    if unused:
        yield f"not used: {', '.join(unused)}; the table has the rates"


def listed_evidence(
    case: TableCase, plan: Plan, problem: PlanningProblem, small: PlanningProblem, *, solve_again: bool
) -> Evidence:
    """Look up a plan's columns in the table, ``problem``, and find the best there is; ``small``: once reduced.

    ``solve_again``: where dynamic programming cannot find the best, let another solver than the plan's do it.
    """
    replicas, refused = [0] * len(problem.table), {}
    for deployment in plan.deployments:
        column = _column_of(problem.table, deployment)
        if column is None:
            refused[deployment.name] = "the table has no such column on this inventory"
        else:
            replicas[column] += deployment.replicas
    ended = Termination(plan.termination.reason, plan.termination.limit)
    stated = plan.objective
    claim = Claim(ended, stated.bound, listed_shortfall(problem, ended.reason), dict(stated.best))
    statistics = statistics_of(problem.table, len(small.table), plan.statistics.solver, plan.statistics.wall_s)
    rebuilt = listed_plan(case, problem, replicas, claim, statistics)
    optimum, best = found_again(problem, small, _per_device(case), case.scenario.solver.name, solve_again=solve_again)
    return Evidence(
        digest=rebuilt.scenario.sha256,
        rebuilt=rebuilt,
        refused=refused,
        limits={},
        stocks=problem.stocks,
        flow_violations=(),
        demands={load.workload: load for load in problem.loads},
        plan_limits=problem.limits,
        optimum=optimum,
        best=best,
        allowed_gap=allowed_gap(case.scenario.solver.relative_gap, case.scenario.solver.name),
    )


def _column_of(table: ColumnTable, deployment: AnyDeployment) -> int | None:
    """Return the column that a deployment stands for; of several with its name, that with the rate it claims."""
    if not isinstance(deployment, ListedDeployment):
        return None
    d = deployment
    there = table.where(workload=d.workload, inventory=d.inventory, role=d.role)
    there &= np.array([label == d.label for label in table.labels], dtype=bool)
    there &= table.figures["devices"] == d.devices_per_replica
    return min(
        np.nonzero(there)[0].tolist(),
        key=lambda column: abs(d.replicas * float(table.figures["rate"][column]) - d.requests_per_s),
        default=None,
    )
