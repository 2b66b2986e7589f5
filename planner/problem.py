"""What a formulation is given, and what it gives back: numbers only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from planner.milp.model import Milp
from planner.table import ColumnTable, Floats


class Stock(NamedTuple):
    """Devices of one inventory: usable devices of each node, and of a full node."""

    nodes: tuple[int, ...]
    devices_per_node: int

    @property
    def devices(self) -> int:
        """All usable devices."""
        return sum(self.nodes)


class GoalSpec(NamedTuple):
    """One goal of the scenario."""

    metric: str
    sense: Literal["maximize", "minimize"]


class PlanningProblem(NamedTuple):
    """Columns, the load they must carry, where they may stand, and what is wanted.

    ``demand`` is None for "as much as fits", else what Σ replicas·value must reach, where the value of a
    column is its rate [request/s] or, for ``load`` "in_flight", the requests it keeps in flight.
    """

    table: ColumnTable
    workload: str
    load: Literal["rate", "in_flight"]
    demand: float | None
    output_tokens: float
    stocks: Mapping[str, Stock]
    goals: Sequence[GoalSpec]

    @property
    def value(self) -> Floats:
        """What each column carries, shape (C,)."""
        return self.table.figures[self.load]


class Encoded(NamedTuple):
    """A problem ready for a solver, and the way back: replicas per column, shape (C,), from its point."""

    milp: Milp
    replicas: Callable[[Floats], list[int]]


class Formulation(Protocol):
    """Turns a planning problem into a mixed-integer problem."""

    @property
    def name(self) -> str:
        """The name it is registered by."""

    def build(self, problem: PlanningProblem) -> Encoded:
        """Encode the problem."""
