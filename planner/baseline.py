"""What runs today, at its best within the same limits, beside a plan."""

import numpy as np

from formulations import FORMULATIONS
from planner.catalog import Case
from planner.columns.enumerate import merged, setting_table
from planner.columns.pairs import routes_of
from planner.columns.prune import prune
from planner.columns.setting import Setting, settings
from planner.constants import MILLISECONDS_PER_SECOND
from planner.decode import Choice, chosen_deployments, stocks, total_of
from planner.deployments import predicted
from planner.milp.stock import Stock
from planner.plan import Comparison, Plan, Predicted, Totals, metric_value
from planner.problem import GoalSpec, PlanningProblem
from planner.problems import planning_problem
from planner.schema.scenario import Running
from planner.schema.search import Search
from planner.solvers import solver as solver_named
from planner.table import ColumnTable
from planner.units import METRIC_UNITS

_SECONDS = 30.0
_METRICS = ("requests", "tokens", "devices", "cost", "power", "ttft", "tpot")


def compared(case: Case, plan: Plan) -> tuple[Comparison, ...]:
    """Return what a plan gains over the scenario's baseline, metric by metric; nothing where there is no baseline.

    The baseline keeps its degrees, limits and replicas. How hard it is run is chosen: as hard as the limits allow. Its
    figures are unknown where it does not meet them at any load.
    """
    if not case.scenario.baseline or not plan.deployments:
        return ()
    # What the scenario searches does not bind what runs.
    free = case._replace(scenario=case.scenario.model_copy(update={"search": Search()}))
    today, plans = _at_its_best(free), _of_served(case, plan)
    found = []
    for metric in _METRICS:
        ours, theirs = plans[metric], today.get(metric)
        gain = None if ours is None or not theirs else ours / theirs - 1
        found.append(Comparison(metric, METRIC_UNITS[metric], theirs, ours, gain))
    return tuple(found)


def _metrics(total: Totals, figures: Predicted) -> dict[str, float | None]:
    """Return the metrics compared, latencies as they are and not in the steps of a goal [s]."""
    exact = {"ttft": figures.ttft_ms, "tpot": figures.tpot_ms}
    found = {metric: metric_value(metric, total, figures) for metric in _METRICS if metric not in exact}
    return found | {name: None if ms is None else ms / MILLISECONDS_PER_SECOND for name, ms in exact.items()}


def _of_served(case: Case, plan: Plan) -> dict[str, float | None]:
    """Return the plan's metrics over the workloads that the baseline serves."""
    first = next(iter(case.scenario.workloads))
    served = {running.workload or first for running in case.scenario.baseline}
    mine = [d for d in plan.deployments if d.workload in served]
    routes = [route for route in plan.routes if route.prefill in {d.name for d in mine}]
    tokens = {name: workload.output_tokens for name, workload in case.scenario.workloads.items()}
    total, figures = total_of(case, stocks(case), mine), predicted(mine, routes, tokens)
    return _metrics(total, figures)


def _at_its_best(case: Case) -> dict[str, float | None]:
    """Return today's metrics at the most load within the limits; none where it meets them at no load."""
    baseline = case.scenario.baseline
    tables = [_table(case, running) for running in baseline]
    if not all(len(table) for table in tables):
        return {}
    ends = np.cumsum([len(table) for table in tables]).tolist()
    problem = _fixed(case, merged(tables), [(end - len(t), end) for end, t in zip(ends, tables, strict=True)])
    encoded = FORMULATIONS["serving"].build(problem)
    result = solver_named("highs").solve(encoded.milp.with_objective(encoded.milp.objectives[0]), _SECONDS, 0.0)
    if result.point is None:
        return {}
    choice = Choice(encoded.replicas(result.point), encoded.flows(result.point))
    chosen, routes = chosen_deployments(case, problem, choice)
    total = total_of(case, problem.stocks, chosen)
    figures = predicted(chosen, routes, {load.workload: load.output_tokens for load in problem.loads})
    return _metrics(total, figures)


def _table(case: Case, running: Running) -> ColumnTable:
    """Return the loads at which replicas that run today meet the limits."""
    setting = _setting(case, running)
    if setting is None:
        return merged([])
    table = setting_table(setting, within_limits=True, best_only=True)
    value = table.figures["rate"]
    stocks = {running.inventory: _room(case, running.inventory)}
    return prune(table, value, stocks, ttft_limited=setting.workload.slo.ttft is not None)


def _setting(case: Case, running: Running) -> Setting | None:
    """Return the setting of what runs, its search restricted to it.

    Where an engine is not named, the first that runs there counts; None where none does, in that role.
    """
    workload = running.workload or next(iter(case.scenario.workloads))
    able = [
        s
        for s in settings(case)
        if (s.workload_name, s.inventory, s.role) == (workload, running.inventory, running.role)
        and running.engine in (None, s.engine.name)
    ]
    if not able:
        return None
    setting = able[0]
    search = Search(
        tp=(running.tp,),
        pp=(running.pp,),
        attention_dp=(running.attention_dp,),
        ep=(running.ep,),
        context_parallel=(running.context_parallel,),
        redundant_experts=(0,),
        kv_precisions=(running.kv_precision,),
        speculative_tokens=(running.speculative_tokens,),
        overlaps="default",
        prefill_policies=(setting.engine.scheduling.policies.value[0],),
        max_num_seqs=None if running.max_num_seqs is None else (running.max_num_seqs,),
        max_num_batched_tokens=None if running.max_num_batched_tokens is None else (running.max_num_batched_tokens,),
    )
    model = case.model(workload)
    if running.weight_precision:
        model = model.model_copy(update={"precisions": (running.weight_precision,)})
    return setting._replace(search=search, model=model)


def _room(case: Case, inventory: str) -> Stock:
    """Return room for all that runs on an inventory: it stands there already."""
    devices = sum(r.replicas * r.tp * r.pp * r.attention_dp for r in case.scenario.baseline if r.inventory == inventory)
    return Stock((devices,), devices)


def _fixed(case: Case, table: ColumnTable, parts: list[tuple[int, int]]) -> PlanningProblem:
    """Return the problem of running exactly the replicas of today, ``parts`` being the columns each may be run at."""
    problem = planning_problem(case, table)
    served = {pool.workload for pool in table.pools}
    return problem._replace(
        routes=routes_of(settings(case), table),
        loads=tuple(load._replace(demand=None, kind="rate") for load in problem.loads if load.workload in served),
        goals=[GoalSpec("requests", "maximize")],
        limits={},
        stocks={inventory: _room(case, inventory) for inventory in {pool.inventory for pool in table.pools}},
        fixed=tuple(
            (tuple(range(a, b)), running.replicas)
            for (a, b), running in zip(parts, case.scenario.baseline, strict=True)
        ),
    )
