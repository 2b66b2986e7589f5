"""Fusions and overlaps: what each switch saves, counted by hand, and that none costs anything."""

import numpy as np
import pytest
import sympy

from planner.columns.evaluate import structure_of, symbol_values
from planner.costs import symbols as s
from planner.costs.compile import compiled
from planner.costs.devices import roofline
from planner.costs.layers import dense_ffn, gqa, mla, moe_ffn
from planner.costs.overlaps import saved
from planner.costs.step import decode_batch, timed_layers
from planner.costs.structure import Structure
from planner.costs.work import FFN_WEIGHTS, ONE, Operator, Traffic

FUSIONS = ("fused_norm", "fused_moe_reduce", "mla_prolog", "fused_dispatch")
OVERLAPS = ("overlap_matmul", "weight_prefetch", "shared_overlap", "dual_batch")
SWITCHES = (*FUSIONS, *OVERLAPS, "host_overlap")
UNITS = {"hbm_bandwidth": 1, "mbu_ffn": 1, "link_efficiency": 1, "tp_bandwidth": 1, "overlap_chunks": 4}
UNITS |= {"mfu_ffn": 1, "ffn_flops": 1, "vector_flops": 1, "vector_share": 1}


def weights(name, size):
    return Operator(name, hbm_bytes=sympy.Integer(size), weight_bytes=sympy.Integer(size), part=FFN_WEIGHTS)


def messages(name, sent, latency):
    return Operator(name, traffic=Traffic(sympy.Integer(sent), latency=sympy.Integer(latency)))


@pytest.fixture
def hidden(value, batch_of):
    """Return a function that gives the seconds which switches save over operators that take a second per byte."""

    def found(operators, *switches):
        expr = saved([(operator, roofline.seconds(operator)) for operator in operators], batch_of(1))
        return value(expr, **UNITS | dict.fromkeys(switches, 1))

    return found


DENSE = (weights("up_projection", 7), weights("down_projection", 6))


@pytest.mark.parametrize(("sent", "expected"), [(4, 3), (20, 4.5)])
def test_all_but_one_piece_of_an_all_reduce_runs_behind_the_product_before_it(hidden, sent, expected):
    """Three quarters of the shorter of the two: of 4 s on the links, or of 6 s of the product."""
    operators = (*DENSE, messages("ffn_all_reduce", sent, 1))
    assert hidden(operators, "overlap_matmul") == expected
    assert hidden(operators) == 0


@pytest.mark.parametrize(("sent", "expected"), [(4, 4 + 1), (20, 7)])
def test_the_first_weights_are_fetched_during_the_collective(hidden, sent, expected):
    assert hidden((*DENSE, messages("ffn_all_reduce", sent, 1)), "weight_prefetch") == expected


def test_without_a_collective_nothing_is_fetched_early(hidden):
    assert hidden(DENSE, "weight_prefetch", "overlap_matmul") == 0


@pytest.mark.parametrize(("shared", "expected"), [(3, 3), (30, 4)])
def test_shared_experts_run_beside_the_exchange(hidden, shared, expected):
    # both read weights, so all that is free beside 5 s of routed experts are the 4 s of exchange
    experts = (messages("dispatch", 1, 1), weights("shared_up_projection", shared), weights("routed_experts", 5))
    assert hidden((*experts, messages("combine", 1, 1)), "shared_overlap") == expected
    assert hidden(experts[:1] + experts[2:], "shared_overlap") == 0


@pytest.mark.parametrize(
    ("sent", "work", "read", "expected"), [(8, 20, 5, 5), (8, 6, 0, 6), (8, 20, 12, 0), (0, 20, 0, 2)]
)
def test_two_batches_hide_each_other_s_exchange_and_read_weights_twice(hidden, sent, work, read, expected):
    """An exchange of sent + 2 s, behind the layer's work; what is read again is lost, never more than is won."""
    experts = Operator("routed_experts", vector_flops=sympy.Integer(work))
    again = Operator("router", weight_bytes=sympy.Integer(read), part=FFN_WEIGHTS)
    operators = (messages("dispatch", sent, 1), experts, again, messages("combine", 0, 1))
    assert hidden(operators, "dual_batch") == expected


LAYERS = {
    "gqa": (gqa, "attention_floor", {"fused_norm": 1}),
    "mla": (mla, "mla_floor", {"fused_norm": 1, "mla_prolog": 5}),
    "dense": (dense_ffn, "dense_ffn_floor", {"fused_norm": 1}),
    "moe": (moe_ffn, "moe_ffn_floor", {"fused_norm": 1, "fused_dispatch": 2, "fused_moe_reduce": 1}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_each_fusion_takes_the_launches_it_swallows_off_the_floor(value, batch_of, name):
    kind, floor, swallowed = LAYERS[name]
    layer = kind.layer(batch_of(1))
    count = len(layer.operators)
    assert value(layer.launch_floor(), **{floor: count}) == pytest.approx(count)
    for fusion in FUSIONS:
        left = value(layer.launch_floor(), **{floor: count, fusion: 1, "tp": 2})
        assert left == pytest.approx(count - swallowed.get(fusion, 0)), fusion


def test_a_norm_is_swallowed_by_one_fusion_only(value, batch_of):
    left = value(mla.layer(batch_of(1)).launch_floor(), mla_floor=100, fused_norm=1, mla_prolog=1, tp=2)
    assert left == pytest.approx(100 * (1 - 6 / len(mla.layer(batch_of(1)).operators)))


# --- whole steps

CASES = {
    "dense": ("Qwen3-32B", "h100-sxm", {"tp": 4}),
    "experts": ("Qwen3-30B-A3B", "h100-sxm", {"tp": 4, "ep": 4}),
    "latent": ("DeepSeek-V3", "h200-sxm", {"tp": 8, "ep": 8}),
    "latent with attention ranks": ("DeepSeek-V3", "h200-sxm", {"attention_dp": 16, "ep": 16}),
    "components": ("DeepSeek-V3", "ascend-910b3", {"tp": 2, "attention_dp": 8, "ep": 16}),
}
TIMES = ("tpot_steady", "prefill_seconds", "itl", "prompt_service_seconds")


@pytest.fixture
def times_of(setting_of, axes_of):
    """Return a function that gives times of a case with some switches on and all others off."""

    def found(name, *switches):
        model, hardware, degrees = CASES[name]
        setting = setting_of(model, hardware)
        values = symbol_values(setting, axes_of(mean_running=[1, 16, 64, 150], **degrees))
        values |= dict.fromkeys(SWITCHES, 0.0) | dict.fromkeys(switches, 1.0)
        # in steps of any size
        values |= {
            name: 1e18 if name.endswith("_most") else 0.0 for name in values if name.endswith(("_most", "_least"))
        }
        with np.errstate(all="ignore"):
            figures = compiled(*structure_of(setting))(**values)
        return {name: np.broadcast_to(figures[name], (4,)) for name in TIMES}

    return found


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("name", CASES)
def test_no_switch_costs_time(times_of, name, switch):
    off, on = times_of(name), times_of(name, switch)
    for figure in TIMES:
        assert (on[figure] <= off[figure] * (1 + 1e-12)).all(), figure
        assert (on[figure] > 0).all(), figure


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_saves_something_somewhere(times_of, switch):
    assert any((times_of(name, switch)["tpot_steady"] < times_of(name)["tpot_steady"]).any() for name in CASES)


@pytest.mark.parametrize("name", CASES)
def test_all_switches_together_leave_a_positive_time(times_of, name):
    on, off = times_of(name, *SWITCHES), times_of(name)
    assert (on["tpot_steady"] < off["tpot_steady"]).all()
    assert (on["tpot_steady"] > 0).all()


@pytest.mark.parametrize("tp", [2, 8])
@pytest.mark.parametrize("ffn", ["dense", "moe"])
def test_overlaps_never_hide_a_collective_twice(setting_of, axes_of, ffn, tp):
    """With product and all-reduce, and weights and all-reduce overlapped, a layer still takes its device's own work:
    a device does one thing after the other, whatever the links do meanwhile."""
    model = {"dense": "Qwen3-32B", "moe": "Qwen3-30B-A3B"}[ffn]
    values = symbol_values(setting_of(model), axes_of(tp=tp, mean_running=64.0))
    known = {sympy.Symbol(k, nonnegative=True): sympy.Float(float(np.ravel(v)[0])) for k, v in values.items()}
    known |= {s.overlap_matmul: ONE, s.weight_prefetch: ONE, s.shared_overlap: 0, s.dual_batch: 0}
    known |= {s.overlap_least: 0}  # in steps of any size
    batch = decode_batch(s.padded_batch, s.running)
    for layer in timed_layers(Structure(("gqa",), (ffn,)), batch):
        device = sum(float(seconds.device.xreplace(known)) for _, seconds in layer.operators)
        assert float(layer.seconds.xreplace(known)) >= device * (1 - 1e-9), layer.layer.name


def test_shared_experts_and_two_batches_never_hide_an_exchange_twice(hidden):
    """An exchange of 10 s and 10 s of work, of which 1 s at most (routed beside shared experts) runs at once: the
    device alone takes 9 s, so 11 of 20 s are hidden at most."""
    work = [
        Operator(n, vector_flops=sympy.Integer(t)) for n, t in (("router", 6), ("shared_up", 3), ("routed_experts", 1))
    ]
    operators = (*work[:2], messages("dispatch", 5, 0), work[2], messages("combine", 5, 0))
    assert hidden(operators, "dual_batch", "shared_overlap") <= 11
