"""What the times of operations depend on: families of rows that share efficiencies, and their time by these."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.microbench import cases as c
from planner.microbench import work
from planner.microbench.results import Row
from planner.schema.hardware import Hardware, Level
from planner.table import Floats

Places = NDArray[np.intp]  # indices of rows
_NORM = 3.0  # of planner/costs/functions.py: both


class Family(NamedTuple):
    """Rows that share parameters: names as ``group.field`` or, for what a calibration lacks, plain; their time [s].

    ``start`` holds first guesses, ``shares`` which parameters are shares; ``seconds`` takes values and indices of rows.
    """

    names: tuple[str, ...]
    shares: tuple[bool, ...]
    start: tuple[float, ...]
    rows: tuple[Row, ...]
    seconds: Callable[[Floats, Places], Floats]


def gemm(rows: Sequence[Row], hardware: Hardware, notes: list[str]) -> Family | None:
    """Matrix products: a share of the matrix rate per format, one of the bandwidth, and a floor."""
    rates = {dtype: fact.value for dtype, fact in hardware.peak_flops.items()}
    lost = {row.dtype for row in rows if row.operation == c.GEMM} - set(rates)
    notes += [f"{hardware.name} has no rate for {dtype}: its products are left out" for dtype in sorted(lost)]
    used = tuple(row for row in rows if row.operation == c.GEMM and row.dtype in rates)
    if not used:
        return None
    dtypes = tuple(dict.fromkeys(row.dtype for row in used))
    kinds = np.array([dtypes.index(row.dtype) for row in used])
    ideal = np.array([work.flops(row) / rates[row.dtype] for row in used])  # type: ignore[index]
    names = (*(f"compute.gemm_{dtype}" for dtype in dtypes), "bandwidth.weights", "gemm_floor")
    return _roofline(names, used, kinds, ideal, hardware)


def attention(rows: Sequence[Row], hardware: Hardware) -> Family | None:
    """Attention of prompts and of single tokens: a share of the matrix rate, one of the bandwidth, and a floor."""
    used = tuple(row for row in rows if row.operation in (c.PREFILL, c.DECODE))
    if not used:
        return None
    ideal = np.array([work.flops(row) / hardware.peak_flops["bf16"].value for row in used])
    names = ("compute.attention", "bandwidth.kv_cache", "attention_floor")
    return _roofline(names, used, np.zeros(len(used), dtype=int), ideal, hardware)


def _roofline(
    names: tuple[str, ...], rows: tuple[Row, ...], kinds: Places, ideal: Floats, hardware: Hardware
) -> Family:
    """Return a family whose first parameters are shares of matrix rates, ``kinds`` says which is whose."""
    memory = np.array([work.moved(row) for row in rows]) / hardware.memory.bandwidth.value
    times = np.array([row.seconds for row in rows])
    best = [float(np.max((ideal / times)[kinds == kind])) for kind in range(len(names) - 2)]

    def seconds(values: Floats, chosen: Places) -> Floats:
        *_, bandwidth, floor = values
        matrix = ideal[chosen] / values[kinds[chosen]]
        both = (matrix**_NORM + (memory[chosen] / bandwidth) ** _NORM) ** (1 / _NORM)
        return np.asarray(both + floor)

    start = (*best, float(np.max(memory / times)), float(np.min(times)) / 2)
    return Family(names, (*(True for _ in names[:-1]), False), start, rows, seconds)


def links(rows: Sequence[Row], hardware: Hardware) -> Family | None:
    """All-reduces within a node: latency of a round over 4 devices, and a share of the links."""
    used = tuple(row for row in rows if row.operation == c.ALL_REDUCE)
    if not used:
        return None
    ways = np.array([work.all_reduce_ways(row) for row in used])  # row, way, (byte, rounds)
    rate = np.array([_link_rate(hardware, row.shape["devices"]) for row in used])[:, None]
    depth = np.array([work.depth(row.shape["devices"]) for row in used])[:, None]
    times = np.array([row.seconds for row in used])

    def seconds(values: Floats, chosen: Places) -> Floats:
        share, latency = values
        sent, rounds = ways[chosen, :, 0], ways[chosen, :, 1]
        each = sent / (rate[chosen] * share) + rounds * depth[chosen] * latency
        return np.asarray(each.min(axis=1))  # the faster way, as the cost model has it

    best = float(np.max(ways[:, 1, 0] / rate[:, 0] / times))
    return Family(("bandwidth.link", "latency.collective"), (True, False), (best, float(times.min())), used, seconds)


def _link_rate(hardware: Hardware, devices: int) -> float:
    """Return what a device sends within a group [byte/s]; in a full mesh it has a link per peer."""
    level: Level = next((at for at in hardware.scale_up if at.devices.value >= devices), hardware.scale_up[-1])
    peers = level.devices.value - 1
    share = (devices - 1) / peers if level.topology == "full-mesh" and devices <= peers else 1.0
    return level.bandwidth.value * share
