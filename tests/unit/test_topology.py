"""Groups of devices on the links of each kind of node. Latencies: 6 µs of software in every message."""

import itertools

import numpy as np
import pytest

from planner.catalog import hardware_names, load_hardware
from planner.columns.topology import group_bandwidth, links

SOFTWARE = 6e-6
NAMES = {
    *(f"{group}_{figure}" for group in ("tp", "ep") for figure in (
        "near", "bandwidth", "latency", "far_bandwidth", "far_latency",
    )),
    "pp_bandwidth", "pp_latency",
}  # fmt: skip


def rate(name, size):
    return float(group_bandwidth(load_hardware(name).value, np.array([float(size)]))[0])


def found(name, tp=1, pp=1, dp=1):
    every = links(load_hardware(name).value, SOFTWARE, *(np.array([float(degree)]) for degree in (tp, pp, dp)))
    return {figure: float(values[0]) for figure, values in every.items()}


@pytest.mark.parametrize(("size", "expected"), [(1, 28e9), (2, 28e9), (4, 84e9), (8, 196e9)])
def test_a_full_mesh_gives_one_link_per_peer(size, expected):
    assert rate("ascend-910b3", size) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "size", "expected"), [
    ("h100-sxm", 2, 450e9), ("h100-sxm", 8, 450e9), ("gb200-nvl72", 16, 900e9), ("gb200-nvl72", 72, 900e9),
    ("ascend-910c", 2, 270e9), ("ascend-910c", 3, 196e9), ("ascend-910c", 16, 196e9), ("ascend-910c", 768, 196e9),
    ("a100-80g-pcie", 2, 300e9), ("a100-80g-pcie", 4, 32e9),
    ("ascend-910a", 2, 15e9), ("ascend-910a", 4, 45e9), ("ascend-910a", 8, 32e9),
])  # fmt: skip
def test_the_smallest_level_that_holds_a_group_carries_it(name, size, expected):
    assert rate(name, size) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", hardware_names())
def test_within_a_level_a_larger_group_is_not_slower(name):
    hardware = load_hardware(name).value
    for below, level in itertools.pairwise([None, *hardware.scale_up]):
        sizes = np.arange(below.devices.value + 1 if below else 1, level.devices.value + 1, dtype=float)
        rates = group_bandwidth(hardware, sizes)
        assert (np.diff(rates) >= 0).all()
        assert rates[-1] == pytest.approx(level.bandwidth.value)


def test_experts_on_sixteen_npus_of_a2_cross_the_network_between_nodes():
    group = found("ascend-910b3", tp=8, dp=2)
    assert (group["tp_near"], group["ep_near"]) == (8, 8)
    assert group["tp_far_latency"] == 0
    assert (group["ep_bandwidth"], group["ep_far_bandwidth"]) == pytest.approx((196e9, 25e9))
    assert group["ep_far_latency"] == pytest.approx(SOFTWARE + 1.5e-6)
    assert group["ep_latency"] == SOFTWARE


def test_sixteen_h100_are_two_nodes():
    group = found("h100-sxm", tp=16)
    assert (group["tp_near"], group["tp_bandwidth"], group["tp_far_bandwidth"]) == (8, 450e9, 50e9)
    assert group["tp_far_latency"] == pytest.approx(SOFTWARE + 10e-6)


def test_a_domain_larger_than_a_node_keeps_groups_near():
    hardware = load_hardware("gb200-nvl72").value
    assert (hardware.devices_per_node.value, hardware.domain) == (4, 72)
    group = found("gb200-nvl72", tp=4, dp=4)
    assert (group["ep_near"], group["ep_bandwidth"], group["ep_far_latency"]) == (16, 900e9, 0)
    supernode = found("ascend-910c", tp=1, dp=320)
    assert (supernode["ep_near"], supernode["ep_far_latency"]) == (320, 0)
    assert supernode["ep_latency"] == pytest.approx(SOFTWARE + 1.9e-6)


@pytest.mark.parametrize(("size", "near"), [(72, 72), (96, 48), (144, 72), (73, 1), (74, 37)])
def test_a_group_across_domains_has_equal_parts_in_them(size, near):
    assert found("gb200-nvl72", tp=1, dp=size)["ep_near"] == near


def test_a_device_alone_exchanges_nothing():
    alone = found("ascend-910c")
    assert {alone[f"{group}_latency"] for group in ("tp", "ep", "pp")} == {0.0}
    assert {alone[f"{group}_far_latency"] for group in ("tp", "ep")} == {0.0}
    assert all(np.isfinite(list(alone.values())))


@pytest.mark.parametrize(("name", "degrees", "bandwidth", "hardware_latency"), [
    ("h100-sxm", {"tp": 4, "pp": 2}, 450e9, 0.0),
    ("h100-sxm", {"tp": 8, "pp": 2}, 50e9, 10e-6),
    ("ascend-910b3", {"tp": 4, "pp": 2}, 28e9, 0.0),
    ("ascend-910c", {"tp": 1, "pp": 2}, 270e9, 0.2e-6),
    ("ascend-910c", {"tp": 8, "pp": 2}, 196e9, 1.2e-6),
    ("ascend-910c-a3", {"tp": 8, "pp": 2, "dp": 2}, 25e9, 0.0),
    ("h100-pcie", {"tp": 2, "pp": 2}, 64e9, 0.0),
])  # fmt: skip
def test_stages_hand_over_as_a_pair_where_the_replica_fits_a_domain(name, degrees, bandwidth, hardware_latency):
    group = found(name, **degrees)
    assert group["pp_bandwidth"] == pytest.approx(bandwidth)
    assert group["pp_latency"] == pytest.approx(SOFTWARE + hardware_latency)


def test_degrees_are_broadcast():
    tp, pp, dp = np.array([1.0, 2.0, 8.0])[:, None], 1.0, np.array([1.0, 2.0])
    every = links(load_hardware("h100-sxm").value, SOFTWARE, tp, pp, dp)
    assert set(every) == NAMES
    assert {values.shape for values in every.values()} == {(3, 2)}
    for row, column in itertools.product(range(3), range(2)):
        one = found("h100-sxm", tp=tp[row, 0], dp=dp[column])
        assert {name: values[row, column] for name, values in every.items()} == one


@pytest.mark.parametrize("name", hardware_names())
def test_faster_links_are_never_slower(name):
    hardware = load_hardware(name).value
    levels = tuple(
        level.model_copy(update={"bandwidth": level.bandwidth.model_copy(update={"value": 2 * level.bandwidth.value})})
        for level in hardware.scale_up
    )
    degrees = (np.array([1.0, 2.0, 4.0, 8.0]), np.array([1.0, 2.0, 1.0, 4.0]), np.array([1.0, 1.0, 8.0, 2.0]))
    before = links(hardware, SOFTWARE, *degrees)
    after = links(hardware.model_copy(update={"scale_up": levels}), SOFTWARE, *degrees)
    for figure in ("tp_bandwidth", "ep_bandwidth"):
        assert after[figure] == pytest.approx(2 * before[figure])
    assert (after["pp_bandwidth"] >= before["pp_bandwidth"]).all()
    assert all((after[figure] == before[figure]).all() for figure in NAMES if "bandwidth" not in figure)
