"""Volumes and latencies of collectives, and where one algorithm gives way to another."""

import math

import numpy as np
import pytest
import sympy

from planner.catalog import load_hardware
from planner.columns.topology import links
from planner.costs import symbols as s
from planner.costs.devices import roofline
from planner.costs.operators import collective

ALPHA, RATE = 8e-6, 100e9
LINKS = {"tp_latency": ALPHA, "tp_bandwidth": RATE, "link_efficiency": 0.5}
FAR = {"tp_near": 8, "tp_far_bandwidth": 25e9, "tp_far_latency": 20e-6}
EXPERT_LINKS = {"ep_bandwidth": RATE, "ep_far_bandwidth": RATE / 4, "link_efficiency": 0.5, "exchange_latency": 2e-5}
EXPERT_LINKS |= {"ep_latency": ALPHA}


@pytest.fixture
def reduce(value):
    """Return a function that gives near bytes, far bytes, latency and seconds of an all-reduce."""

    def found(size, **known):
        operator = collective.all_reduce("x", s.isl)
        parts = (operator.traffic.near_bytes, operator.traffic.far_bytes, operator.traffic.latency)
        given = LINKS | known | {"isl": size}
        return tuple(value(part, **given) for part in (*parts, roofline.seconds(operator).total))

    return found


def round_of(devices):
    return ALPHA * (0.5 + math.log2(devices) / 4)


def crossover(devices):
    """Size at which one round of everything takes as long as two rounds of shares [byte]."""
    extra = (devices - 1) * (devices - 2) / devices
    return round_of(devices) * RATE * 0.5 / extra


# --- all-reduce


def test_a_group_of_one_costs_nothing(reduce):
    assert reduce(1e6, tp=1, tp_latency=0) == (0, 0, 0, 0)


@pytest.mark.parametrize(("tp", "share"), [(4, 1.5), (8, 1.75), (16, 1.875)])
def test_a_large_all_reduce_sends_two_rounds_of_shares(reduce, tp, share):
    near, far, latency, _ = reduce(1e9, tp=tp)
    assert near == pytest.approx(share * 1e9)
    assert far == 0
    assert latency == pytest.approx(2 * round_of(tp))


@pytest.mark.parametrize("tp", [4, 8, 16])
def test_a_small_all_reduce_sends_everything_at_once(reduce, tp):
    near, _, latency, _ = reduce(1e3, tp=tp)
    assert near == (tp - 1) * 1e3
    assert latency == pytest.approx(round_of(tp))


def test_two_devices_always_exchange_everything_in_one_round(reduce):
    """Shares and everything are the same bytes then."""
    near, _, latency, _ = reduce(1e9, tp=2)
    assert (near, latency) == (1e9, pytest.approx(round_of(2)))


@pytest.mark.parametrize("tp", [4, 8])
def test_the_algorithms_change_where_their_times_are_equal(reduce, tp):
    at = crossover(tp)
    below, above = reduce(at * (1 - 1e-6), tp=tp), reduce(at * (1 + 1e-6), tp=tp)
    assert below[2] == pytest.approx(round_of(tp))
    assert above[2] == pytest.approx(2 * round_of(tp))
    assert below[3] == pytest.approx(above[3], rel=1e-5)
    # and the faster of the two is taken everywhere
    for size in np.geomspace(1e2, 1e9, 40):
        one_shot = (tp - 1) * size / (RATE * 0.5) + round_of(tp)
        two_shot = 2 * (tp - 1) / tp * size / (RATE * 0.5) + 2 * round_of(tp)
        assert reduce(size, tp=tp)[3] == pytest.approx(min(one_shot, two_shot))


def test_beyond_a_domain_each_device_exchanges_its_share_with_its_peers(reduce):
    """16 devices in two domains of 8: reduce-scatter and all-gather inside, an all-reduce of an eighth between two."""
    near, far, latency, seconds = reduce(1e6, tp=16, **FAR)
    assert near == pytest.approx(2 * 7 / 8 * 1e6)
    assert far == pytest.approx(2 * 1 / 2 * 1e6 / 8)
    assert latency == pytest.approx(2 * round_of(8) + 20e-6)
    assert seconds == pytest.approx(near / (RATE * 0.5) + far / (25e9 * 0.5) + latency)
    # small ones, too: one-shot is for one domain
    assert reduce(10, tp=16, **FAR)[0] == pytest.approx(2 * 7 / 8 * 10)


# --- others


@pytest.mark.parametrize(("tp", "share"), [(1, 0), (2, 0.5), (4, 0.75), (8, 0.875)])
def test_all_gather_volume(value, tp, share):
    traffic = collective.all_gather("x", sympy.Integer(1000)).traffic
    assert value(traffic.near_bytes, tp=tp) == share * 1000
    assert value(traffic.far_bytes, tp=tp) == 0


def test_an_all_gather_between_domains_brings_each_share_once(value):
    traffic = collective.all_gather("x", sympy.Integer(1600)).traffic
    assert value(traffic.near_bytes, tp=16, tp_near=8) == 7 / 8 * 1600
    assert value(traffic.far_bytes, tp=16, tp_near=8) == 1 / 2 * 1600 / 8


def test_collective_latency_is_alpha_at_four_devices_and_grows_with_the_tree(value):
    traffic = collective.all_gather("x", sympy.Integer(1000)).traffic
    latency = {tp: value(traffic.latency, tp=tp, tp_latency=ALPHA) for tp in (2, 4, 8, 16)}
    assert latency[4] == pytest.approx(ALPHA)
    assert np.diff(list(latency.values())) == pytest.approx([ALPHA / 4] * 3)


def test_nothing_is_handed_over_with_one_stage(value):
    traffic = collective.send("x", sympy.Integer(1000)).traffic
    assert [value(traffic.near_bytes, pp=pp) for pp in (1, 2, 8)] == [0, 1000, 1000]
    assert traffic.near_rate == s.pp_bandwidth
    assert traffic.latency == s.pp_latency


def test_groups_of_one_have_no_latency():
    hardware = load_hardware("h100-sxm").value
    tp, pp, dp = np.array([1.0, 2.0, 8.0, 16.0, 8.0]), np.array([1.0, 1.0, 1.0, 1.0, 2.0]), np.ones(5)
    found = links(hardware, 6e-6, tp, pp, dp)
    assert found["tp_latency"] == pytest.approx([0, 6e-6, 6e-6, 6e-6, 6e-6])
    assert found["tp_far_latency"] == pytest.approx([0, 0, 0, 16e-6, 0])
    assert found["pp_latency"] == pytest.approx([0, 0, 0, 0, 16e-6])
    assert found["tp_near"].tolist() == [1, 2, 8, 8, 8]
    assert found["tp_bandwidth"].tolist() == [450e9] * 5
    assert found["tp_far_bandwidth"].tolist() == [50e9] * 5
    assert found["pp_bandwidth"][4] == 50e9


# --- tokens on their way to experts


@pytest.fixture
def exchanged(value):
    """Return a function that gives near bytes, far bytes and latency of sending 1000 tokens of 7168 byte each."""

    def found(**known):
        traffic = collective.exchange("x", sympy.Integer(1), sympy.Integer(1000), sympy.Integer(7168)).traffic
        given = EXPERT_LINKS | {"experts_per_token": 8} | known
        return tuple(value(part, **given) for part in (traffic.near_bytes, traffic.far_bytes, traffic.latency))

    return found


@pytest.mark.parametrize("all_to_all", [0, 1])
def test_ranks_that_hold_all_tokens_exchange_nothing(exchanged, all_to_all):
    assert exchanged(tp=8, ep=8, dp=1, all_to_all=all_to_all) == (0, 0, 0)


def test_an_all_gather_brings_every_token_to_every_device(exchanged):
    near, far, latency = exchanged(dp=8, ep=8)
    assert near == 1000 / 8 * 7168 * 7
    assert (far, latency) == (0, 2e-5)


@pytest.mark.parametrize("ep", [2, 8, 64])
def test_an_all_to_all_sends_each_token_to_the_owners_of_its_experts(exchanged, ep):
    """Distinct owners of 8 experts drawn at random among ep devices, less the share that is at home."""
    draws = np.random.default_rng(5)
    owners = np.mean([len(np.unique(draws.integers(0, ep, 8))) for _ in range(4000)])
    near, _, _ = exchanged(dp=ep, ep=ep, all_to_all=1)
    assert near == pytest.approx(1000 / ep * 7168 * owners * (ep - 1) / ep, rel=0.02)
    assert near <= exchanged(dp=ep, ep=ep)[0]


def test_a_token_for_one_expert_goes_to_one_device(exchanged):
    assert exchanged(dp=8, ep=8, all_to_all=1, experts_per_token=1)[0] == pytest.approx(1000 / 8 * 7168 * 7 / 8)


def test_a_token_crosses_to_each_domain_once(exchanged):
    """16 ranks in two domains of 8: to the other domain if one of its 8 experts is there, then on to their owners."""
    own = 1000 / 16 * 7168
    near, far, latency = exchanged(dp=16, ep=16, all_to_all=1, ep_near=8, ep_far_latency=1e-5)
    assert far == pytest.approx(own * (1 - 0.5**8))
    assert near == pytest.approx(own * 16 * (1 - (15 / 16) ** 8) * 7 / 8)
    assert latency == pytest.approx(2e-5 + 1e-5)
    # gathered, every token goes to every device: once across, then to all within both domains
    assert exchanged(dp=16, ep=16, ep_near=8)[:2] == (own * 2 * 7, own)


@pytest.mark.parametrize(("domains", "near", "k"), [(2, 8, 8), (4, 8, 8), (8, 2, 4)])
def test_hops_of_tokens_to_their_experts_drawn_one_by_one(exchanged, domains, near, k):
    """A token of device 0 of a domain goes once to device 0 of every other domain that owns one of its experts, and
    there, as at home, on to the owners that are not device 0."""
    ranks, draws = domains * near, np.random.default_rng(7)
    owners = [np.unique(draws.integers(0, ranks, k)) for _ in range(20_000)]
    across = np.mean([np.count_nonzero(np.unique(of // near)) for of in owners])
    within = np.mean([np.count_nonzero(of % near) for of in owners])
    own = 1000 / ranks * 7168
    found = exchanged(dp=ranks, ep=ranks, ep_near=near, all_to_all=1, experts_per_token=k)
    assert found[:2] == pytest.approx((own * within, own * across), rel=0.01)


def test_domains_of_one_device_send_everything_between_domains(exchanged):
    """The hierarchy ends where the flat exchange begins: what all 8 of a domain send near, 8 domains of 1 send far."""
    for all_to_all in (0, 1):
        known = {"dp": 8, "ep": 8, "all_to_all": all_to_all}
        near, far, _ = exchanged(**known, ep_near=8)
        assert exchanged(**known, ep_near=1)[:2] == pytest.approx((far, near))
        assert far == 0 < near


@pytest.mark.parametrize("all_to_all", [0, 1])
def test_tensor_parallel_devices_share_the_sending_of_their_tokens(exchanged, all_to_all):
    known = {"ep": 8, "all_to_all": all_to_all}
    assert exchanged(tp=2, dp=4, **known) == exchanged(tp=1, dp=8, **known)


def test_experts_in_slices_need_the_token_on_every_device_that_holds_one(exchanged):
    """4 owners of 2 devices each, of whom 4·(1 − (3/4)^8) have an expert of the token."""
    near, _, _ = exchanged(dp=8, ep=4, all_to_all=1)
    assert near == pytest.approx(1000 / 8 * 7168 * 2 * 4 * (1 - 0.75**8) * 7 / 8)


@pytest.mark.parametrize(("software", "near", "far"), [(2e-5, 8e-6, 0), (2e-5, 5e-5, 0), (2e-5, 5e-5, 1e-5)])
def test_an_exchange_waits_for_software_or_links_whichever_is_slower_and_then_for_the_far_ones(
    exchanged, software, near, far
):
    latencies = {"exchange_latency": software, "ep_latency": near, "ep_far_latency": far}
    assert exchanged(dp=8, ep=8, **latencies)[2] == pytest.approx(max(software, near) + far)
    assert exchanged(tp=8, ep=8, dp=1, **latencies)[2] == 0
