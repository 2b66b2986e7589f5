"""Wires the rooms together: solve a case, verify a plan."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from formulations import FORMULATIONS
from planner.baseline import compared
from planner.bracket import agreed
from planner.catalog import AnyCase, Case, TableCase, scenario_from_data
from planner.catalog.quality import quality_note
from planner.catalog.table_columns import changed_tables, with_recorded
from planner.certainty import certainty
from planner.columns import enumerate as columns
from planner.columns.legality import limits
from planner.decode import Choice, Claim, decode, statistics_of
from planner.errors import InternalError
from planner.evidence import evidence, evidence_of_figures, shortfall
from planner.explain.limits import limits_of
from planner.listed import (
    listed_evidence,
    listed_notes,
    listed_plan,
    listed_problem,
    listed_reduced,
    listed_shortfall,
)
from planner.milp.model import Milp, SolveResult, Termination
from planner.optimizers.lexicographic import lexicographic
from planner.plan import LATENCIES, Deployment, Plan
from planner.problem import PlanningProblem
from planner.problems import planning_problem, reduced
from planner.report import Report
from planner.solvers import solver as solver_named
from planner.table import ColumnTable, Rejection
from planner.verify import Verdict, judge

OPTIMUM_NOT_RECOMPUTED = "the optimum was not proven a second time; the solver's proof stands alone"
PROVEN_BY_VERIFY = "the optimum rests on the proof of {solver}; `planner verify` proves it again with another solver"
Stage = Callable[[str], None]


def _silent(stage: str) -> None:
    """Ignore progress."""


def _as_it_is(milp: Milp) -> Milp:
    return milp


def solve(case: AnyCase, on_stage: Stage = _silent) -> Report:
    """Find the best plan of a case, check it, and explain it.

    Infeasible and out-of-time are results: see ``report.plan.termination``.

    Raises:
        InputError: the solver it asks for is not there.
        InternalError: the plan found fails its own verification.
    """
    started = time.perf_counter()
    solver_named(case.scenario.solver.name)  # a solver that is not there is an error before any work
    if isinstance(case, TableCase):
        return _solve_table(case, on_stage, started)
    on_stage("evaluating configurations")
    table = search(case)
    problem = planning_problem(case, table)
    small = reduced(case, problem)
    on_stage("optimising")
    plan, result = best_plan(case, problem, small, started)
    why_not = shortfall(case, problem, result.termination.reason)
    plan = plan._replace(shortfall=why_not, baseline=compared(case, plan), certainty=certainty(case, plan))
    on_stage("verifying")
    verdict = judge(plan, evidence(case, plan, problem, small, solve_again=False))
    plan = _accepted(plan, verdict, started)
    workloads = case.scenario.workloads
    return Report(
        plan=plan,
        asked="; ".join(_asked(problem)),
        limits=limits_of(plan, {name: limits(workload) for name, workload in workloads.items()}),
        rejected=(*table.rejected, *_missed_limits(table)),
        notes=(*_notes(result, verdict), *dict.fromkeys(_quality(case, plan))),
    )


def best_plan(
    case: Case,
    problem: PlanningProblem,
    small: PlanningProblem,
    started: float,
    restrict: Callable[[Milp], Milp] = _as_it_is,
    best: Mapping[str, float] = MappingProxyType({}),
) -> tuple[Plan, SolveResult]:
    """Return the best plan of a problem, not judged yet, and how the search for it ended.

    ``small`` is the problem once reduced, ``started`` when the clock of the time limit started; ``restrict`` adds what
    else a plan must be; ``best``: of a weighted goal, what each of its metrics is divided by, where that is known.
    """
    left = case.scenario.solver.time_limit - (time.perf_counter() - started)
    choice, result = optimise(case, small, left, restrict)
    claim = Claim(result.termination, result.bound, best={**best, **result.best})
    statistics = statistics_of(problem.table, len(small.table), result.solver, time.perf_counter() - started)
    return decode(case, small, choice, claim, statistics), result


def _solve_table(case: TableCase, on_stage: Stage, started: float) -> Report:
    on_stage("optimising")
    problem = listed_problem(case)
    small = listed_reduced(problem)
    choice, result = optimise(case, small, case.scenario.solver.time_limit - (time.perf_counter() - started))
    why_not = listed_shortfall(problem, result.termination.reason)
    claim = Claim(result.termination, result.bound, why_not, dict(result.best))
    statistics = statistics_of(problem.table, len(small.table), result.solver, time.perf_counter() - started)
    plan = listed_plan(case, small, choice.replicas, claim, statistics)
    on_stage("verifying")
    verdict = judge(plan, listed_evidence(case, plan, problem, small, solve_again=False))
    return Report(
        plan=_accepted(plan, verdict, started),
        asked="; ".join(_asked(problem)),
        limits=(),
        rejected=problem.table.rejected,
        notes=(*_notes(result, verdict), *listed_notes(case)),
    )


def _accepted(plan: Plan, verdict: Verdict, started: float) -> Plan:
    """Return the plan with the time it took; one that is refused is a fault of ours."""
    if verdict.reasons:
        msg = "the plan fails its own verification; please report this:\n" + "\n".join(verdict.reasons)
        raise InternalError(msg)
    return plan._replace(statistics=plan.statistics._replace(wall_s=time.perf_counter() - started))


def _notes(result: SolveResult, verdict: Verdict) -> tuple[str, ...]:
    """Say what a reader must know to trust the plan as far as it goes, and no further."""
    again = PROVEN_BY_VERIFY.format(solver=result.solver.partition(" ")[0])
    rests = result.termination.reason in ("optimal", "within_gap") and not verdict.optimum_proven
    return (*result.notes, *([again] if rests else []))


def _quality(case: Case, plan: Plan) -> Iterator[str]:
    """Yield what is known of the quality of formats that a plan uses instead of the checkpoint's own."""
    for d in plan.deployments:
        if isinstance(d, Deployment):
            own = case.architecture(d.workload).precision
            yield from quality_note(d.weight_precision, d.kv_precision, own)


def case_of(plan: Plan, folder: Path) -> tuple[AnyCase, tuple[str, ...]]:
    """Return the case inside a plan, and which specifications are no longer what the plan was made from.

    Raises:
        InputError: the scenario inside the plan cannot be loaded.
    """
    extra = ("specifications", "grid")
    resolved = {key: value for key, value in plan.scenario.resolved.items() if key not in extra}
    case = scenario_from_data(resolved, folder=folder, origin="scenario.resolved")
    return case, tuple(_changed_specifications(case, plan.scenario.resolved.get("specifications")))


def verify_plan(plan: Plan, folder: Path) -> Verdict:
    """Judge a plan from its scenario and the specifications it names.

    Raises:
        InputError: the scenario inside the plan cannot be loaded.
    """
    case, changed = case_of(plan, folder)
    if changed:
        return Verdict(changed)
    if isinstance(case, TableCase):
        return _verify_table(plan, case, folder)
    problem = planning_problem(case, search(case))
    return judge(plan, evidence(case, plan, problem, reduced(case, problem), solve_again=True))


def verify_figures(plan: Plan, case: AnyCase, folder: Path) -> Verdict:
    """Judge everything of a plan but its optimality, which takes a search: legality, memory, figures, limits, room."""
    if isinstance(case, TableCase):
        return _verify_table(plan, case, folder)
    return judge(plan, evidence_of_figures(case, plan))


def _verify_table(plan: Plan, case: TableCase, folder: Path) -> Verdict:
    case = with_recorded(case, plan.scenario.resolved.get("specifications"))
    changed = changed_tables(case, folder)
    if changed:
        return Verdict(tuple(changed))
    problem = listed_problem(case)
    return judge(plan, listed_evidence(case, plan, problem, listed_reduced(problem), solve_again=True))


def optimise(
    case: AnyCase, problem: PlanningProblem, time_limit: float, restrict: Callable[[Milp], Milp] = _as_it_is
) -> tuple[Choice, SolveResult]:
    """Return the best choice of replicas and flows found within a time limit [s], and how the search ended.

    ``restrict`` adds what else a plan must be; variables it adds come last.
    """
    none = Choice([0] * len(problem.table))
    if time_limit <= 0:
        return none, SolveResult(Termination("stopped", "time"))
    options = case.scenario.solver
    encoded, solver = FORMULATIONS["serving"].build(problem), solver_named(options.name).solve
    started = time.perf_counter()
    known = agreed(problem, solver, time_limit) if isinstance(case, Case) and restrict is _as_it_is else ()
    left = time_limit - (time.perf_counter() - started)
    result = lexicographic(restrict(encoded.milp), solver, left, options.relative_gap, known=known)
    if result.point is None:
        return none, result
    return Choice(encoded.replicas(result.point), encoded.flows(result.point)), result


def search(case: Case) -> ColumnTable:
    """Return the columns that the problem of a case is made of: within all limits, and only those that can matter."""
    return columns.grid_table(case, within_limits=True, best_only=keeps_best_only(case))


def keeps_best_only(case: Case) -> bool:
    """Tell whether of mixed replicas the highest rate of each size is all that the goals and loads read."""
    fixed = any(workload.requests.kind == "concurrency" for workload in case.scenario.workloads.values())
    latencies = any(name in LATENCIES for goal in case.scenario.objective for name in goal.metrics)
    return not fixed and not latencies


def _asked(problem: PlanningProblem) -> Iterator[str]:
    several = len(problem.loads) > 1
    for load in problem.loads:
        if load.demand is not None:
            unit = "request/s" if load.kind == "rate" else "requests in flight"
            yield f"{load.demand:g} {unit}" + (f" of {load.workload}" if several else "")


def _missed_limits(table: ColumnTable) -> Iterator[Rejection]:
    """Count the legal configurations that miss each latency limit; one may miss several."""
    for name, count in table.missed.items():
        if count:
            yield Rejection(name, f"miss the {name.upper()} limit", count, structural=False)


def _changed_specifications(case: AnyCase, recorded: object) -> list[str]:
    """Name the specifications that are no longer what the plan was made from."""
    known = recorded if isinstance(recorded, list) else []
    return [
        f"{s.kind} '{s.name}' is not the one this plan was made from: solve again"
        for s in case.specifications
        if s._asdict() not in known
    ]
