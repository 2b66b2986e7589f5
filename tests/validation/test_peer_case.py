"""Exact composition against the peer's answers, over the peer's own rates (benchmarks/peer_case.py)."""

import csv
import importlib.util
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peer_case.py"
FLEETS = range(17, 39)


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("peer_case", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(benchmark):
    return list(benchmark.answers())


@pytest.fixture(scope="module")
def rates(benchmark):
    """Return (devices, request/s) of a replica by role, read without the planner."""
    by_role = {"prefill": [], "decode": [], "mixed": []}
    with (benchmark.DATA / benchmark.COLUMNS).open(newline="") as stream:
        for row in csv.DictReader(stream):
            rate = float(row["requests_per_s_per_replica"]) * float(row["rate_matching_factor"])
            by_role[row["role"]].append((int(row["devices_per_replica"]), rate))
    return by_role


def most(rates, devices):
    """Return the most request/s of one role on 0 … so many devices; sizes divide a node, so packing never binds."""
    best = [0.0] * (devices + 1)
    for size, rate in rates:
        for used in range(size, devices + 1):
            best[used] = max(best[used], best[used - size] + rate)
    return [max(best[: used + 1]) for used in range(devices + 1)]


def carried(rates, devices):
    """Return the most request/s of all roles together, every division of the devices tried."""
    curves = {role: most(columns, devices) for role, columns in rates.items()}
    return max(
        min(curves["prefill"][p], curves["decode"][d]) + curves["mixed"][devices - p - d]
        for p, d in itertools.product(range(devices + 1), repeat=2)
        if p + d <= devices
    )


def test_every_fleet_was_asked_about(found):
    assert [a.devices for a in found] == list(FLEETS)


def test_no_plan_is_below_the_peer(found):
    assert [a for a in found if a.below] == []
    assert all(a.proven for a in found)


def test_the_gain_is_at_least_17_percent_on_average(found):
    assert sum(a.gain for a in found) / len(found) >= 0.17
    assert max(a.gain for a in found) == pytest.approx(0.40, abs=0.005)


def test_plans_equal_enumeration(found, rates):
    assert [a.ours for a in found] == pytest.approx([carried(rates, n) for n in FLEETS], rel=1e-9)


def test_more_devices_never_carry_less(found):
    ours = [a.ours for a in found]
    assert ours == sorted(ours)


def test_the_least_fleet_equals_enumeration(benchmark, rates):
    fleet = benchmark.least_fleet()
    least = next(n for n in itertools.count(1) if carried(rates, n) >= benchmark.DEMAND)
    assert fleet.proven
    assert fleet.devices == least
    assert fleet.carries >= benchmark.DEMAND
    assert carried(rates, least - 1) < benchmark.DEMAND <= math.nextafter(carried(rates, least), math.inf)


def test_the_benchmark_is_one_command_and_labels_every_result():
    command = [sys.executable, str(SCRIPT)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0].endswith("inside the peer's own linear model")
    assert len(printed) == len(FLEETS) + 4
    assert all("inside the peer's own linear model" in line for line in printed[-2:])
    data = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert data["label"] == "inside the peer's own linear model"
    assert data["mean_gain"] >= 0.17
