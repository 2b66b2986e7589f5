"""Link rates and latencies of the groups a configuration makes, from the topology of the device."""

import numpy as np

from planner.columns.setting import Setting
from planner.schema.hardware import Link
from planner.table import Floats


def group_bandwidth(link: Link, size: Floats, domain: int) -> Floats:
    """Link rate of one device within a group of ``size``, one direction [byte/s].

    Behind a switch a device sends at its whole rate to any group. In a full mesh of ``domain`` devices it has
    one link per peer, so a group of n uses n − 1 of its domain − 1 links (on an Atlas A2 node: 28 GB/s between
    two NPUs, 196 GB/s among eight).
    """
    if link.topology == "switch" or domain == 1:
        return np.full_like(size, link.bandwidth.value)
    return link.bandwidth.value * np.clip(size - 1, 1, domain - 1) / (domain - 1)


def links(setting: Setting, tp: Floats, pp: Floats) -> dict[str, Floats]:
    """Return rate [byte/s] and latency [s] of tensor-parallel groups and of hand-overs between stages.

    A group that does not fit a node runs at the rate of the links between nodes. A latency is the hardware's
    plus the software's; it is 0 for a group of one, which exchanges nothing.
    """
    hardware, software = setting.hardware, setting.efficiencies.latency.collective.value
    domain = hardware.devices_per_node.value
    inside = tp <= domain
    replica_inside = tp * pp <= domain
    up, out = hardware.scale_up, hardware.scale_out
    here, there = (software + (link.latency.value if link.latency else 0.0) for link in (up, out))
    pair = group_bandwidth(up, np.full_like(tp * pp, 2.0), domain)
    return {
        "tp_bandwidth": np.where(inside, group_bandwidth(up, tp, domain), out.bandwidth.value),
        "tp_latency": np.where(tp > 1, np.where(inside, here, there), 0.0),
        "pp_bandwidth": np.where(replica_inside, pair, out.bandwidth.value),
        "pp_latency": np.where(pp > 1, np.where(replica_inside, here, there), 0.0),
    }
