"""Why not another configuration: the best plan that has it and what that costs, or what stands in its way."""

import dataclasses
import time
from collections.abc import Iterator, Sequence

import numpy as np

from planner.catalog import Case, load_engine
from planner.catalog.case import EngineUse
from planner.columns.enumerate import merged, setting_table
from planner.columns.legality import limits
from planner.columns.obstacles import Stopped, obstacles
from planner.columns.restriction import FOLLOWS, SEARCHED, Restriction, narrowed, searched, such, widened
from planner.columns.setting import Setting, settings
from planner.errors import InputError, Problem, did_you_mean
from planner.evidence import NO_PAIR, most_load, together
from planner.explain.shortfall import latency_shortfall, load_shortfall
from planner.explain.trades import trades
from planner.explanation import Obstacle, WhyNot
from planner.pipeline import best_plan, keeps_best_only
from planner.plan import Deployment, Plan
from planner.problem import Load, PlanningProblem
from planner.problems import planning_problem, reduced
from planner.schema.precision import FORMATS, KV_FORMATS
from planner.schema.scenario import Scheduler
from planner.studies.resolve import checked
from planner.table import POLICIES, ColumnTable
from planner.text import runs

ROLES = ("mixed", "prefill", "decode")
_OTHER_HALF = {"prefill": "decode", "decode": "prefill"}
NO_ROOM = "so many such replicas have no room, or serve nothing within the limits"
_UNLIKE = "legal replicas are of another moe_tp, or turn on other overlaps"


def why_not(case: Case, plan: Plan, asked: Restriction, *, at_least_one: bool = False) -> WhyNot:
    """Find the best plan that has what was asked for, and what that costs; or why there is none.

    Args:
        case: the case of the plan.
        plan: the best plan.
        asked: what replicas shall be.
        at_least_one: one such replica at least serves something, the others are free; otherwise all requests of the
            workload pass through such replicas: all replicas of the role are such and, with role prefill or decode,
            none serves requests whole.

    Raises:
        InputError: nothing is asked for, or names and values that make no sense, all of them.
    """
    _check(case, asked)
    started = time.perf_counter()
    wide, outside = _widened(case, asked)
    result = WhyNot(
        asked={name: list(v) if isinstance(v, tuple) else v for name, v in asked.given.items()},
        meaning=_meaning(asked, at_least_one=at_least_one),
        outside=outside,
        deployed=_deployed(plan, asked, at_least_one=at_least_one),
        trades=(),
        other=None,
        obstacles=(),
        reasons=(),
    )
    if result.deployed:
        return result._replace(other=plan, trades=trades(plan, plan))
    narrow = [narrowed(setting, asked) for setting in settings(wide) if asked.fits(setting)]
    best_only = keeps_best_only(case) and not any(name in asked.given for name in FOLLOWS)
    mine = [such(setting_table(s, within_limits=True, best_only=best_only), asked) for s in narrow]
    if not any(len(table) for table in mine):
        found, reasons = _impossible(wide, asked, narrow)
        return result._replace(obstacles=found, reasons=reasons)
    problem = planning_problem(wide, _with_others(case, wide, mine, asked, at_least_one=at_least_one))
    small = _required(reduced(wide, problem), asked, at_least_one=at_least_one)
    other, _ = best_plan(wide, problem, small, started)
    if not other.deployments:
        without = [setting for setting, table in zip(narrow, mine, strict=True) if not len(table)]
        found, more = _impossible(wide, asked, without) if without else ((), ())
        return result._replace(obstacles=found, reasons=(*_missing(problem, small, other), *more))
    other = checked(wide, other, problem, small)
    return result._replace(other=other, trades=trades(plan, other))


def _check(case: Case, asked: Restriction) -> None:
    """Refuse names that the scenario does not know and values that no configuration can have, all at once."""
    scenario = case.scenario
    known: dict[str, Sequence[str]] = {
        "workload": tuple(scenario.workloads),
        "role": ROLES,
        "inventory": tuple(scenario.inventory),
        "hardware": tuple(dict.fromkeys(hardware.name for hardware in case.hardware.values())),
        "weight_precision": tuple(FORMATS),
        "kv_precision": KV_FORMATS,
        "prefill_policy": POLICIES,
    }
    problems = [
        Problem(name, 0, 0, "", f"there is no '{value}' here; {did_you_mean(value, known[name])}")
        for name, value in asked.given.items()
        if name in known and value not in known[name]
    ]
    zero = ("redundant_experts", "speculative_tokens", "mean_running", "prefill_utilisation")
    for name, value in asked.given.items():
        least = 0 if name in zero else 1
        if isinstance(value, int) and value < least:
            problems.append(Problem(name, 0, 0, "", f"must be at least {least} (got {value})"))
    optional = {name for use in case.engines for name in use.engine.fusions}
    problems += [
        Problem("overlaps", 0, 0, "", f"there is no '{name}' here; {did_you_mean(name, optional)}")
        for name in asked.overlaps
        if name not in optional
    ]
    if not asked.given:
        problems.append(Problem("", 0, 0, "", "name at least one field of a replica, like role or tp"))
    if problems:
        raise InputError(problems)


def _widened(case: Case, asked: Restriction) -> tuple[Case, tuple[str, ...]]:
    """Return the case with what was asked for in its search, and what of it was not searched."""
    scenario, before, engines = case.scenario, settings(case), case.engines
    outside = [*_not_searched(case, [setting for setting in before if asked.fits(setting)], asked)]
    models = dict(scenario.models)
    for name in {load.model for workload, load in scenario.workloads.items() if asked.concerns(workload)}:
        accepted = models[name].precisions or (case.architectures[name].precision,)
        wanted = asked.weight_precision
        if wanted and wanted not in accepted:
            outside.append(f"weight_precision {wanted} is not accepted for {name}: {', '.join(accepted)}")
            models[name] = models[name].model_copy(update={"precisions": (*accepted, wanted)})
    known = [use.engine.name for use in engines]
    if asked.engine and asked.engine not in known:
        outside.append(f"engine {asked.engine} is not searched: {', '.join(known)}")
        engine = load_engine(asked.engine).value
        engines = (*engines, EngineUse(engine, engine.versions[-1], Scheduler()))
        choice = scenario.engine[0].model_copy(update={"name": engine.name, "version": None, "scheduler": Scheduler()})
        scenario = scenario.model_copy(update={"engine": (*scenario.engine, choice)})
    search = widened(scenario.search, before, asked)
    scenario = scenario.model_copy(update={"search": search, "models": models})
    return case._replace(scenario=scenario, engines=engines), tuple(outside)


def _not_searched(case: Case, mine: Sequence[Setting], asked: Restriction) -> Iterator[str]:
    """Yield what of a restriction the scenario's search does not hold, where it could."""
    search = case.scenario.search
    for name in SEARCHED:
        value = asked.given.get(name)
        if value is not None and mine and not any(value in searched(setting, name) for setting in mine):
            there = list(dict.fromkeys(v for setting in mine for v in searched(setting, name)))
            yield f"{name} {value} is not searched: {runs(there)}"
    if asked.overlaps and search.overlaps != "any":
        yield "overlaps that the engine leaves off are not searched"
    if asked.role and search.roles is not None and asked.role not in search.roles:
        yield f"role {asked.role} is not searched: {', '.join(search.roles)}"


def _deployed(plan: Plan, asked: Restriction, *, at_least_one: bool) -> bool:
    """Tell whether a plan has what was asked for already."""
    mine = [d for d in plan.deployments if isinstance(d, Deployment) and asked.concerns(d.workload)]
    such = [d for d in mine if asked.deployed_by(d)]
    if asked.replicas is not None and sum(d.replicas for d in such) != asked.replicas:
        return False
    return bool(such) and (at_least_one or all(d in such or d.role == _OTHER_HALF.get(asked.role or "") for d in mine))


def _with_others(
    case: Case, wide: Case, mine: Sequence[ColumnTable], asked: Restriction, *, at_least_one: bool
) -> ColumnTable:
    """Return such columns, marked, with those that may stand beside them: other workloads, and the other half of pairs.

    Where one such replica is enough, that is all that the scenario searches.
    """
    engines, others = {use.engine.name for use in case.engines}, []
    counted = asked.replicas is not None
    for setting in settings(wide):
        beside = not asked.concerns(setting.workload_name) or setting.role == _OTHER_HALF.get(asked.role or "")
        if setting.engine.name in engines and (at_least_one or beside):
            as_before = setting._replace(search=case.scenario.search, model=case.model(setting.workload_name))
            best_only = keeps_best_only(case) and not counted
            table = setting_table(as_before, within_limits=True, best_only=best_only)
            # Where such replicas are counted, none of them hides among the others.
            others.append(such(table, asked, wanted=False) if counted and asked.fits(setting) else table)
    table = merged([*mine, *others])
    marked = np.arange(len(table)) < sum(map(len, mine))
    # Where replicas are counted, several smaller ones are no stand-in for a large one.
    marks = np.where(marked, 1 if asked.replicas is None else table.figures["devices"], 0).astype(np.int64)
    return dataclasses.replace(table, marks=marks)


def _required(small: PlanningProblem, asked: Restriction, *, at_least_one: bool) -> PlanningProblem:
    """Return a problem whose plans have such replicas, as many as were asked for."""
    columns = tuple(np.nonzero(small.table.marked)[0].tolist())
    if asked.replicas is not None:
        small = small._replace(fixed=((columns, asked.replicas),))
    return small._replace(asked=(columns,)) if at_least_one else small


def _impossible(
    wide: Case, asked: Restriction, narrow: Sequence[Setting]
) -> tuple[tuple[Obstacle, ...], tuple[str, ...]]:
    """Return what stops every such replica, the one that comes furthest first, and what else there is to say."""
    if not narrow:
        return (), tuple(_no_place(wide, asked))
    found: list[Stopped] = []
    reasons: list[str] = []
    for setting in narrow:
        stopped = obstacles(setting)
        found += stopped
        if not stopped:
            legal = such(setting_table(setting, within_limits=False), asked)
            reasons += latency_shortfall(legal, limits(setting.workload)) if len(legal) else [_UNLIKE]
    first = {stopped.obstacle.name: stopped.obstacle for stopped in reversed(found)}
    ordered = dict.fromkeys(stopped.obstacle.name for stopped in found)
    return tuple(first[name] for name in ordered), tuple(dict.fromkeys(reasons))


def _no_place(wide: Case, asked: Restriction) -> Iterator[str]:
    """Say why no part of the scenario can have such replicas, whatever their degrees."""
    uses = [use for use in wide.engines if asked.engine in (None, use.engine.name)]
    for name, hardware in wide.hardware.items():
        if asked.inventory not in (None, name) or asked.hardware not in (None, hardware.name):
            continue
        for use in uses:
            vendors = use.engine.vendors
            if hardware.vendor not in vendors:
                whose = f"{hardware.name} is of {hardware.vendor}"
                yield f"{use.engine.name} runs on devices of {', '.join(vendors)}; {whose}"
            elif asked.role in _OTHER_HALF and use.engine.disaggregation is None:
                yield f"{use.engine.name} does not serve prefill and decode apart"
            elif asked.role in _OTHER_HALF and use.scheduler.policy != "iteration":
                yield "prefill and decode apart need a scheduler with policy iteration"
    if asked.inventory and asked.hardware and wide.hardware[asked.inventory].name != asked.hardware:
        yield f"inventory {asked.inventory} has {wide.hardware[asked.inventory].name}, not {asked.hardware}"


def _missing(problem: PlanningProblem, small: PlanningProblem, other: Plan) -> Iterator[str]:
    """Say why columns that meet all limits make no plan: what each workload alone could have, else what they share."""
    if other.termination.reason != "infeasible":
        yield other.termination.detail
        return
    short = [line for load in problem.loads for line in _too_little(problem, small, load)]
    if not short:
        yield "there are such replicas within the latency limits, but proven to be no plan with them"
    yield from short or together(problem)


def _too_little(problem: PlanningProblem, small: PlanningProblem, load: Load) -> Iterator[str]:
    """Say how much of its load a workload could have, had it all devices and links, where that is not enough."""
    mine, few = (_only(whole, load)._replace(limits={}, links=()) for whole in (problem, small))
    able, several = most_load(mine, few), len(problem.loads) > 1
    among = f" for {load.workload}" if several else ""
    if not able:
        yield (NO_ROOM if few.fixed else NO_PAIR) + among
    elif load.demand is not None and able < load.demand:
        unit = "request/s" if load.kind == "rate" else "requests in flight"
        yield from load_shortfall(load.demand, {"": able}, unit + among)


def _only(problem: PlanningProblem, load: Load) -> PlanningProblem:
    """Return the part of a problem that one workload has to do with."""
    mine = np.nonzero(problem.table.where(workload=load.workload))[0]
    place = {column: i for i, column in enumerate(mine.tolist())}
    routes = problem.routes.take(np.nonzero(np.isin(problem.routes.prefill, mine))[0])
    prefill, decode = (np.array([place[c] for c in side.tolist()], np.int64) for side in routes[:2])
    fixed = ((tuple(place[c] for c in columns if c in place), n) for columns, n in problem.fixed)
    asked = (tuple(place[c] for c in columns if c in place) for columns in problem.asked)
    return problem._replace(
        table=problem.table.take(mine),
        routes=routes._replace(prefill=prefill, decode=decode),
        loads=(load,),
        fixed=tuple(part for part in fixed if part[0]),
        asked=tuple(columns for columns in asked if columns),
    )


def _meaning(asked: Restriction, *, at_least_one: bool) -> str:
    """Say what is required of the plan."""
    if at_least_one:
        return f"something passes through {asked.words()}, the rest is free"
    return f"all requests pass through {asked.words()}"
