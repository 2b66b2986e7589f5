"""HiGHS through its own Python package."""

from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from planner.errors import InternalError
from planner.milp.check import rounded, violations
from planner.milp.model import INFINITY, Milp, SolveResult, Termination, sparse
from planner.solvers import without_variables

_FEASIBILITY = 1e-9
_SEED = 0
_SEARCHES = (
    "mip_heuristic_run_feasibility_jump", "mip_heuristic_run_rins", "mip_heuristic_run_rens",
    "mip_heuristic_run_root_reduced_cost", "mip_allow_restart",
)  # fmt: skip
_INFEASIBLE = (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)
_STOPPED = {
    highspy.HighsModelStatus.kTimeLimit: "time",
    highspy.HighsModelStatus.kIterationLimit: "iterations",
    highspy.HighsModelStatus.kSolutionLimit: "solutions",
    highspy.HighsModelStatus.kInterrupt: "interrupt",
}


@dataclass(frozen=True, slots=True)
class Highs:
    """The HiGHS branch-and-cut solver; deterministic (one thread, fixed seed).

    ``searches``: whether it looks for good points by other means than branching; on small problems that takes longer
    than to solve them.
    """

    name: str = "highs"
    searches: bool = True

    def solve(self, milp: Milp, time_limit: float, relative_gap: float) -> SolveResult:
        """Solve for the first goal.

        Args:
            milp: the problem; every variable needs finite bounds, so it is never unbounded.
            time_limit: seconds it may take.
            relative_gap: it may stop once value and bound are this close.

        Raises:
            InternalError: HiGHS failed, or its answer breaks the problem.
        """
        if not milp.variables:
            return without_variables(milp, self.name)
        solver = highspy.Highs()
        for option, setting in (
            ("output_flag", False),
            ("threads", 1),
            ("random_seed", _SEED),
            ("time_limit", max(0.0, time_limit)),
            ("mip_rel_gap", relative_gap),
            ("mip_abs_gap", 0.0),
            ("mip_feasibility_tolerance", _FEASIBILITY),
            ("primal_feasibility_tolerance", _FEASIBILITY),
        ):
            solver.setOptionValue(option, setting)
        for option in () if self.searches else _SEARCHES:
            solver.setOptionValue(option, False)
        solver.passModel(_lp(milp))
        solver.run()
        return _result(milp, solver, relative_gap)


def relaxation(milp: Milp) -> tuple[float, dict[str, float]] | None:
    """Return the optimum of the first goal without integrality, and how it moves with the bound of each row.

    These are the duals of the linear relaxation: what one more of a row's bound is worth there, by the row's name. None
    where the relaxation has no optimum.
    """
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    loose = milp._replace(variables=tuple(variable._replace(integer=False) for variable in milp.variables))
    solver.passModel(_lp(loose))
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    solution, size = solver.getSolution(), _size(milp)
    duals = {row.name: float(dual) * size for row, dual in zip(milp.rows, solution.row_dual, strict=True)}
    return milp.goal.value(np.array(solution.col_value, dtype=np.float64)), duals


def _lp(milp: Milp) -> Any:
    goal, matrix = milp.goal, sparse(milp)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(milp.variables), len(milp.rows)
    lp.col_cost_ = goal.coefficients / _size(milp)
    lp.col_lower_ = np.array([v.lower for v in milp.variables])
    lp.col_upper_ = np.array([v.upper for v in milp.variables])
    lp.row_lower_ = np.where(matrix.lower == -INFINITY, -highspy.kHighsInf, matrix.lower)
    lp.row_upper_ = np.where(matrix.upper == INFINITY, highspy.kHighsInf, matrix.upper)
    lp.sense_ = highspy.ObjSense.kMaximize if goal.sense == "maximize" else highspy.ObjSense.kMinimize
    lp.integrality_ = [
        highspy.HighsVarType.kInteger if v.integer else highspy.HighsVarType.kContinuous for v in milp.variables
    ]
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = matrix.start
    lp.a_matrix_.index_ = matrix.column
    lp.a_matrix_.value_ = matrix.value
    return lp


def _size(milp: Milp) -> float:
    """Return the largest coefficient of the goal: HiGHS is given the goal over it, as its tolerances are absolute."""
    return float(np.abs(milp.goal.coefficients).max(initial=0.0)) or 1.0


def _result(milp: Milp, solver: Any, relative_gap: float) -> SolveResult:
    status = solver.getModelStatus()
    name = f"highs {solver.version()}"
    if status in _INFEASIBLE:
        return SolveResult(Termination("infeasible"), solver=name)
    optimal = status == highspy.HighsModelStatus.kOptimal
    if not optimal and status not in _STOPPED:
        msg = f"{name} ended with status {solver.modelStatusToString(status)}"
        raise InternalError(msg)
    info = solver.getInfo()
    bound = float(info.mip_dual_bound)
    known = np.isfinite(bound) and abs(bound) < highspy.kHighsInf and any(v.integer for v in milp.variables)
    bounded = bound * _size(milp) if known else None  # without integers HiGHS leaves it at 0
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return SolveResult(Termination("stopped", _STOPPED.get(status, "unknown")), bound=bounded, solver=name)
    point = rounded(milp, np.array(solver.getSolution().col_value, dtype=np.float64))
    broken = violations(milp, point)
    if broken:
        msg = f"{name} returned a point that breaks the problem: {'; '.join(broken)}"
        raise InternalError(msg)
    value = milp.goal.value(point)
    if not optimal:
        return SolveResult(Termination("stopped", _STOPPED[status]), point, value, bounded, name)
    exact = relative_gap == 0 or bounded is None or abs(bounded - value) <= _FEASIBILITY * max(1.0, abs(value))
    return SolveResult(
        Termination("optimal" if exact else "within_gap"), point, value, value if exact else bounded, name
    )


HIGHS = Highs()
SMALL = Highs(searches=False)
