"""A move from one plan to another as numbers: replicas that leave, stay and arrive, and the nodes they stand on."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

Place = tuple[int, ...]  # nodes that a replica stands on, by their number


class Node(NamedTuple):
    """Devices that stand together; ``number`` counts the nodes of an inventory from 1."""

    inventory: str
    number: int
    devices: int

    @property
    def label(self) -> str:
        """Short form for people."""
        return f"{self.inventory} node {self.number}"


class Kind(NamedTuple):
    """Replicas that are alike: what they serve, their devices, their rate [request/s], and ticks to drain or load."""

    name: str
    workload: str
    role: str
    devices: int
    rate: float
    ticks: int


class Standing(NamedTuple):
    """Replicas of one kind on one place."""

    kind: Kind
    place: Place
    replicas: int


class Arriving(NamedTuple):
    """Replicas that are to be started, and the places that one of them may take."""

    kind: Kind
    replicas: int
    places: tuple[Place, ...]


class Migration(NamedTuple):
    """The whole move. ``needs``: requests per second that each workload must be served at any time."""

    nodes: tuple[Node, ...]
    leaving: tuple[Standing, ...]
    staying: tuple[Standing, ...]
    arriving: tuple[Arriving, ...]
    needs: Mapping[str, float]

    def on(self, place: Place, devices: int, node: int) -> int:
        """Return the devices that a replica takes on a node."""
        return devices // len(place) if node in place else 0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of all replicas."""
        standing = tuple(part.kind for part in (*self.leaving, *self.staying))
        return (*standing, *(part.kind for part in self.arriving))

    @property
    def longest(self) -> int:
        """Ticks that suffice where any order does: one step at a time."""
        drained = sum(part.replicas * part.kind.ticks for part in self.leaving)
        return drained + sum(part.replicas * part.kind.ticks for part in self.arriving)


class Start(NamedTuple):
    """Replicas of one kind that begin to drain, or to load, at a tick."""

    tick: int
    action: Literal["drain", "load"]
    kind: Kind
    place: Place
    replicas: int

    @property
    def end(self) -> int:
        """The tick at which devices are free, or the replicas serve."""
        return self.tick + self.kind.ticks
