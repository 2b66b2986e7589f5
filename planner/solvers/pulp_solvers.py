"""Solvers that PuLP finds: CBC, which comes with it, and others a user has installed.

All of them get the goal as a minimisation: how a maximised goal's bound is signed differs from solver to solver.
"""

import inspect
import math
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import pulp

from planner.errors import InternalError
from planner.milp.check import violations
from planner.milp.model import INFINITY, Milp, SolveResult, Termination
from planner.solvers import UnknownSolverError, checked, without_variables
from planner.table import Floats

_FEASIBILITY = 1e-9
_SEED = 1  # 0 means the time of day to CBC
_GOAL_SIZE = 10  # CBC's largest goal coefficient is in [2**10, 2**11): its cutoffs of 1e-5 and print-outs are absolute
_PRINTED = 0.0005  # CBC prints its bound with three decimals
_GRACE = 30.0  # seconds after which a solver that overruns its limit by half is ended
_PREPROCESSING = "preprocessing"  # which calls some feasible problems infeasible whose rows just hold: asked twice
_SUFFIXES = ("_CMD", "_PY", "_DLL")


class _Claim(NamedTuple):
    """What a solver says: its reason, the values of all variables, and a bound on the minimised goal."""

    reason: Literal["optimal", "within_gap", "infeasible", "stopped"]
    limit: str | None = None
    values: Floats | None = None
    bound: float | None = None
    solver: str = ""
    notes: tuple[str, ...] = ()


class _Model(NamedTuple):
    """The problem in PuLP's terms; ``factor`` turns the goal into the minimised one."""

    problem: Any
    variables: list[Any]
    factor: float


@dataclass(frozen=True, slots=True)
class Cbc:
    """The COIN-OR branch-and-cut solver as a program; deterministic (one thread, fixed seeds).

    It is run here and not by PuLP, which neither keeps what CBC says of its bound nor reads more than eight digits.
    """

    path: str
    name: str = "cbc"

    def solve(self, milp: Milp, time_limit: float, relative_gap: float) -> SolveResult:
        """Solve for the first goal.

        Args:
            milp: the problem; every variable needs finite bounds, so it is never unbounded.
            time_limit: seconds it may take.
            relative_gap: it may stop once value and bound are this close.

        Raises:
            InternalError: CBC failed, or its answer breaks the problem.
        """
        deadline = time.monotonic() + time_limit
        if not milp.variables:
            return without_variables(milp, self.name)
        size = float(np.abs(milp.goal.coefficients).max())
        model = _model(milp, 2.0 ** (_GOAL_SIZE - math.floor(math.log2(size))) if size else 1.0)
        claim = self._claim(milp, model, deadline, relative_gap, ())
        if claim.limit == _PREPROCESSING:
            try:
                claim = self._claim(milp, model, deadline, relative_gap, ("-preprocess", "off"))
            except InternalError:  # without it, CBC crashes on some problems of one variable
                claim = claim._replace(notes=(f"{claim.solver} has not proven twice that nothing is feasible",))
        return _result(milp, claim, model.factor, relative_gap)

    def _claim(self, milp: Milp, model: _Model, deadline: float, gap: float, switches: tuple[str, ...]) -> _Claim:
        """Run CBC once, in a folder of its own."""
        with TemporaryDirectory(prefix="planner-") as name:
            folder = Path(name)
            written = model.problem.writeMPS(str(folder / "model.mps"), rename=1)[0]
            started = time.monotonic()
            log = _run(self.path, folder, deadline - started, gap, switches) if started < deadline else None
            if log is None:
                return _Claim("stopped", "time", solver=self.name)
            place = {variable.name: i for i, variable in enumerate(model.variables)}
            values = _stored(folder / "point.bin", [place[variable.name] for variable in written], milp)
            status = (folder / "status.txt").read_text(encoding="utf-8").split(" - objective", 1)[0].strip()
        return _cbc_claim(status, log, values, late=time.monotonic() >= deadline)


def _run(path: str, folder: Path, seconds: float, gap: float, switches: tuple[str, ...]) -> str | None:
    """Return what CBC printed; None if it had to be ended."""
    options = {
        "sec": seconds,
        "timeMode": "elapsed",
        "ratio": gap,
        "allow": 0,
        "primalT": _FEASIBILITY,
        "integerT": _FEASIBILITY,
        "randomSeed": _SEED,
        "randomCbcSeed": _SEED,
    }
    command = [path, "model.mps", *(part for key, value in options.items() for part in (f"-{key}", f"{value}"))]
    command += [*switches, "-solve", "-solution", "status.txt", "-saveSolution", "point.bin"]
    try:
        ended = subprocess.run(
            command,
            cwd=folder,  # relative names: CBC takes no blanks in them
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=1.5 * seconds + _GRACE,
            check=False,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        return None
    except OSError as error:
        msg = f"cbc cannot be run: {error}"
        raise InternalError(msg) from error
    written = (folder / "status.txt").exists() and (folder / "point.bin").exists()
    if ended.returncode or not written:
        msg = f"cbc ended with code {ended.returncode}: {ended.stdout[-300:].strip()}"
        raise InternalError(msg)
    return ended.stdout


def _stored(file: Path, order: list[int], milp: Milp) -> Floats:
    """Read a solution as CBC saves it: counts of rows and columns, the goal, then values and duals of both."""
    data = file.read_bytes()
    rows, columns = np.frombuffer(data, np.int32, 2)
    if columns != len(order):
        msg = f"cbc saved {columns} values for {len(order)} variables"
        raise InternalError(msg)
    numbers = np.frombuffer(data, np.float64, offset=8)
    values = _defaults(milp)
    values[order] = numbers[1 + 2 * rows :][:columns]
    return values


def _cbc_claim(status: str, log: str, values: Floats, *, late: bool) -> _Claim:
    version = re.search(r"^Version: (\S+)", log, re.MULTILINE)
    name = f"cbc {version[1]}" if version else "cbc"
    if "nfeasible" in status:  # which CBC also says when time runs out while it prepares the problem
        by = _PREPROCESSING if "Pre-processing says infeasible" in log else None
        return _Claim("stopped", "time", solver=name) if late else _Claim("infeasible", by, solver=name)
    if status.startswith("Unbounded"):
        return _Claim("stopped", "unbounded", solver=name)
    bound = _printed_bound(log)
    if status.startswith("Stopped on"):
        limit = status.removeprefix("Stopped on ").split(" ")[0]
        # Some builds leave the relaxation's values where no integer point was found.
        none = "no integer solution" in status or "No feasible solution found" in log
        return _Claim("stopped", limit, None if none else values, bound, name)
    if not status.startswith("Optimal"):
        msg = f"{name} ended with status '{status}'"
        raise InternalError(msg)
    if "Exiting on maximum time" in log:  # then some builds call an unfinished search complete (coin-or/Cbc#364)
        return _Claim("stopped", "time", values, bound, name)
    return _Claim("optimal" if bound is None else "within_gap", None, values, bound, name)


def _printed_bound(log: str) -> float | None:
    """Return the bound of CBC's closing summary, less what printing it can have added.

    CBC's "Gap" is a ratio of changing sides and is not read. Without a solved relaxation there is no bound.
    """
    summary = log.rpartition("Result - ")[2]
    found = re.search(r"^Lower bound:\s+(\S+)", summary, re.MULTILINE)
    if found is None or "Continuous objective value is" not in log:
        return None
    bound = float(found[1])
    return bound - _PRINTED - _FEASIBILITY * abs(bound) if abs(bound) < 1e30 else None


@dataclass(frozen=True, slots=True)
class Pulp:
    """A solver of PuLP's, as far as PuLP lets it be known; ``solver`` is PuLP's name for it."""

    solver: str
    name: str

    def solve(self, milp: Milp, time_limit: float, relative_gap: float) -> SolveResult:
        """Solve for the first goal; as `Cbc.solve`."""
        started = time.monotonic()
        if not milp.variables:
            return without_variables(milp, self.name)
        model = _model(milp, 1.0)
        with TemporaryDirectory(prefix="planner-") as folder:
            left = time_limit - (time.monotonic() - started)
            if left <= 0:
                return SolveResult(Termination("stopped", "time"), solver=self.name)
            started = time.monotonic()
            engine, proves = _engine(self.solver, folder, left, relative_gap)
            try:
                model.problem.solve(engine)
            except Exception as error:  # each solver's library raises its own
                msg = f"{self.name} failed: {error}"
                raise InternalError(msg) from error
        late = time.monotonic() - started >= 0.9 * left
        claim = _pulp_claim(self.name, model, _values(milp, model), late=late)
        if claim.reason == "optimal" and not proves and _is_mixed(milp):
            note = f"{self.name} takes no relative gap through PuLP: that its best plan is optimal is not proven"
            claim = claim._replace(reason="stopped", limit="unproven", notes=(note,))
        elif _is_mixed(milp) and (
            claim.limit in ("time", "solver") or (claim.reason == "optimal" and relative_gap > 0)
        ):
            reason = "within_gap" if claim.reason == "optimal" else claim.reason
            claim = claim._replace(reason=reason, bound=_model_bound(self.solver, model))
        return _result(milp, claim, model.factor, relative_gap)


# What a solver takes beyond limits and gaps: what makes it exact and repeatable.
_EXTRA: Mapping[str, Mapping[str, object]] = {
    "HiGHS": {
        "random_seed": 0,
        "mip_feasibility_tolerance": _FEASIBILITY,
        "primal_feasibility_tolerance": _FEASIBILITY,
    },
    "GUROBI": {"OutputFlag": 0, "Threads": 1, "Seed": 0, "IntFeasTol": _FEASIBILITY, "FeasibilityTol": _FEASIBILITY},
}
# Where a solver's own model tells its bound; for others it follows from the gap, or is unknown.
_BOUNDS: Mapping[str, Callable[[Any], float]] = {
    "HiGHS": lambda model: float(model.getInfo().mip_dual_bound),
    "GUROBI": lambda model: float(model.ObjBound),
    "SCIP_PY": lambda model: float(model.getDualbound()),
}


def _engine(solver: str, folder: str, seconds: float, gap: float) -> tuple[Any, bool]:
    """Return PuLP's solver, set up, and whether it takes a relative gap, without which it proves nothing."""
    takes = inspect.signature(type(pulp.getSolver(solver, msg=False)).__init__).parameters
    wanted = {"timeLimit": seconds, "gapRel": gap, "gapAbs": 0.0, "threads": 1}
    settings = {key: value for key, value in wanted.items() if key in takes}
    engine = pulp.getSolver(solver, msg=False, **settings, **_EXTRA.get(solver, {}))
    engine.tmpDir = folder
    return engine, "gapRel" in takes


def _pulp_claim(name: str, model: _Model, values: Floats | None, *, late: bool) -> _Claim:
    problem = model.problem
    if problem.status == pulp.LpStatusInfeasible and not late:
        return _Claim("infeasible", solver=name)
    if problem.status == pulp.LpStatusUnbounded:
        return _Claim("stopped", "unbounded", solver=name)
    if problem.status == pulp.LpStatusOptimal and problem.sol_status == pulp.LpSolutionOptimal:
        return _Claim("optimal", None, values, None, name)
    if problem.status == pulp.LpStatusOptimal:
        return _Claim("stopped", "time" if late else "solver", values, None, name)
    if late and problem.status in (pulp.LpStatusNotSolved, pulp.LpStatusInfeasible):
        return _Claim("stopped", "time", None, None, name)
    msg = f"{name} ended with status {pulp.LpStatus[problem.status]}"
    raise InternalError(msg)


def _model_bound(solver: str, model: _Model) -> float | None:
    read = _BOUNDS.get(solver)
    try:
        bound = read(model.problem.solverModel) if read else math.nan
    except Exception:  # the bound is a bonus, whatever a library raises instead of one
        return None
    return bound if abs(bound) < 1e20 else None


def _model(milp: Milp, scale: float) -> _Model:
    """Return PuLP's problem; ``scale``, a power of two, multiplies the goal."""
    goal = milp.goal
    factor = scale if goal.sense == "minimize" else -scale
    problem = pulp.LpProblem("planner", pulp.LpMinimize)
    variables = [
        problem.add_variable(
            f"v{i}",
            v.lower if v.lower > -INFINITY else None,
            v.upper if v.upper < INFINITY else None,
            "Integer" if v.integer else "Continuous",
        )
        for i, v in enumerate(milp.variables)
    ]
    weights = (goal.coefficients * factor).tolist()
    # Without any term PuLP would invent a variable, so zeros stay where there is nothing else.
    terms = [(v, w) for v, w in zip(variables, weights, strict=True) if w or not any(weights)]
    problem.setObjective(pulp.LpAffineExpression(terms))
    for number, row in enumerate(milp.rows):
        sides = (("e", 0, row.lower),) if row.lower == row.upper else (("l", 1, row.lower), ("u", -1, row.upper))
        for side, sense, limit in sides:
            if math.isfinite(limit):
                total = pulp.LpAffineExpression([(variables[i], value) for i, value in row.coefficients.items()])
                problem.addConstraint(pulp.LpConstraint(total, sense, f"{side}{number}", limit))
    return _Model(problem, variables, factor)


def _values(milp: Milp, model: _Model) -> Floats | None:
    """Return the values PuLP read; None if it read none of those that matter."""
    given = [variable.varValue for variable in model.variables]
    known = {variable.name for variable in model.problem.variables()}
    if any(value is None and v.name in known for value, v in zip(given, model.variables, strict=True)):
        return None
    return np.array([d if v is None else v for v, d in zip(given, _defaults(milp), strict=True)], dtype=np.float64)


def _defaults(milp: Milp) -> Floats:
    """Return what variables are that stand in no row and no goal: as close to zero as their bounds allow."""
    return np.array([min(max(0.0, math.ceil(v.lower) if v.integer else v.lower), v.upper) for v in milp.variables])


def _is_mixed(milp: Milp) -> bool:
    return any(variable.integer for variable in milp.variables)


def _result(milp: Milp, claim: _Claim, factor: float, relative_gap: float) -> SolveResult:
    """Re-check a claim and put it in the problem's own terms."""
    name, notes = claim.solver, claim.notes
    bound = None if claim.bound is None else claim.bound / factor
    stopped = Termination("stopped", claim.limit)
    if claim.reason == "infeasible":
        return SolveResult(Termination("infeasible"), solver=name, notes=notes)
    if claim.reason == "stopped" and (claim.values is None or violations(milp, claim.values)):
        # What is written then may be the relaxation (coin-or/Cbc#440).
        return SolveResult(stopped, bound=bound, solver=name, notes=notes)
    if claim.values is None:
        msg = f"{name} found an optimum without a point"
        raise InternalError(msg)
    point = checked(milp, claim.values, name)
    value = milp.goal.value(point)
    if bound is not None and (bound - value) * factor > 1e-6 * abs(value * factor):
        notes, bound = (*notes, f"{name} gave a bound, {bound:g}, that its own plan passes: ignored"), None
    near = bound is not None and abs(bound - value) <= relative_gap * max(abs(bound), abs(value))
    if claim.reason == "stopped" and not (near and claim.limit == "solver"):  # some say so of a gap that was reached
        return SolveResult(stopped, point, value, bound, name, notes)
    if claim.reason == "optimal" or (bound is not None and abs(bound - value) <= _FEASIBILITY * max(1.0, abs(value))):
        return SolveResult(Termination("optimal"), point, value, value, name, notes)
    widest = _widest(value * factor, relative_gap)
    return SolveResult(
        Termination("within_gap"), point, value, widest / factor if bound is None else bound, name, notes
    )


def _widest(value: float, gap: float) -> float:
    """Return the least goal within a relative gap of a minimised value, whichever of the two the gap is relative to."""
    return value * (1 - gap) if value > 0 else value / (1 - gap)


def find(name: str) -> Cbc | Pulp:
    """Return the solver of a scenario's name: ``cbc``, or ``pulp:NAME`` with PuLP's name for it.

    NAME may be written in any case, and without what PuLP puts around it (``PULP_``, ``_CMD``, ``_PY``, ``_DLL``)
    where only one solver is meant.

    Raises:
        UnknownSolverError: PuLP does not find it on this machine.
    """
    there = list(dict.fromkeys(pulp.listSolvers(onlyAvailable=True)))
    wanted = "PULP_CBC_CMD" if name == "cbc" else name.partition(":")[2]
    same = [one for one in there if one.casefold() == wanted.casefold()]
    alike = same or [one for one in there if _stem(one) == _stem(wanted)]
    if len(alike) != 1:
        listed = ", ".join(f"pulp:{one}" for one in alike or there) or "none"
        reason = f"{name} is {'more than one solver' if alike else 'not a solver that PuLP finds here'}"
        raise UnknownSolverError.because(f"{reason}; must be one of: {listed}")
    (solver,) = alike
    if solver == "PULP_CBC_CMD":
        return Cbc(pulp.PULP_CBC_CMD.pulp_cbc_path, name)
    return Cbc(pulp.COIN_CMD().path, name) if solver == "COIN_CMD" else Pulp(solver, name)


def _stem(name: str) -> str:
    stem = name.upper().removeprefix("PULP_")
    return next((stem.removesuffix(end) for end in _SUFFIXES if stem.endswith(end)), stem)
