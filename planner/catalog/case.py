"""A scenario together with every specification it names."""

from collections.abc import Mapping
from typing import NamedTuple

from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.scenario import InventoryItem, Scenario, ServedModel, Workload


class Specification(NamedTuple):
    """Which file answered for a name: enough to find it again and to notice that it changed."""

    kind: str
    name: str
    sha256: str


class Case(NamedTuple):
    """Everything a plan is computed from."""

    scenario: Scenario
    architectures: Mapping[str, Architecture]
    hardware: Mapping[str, Hardware]
    engine: Engine
    engine_version: str
    efficiencies: Efficiencies
    specifications: tuple[Specification, ...]

    @property
    def workload_name(self) -> str:
        """The name of the one workload."""
        return next(iter(self.scenario.workloads))

    @property
    def workload(self) -> Workload:
        """The one workload."""
        return self.scenario.workloads[self.workload_name]

    @property
    def model(self) -> ServedModel:
        """The one model served."""
        return self.scenario.models[self.workload.model]

    @property
    def architecture(self) -> Architecture:
        """The architecture of the one model."""
        return self.architectures[self.workload.model]

    @property
    def max_model_len(self) -> int:
        """Longest request [token] the engine must accept."""
        return int(self.model.max_model_len or self.architecture.max_position_embeddings)


def node_sizes(item: InventoryItem, devices_per_node: int) -> tuple[int, ...]:
    """Return the devices the plan may use in each node, largest first [device].

    Reserved devices come out of the last nodes, so that as many nodes as possible stay whole.
    """
    total = item.nodes * devices_per_node if item.nodes else int(item.devices or 0)
    free = max(0, total - item.reserved_devices)
    whole, rest = divmod(free, devices_per_node)
    return (devices_per_node,) * whole + ((rest,) if rest else ())
