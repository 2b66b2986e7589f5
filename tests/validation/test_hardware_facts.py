"""Figures of the shipped devices against what follows from cores, clocks, links and published ratios."""

import pytest

from planner.catalog import hardware_names, load_hardware
from planner.errors import InputError

# The first devices, under the names that scenarios use.
FIRST = [
    "a100-80g-sxm", "h100-sxm", "h800-sxm", "h20-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "gb200-nvl72", "l40s",
    "mi300x", "ascend-910b1", "ascend-910b2", "ascend-910b3", "ascend-910b4", "ascend-910c", "ascend-910c-a3",
]  # fmt: skip

# Cube: 16 × 16 × 16 multiply-adds per cycle. Datasheets print four digits: 0.1 %; the 950's paper rounds down: 0.2 %.
CUBE_FLOP, VECTOR_FLOP = 8192, 256
CUBES = {
    "ascend-910b1": (24, 1.85e9), "ascend-910b2": (24, 1.8e9), "ascend-910b3": (20, 1.8e9),
    "ascend-910b4": (20, 1.5e9), "ascend-910c": (24, 1.8e9), "ascend-910c-a3": (24, 1.8e9),
    "ascend-950pr": (32, 1.65e9), "ascend-950pr-atlas350": (28, 1.65e9), "ascend-950dt": (36, 1.65e9),
}  # fmt: skip
A2_AND_A3 = [name for name in CUBES if "910" in name]

# Dense bf16 flop per cycle and core of a generation, and the boost clock it is quoted at; clocks are rounded: 1 %.
TENSOR_CORES = {
    "a100-80g-sxm": (2048, 1.41e9), "h100-sxm": (4096, 1.83e9), "h200-sxm": (4096, 1.83e9),
    "b200-sxm": (8192, 1.85e9), "rtx-pro-6000-server": (1024, 2.43e9),
    "l40s": (1024, 2.49e9), "l4": (1024, 2.04e9), "mi300x": (2048, 2.1e9), "mi355x": (4096, 2.4e9),
    "mi210": (1024, 1.7e9), "mi250x": (1024, 1.7e9),
}  # fmt: skip

# Links of one device × rate of one link, one way: exact as published.
LINKS = {
    "a100-80g-sxm": (12, 25e9), "a800-80g-sxm": (8, 25e9), "h100-sxm": (18, 25e9), "h800-sxm": (8, 25e9),
    "b200-sxm": (18, 50e9), "gb200-nvl72": (18, 50e9), "mi300x": (7, 64e9), "mi355x": (7, 76.8e9), "mi210": (3, 50e9),
    "ascend-910b3": (7, 28e9), "ascend-910c": (7, 28e9), "ascend-950dt": (18, 56e9),
    "tpu-v5e": (4, 50e9), "tpu-v5p": (6, 100e9), "tpu-v6e": (4, 100e9),
}  # fmt: skip

# Bus width [bit] × transfers per second; the newest datasheets print one or two digits, rounded down: 3 %.
MEMORIES = {
    "a100-40g-sxm": (5120, 2.43e9), "a100-80g-sxm": (5120, 3.186e9), "h100-sxm": (5120, 5.23e9),
    "h200-sxm": (6144, 6.4e9), "h20-sxm": (6144, 5.2e9), "gb200-nvl72": (8192, 8e9), "mi300x": (8192, 5.2e9),
    "mi325x": (8192, 6e9), "mi355x": (8192, 8e9), "l4": (192, 12.5e9), "l40s": (384, 18e9), "mi210": (4096, 3.2e9),
}  # fmt: skip


@pytest.fixture(scope="module")
def devices():
    return {name: load_hardware(name).value for name in hardware_names()}


def test_the_first_devices_are_shipped(devices):
    assert set(FIRST) <= set(devices)
    assert {hardware.vendor for hardware in devices.values()} == {"NVIDIA", "AMD", "Huawei", "Google"}


@pytest.mark.parametrize(("asked", "name"), [
    ("h200_sxm", "h200-sxm"), ("b200_sxm", "b200-sxm"), ("gb200", "gb200-nvl72"), ("h100_sxm", "h100-sxm"),
    ("L40S", "l40s"), ("h20", "h20-sxm"), ("ascend_910c", "ascend-910c"),
])  # fmt: skip
def test_short_names_are_understood(asked, name):
    assert load_hardware(asked).value.name == name


@pytest.mark.parametrize("asked", ["a100", "h100"])
def test_a_name_of_several_form_factors_is_refused(asked):
    with pytest.raises(InputError, match=f"'{asked}' may be {asked}-.* or {asked}-.*; write one of them"):
        load_hardware(asked)


def test_what_cannot_be_bought_is_marked(devices):
    announced = {name for name, hardware in devices.items() if hardware.status == "announced"}
    assert announced == {"ascend-950pr", "ascend-950dt"}


@pytest.mark.parametrize("name", CUBES)
def test_cube_rates_are_cores_times_clock(name, devices):
    cores, clock = CUBES[name]
    assert devices[name].engines.cores.value == cores
    assert devices[name].peak_flops["bf16"].value == pytest.approx(cores * clock * CUBE_FLOP, rel=2e-3)
    assert devices[name].peak_flops["int8"].value == pytest.approx(2 * cores * clock * CUBE_FLOP, rel=2e-3)


@pytest.mark.parametrize("name", A2_AND_A3)
def test_vector_rates_and_hand_offs_are_cores_times_clock(name, devices):
    """Two Vector cores per Cube core, 128 lanes of fp16; a Cube core writes 86 byte per cycle to L2. Three digits."""
    cores, clock = CUBES[name]
    engines = devices[name].engines
    assert engines.vector_flops.value == pytest.approx(2 * cores * clock * VECTOR_FLOP, rel=5e-3)
    assert engines.hand_off.value == pytest.approx(cores * clock * 86, rel=5e-3)


def test_a_hand_off_is_slower_than_the_buffers_and_faster_than_memory(devices):
    component = [hardware for hardware in devices.values() if hardware.engines.kind == "component"]
    assert {hardware.vendor for hardware in component} == {"Huawei"}
    assert all(hardware.engines.hand_off.value > hardware.memory.bandwidth.value for hardware in component)


@pytest.mark.parametrize("name", TENSOR_CORES)
def test_matrix_rates_are_cores_times_clock(name, devices):
    flop, clock = TENSOR_CORES[name]
    cores = devices[name].engines.cores.value
    assert devices[name].peak_flops["bf16"].value == pytest.approx(cores * clock * flop, rel=0.01)


@pytest.mark.parametrize("name", LINKS)
def test_scale_up_rates_are_links_times_rate(name, devices):
    count, link = LINKS[name]
    assert devices[name].scale_up[-1].bandwidth.value == pytest.approx(count * link, rel=1e-9)


@pytest.mark.parametrize("name", MEMORIES)
def test_memory_rates_are_width_times_transfers(name, devices):
    bits, transfers = MEMORIES[name]
    assert devices[name].memory.bandwidth.value == pytest.approx(bits / 8 * transfers, rel=0.03)


def test_the_die_of_910c_is_half_of_the_published_package(devices):
    """CloudMatrix384 (arXiv 2506.12708): 128 GB and 3.2 TB/s per package, 384 packages of two dies."""
    die = devices["ascend-910c"]
    assert die.memory.bandwidth.value == pytest.approx(3.2e12 / 2)
    assert die.domain == 2 * 384
    assert [level.devices.value for level in die.scale_up] == [2, 16, 768]
    assert devices["ascend-910c-a3"].domain == die.devices_per_node.value == 16


def test_the_reported_capacity_is_not_more_than_what_is_on_board(devices):
    """Sold as GB, stacked in GiB; GDDR keeps error correction, Ascend its firmware: never more than the GiB."""
    on_board = {"h200-sxm": 141, "b200-sxm": 192, "gb200-nvl72": 192, "b300-sxm": 288, "l4": 24, "ascend-910b3": 64,
                "l40s": 48, "ascend-910b4": 32, "mi300x": 192}  # fmt: skip
    for name, gib in on_board.items():
        assert 0.9 * gib < devices[name].memory.capacity.value / 2**30 <= gib, name


@pytest.mark.parametrize("name", hardware_names())
def test_low_precision_is_never_slower(name, devices):
    """Blackwell Ultra cut int8 back; everything else gains, or stays, with fewer bits."""
    rates = {precision: rate.value for precision, rate in devices[name].peak_flops.items()}
    assert all(rate >= rates["bf16"] for precision, rate in rates.items() if precision != "int8")
    assert ("300" in name and rates["int8"] < 200e12) or rates["int8"] >= rates["bf16"]


def test_no_power_is_given_where_none_is_published(devices):
    without = {name for name, hardware in devices.items() if hardware.power is None}
    assert without == {"tpu-v5e", "tpu-v5p", "tpu-v6e", "ascend-950dt"}
