"""The devices a plan may use, the links between them, and what may be spent."""

from typing import Annotated

from pydantic import Field, model_validator

from planner.schema.base import MOST, BytesPerSecond, Count, Name, Schema, UsdPerHour, Watts

_MOST_DEVICES = 100_000
DeviceCount = Annotated[int, Field(ge=1, le=_MOST_DEVICES, strict=True)]


class InventoryItem(Schema):
    """Devices of one kind that the plan may use."""

    hardware: Name = Field(description="a shipped name, or the path of a specification of yours")
    domains: DeviceCount | None = Field(None, description="whole scale-up domains, as the specification defines one")
    nodes: DeviceCount | None = Field(
        None, description="whole nodes, as the specification defines a node; they fill domains one after the other"
    )
    devices: DeviceCount | None = Field(
        None, description="devices instead of nodes; the last node may be partly filled"
    )
    price: UsdPerHour | None = Field(None, description="of one device")
    reserved_devices: int = Field(
        0, ge=0, le=MOST, strict=True, description="kept out of the plan, taken from the last nodes"
    )

    @model_validator(mode="after")
    def _one_size(self) -> "InventoryItem":
        if sum(size is not None for size in (self.domains, self.nodes, self.devices)) != 1:
            msg = "give one of 'nodes', 'domains' and 'devices'"
            raise ValueError(msg)
        return self


class PoolLink(Schema):
    """What the KV caches of all requests between two inventories may take of the network."""

    between: tuple[Name, Name] = Field(description="names of the inventory; the same twice for one among itself")
    bandwidth: BytesPerSecond = Field(description="of all prefill replicas on one to all decode replicas on the other")


class Limits(Schema):
    """What the whole plan may take."""

    devices: Count | None = None
    cost: UsdPerHour | None = None
    power: Watts | None = Field(None, description="rated power of the devices in use")
