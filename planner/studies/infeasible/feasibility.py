"""Whether a case has a plan at all: columns are priced once, without limits, and looked at under whatever is asked."""

from collections.abc import Hashable

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


class Feasibility:
    """Answers for one scenario with values changed; ``undecided`` counts the solves that ran out of time."""

    def __init__(self) -> None:
        self.undecided = 0
        self._tables: dict[Hashable, ColumnTable] = {}
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
        problem = self._problem(case)
        if problem is None:
            return False
        best = best_of_size(problem)
        alone = best.take(np.nonzero(best.where(role="mixed"))[0])
        if self._found(case, problem._replace(table=alone)):
            return True
        # Pairs take long to look at, so first as if any two parts made one, at once.
        if len(alone) == len(best) or not self._found(case, problem._replace(table=best, routes=every_pair(best))):
            return False
        return self._found(case, reduced(case, problem))

    def _problem(self, case: Case) -> PlanningProblem | None:
        """Return the problem over all columns, without goals; None where a workload has no column."""
        workloads = case.scenario.workloads
        table = merged([self._table(setting) for setting in settings(case)])
        kept = under_limits(table, {name: limits(workload) for name, workload in workloads.items()})
        problem = planning_problem(case, kept)._replace(goals=[])
        able = np.ones(len(kept), dtype=bool)
        each = {"devices": np.ones(len(kept)), "cost": kept.figures["price"], "power": kept.figures["power"]}
        for metric, most in problem.limits.items():
            able &= kept.figures["devices"] * each[metric] <= most
        kept = kept.take(np.nonzero(able)[0])
        return problem._replace(table=kept) if all(kept.where(workload=name).any() for name in workloads) else None

    def again(self, case: AnyCase) -> bool:
        """Tell the same by pricing everything within the limits of the case, as a search for the best plan does."""
        if not isinstance(case, Case):
            return self(case)
        problem = planning_problem(case, pipeline.search(case))
        return self._found(case, reduced(case, problem._replace(goals=[])))

    def _table(self, setting: Setting) -> ColumnTable:
        workload = setting.workload.model_copy(update={"slo": Slo(), "requests": _ANY})
        free = setting._replace(workload=workload)
        key = (free.pool, free.item, free.workload, free.model, free.search, free.max_model_len)
        if key not in self._tables:
            self._tables[key] = setting_table(free)
        return self._tables[key]

    def _found(self, case: AnyCase, small: PlanningProblem) -> bool:
        """Tell whether a problem, once reduced, has any solution."""
        milp = FORMULATIONS["serving"].build(small).milp
        anything = Objective("anything", "minimize", np.zeros(len(milp.variables)), "1")
        options = case.scenario.solver
        result = solver_named(options.name).solve(milp.with_objective(anything), options.time_limit, 0.0)
        self.undecided += result.point is None and result.termination.reason == "stopped"
        return result.point is not None
