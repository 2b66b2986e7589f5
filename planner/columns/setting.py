"""What stays fixed while the configurations of one inventory item are evaluated."""

from typing import NamedTuple

from planner.catalog.case import Case, node_sizes
from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.scenario import InventoryItem, Workload


class Setting(NamedTuple):
    """One model and load on one kind of device."""

    inventory: str
    item: InventoryItem
    hardware: Hardware
    architecture: Architecture
    engine: Engine
    efficiencies: Efficiencies
    workload: Workload
    max_model_len: int

    @property
    def nodes(self) -> tuple[int, ...]:
        """Usable devices of each node, largest first."""
        return node_sizes(self.item, self.hardware.devices_per_node.value)

    @property
    def usable_bytes(self) -> float:
        """Device memory for weights, activations and KV cache [byte]."""
        fraction = min(self.efficiencies.scheduling.memory_fraction.value, self.engine.memory_fraction.value)
        return fraction * self.hardware.memory.capacity.value


def settings(case: Case) -> list[Setting]:
    """Return one setting per inventory item."""
    return [
        Setting(
            inventory=name,
            item=item,
            hardware=case.hardware[name],
            architecture=case.architecture,
            engine=case.engine,
            efficiencies=case.efficiencies,
            workload=case.workload,
            max_model_len=case.max_model_len,
        )
        for name, item in case.scenario.inventory.items()
    ]
