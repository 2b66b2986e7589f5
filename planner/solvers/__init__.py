"""Thin adapters from a `Milp` to solver libraries; one file each, imported when its solver is first asked for.

Importing this package loads no solver: the libraries cost 0.1 s to 0.8 s each, and a run needs one of them.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Protocol, cast

import numpy as np

from planner.errors import InputError, InternalError, Problem, as_written
from planner.milp.check import rounded, violations
from planner.milp.model import Milp, SolveResult, Termination
from planner.table import Floats


class Solver(Protocol):
    """Solves a `Milp` for its first goal."""

    @property
    def name(self) -> str:
        """The name it is asked for by."""

    def solve(self, milp: Milp, time_limit: float, relative_gap: float) -> SolveResult:
        """Return the best point found within ``time_limit`` [s], or within ``relative_gap`` of the best there is.

        Infeasible, unbounded and out-of-time are results.

        Raises:
            InternalError: the solver failed, or its answer breaks the problem.
        """


class UnknownSolverError(InputError, ValueError):
    """No solver has this name here: a fault of the scenario (exit code 2)."""

    @classmethod
    def because(cls, reason: str) -> "UnknownSolverError":
        """Make the error from a reason that says which solvers there are."""
        return cls([Problem("", 0, 0, "solver.name", reason)])


# Modules by name and not by import statement: a statement, wherever it stands, would tie every adapter to every other.
_OWN = {"highs": ("highs", "HIGHS"), "cbc": ("pulp_solvers", "find"), "cp-sat": ("cp_sat", "CP_SAT")}
_SMALL = {"highs": ("highs", "SMALL")}
_PULP = "pulp:"


@cache
def solver(name: str, *, small: bool = False) -> Solver:
    """Return the solver of a name: ``highs``, ``cbc``, ``cp-sat``, or ``pulp:NAME`` for any that PuLP finds.

    ``small``: set for many problems of a few dozen variables each, where it has such a setting; as exact as otherwise.

    Raises:
        UnknownSolverError: there is none of this name, or it is not installed; says which there are.
    """
    if name not in _OWN and not name.startswith(_PULP):
        reason = f"must be highs, cbc, cp-sat, or pulp:NAME (got {as_written(name)})"
        raise UnknownSolverError.because(reason)
    module, attribute = (_SMALL if small and name in _SMALL else _OWN).get(name, _OWN["cbc"])
    found = getattr(import_module(f"{__name__}.{module}"), attribute)
    return cast(Solver, found(name) if attribute == "find" else found)


class _Lazy(Mapping[str, Solver]):
    """The solvers that come with the planner, by name; looking one up imports it."""

    def __getitem__(self, name: str) -> Solver:
        if name not in _OWN:
            raise KeyError(name)
        return solver(name)

    def __iter__(self) -> Iterator[str]:
        return iter(_OWN)

    def __len__(self) -> int:
        return len(_OWN)


SOLVERS: Mapping[str, Solver] = _Lazy()


def without_variables(milp: Milp, name: str) -> SolveResult:
    """Return the result where there is nothing to choose: the rows hold as they stand, or never."""
    nothing = np.zeros(0)
    if violations(milp, nothing):
        return SolveResult(Termination("infeasible"), solver=name)
    return SolveResult(Termination("optimal"), nothing, 0.0, 0.0, name)


def checked(milp: Milp, point: Floats, name: str) -> Floats:
    """Return the point with integers exactly whole.

    Raises:
        InternalError: it breaks the problem.
    """
    whole = rounded(milp, point)
    broken = violations(milp, point) or violations(milp, whole)  # halves that happen to fit rounded are no answer
    if broken:
        msg = f"{name} returned a point that breaks the problem: {'; '.join(broken)}"
        raise InternalError(msg)
    return whole
