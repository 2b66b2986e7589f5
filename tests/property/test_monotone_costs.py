"""Directions of the cost model itself: faster hardware and shorter latencies never slow a step, fewer tokens neither.

Every kind of layer, both kinds of devices, a mesh of loads. TPOT at a given mean of decoding requests is left out: its
second-order term goes with the rate, which rises when steps get faster (see test_monotone.py); ``tpot_steady`` is TPOT
without it.
"""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.columns.evaluate import structure_of, symbol_values
from planner.costs import codegen, serving
from planner.costs import compile as compiler
from planner.costs.structure import Structure
from planner.costs.symbols import SYMBOLS
from planner.costs.work import Expressions

CASES = {
    "dense": ("Qwen3-32B", "h100-sxm", {"tp": 4}),
    "dense in stages": ("Llama-3.1-70B", "a100-80g-sxm", {"tp": 4, "pp": 2}),
    "experts": ("Qwen3-30B-A3B", "h100-sxm", {"tp": 4, "ep": 4}),
    "latent, attention ranks": ("DeepSeek-V3", "h200-sxm", {"tp": 2, "attention_dp": 8, "ep": 16}),
    "selected tokens": ("DeepSeek-V3.2", "h200-sxm", {"tp": 8, "ep": 8}),
    "sliding": ("gpt-oss-20b", "h100-sxm", {"tp": 2}),
    "linear": ("Qwen3.5-397B-A17B", "h200-sxm", {"tp": 8, "ep": 8}),
    "components, dense": ("Qwen3-32B", "ascend-910b3", {"tp": 8}),
    "components, latent": ("DeepSeek-V3", "ascend-910b3", {"attention_dp": 32, "ep": 32}),
    "components, sliding": ("gpt-oss-20b", "ascend-910b3", {"tp": 8}),
}
TIMES = ("decode_step", "mixed_step", "full_step", "worst_token_step", "fluid_step", "prompt_service", "prefill_time")
TIMES += ("tpot_steady", "itl")
SHARES = ("mfu_", "mbu_", "vector_share", "link_efficiency")
RATES = [e.symbol.name for e in SYMBOLS if e.origin == "hardware" and e.unit.endswith("/s")]
RATES += [e.symbol.name for e in SYMBOLS if e.origin == "efficiency" and e.symbol.name.startswith(SHARES)]
LATENCIES = [e.symbol.name for e in SYMBOLS if e.origin in ("hardware", "efficiency") and e.unit == "s"]
OVERLAPS = ("overlap_matmul", "weight_prefetch", "shared_overlap", "dual_batch")
RUNNING, BUDGETS, PROMPTS = (1, 7, 64, 300, 1500), (512, 8192), (100, 4000)
SLACK = 1 + 1e-9
of_every_case = pytest.mark.parametrize("name", CASES)


@functools.cache
def kernel(*structure):
    """Figures and intermediate results by name."""
    found = serving.expressions(Structure(*structure))
    results = found.outputs | {str(name): name for name in found.definitions}
    return compiler._execute(codegen.source(Expressions(found.definitions, results)))


@pytest.fixture(scope="module")
def values_of(setting_of, axes_of):
    """Return a function that gives every symbol of a case a value, over a mesh of loads or the axes given."""

    @functools.cache
    def on_mesh(name):
        model, hardware, degrees = CASES[name]
        running, budget, isl = (axis.ravel() for axis in np.meshgrid(RUNNING, BUDGETS, PROMPTS, indexing="ij"))
        axes = {"mean_running": running, "max_num_batched_tokens": budget, "isl": isl, "osl": np.full(len(isl), 200)}
        return symbol_values(setting_of(model, hardware), axes_of(**degrees, **axes))

    def found(name, **axes):
        if not axes:
            return on_mesh(name)
        model, hardware, degrees = CASES[name]
        plain = {"max_num_batched_tokens": 2048, "isl": 1000, "osl": 200}
        return symbol_values(setting_of(model, hardware), axes_of(**degrees, **plain | axes))

    return found


def times(name, setting_of, values):
    model, hardware, _ = CASES[name]
    with np.errstate(all="ignore"):
        found = kernel(*structure_of(setting_of(model, hardware)))(**values)
    # where prompts come in faster than they can be prefilled, only a decode step means anything
    keeps_up = found["prefill_inflow"] < found["prefill_budget"]
    return {time: np.where(keeps_up | (time == "decode_step"), found[time], np.nan) for time in TIMES}


def assert_no_slower(before, after, where):
    for time in TIMES:
        known = np.isfinite(before[time])
        assert known.any(), time
        worst = float(np.max((after[time] / before[time])[known]))
        assert worst <= SLACK, (where, time)


# --- hardware


def overlapped(values, overlaps):
    """The engine's defaults, or exactly the overlaps named."""
    return values | (dict.fromkeys(OVERLAPS, 0.0) | dict.fromkeys(overlaps, 1.0) if overlaps else {})


with_overlaps = pytest.mark.parametrize(
    "overlaps", [(), *((overlap,) for overlap in OVERLAPS), OVERLAPS], ids=["default", *OVERLAPS, "all overlaps"]
)


@with_overlaps
@of_every_case
def test_no_rate_slows_anything_when_it_rises(setting_of, values_of, name, overlaps):
    values = overlapped(values_of(name), overlaps)
    before = times(name, setting_of, values)
    for rate in sorted(set(RATES) & set(values)):
        for factor in (1.01, 3.0):
            assert_no_slower(before, times(name, setting_of, values | {rate: values[rate] * factor}), rate)


@with_overlaps
@of_every_case
def test_no_latency_slows_anything_when_it_falls(setting_of, values_of, name, overlaps):
    values = overlapped(values_of(name), overlaps)
    before = times(name, setting_of, values)
    for latency in sorted(set(LATENCIES) & set(values)):
        for factor in (0.0, 0.5):
            after = times(name, setting_of, values | {latency: values[latency] * factor})
            assert_no_slower(before, after, latency)


@pytest.mark.parametrize("rate", ["hbm_bandwidth", "bf16_flops", "tp_bandwidth", "vector_flops"])
def test_every_kind_of_rate_matters_somewhere(setting_of, values_of, rate):
    def faster(name):
        values = values_of(name)
        before, after = (times(name, setting_of, values | {rate: values[rate] * f}) for f in (1, 2))
        return any((after[time] < before[time]).any() for time in TIMES)

    assert any(faster(name) for name in CASES)


@settings(max_examples=40)
@given(st.sampled_from(sorted(CASES)), st.lists(st.floats(1, 10), min_size=len(RATES), max_size=len(RATES)))
def test_no_mixture_of_faster_rates_slows_anything(setting_of, values_of, name, factors):
    values = values_of(name)
    faster = {rate: values[rate] * factor for rate, factor in zip(RATES, factors, strict=True) if rate in values}
    assert_no_slower(times(name, setting_of, values), times(name, setting_of, values | faster), "all")


# --- tokens


def assert_never_falls(steps, what, slack=1e-12):
    known = steps[np.isfinite(steps)]
    assert len(known) > len(steps) / 3
    falls = 1 - known[1:] / known[:-1]
    assert falls.max() <= slack, (what, float(falls.max()))


@of_every_case
def test_more_requests_never_make_a_decode_step_faster(setting_of, values_of, name):
    """Padding, tiles and the end of the captured sizes make a staircase, which only goes up."""
    running = np.unique(np.geomspace(1, 40_000, 600).round())
    steps = times(name, setting_of, values_of(name, mean_running=running))["decode_step"]
    assert_never_falls(steps, "decode_step")
    assert steps[-1] > steps[0]


@of_every_case
def test_a_decode_step_is_level_within_a_captured_size_but_for_the_cache_and_jumps_after_the_last(
    setting_of, values_of, name
):
    """Across the last captured size more tokens cost more at once: launches one by one."""
    model, hardware, degrees = CASES[name]
    setting = setting_of(model, hardware)
    *_, before_last, last = sorted(setting.engine.graph_capture_sizes.value)
    ranks = degrees.get("pp", 1) * degrees.get("attention_dp", 1)
    running = ranks * np.array([before_last + 1, last, last + 1.0])
    free = {"mbu_kv_cache": 1e9, "bf16_flops": 1e30, "vector_flops": 1e30, "host_sequence": 0.0, "hand_off": 1e30}
    # launches so slow that the end of the graphs shows
    steps = times(name, setting_of, values_of(name, mean_running=running) | free | {"eager_floor": 0.1})["decode_step"]
    assert steps[1] == pytest.approx(steps[0], rel=1e-3)
    assert steps[2] > 1.3 * steps[1]


@of_every_case
def test_without_the_end_of_the_graphs_a_larger_batch_costs_no_jump(setting_of, values_of, name):
    """The exception by itself: at one more request, time changes by the launches alone, since work hardly changes."""
    model, hardware, degrees = CASES[name]
    last = max(setting_of(model, hardware).engine.graph_capture_sizes.value)
    running = degrees.get("pp", 1) * degrees.get("attention_dp", 1) * np.array([last, last + 1.0])
    values = values_of(name, mean_running=running)
    plain, always = (times(name, setting_of, values | graphs)["decode_step"] for graphs in ({}, {"captured": 1.0}))
    assert always[1] >= always[0] * (1 - 1e-12)
    assert plain[0] == always[0]
    assert plain[1] >= always[1]


@pytest.mark.parametrize(("axis", "low", "high"), [("isl", 16, 30_000), ("osl", 8, 20_000)])
@of_every_case
def test_longer_requests_never_make_a_decode_step_or_a_prompt_faster(setting_of, values_of, name, axis, low, high):
    lengths = np.unique(np.geomspace(low, high, 200).round())
    found = times(name, setting_of, values_of(name, mean_running=4, **{axis: lengths}))
    assert_never_falls(found["decode_step"], "decode_step")
    if axis == "isl":
        assert_never_falls(found["prefill_time"], "prefill_time")
        # full steps of few long prompts have fewer tiles partly filled than those of many short ones
        assert_never_falls(found["prompt_service"], "prompt_service", slack=0.01)


@of_every_case
def test_a_larger_budget_never_makes_a_full_step_faster(setting_of, values_of, name):
    budgets = np.arange(512, 20_000, 37.0)
    steps = times(name, setting_of, values_of(name, mean_running=2, isl=9000, osl=2000, max_num_batched_tokens=budgets))
    assert_never_falls(steps["full_step"], "full_step")
