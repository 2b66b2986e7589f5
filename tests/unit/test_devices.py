"""How devices turn work into seconds: overlap of flop, element-wise work and bytes, and what cannot overlap."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from planner.costs import symbols as s
from planner.costs.devices import component, roofline
from planner.costs.functions import both
from planner.costs.step import decode_batch, draft_seconds, stage_step, timed_layers
from planner.costs.structure import DEVICES, Structure
from planner.costs.work import ZERO, Operator, Traffic

RATES = {"bf16_flops": 100, "mfu_head": 0.5, "hbm_bandwidth": 1000, "mbu_activations": 0.8, "link_efficiency": 0.5}
RATES |= {"vector_flops": 20, "vector_share": 0.5, "tp_bandwidth": 30, "tp_far_bandwidth": 3, "hand_off": 50}
AMOUNTS = st.floats(1e-3, 1e6)


def operator(flops=0, vector_flops=0, hbm_bytes=0, hand_off_bytes=0, traffic=None):
    work = {"flops": flops, "vector_flops": vector_flops, "hbm_bytes": hbm_bytes, "hand_off_bytes": hand_off_bytes}
    return Operator("x", **{name: sympy.Float(amount) for name, amount in work.items()}, traffic=traffic or Traffic())


def test_two_times_that_overlap_are_the_larger_far_from_the_ridge(value):
    x, y = sympy.symbols("x y", positive=True)
    combined = sympy.lambdify((x, y), both(x, y))
    for small in (1e-6, 1e-4):
        assert combined(1.0, small) == pytest.approx(1.0, rel=1e-11)
        assert combined(small, 1.0) == pytest.approx(1.0, rel=1e-11)
    assert combined(1.0, 1.0) == pytest.approx(2 ** (1 / 3))


@pytest.mark.parametrize("device", DEVICES)
def test_every_resource_has_its_time(value, device):
    traffic = Traffic(sympy.Integer(60), s.tp_bandwidth, sympy.Integer(9), s.tp_far_bandwidth, sympy.Integer(3))
    found = DEVICES[device].seconds(operator(400, 30, 1600, traffic=traffic))
    assert value(found.compute, **RATES) == 8
    assert value(found.vector, **RATES) == 3
    assert value(found.hbm, **RATES) == 2
    assert value(found.link, **RATES) == (60 / 30 + 9 / 3) / 0.5
    assert value(found.latency) == 3
    assert value(found.total, **RATES) == pytest.approx(value(found.device, **RATES) + 10 + 3)


def test_on_a_roofline_everything_on_the_device_overlaps_smoothly(value):
    found = roofline.seconds(operator(400, 30, 1600, hand_off_bytes=1000))
    assert value(found.device, **RATES) == pytest.approx((8**3 + 3**3 + 2**3) ** (1 / 3))
    assert "hand_off" not in {symbol.name for symbol in found.total.free_symbols}


@pytest.mark.parametrize(
    ("flops", "vector", "moved", "slowest"), [(400, 10, 800, 8), (50, 90, 800, 9), (50, 10, 4000, 5)]
)
def test_on_components_the_slowest_counts_and_hand_offs_come_on_top(value, flops, vector, moved, slowest):
    assert value(component.seconds(operator(flops, vector, moved)).total, **RATES) == slowest
    found = component.seconds(operator(flops, vector, moved, hand_off_bytes=100))
    assert value(found.total, **RATES) == slowest + 2
    assert value(found.vector, **RATES) == vector / 10 + 2  # the hand-off is the vector cores' work


@pytest.mark.parametrize("device", DEVICES)
@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_no_operator_is_faster_than_any_of_its_resources(value, device, flops, vector, moved, handed):
    """And never slower than the sum of them."""
    found = DEVICES[device].seconds(operator(flops, vector, moved, handed))
    total, *alone = (value(t, **RATES) for t in (found.total, found.compute, found.vector, found.hbm))
    assert max(alone) * (1 - 1e-12) <= total <= sum(alone) * (1 + 1e-12)


@given(AMOUNTS, AMOUNTS, AMOUNTS)
def test_a_smooth_roofline_is_within_45_percent_of_the_sharp_one(value, flops, vector, moved):
    """Three times that are equal: 3^⅓."""
    found = roofline.seconds(operator(flops, vector, moved))
    sharp = max(value(t, **RATES) for t in (found.compute, found.vector, found.hbm))
    assert sharp * (1 - 1e-12) <= value(found.total, **RATES) <= sharp * 3 ** (1 / 3) * (1 + 1e-12)


# --- a step


def numbers(**chosen):
    """Every symbol 2, but those chosen, as exact floats; a hidden host shows nothing, and steps are as modelled."""
    known = {entry.symbol: sympy.Float(2) for entry in s.SYMBOLS}
    known |= {s.host_exposed: sympy.Float(0), s.step_scale: sympy.Float(1)}
    return known | {getattr(s, name): sympy.Float(number) for name, number in chosen.items()}


@pytest.mark.parametrize("structure", [Structure(("gqa",), ("dense",)), Structure(("mla",), ("moe",), "component")])
def test_a_step_by_symbol_equals_the_step_captured_or_not(structure):
    """``captured`` chooses: a graph pays floors on top of its work, launches only bound what work does not cover."""
    batch = decode_batch(s.padded_batch, s.running)
    by_symbol, yes, no = (
        stage_step(structure, batch, captured=captured) for captured in (s.captured, sympy.Integer(1), ZERO)
    )
    totals = {}
    for name, fixed, flag in (("graph", yes, 1), ("eager", no, 0)):
        chosen = numbers(eager_floor=1e9, captured=flag, host_overlap=0)
        totals[name] = float(fixed.total.xreplace(chosen))
        assert float(by_symbol.total.xreplace(chosen)) == pytest.approx(totals[name])
        for resource, expr in fixed.resources.items():
            assert float(by_symbol.resources[resource].xreplace(chosen)) == pytest.approx(float(expr.xreplace(chosen)))
    assert totals["eager"] >= 1e9 > totals["graph"]


def test_host_time_adds_up_or_hides_behind_the_device():
    structure, batch = Structure(("gqa",), ("dense",)), decode_batch(s.padded_batch, s.running)
    step = stage_step(structure, batch, captured=sympy.Integer(1))

    def total(**chosen):
        return float(step.total.xreplace(numbers(**chosen)))

    device = total(host_overlap=0, host_step=0, host_sequence=0)
    assert device > 0
    for host in (device / 10, 10 * device):
        assert total(host_overlap=0, host_step=host, host_sequence=0) == pytest.approx(device + host)
        assert total(host_overlap=1, host_step=host, host_sequence=0) == pytest.approx(max(device, host))
        shown = total(host_overlap=1, host_step=host, host_sequence=0, host_exposed=0.3)
        assert shown == pytest.approx(max(device + 0.3 * host, host))
        scaled = total(host_overlap=0, host_step=host, host_sequence=0, step_scale=1.5)
        assert scaled == pytest.approx(1.5 * (device + host))
    # two requests on four ranks and stages: the busiest one has a whole request
    assert total(host_overlap=0, host_step=0, host_sequence=6) == pytest.approx(device + 6)


def test_a_step_is_its_layers_and_its_floors():
    structure, batch = Structure(("gqa",), ("dense", "moe")), decode_batch(s.padded_batch, s.running)
    chosen = numbers(host_step=0, host_sequence=0, host_overlap=0)
    parts = [
        float((layer.layers * (layer.seconds + layer.layer.launch_floor())).xreplace(chosen))
        for layer in timed_layers(structure, batch)
    ]
    step = stage_step(structure, batch, captured=sympy.Integer(1), draft=sympy.Integer(5))
    assert float(step.total.xreplace(chosen)) == pytest.approx(sum(parts) + 5)
    assert [layer.layer.name for layer in timed_layers(structure, batch)] == [
        "gqa",
        "dense",
        "moe",
        "head",
        "hand_over",
    ]


@pytest.mark.parametrize(("layers", "pp", "largest"), [(64, 1, 64), (64, 8, 8), (64, 3, 22), (3, 3, 1)])
def test_the_largest_stage_rounds_up(value, layers, pp, largest):
    from planner.costs.memory.stage import stage_layers, stage_share

    assert value(stage_layers(), layers=layers, pp=pp) == largest
    assert value(stage_share(), layers=layers, pp=pp) == largest / layers


def test_decode_batches_are_padded_to_captured_sizes():
    from planner.columns.evaluate import padded

    batch = np.array([0.3, 1.0, 1.5, 4.0, 9.0, 16.0, 16.5, 100.0])
    rows, captured = padded(batch, (8, 1, 2, 4, 16))
    assert rows.tolist() == [1, 1, 2, 4, 16, 16, 16.5, 100]
    assert captured.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


def test_every_draft_is_launched_on_top_of_its_layers():
    """Of the model's own module; where there is none, or no draft, a launch costs nothing."""
    structure = Structure(("mla",), ("moe",))
    draft = draft_seconds(structure)

    def seconds(**chosen):
        return float(draft.xreplace(numbers(draft_seconds=0, **chosen)))

    assert seconds(draft_layers=1, draft_floor=3) == pytest.approx(seconds(draft_layers=1, draft_floor=0) + 3)
    assert seconds(draft_layers=0, draft_floor=3) == 0
