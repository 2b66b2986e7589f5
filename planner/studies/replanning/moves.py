"""From two plans to the steps between them: what stays, leaves and arrives, where it stands, and how long it takes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from formulations.migration import build
from planner.catalog import Case, TableCase, scenario_from_data
from planner.constants import SECONDS_PER_HOUR
from planner.decode import stocks
from planner.errors import InputError, InternalError
from planner.exporters.text import degrees
from planner.listed import listed_problem
from planner.migration import Arriving, Kind, Migration, Node, Place, Standing
from planner.milp.stock import Stock
from planner.optimizers.migration import Order, shortest
from planner.plan import AnyDeployment, Deployment, Plan
from planner.solvers import solver
from planner.verify.migration import capacity, migration_violations

_ADDED = ("specifications", "grid")  # parts of a plan's scenario that are not the user's
_TIME_LIMIT = 60.0  # seconds that the search for an order may take
_LOAD_ONLY = ("mean_running", "prefill_utilisation")  # how hard a replica is run: no restart changes it


class Timing(NamedTuple):
    """How long steps take: draining [s], starting an engine [s], and reading weights [byte/s per device]."""

    drain: float
    start: float
    bandwidth: float

    def load(self, deployment: AnyDeployment) -> float:
        """Return the seconds from starting a replica to its first answer; of a listed one, weights are not known."""
        weights = deployment.memory_bytes.weights if isinstance(deployment, Deployment) else 0.0
        return self.start + weights / self.bandwidth


class Step(NamedTuple):
    """One step for people: when it begins and ends [s], and the rate of each workload once it has [request/s]."""

    begins: float
    ends: float
    action: str
    what: str
    replicas: int
    where: str
    capacity: dict[str, float]


class Moves(NamedTuple):
    """A migration between plans with its order; ``tick``: seconds. ``device_hours``: of devices that do not serve."""

    migration: Migration
    order: Order
    tick: float
    device_hours: float

    @property
    def seconds(self) -> float:
        """How long all of it takes."""
        return self.order.ticks * self.tick

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in their order."""
        return tuple(_steps(self))

    @property
    def lacking(self) -> tuple[str, ...]:
        """Which devices are missing where there is no order; empty where devices would not help."""
        nodes = self.migration.nodes
        return tuple(
            f"{count} more device{'s' if count > 1 else ''} on {nodes[n].label}"
            for n, count in self.order.missing.items()
        )


Counted = tuple[AnyDeployment, int]


def moves(before: Plan, after: Plan, needs: Mapping[str, float], timing: Timing, folder: Path) -> Moves:
    """Return the shortest order of steps from one plan to another that never serves less than is needed.

    What runs is taken to stand on nodes largest first. A need that the plan at either end does not carry is cut to what
    both do.

    Raises:
        InputError: a plan's scenario cannot be loaded, or what it deploys does not fit its nodes.
    """
    old, new = (_stocks(plan, folder) for plan in (before, after))
    held = {name: max((s[name] for s in (old, new) if name in s), key=lambda s: s.devices) for name in {**old, **new}}
    nodes = tuple(Node(name, i + 1, size) for name, stock in held.items() for i, size in enumerate(stock.nodes))
    staying, leaving, arriving = _matched(before.deployments, after.deployments)
    tick = max(min([timing.drain] * bool(leaving) + [timing.load(d) for d, _ in arriving], default=1.0), 1.0)
    placed = _placed([*staying, *leaving], nodes, held)
    drains = math.ceil(timing.drain / tick)
    migration = Migration(
        nodes,
        tuple(_standing(leaving, placed[len(staying) :], drains)),
        tuple(_standing(staying, placed, drains)),
        tuple(
            Arriving(_kind(d, math.ceil(timing.load(d) / tick)), count, tuple(_places(d, nodes, new[d.inventory])))
            for d, count in arriving
        ),
        {},
    )
    migration = migration._replace(needs=_reachable(migration, needs))
    order = shortest(migration, build, solver("cp-sat").solve, _TIME_LIMIT)
    broken = migration_violations(migration, order.starts, order.ticks) if order.reason == "optimal" else []
    if broken:
        msg = f"the order of a migration does not hold; please report this: {broken[0]}"
        raise InternalError(msg)
    idle = [d.devices_per_replica * n * timing.drain for d, n in leaving]
    idle += [d.devices_per_replica * n * timing.load(d) for d, n in arriving]
    return Moves(migration, order, tick, math.fsum(idle) / SECONDS_PER_HOUR)


def case_of(plan: Plan, folder: Path, overrides: Sequence[str] = (), more: Mapping[str, Any] | None = None) -> Any:
    """Return the case of a plan's own scenario, with changes.

    Raises:
        InputError: it cannot be loaded.
    """
    resolved = {name: value for name, value in plan.scenario.resolved.items() if name not in _ADDED}
    return scenario_from_data({**resolved, **(more or {})}, overrides, folder=folder, origin="the plan's scenario")


def _stocks(plan: Plan, folder: Path) -> Mapping[str, Stock]:
    case: Case | TableCase = case_of(plan, folder)
    return listed_problem(case).stocks if isinstance(case, TableCase) else stocks(case)


def _matched(
    before: Sequence[AnyDeployment], after: Sequence[AnyDeployment]
) -> tuple[list[Counted], list[Counted], list[Counted]]:
    """Return replicas that are in both plans, only in the first, and only in the second."""
    coming = {_identity(d): d.replicas for d in after}
    staying, leaving = [], []
    for d in before:
        kept = min(d.replicas, coming.get(_identity(d), 0))
        coming[_identity(d)] = coming.get(_identity(d), 0) - kept
        staying += [(d, kept)] if kept else []
        leaving += [(d, d.replicas - kept)] if d.replicas > kept else []
    arriving = []
    for d in after:
        left = coming.pop(_identity(d), 0)
        arriving += [(d, left)] if left else []
    return staying, leaving, arriving


def _identity(d: AnyDeployment) -> tuple[Any, ...]:
    """Return what an engine has to be restarted for."""
    if not isinstance(d, Deployment):
        return (d.workload, d.role, d.inventory, d.label, d.devices_per_replica)
    return tuple(value for name, value in d.configuration()._asdict().items() if name not in _LOAD_ONLY)


def _kind(d: AnyDeployment, ticks: int) -> Kind:
    what = degrees(d) if isinstance(d, Deployment) else d.label
    return Kind(
        f"{d.name} ({what})", d.workload, d.role, d.devices_per_replica, d.requests_per_s / d.replicas, max(ticks, 1)
    )


def _standing(parts: Sequence[Counted], placed: Sequence[Mapping[Place, int]], ticks: int) -> Iterator[Standing]:
    for (d, _), places in zip(parts, placed, strict=False):
        for place, count in places.items():
            yield Standing(_kind(d, ticks), place, count)


def _placed(parts: Sequence[Counted], nodes: Sequence[Node], held: Mapping[str, Stock]) -> list[dict[Place, int]]:
    """Return where replicas stand, by part: largest first, each on the first place that has room.

    Raises:
        InputError: they do not fit.
    """
    room = [node.devices for node in nodes]
    found: list[dict[Place, int]] = [{} for _ in parts]
    for i in sorted(range(len(parts)), key=lambda i: (-parts[i][0].devices_per_replica, i)):
        d, count = parts[i]
        places = list(_places(d, nodes, held[d.inventory]))
        for _ in range(count):
            each = d.devices_per_replica
            place = next((p for p in places if all(room[n] >= each // len(p) for n in p)), None)
            if place is None:
                message = f"{d.name}: {count} replicas of {each} devices do not fit beside the others"
                raise InputError.single("the current plan", message, "deployments")
            for n in place:
                room[n] -= each // len(place)
            found[i][place] = found[i].get(place, 0) + 1
    return found


def _places(d: AnyDeployment, nodes: Sequence[Node], stock: Stock) -> Iterator[Place]:
    """Yield where a replica may stand: a node with as many devices, or full nodes side by side in a domain."""
    mine = [n for n, node in enumerate(nodes) if node.inventory == d.inventory][: len(stock.nodes)]
    whole, size = stock.devices_per_node, d.devices_per_replica
    if size <= whole:
        yield from ((n,) for n, room in zip(mine, stock.nodes, strict=True) if room >= size)
        return
    span, start = size // whole, 0
    for full in stock.domains if size <= stock.domain or not stock.domain else (sum(stock.domains),):
        for first in range(start, start + full - span + 1, span):
            yield tuple(mine[first : first + span])
        start += full


def _reachable(migration: Migration, needs: Mapping[str, float]) -> dict[str, float]:
    """Return needs, each at most what is served before and after."""
    ended = migration._replace(
        leaving=(), staying=(*migration.staying, *(Standing(a.kind, (), a.replicas) for a in migration.arriving))
    )
    return {
        name: min(need, capacity(migration, (), name, 0), capacity(ended, (), name, 0)) for name, need in needs.items()
    }


def _steps(found: Moves) -> Iterator[Step]:
    migration, starts = found.migration, found.order.starts
    workloads = sorted({kind.workload for kind in migration.kinds})
    for start in sorted(starts, key=lambda s: (s.tick, s.action, s.kind.name, s.place)):
        served = {name: capacity(migration, starts, name, start.end) for name in workloads}
        yield Step(
            start.tick * found.tick,
            start.end * found.tick,
            "drain and stop" if start.action == "drain" else "start, load weights, then switch to",
            start.kind.name,
            start.replicas,
            " and ".join(migration.nodes[n].label for n in start.place),
            served,
        )
