"""What a formulation is given, and what it gives back: numbers only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np

from planner.milp.model import Milp
from planner.milp.stock import Stock
from planner.table import ColumnTable, Floats, Ints


class GoalSpec(NamedTuple):
    """One goal of the scenario; ``weights`` by metric where it is a weighted one."""

    metric: str
    sense: Literal["maximize", "minimize"]
    weights: tuple[tuple[str, float], ...] = ()


class Load(NamedTuple):
    """What one workload asks for.

    ``demand`` is None for "as much as fits", else what Σ replicas·value must reach, where the value of a column is its
    rate [request/s] or, for ``kind`` "in_flight", the requests it keeps in flight.
    """

    workload: str
    kind: Literal["rate", "in_flight"]
    demand: float | None
    output_tokens: float


class Routes(NamedTuple):
    """Pairs of a prefill and a decode column that may serve requests together, R of them.

    ``prefill``, ``decode`` (R,): columns. ``seconds`` (R,): time a prompt's cache takes on the links of a rank [s].
    ``bytes`` (R,): its size over all links [byte]. ``ttft``, ``tpot`` (R,): latencies of a request [s].
    """

    prefill: Ints
    decode: Ints
    seconds: Floats
    bytes: Floats
    ttft: Floats
    tpot: Floats

    def take(self, routes: Ints) -> "Routes":
        """Return some pairs, in the order given."""
        p, d, seconds, size, ttft, tpot = self
        return Routes(p[routes], d[routes], seconds[routes], size[routes], ttft[routes], tpot[routes])


def no_routes() -> Routes:
    """Return no pairs at all."""
    return Routes(np.zeros(0, np.int64), np.zeros(0, np.int64), *(np.zeros(0) for _ in range(4)))


class LinkLimit(NamedTuple):
    """The KV-cache bytes per second that may pass between two inventories, either way."""

    between: tuple[str, str]
    bandwidth: float


class PlanningProblem(NamedTuple):
    """Columns, pairs of them, the load they must carry, where they may stand, and what is wanted.

    ``limits``: most devices [1], cost [USD/h] and power [W] of the whole plan, by metric. ``link_load``: share of its
    time that the links of a rank may be busy with caches. ``fixed``: columns of which so many replicas run in all.
    ``asked``: all columns of certain marks, some of which must serve something.
    """

    table: ColumnTable
    routes: Routes
    loads: tuple[Load, ...]
    stocks: Mapping[str, Stock]
    goals: Sequence[GoalSpec]
    limits: Mapping[str, float] = {}
    links: Sequence[LinkLimit] = ()
    link_load: float = 1.0
    fixed: tuple[tuple[tuple[int, ...], int], ...] = ()
    asked: tuple[tuple[int, ...], ...] = ()

    @property
    def value(self) -> Floats:
        """What a replica of each column carries toward its workload's load, shape (C,)."""
        kinds = {load.workload: load.kind for load in self.loads}
        in_flight = np.array([kinds.get(pool.workload) == "in_flight" for pool in self.table.pools], dtype=bool)
        figures = self.table.figures
        if not len(self.table):
            return np.zeros(0)
        return np.where(in_flight[self.table.pool], figures["in_flight"], figures["rate"])

    @property
    def metrics(self) -> frozenset[str]:
        """Every metric a goal reads."""
        return frozenset(name for goal in self.goals for name in (dict(goal.weights) or {goal.metric: 1.0}))


class Flow(NamedTuple):
    """Requests that pass from prefill replicas of one column to decode replicas of another [request/s]."""

    prefill: int
    decode: int
    rate: float


class Encoded(NamedTuple):
    """A problem ready for a solver, and the ways back from its point.

    ``replicas``: per column, shape (C,). ``flows``: over pairs of columns, for the replicas found.
    """

    milp: Milp
    replicas: Callable[[Floats], list[int]]
    flows: Callable[[Floats], list[Flow]]


class Formulation(Protocol):
    """Turns a planning problem into a mixed-integer problem."""

    @property
    def name(self) -> str:
        """The name it is registered by."""

    def build(self, problem: PlanningProblem) -> Encoded:
        """Encode the problem."""
