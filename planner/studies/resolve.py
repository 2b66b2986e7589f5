"""What studies share: the case of a plan or scenario file, that case with values changed, and its plan once more."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from planner import pipeline, yaml_io
from planner.catalog import AnyCase, Case, TableCase, load_scenario
from planner.errors import InputError, InternalError, Problem
from planner.evidence import evidence
from planner.exporters.json_file import read_plan
from planner.migration import Migration
from planner.milp.model import Milp
from planner.plan import Plan
from planner.problem import PlanningProblem
from planner.problems import planning_problem, reduced
from planner.table import ColumnTable
from planner.verify import judge
from planner.verify.optimum import Best

Place = tuple[str | int, ...]
C = TypeVar("C", bound=AnyCase | Migration)


class Question(NamedTuple):
    """What a study is about: a case, and the plan it was found in, None where a scenario was given."""

    case: AnyCase
    plan: Plan | None


class Answer(NamedTuple):
    """The best plan of a case, with its problem over all columns and over those that an optimal plan may need."""

    plan: Plan
    problem: PlanningProblem
    small: PlanningProblem


def question(source: Path, overrides: Sequence[str] = (), folder: Path | None = None) -> Question:
    """Read a plan file, or a scenario by path or shipped name.

    Args:
        source: the file, or the name of a shipped scenario.
        overrides: changes like ``"workloads.chat.slo.tpot=30 ms"``, of a scenario only.
        folder: where relative paths in the scenario of a plan start; beside the plan where not given.

    Raises:
        InputError: neither a plan nor a scenario, every fault of it, or a plan whose specifications have changed.
    """
    if not is_plan(source):
        return Question(load_scenario(source, overrides), None)
    if overrides:
        raise InputError.single(str(source), "fields can be set in a scenario, not in a plan")
    plan = read_plan(source)
    return Question(case_of(plan, folder or source.parent, str(source)), plan)


def solved_question(source: Path, folder: Path | None = None, overrides: Sequence[str] = ()) -> tuple[Case, Plan]:
    """Return a case of the cost model and its best plan: the one in the file, or found now for a scenario.

    Raises:
        InputError: as ``question``; a case over a table of columns; or one without a plan.
    """
    found, plan = question(source, overrides, folder)
    case = _priced(found, str(source))
    return case, _deployed(plan or pipeline.solve(case).plan, str(source))


def priced_case_of(plan: Plan, folder: Path = Path(), origin: str = "plan") -> Case:
    """Return the case of the cost model inside a plan that deploys something; ``origin`` names it in messages.

    Raises:
        InputError: it deploys nothing, or lists rates without costs; and as ``case_of``.
    """
    return _priced(case_of(_deployed(plan, origin), folder, origin), origin)


def _deployed(plan: Plan, origin: str) -> Plan:
    if not plan.deployments:
        raise InputError.single(origin, f"there is no plan to start from: {plan.termination.detail}", "deployments")
    return plan


def _priced(case: AnyCase, origin: str) -> Case:
    if isinstance(case, TableCase):
        raise InputError.single(origin, "its columns are listed in a table: there are no costs to look into", "columns")
    return case


def is_plan(source: Path) -> bool:
    """Tell whether a file is a plan rather than a scenario."""
    if source.suffix != ".json":
        return False
    data = yaml_io.parse_json(yaml_io.read_text(source), str(source))
    return isinstance(data, dict) and "deployments" in data


def case_of(plan: Plan, folder: Path = Path(), origin: str = "plan") -> AnyCase:
    """Return the case inside a plan; ``origin`` names the plan in messages.

    Raises:
        InputError: it cannot be loaded, or its specifications are no longer those the plan was made from.
    """
    case, changed = pipeline.case_of(plan, folder)
    if changed:
        raise InputError(Problem(origin, 0, 0, "", text) for text in changed)
    return case


def with_values(case: C, values: Mapping[Place, Any]) -> C:
    """Return a case with values replaced in memory, like {("scenario", "workloads", "chat", "slo", "ttft"): 1.2}.

    Paths go through fields, keys and places from the case on, so that hardware and calibration can change, too; those
    of a migration, from there on. Values are what the schema holds, in SI units, and are not checked again.

    Raises:
        KeyError: a path leads nowhere.
    """
    for path, value in values.items():
        case = _replaced(case, path, value)
    return case


def _replaced(whole: Any, path: Place, value: Any) -> Any:
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(whole, BaseModel):
        if first not in type(whole).model_fields:
            raise KeyError(first)
        return whole.model_copy(update={str(first): _replaced(getattr(whole, str(first)), rest, value)})
    if isinstance(whole, Mapping):
        return {**whole, first: _replaced(whole[first], rest, value)}
    if hasattr(whole, "_replace"):
        if first not in whole._fields:
            raise KeyError(first)
        return whole._replace(**{str(first): _replaced(getattr(whole, str(first)), rest, value)})
    if isinstance(whole, tuple) and isinstance(first, int):
        return (*whole[:first], _replaced(whole[first], rest, value), *whole[first + 1 :])
    raise KeyError(first)


def answer(
    case: Case, table: ColumnTable | None = None, restrict: Callable[[Milp], Milp] = lambda milp: milp
) -> Answer:
    """Find the best plan of a case and check it, all but its optimality, which rests on the solver's proof.

    Args:
        case: the case.
        table: the columns to choose from, all that the case searches where not given.
        restrict: adds what else a plan must be to the problem; see ``pipeline.best_plan``.

    Raises:
        InternalError: the plan found fails its own verification.
    """
    started = time.perf_counter()
    problem = planning_problem(case, pipeline.search(case) if table is None else table)
    small = reduced(case, problem)
    plan, _ = pipeline.best_plan(case, problem, small, started, restrict)
    return Answer(checked(case, plan, problem, small), problem, small)


def checked(case: Case, plan: Plan, problem: PlanningProblem, small: PlanningProblem) -> Plan:
    """Return a plan whose figures, limits and places were computed again; its optimality was not.

    Raises:
        InternalError: it fails.
    """
    if not plan.deployments:
        return plan
    found = evidence(case, plan, problem, small, solve_again=False)
    verdict = judge(plan, found._replace(optimum=Best("too_large")))
    if verdict.reasons:
        msg = "the plan fails its own verification; please report this:\n" + "\n".join(verdict.reasons)
        raise InternalError(msg)
    return plan
