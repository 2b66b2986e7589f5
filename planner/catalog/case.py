"""A scenario together with every specification it names."""

from collections.abc import Mapping
from typing import NamedTuple

from planner.schema.architecture import Architecture
from planner.schema.calibration import Calibration
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.fleet import InventoryItem
from planner.schema.hardware import Hardware
from planner.schema.scenario import Scenario, Scheduler, ServedModel


class Specification(NamedTuple):
    """Which file answered for a name: enough to find it again and to notice that it changed."""

    kind: str
    name: str
    sha256: str


class EngineUse(NamedTuple):
    """One engine the plan may use, in one version."""

    engine: Engine
    version: str
    scheduler: Scheduler


class Case(NamedTuple):
    """Everything a plan is computed from."""

    scenario: Scenario
    architectures: Mapping[str, Architecture]
    hardware: Mapping[str, Hardware]
    engines: tuple[EngineUse, ...]
    calibration: tuple[Efficiencies | Calibration, ...]
    specifications: tuple[Specification, ...]

    def model(self, workload: str) -> ServedModel:
        """Return the model that a workload is served with."""
        return self.scenario.models[self.scenario.workloads[workload].model]

    def architecture(self, workload: str) -> Architecture:
        """Return the architecture of a workload's model."""
        return self.architectures[self.scenario.workloads[workload].model]

    def max_model_len(self, workload: str) -> int:
        """Return the longest request [token] the engine must accept for a workload."""
        return int(self.model(workload).max_model_len or self.architecture(workload).max_position_embeddings)


def node_sizes(item: InventoryItem, devices_per_node: int, domain: int = 0) -> tuple[int, ...]:
    """Return the devices the plan may use in each node, largest first [device].

    Reserved devices come out of the last nodes, so that as many nodes as possible stay whole. ``domain``: devices of a
    scale-up domain, for an inventory that is given in domains.
    """
    if item.domains:
        total = item.domains * max(domain, devices_per_node)
    else:
        total = item.nodes * devices_per_node if item.nodes else int(item.devices or 0)
    free = max(0, total - item.reserved_devices)
    whole, rest = divmod(free, devices_per_node)
    return (devices_per_node,) * whole + ((rest,) if rest else ())
