"""The problem itself: bounded variables, named rows, a list of objectives in order of importance."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.errors import InternalError
from planner.table import Floats, Ints

Sense = Literal["maximize", "minimize"]
INFINITY = float("inf")


class Variable(NamedTuple):
    """One decision; ``meaning`` is for people."""

    name: str
    lower: float
    upper: float
    integer: bool
    meaning: str


class Row(NamedTuple):
    """lower ≤ Σ coefficient·variable ≤ upper, in a unit, as part of a named group."""

    name: str
    group: str
    coefficients: Mapping[int, float]
    lower: float
    upper: float
    unit: str
    meaning: str


class Objective(NamedTuple):
    """A goal over all variables; coefficients have shape (number of variables,)."""

    name: str
    sense: Sense
    coefficients: Floats
    unit: str

    def value(self, point: Floats) -> float:
        """Return the goal's value at a point."""
        return float(self.coefficients @ point)


class Weighted(NamedTuple):
    """A goal over several: each is divided by its own best value; then the weighted sum is minimised.

    What is better when larger counts with its negative.
    """

    name: str
    parts: tuple[tuple[Objective, float], ...]

    def combined(self, best: Mapping[str, float]) -> Objective:
        """Return the weighted sum as one goal; ``best`` by name of the parts."""
        total = sum(
            (
                (1.0 if part.sense == "minimize" else -1.0) * weight / (abs(best[part.name]) or 1.0) * part.coefficients
                for part, weight in self.parts
            ),
            np.zeros(1),
        )
        return Objective(self.name, "minimize", total, "1")


Goal = Objective | Weighted


def sense_of(metric: str) -> Sense:
    """Return which way a metric is better."""
    return "maximize" if metric in ("requests", "tokens", "load") else "minimize"


class Milp(NamedTuple):
    """A mixed-integer linear problem with goals in order of importance."""

    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]
    objectives: tuple[Goal, ...]

    @property
    def goal(self) -> Objective:
        """The first goal, which must be a single one."""
        (first, *_) = self.objectives
        if isinstance(first, Weighted):
            msg = "a weighted goal has no coefficients before its parts are solved"
            raise TypeError(msg)
        return first

    def with_row(self, row: Row) -> "Milp":
        """Return the problem with one more row."""
        return self._replace(rows=(*self.rows, row))

    def with_objective(self, objective: Goal) -> "Milp":
        """Return the problem with this single goal."""
        return self._replace(objectives=(objective,))


class Sparse(NamedTuple):
    """Rows as compressed sparse rows: ``start`` (R+1,), ``column`` and ``value`` (nonzeros,), bounds (R,)."""

    start: Ints
    column: Ints
    value: Floats
    lower: Floats
    upper: Floats


def sparse(milp: Milp) -> Sparse:
    """Return the rows in compressed form.

    Raises:
        InternalError: a row names a variable that is not there, which a solver in C would read past its memory.
    """
    for row in milp.rows:
        if row.coefficients and not 0 <= min(row.coefficients) <= max(row.coefficients) < len(milp.variables):
            msg = f"row {row.name} names a variable beyond the {len(milp.variables)} of the problem"
            raise InternalError(msg)
    start = np.cumsum([0, *(len(row.coefficients) for row in milp.rows)], dtype=np.int64)
    return Sparse(
        start=start,
        column=np.array([i for row in milp.rows for i in row.coefficients], dtype=np.int64),
        value=np.array([v for row in milp.rows for v in row.coefficients.values()], dtype=np.float64),
        lower=np.array([row.lower for row in milp.rows], dtype=np.float64),
        upper=np.array([row.upper for row in milp.rows], dtype=np.float64),
    )


def row(
    name: str,
    coefficients: Iterable[float] | NDArray[np.float64],
    bounds: tuple[float, float],
    unit: str,
    meaning: str,
) -> Row:
    """Make a row from one coefficient per variable; zeros are dropped. ``name`` is ``group[index]``."""
    kept = {i: float(value) for i, value in enumerate(coefficients) if value}
    return Row(name, name.split("[", 1)[0], kept, bounds[0], bounds[1], unit, meaning)


class Termination(NamedTuple):
    """Why a solve ended; ``limit`` names what stopped it early."""

    reason: Literal["optimal", "within_gap", "infeasible", "stopped"]
    limit: str | None = None


class SolveResult(NamedTuple):
    """What a solver found: a point (integers exact) or none, and a rigorous bound on the goal.

    ``best``: of a weighted goal, the best value of each part alone.
    """

    termination: Termination
    point: Floats | None = None
    value: float | None = None
    bound: float | None = None
    solver: str = ""
    notes: tuple[str, ...] = ()
    best: Mapping[str, float] = {}
