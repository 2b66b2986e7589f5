"""The whole pipeline against enumeration: random small scenarios, each configuration priced alone, none pruned."""

import importlib.util
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import pipeline
from planner.catalog import load_scenario
from planner.columns.enumerate import price
from planner.table import Configuration

_spec = importlib.util.spec_from_file_location("brute_force_scenarios", Path(__file__).with_name("brute_force.py"))
brute_force = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(brute_force)

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
EXAMPLES = 200
_seen = {"feasible": 0, "infeasible": 0}


@st.composite
def overrides(draw):
    """Settings of a small scenario on up to two inventories of H100s at different prices."""
    search = {
        "tp": draw(st.sets(st.sampled_from((1, 2, 4, 8)), min_size=1, max_size=2)),
        "pp": draw(st.sets(st.sampled_from((1, 2, 3)), min_size=1, max_size=1)),
        "ep": {1},
        "mean_running": draw(st.sets(st.sampled_from((2, 9, 30, 80)), min_size=1, max_size=2)),
        "max_num_seqs": draw(st.sampled_from(((8, 24, 64, 128), (16, 40, 56, 100, 256), (64,)))),
        "max_num_batched_tokens": draw(st.sets(st.sampled_from((512, 4096)), min_size=1, max_size=1)),
    }
    inventory = {"h100": {"hardware": "h100-sxm", "devices": draw(st.integers(1, 12)), "price": "2.50 USD/h"}}
    if inventory["h100"]["devices"] <= 6 and draw(st.booleans()):
        inventory["more"] = {"hardware": "h100-sxm", "devices": draw(st.integers(1, 4)), "price": "3 USD/h"}
    demand = draw(st.sampled_from(("max", "rate", "concurrency")))
    goals = {
        "max": ["{maximize: requests}", "[{maximize: tokens}, {minimize: cost}]"],
        "rate": ["{minimize: devices}", "[{minimize: cost}, {maximize: requests}]", "{minimize: power}"],
        "concurrency": ["{minimize: devices}", "{minimize: cost}"],
    }[demand]
    requests = {
        "max": "max",
        "rate": f"{draw(st.integers(1, 40))} /s",
        "concurrency": f"{{concurrency: {draw(st.integers(1, 200))}}}",
    }[demand]
    return [
        "models.chat.architecture=" + draw(st.sampled_from(("Qwen3-32B", "Llama-3.1-8B", "Qwen3-30B-A3B"))),
        *(f"search.{name}={sorted(values)}" for name, values in search.items()),
        f"inventory={inventory}",
        f"workloads.chat.requests={requests}",
        f"workloads.chat.input_tokens={draw(st.sampled_from((200, 2000)))} token",
        f"workloads.chat.slo.ttft={draw(st.sampled_from((100, 400, 2000)))} ms",
        f"workloads.chat.slo.tpot={draw(st.sampled_from((12, 25, 60)))} ms",
        f"objective={draw(st.sampled_from(goals))}",
    ]


def every_column(case):
    """Price every point of the scenario's grid alone and keep the legal ones, whatever their latency.

    Of the values allowed for max_num_seqs a point takes the first that is not refused as too small.
    """
    search = case.scenario.search
    points = itertools.product(
        case.scenario.inventory,
        search.tp,
        search.pp,
        search.ep,
        search.mean_running,
        search.max_num_batched_tokens,
    )
    columns = []
    for name, tp, pp, ep, running, tokens in points:
        for seqs in sorted(search.max_num_seqs):
            point = Configuration(name, "mixed", "bf16", "bf16", tp, pp, ep, running, tokens, seqs)
            table, refused = price(case, [point])
            if not refused or refused[0].rule != "too_few_sequences":
                break
        if len(table):
            figures = {key: float(values[0]) for key, values in table.figures.items()}
            slo = case.workload.slo
            meets = figures["ttft"] <= slo.ttft and figures["tpot"] <= slo.tpot
            columns.append({**figures, "devices": int(figures["devices"]), "inventory": name, "meets": meets})
    return columns


@settings(max_examples=EXAMPLES)
@given(overrides())
def test_the_pipeline_equals_enumeration(drawn):
    case = load_scenario(QUICKSTART, drawn)
    demand = case.workload.requests
    goals = [("requests" if g.metric == "tokens" else g.metric, g.sense) for g in case.scenario.objective]
    expected = brute_force.best_plan(
        every_column(case),
        {name: (stock.nodes, stock.devices_per_node) for name, stock in pipeline.stocks(case).items()},
        None if demand.kind == "max" else demand.value,
        goals,
        "in_flight" if demand.kind == "concurrency" else "rate",
    )
    plan = pipeline.solve(case).plan
    if expected is None:
        _seen["infeasible"] += 1
        assert plan.termination.reason == "infeasible"
        assert not plan.deployments
        return
    _seen["feasible"] += 1
    assert plan.termination.reason == "optimal"
    values = [goal.value for goal in (plan.objective, *plan.later_objectives)]
    scale = [case.workload.output_tokens if g.metric == "tokens" else 1.0 for g in case.scenario.objective]
    assert [v / s for v, s in zip(values, scale, strict=True)] == pytest.approx(expected, rel=1e-9)
    assert plan.objective.bound == pytest.approx(plan.objective.value, rel=1e-9)


def test_a_good_part_of_the_scenarios_was_infeasible():
    total = sum(_seen.values())
    assert total >= EXAMPLES
    assert 0.15 < _seen["infeasible"] / total < 0.85
