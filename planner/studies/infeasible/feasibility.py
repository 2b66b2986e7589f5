"""Whether a case has a plan at all: columns are priced once, without limits, and looked at under whatever is asked."""

from collections.abc import Hashable, Sequence

import numpy as np

from formulations import FORMULATIONS
from planner import pipeline
from planner.catalog import AnyCase, Case
from planner.columns.enumerate import merged, setting_table
from planner.columns.legality import limits
from planner.columns.optimistic import best_of_size, every_pair
from planner.columns.relimit import under_limits
from planner.columns.setting import Setting, settings
from planner.listed import listed_problem, listed_reduced
from planner.milp.model import Objective
from planner.problem import PlanningProblem
from planner.problems import planning_problem, reduced
from planner.schema.scenario import Demand, Slo
from planner.solvers import solver as solver_named
from planner.table import ColumnTable

_ANY = Demand.model_construct(kind="max", value=0.0)
_FEW = 30  # variables, up to which branching at once is quicker than to look for points by other means first


class Feasibility:
    """Answers for one scenario with values changed; ``undecided`` counts the solves that ran out of time."""

    def __init__(self) -> None:
        self.undecided = 0
        self._tables: dict[Hashable, ColumnTable] = {}
        self._first: dict[Hashable, Setting] = {}
        self._known: dict[str, bool] = {}

    def __call__(self, case: AnyCase) -> bool:
        """Tell whether a case has a plan."""
        question = repr(case.scenario)
        if question not in self._known:
            self._known[question] = self._solves(case)
        return self._known[question]

    def _solves(self, case: AnyCase) -> bool:
        if not isinstance(case, Case):
            return self._found(case, listed_reduced(listed_problem(case)._replace(goals=[])))
        every = settings(case)
        mixed = [setting for setting in every if setting.role == "mixed"]
        known = [self._known_part(setting) for setting in mixed]
        if all(known) and self._alone(case, [table for table in known if table]):
            return True
        if self._alone(case, [self._table(setting) for setting in mixed]):
            return True
        # Pairs take long to look at, so first as if any two parts made one, at once.
        problem = self._problem(case, [self._table(setting) for setting in every])
        if problem is None or bool(np.all(problem.table.where(role="mixed"))):
            return False
        best = best_of_size(problem)
        if not self._found(case, problem._replace(table=best, routes=every_pair(best))):
            return False
        return self._found(case, reduced(case, problem))

    def _alone(self, case: Case, tables: Sequence[ColumnTable]) -> bool:
        """Tell whether replicas that work alone are enough."""
        problem = self._problem(case, tables)
        return problem is not None and self._found(case, problem._replace(table=best_of_size(problem)))

    def _problem(self, case: Case, tables: Sequence[ColumnTable]) -> PlanningProblem | None:
        """Return the problem over all columns of tables, without goals; None where a workload has no column."""
        workloads = case.scenario.workloads
        kept = under_limits(merged(tables), {name: limits(workload) for name, workload in workloads.items()})
        problem = planning_problem(case, kept)._replace(goals=[])
        able = np.ones(len(kept), dtype=bool)
        each = {"devices": np.ones(len(kept)), "cost": kept.figures["price"], "power": kept.figures["power"]}
        for metric, most in problem.limits.items():
            able &= kept.figures["devices"] * each[metric] <= most
        kept = kept.take(np.nonzero(able)[0])
        return problem._replace(table=kept) if _serves_all(case, kept) else None

    def again(self, case: AnyCase) -> bool:
        """Tell the same by pricing everything within the limits of the case, as a search for the best plan does."""
        if not isinstance(case, Case):
            return self(case)
        problem = planning_problem(case, pipeline.search(case))._replace(goals=[])
        mixed = problem.table.take(np.nonzero(problem.table.where(role="mixed"))[0])
        alone = problem._replace(table=mixed)
        if _serves_all(case, mixed) and self._found(case, alone._replace(table=best_of_size(alone))):
            return True
        return self._found(case, reduced(case, problem))

    def _table(self, setting: Setting) -> ColumnTable:
        free = _without_limits(setting)
        if _key(free) not in self._tables:
            self._tables[_key(free)] = setting_table(free)
            self._first.setdefault(_times(free), free)
        return self._tables[_key(free)]

    def _known_part(self, setting: Setting) -> ColumnTable | None:
        """Return the columns that were priced first, where those of a wider setting, not priced yet, hold them all."""
        free = _without_limits(setting)
        first = self._first.get(_times(free))
        if first is None or _key(free) in self._tables or not _covers(free, first):
            return None
        return self._tables[_key(first)]

    def _found(self, case: AnyCase, small: PlanningProblem) -> bool:
        """Tell whether a problem, once reduced, has any solution."""
        milp = FORMULATIONS["serving"].build(small).milp
        anything = Objective("anything", "minimize", np.zeros(len(milp.variables)), "1")
        options = case.scenario.solver
        solver = solver_named(options.name, small=len(milp.variables) <= _FEW)
        result = solver.solve(milp.with_objective(anything), options.time_limit, 0.0)
        self.undecided += result.point is None and result.termination.reason == "stopped"
        return result.point is not None


def _serves_all(case: Case, table: ColumnTable) -> bool:
    """Tell whether every workload has a column."""
    return all(table.where(workload=name).any() for name in case.scenario.workloads)


def _without_limits(setting: Setting) -> Setting:
    return setting._replace(workload=setting.workload.model_copy(update={"slo": Slo(), "requests": _ANY}))


def _times(setting: Setting) -> Hashable:
    """Return what decides the times of a configuration within one scenario."""
    return (setting.pool, setting.workload, setting.believed and setting.believed.confidence)


def _key(setting: Setting) -> Hashable:
    """Return what decides the columns of a setting within one scenario."""
    return (_times(setting), setting.item, setting.model, setting.search, setting.max_model_len)


def _covers(wide: Setting, narrow: Setting) -> bool:
    """Tell whether all columns of one setting are columns of another with the same times."""
    own = (wide.architecture.precision,)
    formats = [set((setting.model.precisions if setting.model else None) or own) for setting in (wide, narrow)]
    searched = [setting.search.model_dump(exclude_none=True).items() for setting in (wide, narrow)]
    return (
        formats[0] >= formats[1]
        and sum(wide.nodes) >= sum(narrow.nodes)
        and wide.max_model_len <= narrow.max_model_len
        and all(item in searched[1] for item in searched[0])
    )
