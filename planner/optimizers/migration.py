"""The shortest order of a migration: the least number of ticks for which there is one."""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from planner.migration import Migration, Start
from planner.milp.model import Milp, SolveResult
from planner.optimizers.lexicographic import Solve
from planner.table import Floats


class Encoded(Protocol):
    """What ``formulations.migration.build`` returns."""

    @property
    def milp(self) -> Milp:
        """The problem."""

    @property
    def starts(self) -> Callable[[Floats], list[Start]]:
        """The way back to steps."""

    @property
    def missing(self) -> Callable[[Floats], dict[int, int]]:
        """The way back to devices that are missing."""


class Build(Protocol):
    """Encodes a migration; see ``formulations.migration.build``."""

    def __call__(self, migration: Migration, horizon: int, *, elastic: bool = False) -> Encoded:
        """Encode it for so many ticks."""


class Order(NamedTuple):
    """The steps of a migration and the ticks they take; where there are none, devices missing by node.

    ``reason``: optimal where fewer ticks are proven not to suffice, infeasible where no number does, else stopped.
    """

    reason: Literal["optimal", "infeasible", "stopped"]
    starts: tuple[Start, ...]
    ticks: int
    missing: dict[int, int]


def shortest(migration: Migration, build: Build, solve: Solve, time_limit: float) -> Order:
    """Return the shortest order: ever longer horizons until one suffices, then the least between it and the last.

    An order that suffices does so with more ticks, too, so the least is found by halving.
    """
    deadline = time.monotonic() + time_limit
    steps = [part.kind.ticks for part in migration.leaving] + [part.kind.ticks for part in migration.arriving]
    if not steps:
        return Order("optimal", (), 0, {})
    short, horizon = max(steps) - 1, max(steps)
    while True:
        found = _solved(migration, build, solve, horizon, deadline)
        if found is None:
            return Order("stopped", (), 0, {})
        if found.point is not None:
            break
        if horizon >= migration.longest:
            return _lacking(migration, build, solve, horizon, deadline)
        short, horizon = horizon, min(2 * horizon, migration.longest)
    best = found
    while horizon - short > 1:
        middle = (short + horizon) // 2
        found = _solved(migration, build, solve, middle, deadline)
        if found is None:
            return Order("stopped", _starts(migration, build, horizon, best), horizon, {})
        if found.point is None:
            short = middle
        else:
            horizon, best = middle, found
    return Order("optimal", _starts(migration, build, horizon, best), horizon, {})


def _solved(migration: Migration, build: Build, solve: Solve, horizon: int, deadline: float) -> SolveResult | None:
    """Solve for one horizon; None where time ran out before it was known whether there is an order."""
    left = deadline - time.monotonic()
    found = solve(build(migration, horizon).milp, max(left, 0.0), 0.0)
    return None if found.point is None and found.termination.reason != "infeasible" else found


def _starts(migration: Migration, build: Build, horizon: int, found: SolveResult) -> tuple[Start, ...]:
    return () if found.point is None else tuple(build(migration, horizon).starts(found.point))


def _lacking(migration: Migration, build: Build, solve: Solve, horizon: int, deadline: float) -> Order:
    """Return the fewest devices with which there would be an order; none are named where no devices help."""
    encoded = build(migration, horizon, elastic=True)
    found = solve(encoded.milp, max(deadline - time.monotonic(), 0.0), 0.0)
    return Order("infeasible", (), 0, {} if found.point is None else encoded.missing(found.point))
