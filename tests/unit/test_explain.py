"""Explanations: budgets that add up, elasticities that are slopes, ladders whose rungs meet, constraints that bind."""

import functools
import random
from pathlib import Path

import numpy as np
import pytest

from planner import load_scenario, pipeline
from planner.columns.budget import budget
from planner.columns.elasticities import METRICS, elasticities
from planner.columns.enumerate import setting_table
from planner.columns.ladder import ladder
from planner.columns.levers import faster, reach
from planner.columns.pricing import axes_of, figures_of
from planner.columns.setting import settings
from planner.studies.explain import explained
from planner.studies.resolve import with_values
from planner.table import RESOURCES

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = 100
H = 1e-4
TEXTBOOK = ["calibration=textbook"]
FEW = [*TEXTBOOK, "search.mean_running=[3, 17, 48, 130]", "search.prefill_utilisation=[20, 70]"]
MOE = [
    *FEW, "models.qwen.architecture=Qwen/Qwen3-30B-A3B", "search.roles=[mixed]", "search.max_num_batched_tokens=[2048]",
]  # fmt: skip


@functools.cache
def cases():
    return (load_scenario(ROOT / "scenarios" / "quickstart.yaml", FEW), load_scenario("ascend_910b", MOE))


@functools.cache
def drawn():
    """Return random legal configurations: (setting, axes), the same in every run."""
    rng, found = random.Random(7), []
    tables = [(setting, setting_table(setting)) for case in cases() for setting in settings(case)]
    tables = [(setting, table) for setting, table in tables if len(table)]
    for number in range(COLUMNS):
        setting, table = tables[number % len(tables)]
        found.append((setting, axes_of(setting, [table.configuration(rng.randrange(len(table)))])))
    return found


def test_parts_add_up_to_the_average_step_and_resources_to_those_of_the_plan():
    for setting, axes in drawn()[:30]:
        spent = budget(setting, axes)
        figures = figures_of(setting, axes)
        assert sum(part.share for part in spent.parts) == pytest.approx(1.0)
        for resource in RESOURCES[:4]:  # launches and the host count in a step only as far as they are waited for
            alone = sum(part.by_resource_ms.get(resource, 0.0) for part in spent.parts)
            assert alone == pytest.approx(1e3 * figures[f"{resource}_seconds"].item(), rel=1e-9)
        assert spent.seconds > 0


# What a parameter of a specification moves, by the symbols it is the value of.
PARAMETERS = {
    ("hardware", "memory", "bandwidth", "value"): ("hbm_bandwidth",),
    ("hardware", "engines", "vector_flops", "value"): ("vector_flops",),
    ("hardware", "peak_flops", "*", "value"): (
        "attention_flops", "ffn_flops", "expert_flops", "bf16_flops", "index_flops",
    ),
    ("efficiencies", "bandwidth", "kv_cache", "value"): ("mbu_kv_cache",),
    ("efficiencies", "bandwidth", "link", "value"): ("link_efficiency",),
    ("efficiencies", "compute", "attention", "value"): ("mfu_attention",),
    ("efficiencies", "compute", "vector", "value"): ("vector_share",),
    ("efficiencies", "latency", "eager_layer", "value"): ("eager_floor",),
    ("efficiencies", "latency", "attention_layer", "value"): ("attention_floor",),
    ("efficiencies", "host", "step", "value"): ("host_step",),
    ("efficiencies", "host", "sequence", "value"): ("host_sequence",),
    ("efficiencies", "scheduling", "prompt_interference", "value"): ("prompt_interference",),
    ("efficiencies", "scale", "step", "value"): ("step_scale",),
    ("workload", "input_tokens"): ("isl",),
    ("workload", "output_tokens"): ("osl", "least_osl", "most_osl"),
}  # fmt: skip


def changed(whole, path, factor):
    """Multiply what a path of fields and keys leads to; ``*`` is every key."""
    if not path:
        return whole * factor
    first, rest = path[0], path[1:]
    if isinstance(whole, dict):
        return {key: changed(v, rest, factor) if first in ("*", key) else v for key, v in whole.items()}
    if hasattr(whole, "model_copy"):
        return whole.model_copy(update={first: changed(getattr(whole, first), rest, factor)})
    return whole._replace(**{first: changed(getattr(whole, first), rest, factor)})


def test_elasticities_are_central_differences_of_prices():
    """Away from stairs and corners, where slopes to both sides differ."""
    compared, cornered = 0, 0
    for setting, axes in drawn():
        slopes = elasticities(setting, axes)
        here = figures_of(setting, axes)
        for path, symbols in PARAMETERS.items():
            up, down = (figures_of(changed(setting, path, 1 + sign * H), axes) for sign in (1, -1))
            for metric in METRICS[setting.role]:
                y, above, below = (np.log(f[metric].item()) for f in (here, up, down))
                forward, backward = (above - y) / np.log1p(H), (y - below) / -np.log1p(-H)
                expected = (forward + backward) / 2
                if abs(forward - backward) > 1e-2 * abs(expected) + 1e-4:
                    cornered += 1
                    continue
                total = sum(slopes.within[metric][slopes.symbols.index(s), 0] for s in symbols if s in slopes.symbols)
                assert total == pytest.approx(expected, rel=1e-3, abs=1e-6), (path, metric)
                compared += 1
    assert cornered < 0.05 * compared


def test_staircases_are_told_apart_from_slopes():
    """Of a mixture of experts, prompts a little longer fill more tiles: not at once, but over a wide change."""
    told = [elasticities(setting, axes) for setting, axes in drawn()]
    by_workload = [
        (slopes.within[m][i, 0], slopes.across[m][i, 0], slopes.smooth[m][i, 0])
        for slopes in told
        for m in slopes.within
        for i in [slopes.symbols.index("isl")]
    ]
    stairs = [(within, across) for within, across, smooth in by_workload if not smooth]
    assert stairs
    assert all(abs(within - across) > 0.01 for within, across in stairs)
    assert any(smooth for *_, smooth in by_workload)


def test_a_rung_makes_what_takes_longest_as_quick_as_the_next():
    setting, axes = drawn()[0]
    seconds = {name: figures_of(setting, axes)[f"{name}_seconds"].item() for name in RESOURCES}
    (first, second, *_) = ladder(setting, axes).rungs
    assert first.binds == (max(seconds, key=lambda name: seconds[name]),)
    for rung in (first, second):
        factors = {lever.resource: lever.factor for lever in rung.levers}
        better = figures_of(faster(setting, factors), axes)
        times = [better[f"{name}_seconds"].item() for name in (*rung.binds, rung.next)]
        assert times == pytest.approx([times[0]] * len(times))
        lever = rung.levers[0]
        assert lever.ttft == pytest.approx(better["ttft"].item() / figures_of(setting, axes)["ttft"].item() - 1)


def test_levers_are_in_the_order_of_the_load_they_allow_and_the_first_is_followed_to_its_end():
    case = cases()[0]
    (setting, *_) = settings(case)
    plan = pipeline.solve(case).plan
    axes = axes_of(setting, [plan.deployments[0].configuration()])
    found = ladder(setting, axes)
    assert [lever.load for lever in found.levers] == sorted((lever.load for lever in found.levers), reverse=True)
    first, stop = found.first, found.stops.stops[0].name
    assert first.resource == found.levers[0].resource
    assert first.then[0] != stop
    just_before = reach(faster(setting, {first.resource: first.factor * 0.97}), axes)
    assert just_before.stops[0].name == stop
    assert first.load == pytest.approx(
        reach(faster(setting, {first.resource: first.factor}), axes).rate / reach(setting, axes).rate - 1
    )


def test_a_limit_binds_exactly_where_the_next_load_breaks_it():
    case = load_scenario(ROOT / "scenarios" / "quickstart.yaml", TEXTBOOK)
    plan = pipeline.solve(case).plan
    binding = {c.what for c in explained(case, plan).constraints if c.binds}
    assert binding == {"TTFT of chat-mixed-1", "TPOT of chat-mixed-1", "devices of h100"}
    slow = with_values(case, {("scenario", "workloads", "chat", "slo", name): 1e3 for name in ("ttft", "tpot")})
    kinds = {c.kind for c in explained(slow, pipeline.solve(slow).plan).constraints if c.binds}
    assert "latency" not in kinds
    assert kinds & {"memory", "queue"}


def test_a_demand_binds_where_one_replica_fewer_does_not_carry_it():
    case = load_scenario(
        ROOT / "scenarios" / "quickstart.yaml",
        [*TEXTBOOK, "workloads.chat.requests=7 /s", "objective={minimize: cost}"],
    )
    found = explained(case, pipeline.solve(case).plan)
    (demand,) = [c for c in found.constraints if c.kind == "demand"]
    assert (demand.limit, demand.binds) == (7.0, True)
    (devices,) = [c for c in found.constraints if c.kind == "inventory"]
    assert not devices.binds


def test_what_measured_runs_add_is_in_the_step_and_stays_where_a_parameter_moves():
    """A calibration's factors are part of the budget; the elasticities are those of the plan's own figures."""
    case = load_scenario(ROOT / "scenarios" / "quickstart.yaml", ["search.roles=[mixed]"])
    (setting,) = settings(case)
    d = pipeline.solve(case).plan.deployments[0]
    axes = axes_of(setting, [d.configuration()])
    spent = budget(setting, axes)
    assert sum(part.share for part in spent.parts) == pytest.approx(1.0)
    (factor,) = [part for part in spent.parts if part.operator == "measured over modelled" and part.step == "decode"]
    assert factor.bound_by == "calibration"
    slopes = elasticities(setting, axes)
    up, down = (
        figures_of(changed(setting, ("hardware", "memory", "bandwidth", "value"), 1 + s * H), axes) for s in (1, -1)
    )
    expected = np.log(up["tpot"].item() / down["tpot"].item()) / np.log((1 + H) / (1 - H))
    at = slopes.symbols.index("hbm_bandwidth")
    assert slopes.within["tpot"][at, 0] == pytest.approx(expected, rel=1e-3)


def test_latencies_are_the_sums_of_their_parts():
    for name, changes in (
        ("quickstart", []),
        ("h800_h20", ["search.tp=[4, 8]", "search.pp=[1]", "workloads.chat.requests=2 /s"]),
    ):
        case = load_scenario(ROOT / "scenarios" / f"{name}.yaml", changes)
        plan = pipeline.solve(case).plan
        for d in explained(case, plan).deployments:
            for latency in d.latencies:
                assert sum(latency.parts_ms.values()) == pytest.approx(latency.total_ms)
                assert min(latency.parts_ms.values()) >= -1e-9 * latency.total_ms
