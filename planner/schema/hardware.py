"""A device and the node it sits in."""

from typing import Any, Literal

from pydantic import Field, field_validator

from planner.schema.base import (
    Bytes,
    BytesPerSecond,
    Count,
    FlopPerSecond,
    Name,
    Schema,
    Seconds,
    Source,
    Sourced,
    Watts,
)
from planner.schema.precision import Precision


class Memory(Schema):
    """Device memory."""

    capacity: Sourced[Bytes] = Field(description="what a process can allocate on an idle device")
    bandwidth: Sourced[BytesPerSecond]


class Link(Schema):
    """A network between devices. Bandwidth is per device, one direction."""

    topology: Literal["switch", "full-mesh"] = Field(
        "switch",
        description="switch: every group gets the whole bandwidth. full-mesh: one link per pair, so a group "
        "of n uses n-1 of a device's links",
    )
    bandwidth: Sourced[BytesPerSecond] = Field(description="of one device with all its links in use")
    latency: Sourced[Seconds] | None = Field(
        None, description="of one message on top of the software's; left out where the software's covers it"
    )


class Hardware(Schema):
    """One kind of device: datasheet values only; fitted efficiencies live in calibrations."""

    called = "a hardware specification"

    name: Name
    vendor: Name
    description: Name
    status: Literal["shipping", "end-of-life", "announced"]
    peak_flops: dict[Precision, Sourced[FlopPerSecond]] = Field(
        description="dense matrix rate per precision; a precision left out is not supported"
    )
    memory: Memory
    devices_per_node: Sourced[Count]
    scale_up: Link = Field(description="between the devices of a node")
    scale_out: Link = Field(description="between nodes")
    power: Sourced[Watts] = Field(description="rated power of one device (TDP)")
    sources: dict[str, Source]

    @field_validator("peak_flops")
    @classmethod
    def _bf16_is_known(cls, rates: dict[str, Any]) -> dict[str, Any]:
        if "bf16" not in rates:
            msg = "needs a rate for bf16: attention and the head run in it whatever the weights are"
            raise ValueError(msg)
        return rates
