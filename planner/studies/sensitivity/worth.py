"""What one more of each resource is worth: solved again exactly, and the linear relaxation's duals beside it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from formulations import FORMULATIONS
from planner.catalog import Case
from planner.columns.enumerate import merged
from planner.columns.resample import walked
from planner.columns.setting import Setting, settings
from planner.decode import stocks
from planner.milp.model import INFINITY, Milp
from planner.problem import PlanningProblem
from planner.problems import planning_problem, reduced
from planner.solvers.highs import relaxation
from planner.studies.resolve import Place, with_values
from planner.studies.sensitivity.sampler import best

_KILOWATT = 1000.0


class Worth(NamedTuple):
    """How the best first goal moves with one more of a resource: exactly, and by the duals of the linear relaxation.

    ``exact`` is None where there is no plan then; ``dual`` is first-order, of a problem without whole replicas.
    """

    resource: str
    more: str
    exact: float | None
    dual: float | None


class _More(NamedTuple):
    """One more of a resource: the values that change, and how far bounds of rows move that are shares of a limit."""

    resource: str
    more: str
    values: Mapping[Place, Any]
    shares: Mapping[str, float] = {}


def worths(case: Case) -> Iterator[Worth]:
    """Yield what one more of each inventory and limit, and of the load asked for, does to the best first goal."""
    every = settings(case)
    problem = _problem(case, every)
    now = best(case, every, problem, lambda: problem)
    if now is None:
        return
    small = reduced(case, problem._replace(goals=list(problem.goals[:1])))
    milp = FORMULATIONS["serving"].build(small).milp
    relaxed = relaxation(milp.with_objective(milp.objectives[0]))
    duals = relaxed[1] if relaxed is not None else None
    for more in (*_inventories(case), *_limits(case), *_loads(case)):
        changed = with_values(case, more.values)
        then = searched(changed, settings(changed))
        moved = {**_moved(milp, small._replace(stocks=stocks(changed))), **more.shares}
        dual = None if duals is None else sum(duals[name] * step for name, step in moved.items() if name in duals)
        yield Worth(more.resource, more.more, None if then is None else then - now[0], dual)


def searched(case: Case, every: Sequence[Setting]) -> float | None:
    """Return the best first goal of a case in its settings, the whole grid searched; None without a plan."""
    problem = _problem(case, every)
    found = best(case, every, problem, lambda: problem)
    return None if found is None else found[0]


def _problem(case: Case, every: Sequence[Setting]) -> PlanningProblem:
    return planning_problem(case, merged(walked(every)))


def _moved(milp: Milp, wider: PlanningProblem) -> dict[str, float]:
    """Return by how much the bounds of rows differ in a problem over the same columns with other stocks."""
    before = {row.name: row.upper for row in milp.rows}
    after = {row.name: row.upper for row in FORMULATIONS["serving"].build(wider).milp.rows}
    alike = {name for name, bound in before.items() if bound != INFINITY and name in after}
    return {name: after[name] - before[name] for name in alike if after[name] != before[name]}


def _inventories(case: Case) -> Iterator[_More]:
    for name, item in case.scenario.inventory.items():
        unit = next(unit for unit in ("nodes", "domains", "devices") if getattr(item, unit) is not None)
        place = ("scenario", "inventory", name, unit)
        yield _More(f"inventory.{name}", f"1 {unit[:-1]} of {item.hardware}", {place: getattr(item, unit) + 1})


def _limits(case: Case) -> Iterator[_More]:
    for metric, step, more in (("devices", 1, "1 device"), ("cost", 1.0, "1 USD/h"), ("power", _KILOWATT, "1 kW")):
        limit = getattr(case.scenario.limits, metric)
        if limit is not None:
            place = ("scenario", "limits", metric)
            yield _More(f"limits.{metric}", more, {place: limit + step}, {f"limit[{metric}]": step / limit})


def _loads(case: Case) -> Iterator[_More]:
    for name, workload in case.scenario.workloads.items():
        asked = workload.requests
        if asked.kind != "max":
            place = ("scenario", "workloads", name, "requests", "value")
            more = "1 request/s to carry" if asked.kind == "rate" else "1 request in flight to carry"
            yield _More(
                f"workloads.{name}.requests", more, {place: asked.value + 1}, {f"demand[{name}]": 1 / asked.value}
            )
