"""CP-SAT of OR-Tools, which knows integers only.

Rows and goal are multiplied by powers of two and rounded; a continuous variable moves in 2^12 steps or more.
Every rounding widens the rows by as much as it can matter, so the integer problem contains the original one: that it
is infeasible, and its bound less the goal's own rounding, hold for the original. The point that is returned has the
integers of CP-SAT and the best continuous values for them, found by GLOP in the original rows.

Value and bound agree to `AGREEMENT`, relative: "optimal" means no more than that.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import ortools
from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

from planner.errors import InternalError
from planner.milp.check import violations
from planner.milp.model import INFINITY, Milp, SolveResult, Termination
from planner.solvers import checked, without_variables
from planner.table import Floats, Ints

AGREEMENT = 1e-3  # relative: how far value and bound of an "optimal" result may be apart
_NAME = f"cp-sat {ortools.__version__}"
_STEPS = (12, 16, 20, 24, 28)  # bits of a continuous variable's range; finer while value and bound disagree
_ROW, _GOAL = 58, 52  # bits of a row's and the goal's largest sum: CP-SAT needs int64, bounds come as doubles
_FINE = 1e-9  # what a row's rounding and a sum's last digits may widen it by, relative
_LAST_DIGITS = 1e-15  # what a few operations can round, relative
_COARSE = 1e-4  # a row that rounding widens by more says nothing any more
_FLOOR = 1e-8  # of the goal's range: differences below it are rounding, whatever they are relative to


class _Grid(NamedTuple):
    """x = base + step·y for whole numbers low ≤ y ≤ high; all of shape (number of variables,)."""

    base: Floats
    step: Floats
    low: Ints
    high: Ints
    whole: Any

    @property
    def size(self) -> Floats:
        """The largest |y| of each variable."""
        return np.maximum(np.abs(self.low), np.abs(self.high)).astype(np.float64)


class _Scaled(NamedTuple):
    """Whole coefficients of y that are the original ones times ``scale``, but for ``error`` of the sum."""

    coefficients: list[int]
    scale: float
    error: float


class _Integral(NamedTuple):
    """The integer problem: CP-SAT's model and variables, and how to read its goal."""

    model: Any
    variables: list[Any]
    goal: _Scaled
    shift: float


class _Found(NamedTuple):
    """What one run of CP-SAT gave, the goal minimised."""

    status: str
    whole: Ints | None
    bound: float


class _State(NamedTuple):
    """The search so far, the goal minimised: the best point, and a bound on every point."""

    point: Floats | None = None
    value: float = INFINITY
    bound: float = -INFINITY


@dataclass(frozen=True, slots=True)
class CpSat:
    """The CP-SAT solver; deterministic (one worker, fixed seed)."""

    name: str = "cp-sat"

    def solve(self, milp: Milp, time_limit: float, relative_gap: float) -> SolveResult:
        """Solve for the first goal; "optimal" to `AGREEMENT`, see the module.

        Args:
            milp: the problem; every variable needs finite bounds.
            time_limit: seconds it may take.
            relative_gap: it may stop once value and bound are this close.

        Raises:
            InternalError: CP-SAT failed, a row cannot be written in 64-bit integers, or the answer breaks the problem.
        """
        if not milp.variables:
            return without_variables(milp, self.name)
        deadline, state, note = time.monotonic() + time_limit, _State(), ""
        excluded: list[list[int]] = []
        for bits in _resolutions(milp):
            grid = _grid(milp, bits)
            integral = _integral(milp, grid, excluded)
            note = _note(integral.goal.scale, bits, grid)
            found = _run(integral, deadline - time.monotonic(), relative_gap)
            if found.status == "infeasible":  # no other integers are left
                bound = state.value
            else:
                if found.whole is not None:
                    state = _better(milp, state, _complete(milp, found.whole))
                    excluded.append([int(y) for y in found.whole[grid.whole]])
                bound = min(found.bound, state.value)
            state = state._replace(bound=max(state.bound, bound))
            only = not grid.whole.any()  # then there is nothing to choose but what GLOP has just chosen
            if found.status == "infeasible" or (only and found.whole is not None):
                return _finished(milp, state._replace(bound=state.value), relative_gap, note)
            if state.point is not None and _close(milp, state, relative_gap):
                return _finished(milp, state, relative_gap, note)
            if found.status == "stopped" or time.monotonic() >= deadline:
                break
        return _result(milp, state, Termination("stopped", "time"), note)


def _resolutions(milp: Milp) -> Iterator[int]:
    """Yield ever finer steps, the finest again and again: every round rules out the integers it has found."""
    if all(variable.integer for variable in milp.variables):
        yield _STEPS[0]
    yield from _STEPS
    while True:
        yield _STEPS[-1]


def _grid(milp: Milp, bits: int) -> _Grid:
    lower = np.array([v.lower for v in milp.variables])
    upper = np.array([v.upper for v in milp.variables])
    whole = np.array([v.integer for v in milp.variables], dtype=bool)
    if not np.all(np.abs(lower) < 2.0**_GOAL) or not np.all(np.abs(upper) < 2.0**_GOAL):
        names = [v.name for v in milp.variables if not max(abs(v.lower), abs(v.upper)) < 2.0**_GOAL]
        msg = f"{_NAME} needs finite bounds below 2^{_GOAL}: {', '.join(names[:3])}"
        raise InternalError(msg)
    span = np.where(upper > lower, upper - lower, 1.0)
    step = np.where(whole, 1.0, 2.0 ** np.ceil(np.log2(span) - bits))
    low = np.where(whole, np.ceil(lower - _FINE), 0.0)
    high = np.where(whole, np.floor(upper + _FINE), np.ceil((upper - lower) / step))
    return _Grid(np.where(whole, 0.0, lower), step, low.astype(np.int64), high.astype(np.int64), whole)


def _scaled(coefficients: Floats, sizes: Floats, target: float, bits: int) -> _Scaled:
    """Round coefficients at the smallest scale that keeps the sum's error below ``target``, within ``bits``."""
    span = float(np.abs(coefficients) @ sizes)
    if not span:
        return _Scaled([0] * len(coefficients), 1.0, 0.0)
    most = math.floor(bits - math.log2(span))
    wanted = math.ceil(math.log2(max(0.5 * float(sizes.sum()), 1e-300) / target)) if target > 0 else most
    power = min(wanted, most)
    exact = np.ldexp(coefficients, power)  # a power of two: nothing is rounded but by rint
    near = np.rint(exact)
    whole = [int(value) for value in near]
    divisor = max(1, math.gcd(*whole))
    scale = math.ldexp(1.0, power) / divisor
    return _Scaled([value // divisor for value in whole], scale, float(np.abs(exact - near) @ sizes) / 2.0**power)


def _integral(milp: Milp, grid: _Grid, excluded: list[list[int]]) -> _Integral:
    model = cp_model.CpModel()
    variables = [model.new_int_var(int(a), int(b), "") for a, b in zip(grid.low, grid.high, strict=True)]
    size = grid.size
    for row in milp.rows:
        index = np.fromiter(row.coefficients.keys(), np.int64)
        values = np.fromiter(row.coefficients.values(), np.float64)
        limits = [abs(limit) for limit in (row.lower, row.upper) if abs(limit) < INFINITY]
        steps = 0.5 * float(np.abs(values) @ np.where(grid.whole[index], 0.0, grid.step[index]))
        magnitude = max(1.0, *limits)
        scaled = _scaled(values * grid.step[index], size[index], max(_FINE * magnitude, steps / 4), _ROW)
        if scaled.error > max(_COARSE * magnitude, steps):
            msg = f"{_NAME} cannot write {row.name} in 64-bit integers: its terms differ too much in size"
            raise InternalError(msg)
        slack = steps + scaled.error + _FINE * magnitude
        shift = float(values @ grid.base[index])
        low = _whole(math.ceil, (row.lower - shift - slack) * scaled.scale)
        high = _whole(math.floor, (row.upper - shift + slack) * scaled.scale)
        terms = cp_model.LinearExpr.weighted_sum([variables[i] for i in index], scaled.coefficients)
        if any(scaled.coefficients):
            model.add_linear_constraint(terms, low, high)
        elif low > 0 or high < 0:
            model.add_bool_or([])  # a row without variables that does not hold: never true
    for values_found in excluded:
        chosen = [variable for variable, whole in zip(variables, grid.whole, strict=True) if whole]
        model.add_forbidden_assignments(chosen, [values_found])
    weights = _minimised(milp)
    goal = _scaled(weights * grid.step, size, 0.0, _GOAL)
    steps = 0.5 * float(np.abs(weights) @ np.where(grid.whole, 0.0, grid.step))
    if any(goal.coefficients):
        model.minimize(cp_model.LinearExpr.weighted_sum(variables, goal.coefficients))
    return _Integral(model, variables, goal._replace(error=goal.error + steps), float(weights @ grid.base))


def _whole(towards: Any, value: float) -> int:
    """Round a row's limit; no limit stays none, and neither leaves int64."""
    return int(towards(min(max(value, -(2.0**62)), 2.0**62)))


def _minimised(milp: Milp) -> Floats:
    goal = milp.goal
    return goal.coefficients if goal.sense == "minimize" else -goal.coefficients


def _run(integral: _Integral, seconds: float, gap: float) -> _Found:
    if seconds <= 0:
        return _Found("stopped", None, -INFINITY)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 8
    solver.parameters.interleave_search = True
    solver.parameters.random_seed = 0
    solver.parameters.relative_gap_limit = gap
    solver.parameters.absolute_gap_limit = 0.0
    bounds: list[float] = []
    # Stopped before it knows anything, CP-SAT gives a bound of 0, which need not be one; what it calls back with is.
    solver.best_bound_callback = bounds.append
    status = solver.solve(integral.model)
    if status == cp_model.INFEASIBLE:
        return _Found("infeasible", None, INFINITY)
    if status == cp_model.UNKNOWN:
        return _Found("stopped", None, _original(integral, max(bounds, default=-INFINITY)))
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        msg = f"{_NAME} ended with status {solver.status_name(status)}: {integral.model.validate()}"
        raise InternalError(msg)
    whole = np.array([solver.value(variable) for variable in integral.variables], dtype=np.int64)
    bound = solver.best_objective_bound if any(integral.goal.coefficients) else 0.0
    return _Found("solved" if status == cp_model.OPTIMAL else "stopped", whole, _original(integral, bound))


def _original(integral: _Integral, bound: float) -> float:
    """Return CP-SAT's bound as one on the original, minimised goal."""
    value = bound / integral.goal.scale + integral.shift
    return value - integral.goal.error - _LAST_DIGITS * abs(value)


def _complete(milp: Milp, whole: Ints) -> Floats | None:
    """Return the best point with these integers, None if there is none; other entries of ``whole`` do not count."""
    integer = np.array([v.integer for v in milp.variables], dtype=bool)
    point = np.where(integer, whole, 0).astype(np.float64)
    if integer.all():
        return None if violations(milp, point) else point
    solver = pywraplp.Solver.CreateSolver("GLOP")
    free = {i: solver.NumVar(v.lower, v.upper, "") for i, v in enumerate(milp.variables) if not v.integer}
    for row in milp.rows:
        fixed = [value * point[i] for i, value in row.coefficients.items() if i not in free]
        terms = {i: value for i, value in row.coefficients.items() if i in free}
        # What is left for the continuous variables is rounded: relative to what was taken away.
        slack = (1e3 * _LAST_DIGITS if terms else _FINE) * max([0.0, *(abs(term) for term in fixed)])
        low, high = row.lower - sum(fixed) - slack, row.upper - sum(fixed) + slack
        if terms:
            constraint = solver.Constraint(float(low), float(high))
            for i, value in terms.items():
                constraint.SetCoefficient(free[i], value)
        elif not low <= 0 <= high:
            return None
    weights = _minimised(milp)
    for i, variable in free.items():
        solver.Objective().SetCoefficient(variable, float(weights[i]))
    tolerances = ("primal", "dual", "solution")  # the last is 1e-6 of the row's size, unless told
    solver.SetSolverSpecificParametersAsString(
        " ".join(f"{name}_feasibility_tolerance: {_FINE}" for name in tolerances)
    )
    status = solver.Solve()
    if status == pywraplp.Solver.INFEASIBLE:
        return None
    if status != pywraplp.Solver.OPTIMAL:
        msg = f"{_NAME}: GLOP ended with status {status}"
        raise InternalError(msg)
    for i, variable in free.items():
        point[i] = variable.solution_value()
    return point


def _better(milp: Milp, state: _State, point: Floats | None) -> _State:
    if point is None:
        return state
    checked(milp, point, _NAME)
    value = float(_minimised(milp) @ point)
    return state if value >= state.value else state._replace(point=point, value=value)


def _close(milp: Milp, state: _State, gap: float) -> bool:
    """Tell whether value and bound are as close as was asked, or as integers allow."""
    size = np.array([max(abs(v.lower), abs(v.upper)) for v in milp.variables])
    floor = _FLOOR * float(np.abs(_minimised(milp)) @ size)
    return state.value - state.bound <= max(max(gap, AGREEMENT) * abs(state.value), floor)


def _finished(milp: Milp, state: _State, gap: float, note: str) -> SolveResult:
    if state.point is None:
        return SolveResult(Termination("infeasible"), solver=_NAME, notes=(note,))
    exact = state.value - state.bound <= _FINE * max(1.0, abs(state.value))
    return _result(milp, state, Termination("optimal" if exact or gap == 0 else "within_gap"), note)


def _result(milp: Milp, state: _State, termination: Termination, note: str) -> SolveResult:
    sign = 1.0 if milp.goal.sense == "minimize" else -1.0
    bound = sign * min(state.bound, state.value) if abs(state.bound) < INFINITY else None
    value = None if state.point is None else milp.goal.value(state.point)
    return SolveResult(termination, state.point, value, bound, _NAME, (note,))


def _note(scale: float, bits: int, grid: _Grid) -> str:
    steps = "" if grid.whole.all() else f", continuous variables in 2^{bits} steps"
    return f"cp-sat solves in integers (goal times {scale:g}{steps}); its optimum is proven to {AGREEMENT:g}, relative"


CP_SAT = CpSat()
