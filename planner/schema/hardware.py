"""A device, its engines and the networks around it."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

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


class EngineNames(Schema):
    """What the vendor calls the parts of a device; reports use these words."""

    matrix: Name
    vector: Name
    memory: Name
    link: Name


class Engines(Schema):
    """How work becomes seconds on a device."""

    kind: Literal["roofline", "component"] = Field(
        description="roofline: one kind of core does all the arithmetic. component: matrix and vector cores run "
        "side by side, and what passes between them passes through a buffer"
    )
    names: EngineNames
    vector_flops: Sourced[FlopPerSecond] = Field(
        description="rate of element-wise work in bf16 or fp16 where published, otherwise in fp32"
    )
    cores: Sourced[Count] = Field(description="streaming multiprocessors, compute units, AI cores: what tiles go to")
    hand_off: Sourced[BytesPerSecond] | None = Field(
        None, description="between matrix and vector cores, all cores together; with kind component"
    )

    @model_validator(mode="after")
    def _hand_off_between_components(self) -> "Engines":
        if (self.kind == "component") != (self.hand_off is not None):
            msg = "'hand_off' goes with kind component, and with no other"
            raise ValueError(msg)
        return self


class Memory(Schema):
    """Device memory."""

    capacity: Sourced[Bytes] = Field(description="what a process can allocate on an idle device")
    bandwidth: Sourced[BytesPerSecond]


class Network(Schema):
    """Links of one device. Bandwidth is per device, one direction."""

    bandwidth: Sourced[BytesPerSecond] = Field(description="of one device with all its links in use")
    latency: Sourced[Seconds] | None = Field(
        None, description="of one message on top of the software's; left out where the software's covers it"
    )


class Level(Network):
    """What connects groups of up to ``devices``."""

    devices: Sourced[Count] = Field(description="the largest group it connects")
    topology: Literal["switch", "full-mesh"] = Field(
        "switch",
        description="switch: every group gets the whole bandwidth. full-mesh: one link per pair, so a group "
        "of n uses n-1 of a device's links",
    )


class Host(Schema):
    """The processor beside the devices, for what is kept in its memory."""

    link: Sourced[BytesPerSecond] = Field(description="between one device and the host, one direction")
    memory: Sourced[Bytes] | None = Field(None, description="of the host, per device")
    memory_bandwidth: Sourced[BytesPerSecond] | None = Field(None, description="of the host's memory, per device")


class Hardware(Schema):
    """One kind of device, as software sees it: datasheet values only; fitted efficiencies live in calibrations."""

    called = "a hardware specification"

    name: Name
    vendor: Name
    description: Name
    status: Literal["shipping", "end-of-life", "announced"]
    peak_flops: dict[Precision, Sourced[FlopPerSecond]] = Field(
        description="dense matrix rate per precision; a precision left out is not supported"
    )
    engines: Engines
    memory: Memory
    devices_per_node: Sourced[Count]
    scale_up: tuple[Level, ...] = Field(
        min_length=1, description="networks between devices, smallest first; the last one is the scale-up domain"
    )
    scale_out: Network = Field(description="between domains")
    host: Host | None = None
    power: Sourced[Watts] | None = Field(None, description="rated power of one device (TDP)")
    sources: dict[str, Source]

    @property
    def domain(self) -> int:
        """Devices of one scale-up domain; it may be smaller or larger than a node."""
        return self.scale_up[-1].devices.value

    @field_validator("peak_flops")
    @classmethod
    def _bf16_is_known(cls, rates: dict[str, Any]) -> dict[str, Any]:
        if "bf16" not in rates:
            msg = "needs a rate for bf16: attention and the head run in it whatever the weights are"
            raise ValueError(msg)
        return rates

    @field_validator("scale_up")
    @classmethod
    def _levels_grow(cls, levels: tuple[Level, ...]) -> tuple[Level, ...]:
        sizes = [level.devices.value for level in levels]
        if sizes != sorted(set(sizes)):
            msg = f"levels go from the smallest group to the largest (got {', '.join(map(str, sizes))} devices)"
            raise ValueError(msg)
        return levels
