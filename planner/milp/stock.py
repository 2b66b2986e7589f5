"""What replicas are placed in: nodes, and the scale-up domains they stand in."""

from typing import NamedTuple


class Stock(NamedTuple):
    """Devices of one inventory: usable devices of each node, of a full node, and of a full scale-up domain.

    Nodes fill domains in their order; ``domain`` is 0 where a domain is no larger than a node.
    """

    nodes: tuple[int, ...]
    devices_per_node: int
    domain: int = 0

    @property
    def devices(self) -> int:
        """All usable devices."""
        return sum(self.nodes)

    @property
    def domains(self) -> tuple[int, ...]:
        """Full nodes in each domain; all in one where domains are no larger than nodes."""
        full = self.nodes.count(self.devices_per_node)
        each = self.domain // self.devices_per_node if self.domain else 0
        if not each:
            return (full,)
        whole, rest = divmod(full, each)
        return (each,) * whole + ((rest,) if rest else ())

    def replicas(self, size: int) -> int:
        """Return how many replicas of one size [device] fit side by side, each within nodes and domains as it must."""
        whole = self.devices_per_node
        if size <= whole:
            return sum(node // size for node in self.nodes)
        if size % whole:
            return 0
        if self.domain and size > self.domain:
            complete = self.domains.count(self.domain // whole)
            return 0 if size % self.domain else complete // (size // self.domain)
        return sum(nodes // (size // whole) for nodes in self.domains)
