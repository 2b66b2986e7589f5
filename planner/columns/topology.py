"""Link rates and latencies of the groups a configuration makes, from the topology of the device.

Devices are numbered so that a tensor-parallel group is contiguous, then the data-parallel ranks of a stage, then the
stages, as the engines number them: whatever fits one scale-up domain is placed in one.
"""

import functools
from collections.abc import Callable

import numpy as np

from planner.schema.hardware import Hardware, Level, Network
from planner.table import Floats


def group_bandwidth(hardware: Hardware, size: Floats) -> Floats:
    """Rate of one device within a group of ``size`` that fits the scale-up domain, one direction [byte/s].

    The smallest level that holds the group carries it. Behind a switch a device sends at its whole rate to any group.
    In a full mesh of D devices it has one link per peer, so a group of n uses n − 1 of its D − 1 links (Huawei
    EDOC1100317202: on an Atlas A2 node 28 GB/s between two NPUs, 196 GB/s among eight).
    """
    return _at_level(hardware, size, lambda level: _rate(level, size))


def links(
    hardware: Hardware, software_latency: float, tp: Floats, pp: Floats, dp: Floats, *, least_far: float = 0.0
) -> dict[str, Floats]:
    """Return rate and latency of the groups that exchange data.

    ``software_latency`` is of one message [s], ``least_far`` the least that a message between domains takes on top of
    it: few data sheets state what is observed.

    For g in tp (size tp) and ep (size tp·dp: the devices that share experts and exchange tokens): ``g_near``, the
    devices of the group in one scale-up domain [1]; ``g_bandwidth``, the rate of a device among them, and
    ``g_far_bandwidth``, between domains [byte/s]; ``g_latency`` and ``g_far_latency`` [s], 0 where nothing is sent.
    Then ``pp_bandwidth`` [byte/s] and ``pp_latency`` [s] of the hand-over from a stage to the next. Rates are one
    direction.
    """
    tp, pp, dp = np.broadcast_arrays(*(np.asarray(degree, dtype=float) for degree in (tp, pp, dp)))
    found: dict[str, Floats] = {}
    for name, size in (("tp", tp), ("ep", tp * dp)):
        near = _near(size, hardware.domain)
        latency = software_latency + _at_level(hardware, near, _latency)
        far_latency = software_latency + max(least_far, _latency(hardware.scale_out))
        found |= {
            f"{name}_near": near,
            f"{name}_bandwidth": group_bandwidth(hardware, near),
            f"{name}_latency": np.where(near > 1, latency, 0.0),
            f"{name}_far_bandwidth": np.full_like(size, hardware.scale_out.bandwidth.value),
            f"{name}_far_latency": np.where(near < size, far_latency, 0.0),
        }
    return found | _hand_over(hardware, software_latency, least_far, pp, tp * pp * dp)


def _hand_over(
    hardware: Hardware, software_latency: float, least_far: float, pp: Floats, replica: Floats
) -> dict[str, Floats]:
    """Return rate [byte/s] and latency [s] between neighbouring stages of a replica.

    A pair of devices talks at the level that holds the whole replica: its stages are too far apart for a smaller one.
    """
    inside = replica <= hardware.domain
    pair = _at_level(hardware, replica, lambda level: _rate(level, np.full_like(replica, 2.0)))
    hardware_latency = np.where(
        inside, _at_level(hardware, replica, _latency), max(least_far, _latency(hardware.scale_out))
    )
    return {
        "pp_bandwidth": np.where(inside, pair, hardware.scale_out.bandwidth.value),
        "pp_latency": np.where(pp > 1, software_latency + hardware_latency, 0.0),
    }


def _at_level(hardware: Hardware, size: Floats, figure: Callable[[Level], Floats | float]) -> Floats:
    """Return a figure of the smallest level that holds ``size`` devices, of the largest where none does."""
    *smaller, largest = hardware.scale_up
    found = np.broadcast_to(figure(largest), size.shape)
    for level in reversed(smaller):
        found = np.where(size <= level.devices.value, figure(level), found)
    return found


def _rate(level: Level, size: Floats) -> Floats:
    """Rate of one device among ``size`` devices of a level [byte/s]."""
    peers = level.devices.value - 1
    if level.topology == "switch" or peers == 0:
        return np.full_like(size, level.bandwidth.value)
    return level.bandwidth.value * np.clip(size - 1, 1, peers) / peers


def _latency(network: Network) -> float:
    """Latency of one message without the software's [s]."""
    return network.latency.value if network.latency else 0.0


def _near(size: Floats, domain: int) -> Floats:
    """Devices of a group in one domain: as many as fit and make equal parts of the group [1]."""
    sizes, places = np.unique(size, return_inverse=True)
    return np.array([_equal_part(int(n), domain) for n in sizes.tolist()])[places].reshape(size.shape)


@functools.cache
def _equal_part(size: int, domain: int) -> float:
    return float(next(part for part in range(min(size, domain), 0, -1) if size % part == 0))
