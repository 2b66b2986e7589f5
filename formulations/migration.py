"""An order of steps from one plan to another within a number of ticks, which never falls short of what must be served.

    choose    x_kt ∈ ℕ   replicas of standing k that begin to drain at tick t: they serve no more, their devices are
                         free d_k ticks later
              y_jpt ∈ ℕ  replicas of arriving j that begin to load on place p at tick t: they serve l_j ticks later
    such that Σ_t x_kt = all that leave of k, Σ_pt y_jpt = all that arrive of j
              devices in use on every node at every tick ≤ those it has
              rate of what serves ≥ need, of every workload at every tick
    best by   devices that are missing, where these may be added; else late drains and early loads

A pair of prefill and decode replicas serves at the rate of the side that has less: f_wt is at most that of each.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from planner.migration import Arriving, Kind, Migration, Start
from planner.milp.model import INFINITY, Milp, Objective, Row, Variable
from planner.table import Floats

_SIDES = ("prefill", "decode")


class EncodedMigration(NamedTuple):
    """The problem for a solver, and the ways back: to steps in order, and to devices missing by node."""

    milp: Milp
    starts: Callable[[Floats], list[Start]]
    missing: Callable[[Floats], dict[int, int]]


class _Model:
    def __init__(self, migration: Migration, horizon: int) -> None:
        self.migration, self.horizon = migration, horizon
        self.variables: list[Variable] = []
        self.starts: list[Start] = []  # one per variable of a start, with 0 replicas
        self.rows: list[Row] = []
        self.drains = [self._drains(k) for k in range(len(migration.leaving))]
        self.loads = [self._loads(j, arriving) for j, arriving in enumerate(migration.arriving)]

    def _drains(self, k: int) -> dict[int, int]:
        """Make the variables of a standing; returns variables by tick."""
        kind, place, replicas = self.migration.leaving[k]
        found = {}
        for tick in range(self.horizon - kind.ticks + 1):
            found[tick] = self._start(f"drain[{k},{tick}]", replicas, Start(tick, "drain", kind, place, 0))
        return found

    def _loads(self, j: int, arriving: Arriving) -> dict[tuple[int, int], int]:
        """Make the variables of an arriving kind; returns variables by place and tick."""
        found = {}
        for p, place in enumerate(arriving.places):
            for tick in range(self.horizon - arriving.kind.ticks + 1):
                start = Start(tick, "load", arriving.kind, place, 0)
                found[p, tick] = self._start(f"load[{j},{p},{tick}]", arriving.replicas, start)
        return found

    def _start(self, name: str, most: int, start: Start) -> int:
        self.starts.append(start)
        return self._variable(name, most, integer=True, meaning=f"replicas of {start.kind.name} to {start.action}")

    def _variable(self, name: str, most: float, *, integer: bool, meaning: str) -> int:
        self.variables.append(Variable(name, 0.0, float(most), integer, meaning))
        return len(self.variables) - 1

    def all_move(self) -> None:
        """Everything that leaves drains once, everything that arrives loads once."""
        for k, part in enumerate(self.migration.leaving):
            whole = dict.fromkeys(self.drains[k].values(), 1.0)
            self._row(f"left[{k}]", whole, part.replicas, part.replicas, "replica", f"all of {part.kind.name} leave")
        for j, arriving in enumerate(self.migration.arriving):
            whole, count = dict.fromkeys(self.loads[j].values(), 1.0), arriving.replicas
            self._row(f"arrived[{j}]", whole, count, count, "replica", f"all of {arriving.kind.name} arrive")

    def room(self, spare: dict[int, int]) -> None:
        """Devices in use on a node are those it has at most; ``spare`` are variables that add some, by node."""
        m = self.migration
        for n, node in enumerate(m.nodes):
            standing = (*m.staying, *m.leaving)
            used = sum(m.on(part.place, part.kind.devices, n) * part.replicas for part in standing)
            for tick in range(self.horizon):
                terms: dict[int, float] = {spare[n]: -1.0} if n in spare else {}
                for k, part in enumerate(m.leaving):
                    each = m.on(part.place, part.kind.devices, n)
                    freed = {v: -float(each) for t, v in self.drains[k].items() if each and t + part.kind.ticks <= tick}
                    terms |= freed
                for j, arriving in enumerate(m.arriving):
                    for (p, t), v in self.loads[j].items():
                        each = m.on(arriving.places[p], arriving.kind.devices, n)
                        if each and t <= tick:
                            terms[v] = float(each)
                if terms:
                    meaning = f"devices of {node.label} in use at tick {tick}"
                    self._row(f"room[{n},{tick}]", terms, -INFINITY, node.devices - used, "device", meaning)

    def service(self) -> None:
        """What serves carries what every workload needs, at every tick."""
        for w, (workload, need) in enumerate(self.migration.needs.items()):
            paired = any(kind.role in _SIDES and kind.workload == workload for kind in self.migration.kinds)
            for tick in range(self.horizon + 1):
                terms, base = self._serving(workload, "mixed", tick)
                if paired:
                    through = self._variable(
                        f"pairs[{w},{tick}]", need, integer=False, meaning=f"request/s of {workload} through pairs"
                    )
                    terms[through] = 1.0
                    self._pairs(workload, w, tick, through)
                meaning = f"{workload} is served at tick {tick}"
                self._row(f"service[{w},{tick}]", terms, need - base, INFINITY, "request/s", meaning)

    def _pairs(self, workload: str, w: int, tick: int, through: int) -> None:
        for side in _SIDES:
            terms, base = self._serving(workload, side, tick)
            meaning = f"{side} of {workload} keeps up at tick {tick}"
            bounds = (-base, INFINITY)
            self._row(f"{side}[{w},{tick}]", {**terms, through: -1.0}, *bounds, "request/s", meaning)

    def _serving(self, workload: str, role: str, tick: int) -> tuple[dict[int, float], float]:
        """Return the rate of what serves at a tick, as coefficients of variables and a constant."""
        m = self.migration
        standing = [part for part in (*m.staying, *m.leaving) if _serves(part.kind, workload, role)]
        base = sum(part.replicas * part.kind.rate for part in standing)
        terms: dict[int, float] = {}
        for k, part in enumerate(m.leaving):
            if _serves(part.kind, workload, role):
                terms |= {v: -part.kind.rate for t, v in self.drains[k].items() if t <= tick}
        for j, arriving in enumerate(m.arriving):
            if _serves(arriving.kind, workload, role):
                ready = tick - arriving.kind.ticks
                terms |= {v: arriving.kind.rate for (_, t), v in self.loads[j].items() if t <= ready}
        return terms, base

    def spare(self) -> dict[int, int]:
        """Let every node have more devices; returns variables by node."""
        most = sum(part.kind.devices * part.replicas for part in self.migration.arriving)
        return {
            n: self._variable(f"spare[{n}]", most, integer=True, meaning=f"devices that {node.label} lacks")
            for n, node in enumerate(self.migration.nodes)
        }

    def late_drains_and_early_loads(self) -> Objective:
        """Between orders of the same length, keep as much in service as can be."""
        weights = np.zeros(len(self.variables))
        for i, start in enumerate(self.starts):
            weights[i] = start.tick if start.action == "load" else self.horizon - start.tick
        return Objective("waiting", "minimize", weights, "tick")

    def _row(self, name: str, terms: dict[int, float], low: float, high: float, unit: str, meaning: str) -> None:
        self.rows.append(Row(name, name.split("[", 1)[0], terms, float(low), float(high), unit, meaning))

    def decoded(self, point: Floats) -> list[Start]:
        """Return the starts of a point in their order."""
        counts = [round(value) for value in point[: len(self.starts)].tolist()]
        taken = [start._replace(replicas=n) for start, n in zip(self.starts, counts, strict=True) if n]
        return sorted(taken, key=lambda start: (start.tick, start.action, start.kind.name, start.place))


def _serves(kind: Kind, workload: str, role: str) -> bool:
    return kind.workload == workload and kind.role == role


def build(migration: Migration, horizon: int, *, elastic: bool = False) -> EncodedMigration:
    """Encode a migration that takes ``horizon`` ticks at most.

    Args:
        migration: the move.
        horizon: ticks; at least as many as any step takes.
        elastic: nodes may have more devices than they have, as few as possible in all.
    """
    model = _Model(migration, horizon)
    spare = model.spare() if elastic else {}
    model.all_move()
    model.room(spare)
    model.service()
    goal = model.late_drains_and_early_loads()
    if elastic:
        lacking = np.zeros(len(model.variables))
        lacking[list(spare.values())] = 1.0
        goal = Objective("missing devices", "minimize", lacking, "device")
    milp = Milp(tuple(model.variables), tuple(model.rows), (goal,))

    def missing(point: Floats) -> dict[int, int]:
        found = {n: round(float(point[v])) for n, v in spare.items()}
        return {n: count for n, count in found.items() if count}

    return EncodedMigration(milp, model.decoded, missing)
