"""What a migration asks for, one requirement at a time, and whether there is an order that keeps to it."""

from formulations.migration import build
from planner.migration import Migration, Node
from planner.optimizers.migration import Order, shortest
from planner.solvers import solver
from planner.studies.infeasible.requirements import Change, Knob, Requirement
from planner.studies.resolve import with_values
from planner.text import figure
from planner.verify.migration import migration_violations

_MANY = 10_000  # devices of a node that is set aside
_DIGITS = 3  # of a rate that is proposed: needs are what people chose
_NOTHING = 1e-3  # of a need: what is less, is as if nothing were served for a while
_TIME_LIMIT = 60.0  # seconds that the search for an order may take


class Orders:
    """Answers for one migration with values changed; ``undecided`` counts the searches that ran out of time."""

    def __init__(self) -> None:
        self.undecided = 0
        self._known: dict[str, bool] = {}

    def __call__(self, migration: Migration) -> bool:
        """Tell whether there is an order."""
        question = repr((migration.nodes, migration.needs))
        if question not in self._known:
            self._known[question] = self._order(migration).reason == "optimal"
        return self._known[question]

    def again(self, migration: Migration) -> bool:
        """Tell the same by finding an order and replaying its steps."""
        order = self._order(migration)
        return order.reason == "optimal" and not migration_violations(migration, order.starts, order.ticks)

    def _order(self, migration: Migration) -> Order:
        order = shortest(migration, build, solver("cp-sat").solve, _TIME_LIMIT)
        self.undecided += order.reason == "stopped"
        return order


def of_migration(migration: Migration) -> list[Requirement]:
    """Return what a migration asks for, what people would rather keep last: needs, then devices of nodes."""
    needs = [_need(workload, need) for workload, need in migration.needs.items()]
    return [*needs, *(_node(n, node) for n, node in enumerate(migration.nodes))]


def _need(workload: str, need: float) -> Requirement:
    path, shown = ("needs", workload), f"{figure(need)} request/s"

    def change(value: float) -> Change:
        rate = f"{value:.12g}"
        words = f"at any time {rate} request/s of {workload} instead of {shown}"
        return Change(f"{rate} request/s", words, (f"{workload}={rate} /s",), {path: value})

    knob = Knob(need, -1, change, digits=_DIGITS, nothing=need * _NOTHING)
    return Requirement(
        path, f"at any time {shown} of {workload}", lambda whole: with_values(whole, {path: 0.0}), knob, wish=True
    )


def _node(number: int, node: Node) -> Requirement:
    path, asked = ("nodes", number, "devices"), node.devices

    def change(value: float) -> Change:
        count = int(value)
        return Change(f"{count}", f"{node.label}: {count} devices instead of {asked}", (), {path: count})

    knob = Knob(asked, 1, change, most=_MANY, whole=True, digits=9)
    return Requirement(path, f"{node.label}: {asked} devices", lambda whole: with_values(whole, {path: _MANY}), knob)
