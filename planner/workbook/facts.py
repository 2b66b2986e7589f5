"""What the capacity workbook needs beyond the plan: pools, loads, sources, and what studies found. Values only."""

from collections.abc import Mapping
from typing import NamedTuple

from planner.explanation import Alternatives, Explanation


class PoolFacts(NamedTuple):
    """Devices of one inventory: usable ones, those of a full node, price [USD/h] and rated power [W] of a device."""

    hardware: str | None
    devices: int
    devices_per_node: int
    price_usd_per_h: float | None
    power_w: float | None


class LoadFacts(NamedTuple):
    """What a workload asks for; latency limits by figure [ms].

    ``kind``: max, rate or in_flight; ``asked`` [request/s, or requests] is None for the most that fits.
    """

    kind: str
    asked: float | None
    input_tokens: float | None
    output_tokens: float | None
    limits_ms: Mapping[str, float]


class SourcedFigure(NamedTuple):
    """A figure of a specification as it is written there, with its unit, and where it is from."""

    specification: str
    field: str
    value: str
    source: str
    url: str
    note: str


class CapacityFacts(NamedTuple):
    """Facts by the scenario's names of inventories and workloads, and what studies of the plan found, if asked."""

    pools: Mapping[str, PoolFacts] = {}
    loads: Mapping[str, LoadFacts] = {}
    figures: tuple[SourcedFigure, ...] = ()
    alternatives: Alternatives | None = None
    explanation: Explanation | None = None
