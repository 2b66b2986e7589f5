"""Row 3, tensor parallelism: the all-reduce's payload, its measured curve, strong scaling, and the degree that pays."""

import pytest

from planner.costs.layers import dense_ffn, gqa
from planner.costs.operators.collective import all_reduce
from planner.costs.step import chunk_batch

MIB = 2**20
LINK = 300e9  # byte/s of an A100, one direction (hardware_specs/a100-80g-sxm.yaml)
TEXTBOOK = {"share": 0.5, "latency": 6e-6}  # hardware_specs/calibrations/textbook.yaml
BANDWIDTH = "scale_up.0.bandwidth.value"


@pytest.fixture
def seconds(number):
    """Return the time of an all-reduce of ``size`` byte over ``n`` devices of one domain [s]."""

    def found(size, n=4, *, share, latency):
        known = {
            "tp": n, "tp_near": n, "tp_bandwidth": LINK, "tp_far_bandwidth": 1.0, "tp_latency": latency,
            "tp_far_latency": 0.0, "link_efficiency": share,
        }  # fmt: skip
        traffic = all_reduce("x", size).traffic
        return number(traffic.near_bytes / (traffic.near_rate * share) + traffic.latency, **known)

    return found


def test_payload_of_a_layer(gold, number):
    batch = chunk_batch(2048, decoding=0)
    reduces = [
        operator
        for layer in (gqa.layer(batch), dense_ffn.layer(batch))
        for operator in layer.operators
        if operator.name.endswith("all_reduce")
    ]
    assert [operator.name for operator in reduces] == ["qk_norm_all_reduce", "attention_all_reduce", "ffn_all_reduce"]
    known = {
        "qk_norm_joint": 0,
        "hidden": 12288,
        "activation_bytes": 2,
        "tp": 2,
        "tp_near": 2,
        "tp_bandwidth": 1e9,
        "link_efficiency": 1,
    }
    # Two devices send size/2 to each other, twice: what goes over the link is the payload.
    known |= {"tp_latency": 0, "tp_far_bandwidth": 1, "tp_far_latency": 0, "isl": 2048, "drafts": 0}
    gold.check("payload_per_layer", sum(number(operator.traffic.near_bytes, **known) for operator in reduces))


def test_the_measured_curve(gold, seconds):
    """Two ends fit the two parameters of the alpha-beta model; the sizes between and below are predicted."""
    large, small = (gold.figures[f"all_reduce_{size}"]["published"] for size in ("1_gib", "2_mib"))
    gold.check("algorithm_bandwidth_1_gib", 1024 * MIB / large)
    share, latency = 0.5, 6e-6
    for _ in range(200):
        share *= (seconds(1024 * MIB, share=share, latency=latency) - 2 * latency) / (large - 2 * latency)
        latency += small - seconds(2 * MIB, share=share, latency=latency)
    fitted = {"share": share, "latency": latency}
    for name, size in (("1_gib", 1024 * MIB), ("2_mib", 2 * MIB), ("64_mib", 64 * MIB)):
        gold.check(f"all_reduce_{name}", seconds(size, **fitted))
    gold.check("all_reduce_403_mb", seconds(8 * 2048 * 12288 * 2, **fitted))
    gold.check("all_reduce_197_kb", seconds(8 * 12288 * 2, **fitted))
    assert 0.5 < share < 0.95


def test_the_measured_curve_without_a_fit(gold, seconds):
    gold.check("textbook_64_mib", seconds(64 * MIB, **TEXTBOOK))
    gold.check("textbook_1_gib", seconds(1024 * MIB, **TEXTBOOK))


def test_strong_scaling_from_two_devices_to_four_and_eight(gold, seconds):
    """T(t) = 1/t + payload·2(t−1)/t: the payload, in units of the step of one device, is fitted on two."""

    def step(devices, payload):
        return 1 / devices + payload * (seconds(1.0, devices, share=1.0, latency=0.0) * LINK)

    payload = (1 / gold.figures["strong_scaling_2"]["published"] - 0.5) / (
        seconds(1.0, 2, share=1.0, latency=0.0) * LINK
    )
    for devices in (2, 4, 8):
        gold.check(f"strong_scaling_{devices}", 1 / step(devices, payload))


def chosen(gold, variant, rate):
    hardware = variant("a100-80g-sxm", {BANDWIDTH: f"{rate} GB/s"})
    return gold.solve(f"inventory.a100.hardware={hardware}").deployments[0]


def test_slower_links_make_smaller_groups_pay(gold, variant):
    fast, slow = chosen(gold, variant, 300), chosen(gold, variant, 100)
    assert slow.tp < fast.tp
    assert slow.requests_per_s < fast.requests_per_s
    assert slow.time_share["link_bandwidth"] > 0.05


def test_the_rate_at_which_the_degree_changes(gold, variant):
    low, high = 100.0, 300.0
    fastest = chosen(gold, variant, high).tp
    while high / low > 1.05:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if chosen(gold, variant, middle).tp < fastest else (low, middle)
    assert 100 < high <= 300
