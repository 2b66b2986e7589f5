"""Fusions and overlaps: what each switch saves, counted by hand, where, and that none costs anything."""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import sympy

from planner.columns.evaluate import structure_of, symbol_values
from planner.costs import codegen, fusions
from planner.costs import compile as compiler
from planner.costs import symbols as s
from planner.costs.compile import compiled
from planner.costs.devices import roofline
from planner.costs.layers import dense_ffn, gqa, mla, moe_ffn
from planner.costs.overlaps import saved
from planner.costs.step import chunk_batch, decode_batch, timed_layers
from planner.costs.structure import Structure
from planner.costs.work import FFN_WEIGHTS, Expressions, Operator, Traffic

FUSIONS = ("fused_norm", "fused_moe_reduce", "mla_prolog", "fused_dispatch")
OVERLAPS = ("overlap_matmul", "weight_prefetch", "shared_overlap", "dual_batch")
SWITCHES = (*FUSIONS, *OVERLAPS, "host_overlap")
UNITS = {"hbm_bandwidth": 1, "mbu_ffn": 1, "link_efficiency": 1, "tp_bandwidth": 1, "overlap_chunks": 4}
UNITS |= {"mfu_ffn": 1, "ffn_flops": 1, "vector_flops": 1, "vector_share": 1}


def weights(name, size):
    return Operator(name, hbm_bytes=sympy.Integer(size), weight_bytes=sympy.Integer(size), part=FFN_WEIGHTS)


def vector(name, seconds):
    return Operator(name, vector_flops=sympy.Integer(seconds))


def messages(name, sent, latency):
    return Operator(name, traffic=Traffic(sympy.Integer(sent), latency=sympy.Integer(latency)))


@pytest.fixture
def hidden(value, batch_of):
    """Return a function that gives the seconds which switches save over operators that take a second per byte."""

    def found(operators, *switches):
        expr = saved([(operator, roofline.seconds(operator)) for operator in operators], batch_of(1), roofline)
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


@pytest.mark.parametrize(("work", "expected"), [(0, 7), (7, 7 * (2 ** (1 / 3) - 1)), (70, 70 * (1.001 ** (1 / 3) - 1))])
def test_early_weights_save_what_they_add_to_a_product_that_also_computes(hidden, work, expected):
    """Times of a roofline add up as (x³ + y³)^⅓, so weights read beside much work add little."""
    product = replace(weights("up_projection", 7), flops=sympy.Integer(work))
    operators = (product, weights("down_projection", 6), messages("ffn_all_reduce", 20, 1))
    assert hidden(operators, "weight_prefetch") == pytest.approx(expected)


def test_early_weights_get_what_a_product_leaves_of_the_collective(hidden):
    """Of 9 s on the links, 4.5 s run behind the product (three quarters of its 6 s): 4.5 s and a message are left."""
    operators = (*DENSE, messages("ffn_all_reduce", 9, 1))
    assert hidden(operators, "overlap_matmul") == 4.5
    assert hidden(operators, "weight_prefetch") == 7
    assert hidden(operators, "overlap_matmul", "weight_prefetch") == 4.5 + 5.5


def test_without_a_collective_nothing_is_fetched_early(hidden):
    assert hidden(DENSE, "weight_prefetch", "overlap_matmul") == 0


@pytest.mark.parametrize(("shared", "expected"), [(3, 3), (30, 4)])
def test_shared_experts_run_beside_the_exchange(hidden, shared, expected):
    # both read weights, so all that is free beside 5 s of routed experts are the 4 s of exchange
    experts = (messages("dispatch", 1, 1), weights("shared_up_projection", shared), weights("routed_experts", 5))
    assert hidden((*experts, messages("combine", 1, 1)), "shared_overlap") == expected
    assert hidden(experts[:1] + experts[2:], "shared_overlap") == 0


@pytest.mark.parametrize(
    ("sent", "work", "read", "expected"),
    [(8, 20, 5, 5), (8, 6, 0, 6), (8, 20, 12, 0), (0, 20, 0, 2), (20, 6, 4, 6), (8, 7, 4, 6)],
)
def test_two_batches_hide_each_other_s_exchange_and_read_weights_twice(hidden, sent, work, read, expected):
    """An exchange of sent + 2 s and the layer's work, with what is read again: the longer of the two is left."""
    experts = vector("routed_experts", work)
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


# --- where they take effect

CONDITIONS = {
    "norm in all-reduce": (fusions.norm_in_all_reduce, "fused_norm", {"tp": 2}),
    "all-reduce in experts": (fusions.all_reduce_in_experts, "fused_moe_reduce", {"tp": 2}),
    "product behind all-reduce": (fusions.matmul_behind_all_reduce, "overlap_matmul", {}),
    "shared beside routed": (fusions.shared_beside_routed, "shared_overlap", {}),
    "half batches": (fusions.half_batches, "dual_batch", {}),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_fusion_is_on_where_its_switch_is(value, batch_of, name):
    condition, switch, given = CONDITIONS[name]
    assert value(condition(batch_of(256)), **given, **{switch: 1}) == 1
    assert value(condition(batch_of(256)), **given, **{switch: 0}) == 0


@pytest.mark.parametrize(
    ("name", "limit", "off"),
    [
        ("norm in all-reduce", "fused_norm_most", 257),
        ("all-reduce in experts", "fused_moe_most", 257),
        ("shared beside routed", "shared_most", 257),
        ("product behind all-reduce", "overlap_least", 255),
        ("half batches", "dual_least", 255),
    ],
)
def test_a_limit_of_tokens_is_within(value, batch_of, name, limit, off):
    condition, switch, given = CONDITIONS[name]
    on = {tokens: value(condition(batch_of(tokens)), **given, **{switch: 1, limit: 256}) for tokens in (256, off)}
    assert on == {256: 1, off: 0}


@pytest.mark.parametrize("name", ["norm in all-reduce", "all-reduce in experts"])
def test_nothing_is_fused_with_an_all_reduce_that_one_device_has_not(value, batch_of, name):
    condition, switch, _ = CONDITIONS[name]
    assert [value(condition(batch_of(8)), **{switch: 1, "tp": tp}) for tp in (1, 2, 8)] == [0, 1, 1]


def test_without_an_all_reduce_norms_move_and_launch_as_before(value, one, batch_of):
    known = {"hidden": 64, "activation_bytes": 2, "fused_norm": 1, "fused_norm_most": 10}
    for tokens, tp, tensors in ((10, 1, 4), (10, 2, 2), (11, 2, 4)):
        norm = one(dense_ffn.layer(batch_of(tokens)), "ffn_norm")
        assert value(norm.hbm_bytes, **known, tp=tp) == tensors * tokens * 64 * 2
        assert value(norm.launched, **known, tp=tp) == (tensors == 4)


@pytest.mark.parametrize(("prefill", "prompts_only", "on"), [(0, 0, 1), (0, 1, 0), (5, 0, 1), (5, 1, 1)])
def test_a_product_runs_behind_its_all_reduce_in_steps_with_prompts(value, batch_of, prefill, prompts_only, on):
    condition = fusions.matmul_behind_all_reduce(batch_of(256, prefill=prefill))
    assert value(condition, overlap_matmul=1, overlap_prompts=prompts_only) == on


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
TIMES = ("tpot_steady", "prompt_seconds", "itl", "prompt_service_seconds")


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


# --- nothing is hidden twice


@functools.cache
def layers_of(structure, batch):
    """Return a function of the symbols: seconds of each layer, of its device, and of each of its resources."""
    batches = {"decode": decode_batch(s.padded_batch, s.running), "chunk": chunk_batch(s.token_budget / 2)}
    found = {}
    for timed in timed_layers(Structure(*structure), batches[batch]):
        parts = {"seconds": timed.seconds, "links": sum(t.link + t.latency for _, t in timed.operators)}
        parts |= {r: sum(getattr(t, r) for _, t in timed.operators) for r in ("device", "compute", "vector", "hbm")}
        found |= {f"{timed.layer.name}__{part}": expr for part, expr in parts.items()}
    return compiler._execute(codegen.source(Expressions({}, found)))


@pytest.mark.parametrize("batch", ["decode", "chunk"])
@pytest.mark.parametrize("name", CASES)
def test_a_layer_takes_at_least_its_slowest_resource(setting_of, axes_of, name, batch):
    """Whatever is overlapped: and all its device's work, unless two streams share the device."""
    model, hardware, degrees = CASES[name]
    setting = setting_of(model, hardware)
    values = symbol_values(setting, axes_of(mean_running=[1, 16, 64, 150, 2000], **degrees))
    values |= {name: 1e18 if name.endswith("_most") else 0.0 for name in values if name.endswith(("_most", "_least"))}
    for on in itertools.product((0.0, 1.0), repeat=len(OVERLAPS)):
        switches = dict(zip(OVERLAPS, on, strict=True)) | {"overlap_prompts": 0.0}
        for slow in ({}, {"tp_bandwidth": 1e9, "ep_bandwidth": 1e9, "ep_far_bandwidth": 1e9}, {"hbm_bandwidth": 1e11}):
            with np.errstate(all="ignore"):
                found = layers_of(structure_of(setting), batch)(**values | switches | slow)
            for layer in {key.split("__")[0] for key in found}:
                least = ["compute", "vector", "hbm", "links"] + ["device"] * (not switches["shared_overlap"])
                for part in least:
                    lacking = found[f"{layer}__{part}"] - found[f"{layer}__seconds"]
                    assert np.all(lacking <= 1e-9 * found[f"{layer}__seconds"]), (layer, part, switches, slow)


def test_shared_experts_and_two_batches_never_hide_an_exchange_twice(hidden):
    """An exchange of 10 s and 10 s of work on the vector units, which take no less: 10 of 20 s are hidden."""
    operators = (vector("router", 6), vector("shared_up", 3), messages("dispatch", 5, 0), vector("routed_experts", 1))
    operators += (messages("combine", 5, 0),)
    assert hidden(operators, "dual_batch") == 10
    assert hidden(operators, "shared_overlap") == 3
    assert hidden(operators, "dual_batch", "shared_overlap") == 10


def test_streams_of_two_resources_run_at_once_as_far_as_the_fuller_allows(hidden):
    """Shared experts read for 6 s, routed ones compute for 8 s on the vector units: together 8 s, not 14."""
    operators = (weights("shared_up", 6), vector("routed_experts", 8))
    assert hidden(operators, "shared_overlap") == 6
    assert hidden((weights("shared_up", 9), vector("routed_experts", 8)), "shared_overlap") == 17 - 9
    assert hidden((weights("shared_up", 6), weights("routed_experts", 8)), "shared_overlap") == 0
