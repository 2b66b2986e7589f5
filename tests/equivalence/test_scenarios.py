"""The whole pipeline against enumeration: random small scenarios, each configuration priced alone, none pruned.

First replicas that work alone, then every role, several workloads, engines and inventories, limits and goals.
"""

import importlib.util
import itertools
import random
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import pipeline
from planner.catalog import load_scenario
from planner.columns.grid import searched_values, sequence_limits
from planner.columns.pairs import routes_of
from planner.columns.pricing import price
from planner.columns.setting import settings as settings_of
from planner.decode import stocks
from planner.problems import planning_problem
from planner.table import AXES, Configuration

_spec = importlib.util.spec_from_file_location("brute_force_scenarios", Path(__file__).with_name("brute_force.py"))
brute_force = importlib.util.module_from_spec(_spec)
sys.modules["brute_force_scenarios"] = brute_force
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
    devices = draw(st.sampled_from((8, 4, 1, 2, 6, 11, 12)))  # draws lean to the first
    inventory = {"h100": {"hardware": "h100-sxm", "devices": devices, "price": "2.50 USD/h"}}
    if devices <= 6 and draw(st.booleans()):
        inventory["more"] = {"hardware": "h100-sxm", "devices": draw(st.integers(1, 4)), "price": "3 USD/h"}
    demand = draw(st.sampled_from(("max", "rate", "concurrency")))
    goals = {
        "max": ["{maximize: requests}", "[{maximize: tokens}, {minimize: cost}]"],
        "rate": ["{minimize: devices}", "[{minimize: cost}, {maximize: requests}]", "{minimize: power}"],
        "concurrency": ["{minimize: devices}", "{minimize: cost}"],
    }[demand]
    requests = {
        "max": "max",
        "rate": f"{draw(st.integers(1, 20))} /s",
        "concurrency": f"{{concurrency: {draw(st.integers(1, 100))}}}",
    }[demand]
    return [
        "models.chat.architecture=" + draw(st.sampled_from(("Qwen3-32B", "Llama-3.1-8B", "Qwen3-30B-A3B"))),
        "search.roles=[mixed]",
        "search.prefill_policies=[mixed_chunked]",
        "search.context_parallel=[1]",
        "search.attention_dp=[1]",
        "search.redundant_experts=[0]",
        *(f"search.{name}={sorted(values)}" for name, values in search.items()),
        f"inventory={inventory}",
        f"workloads.chat.requests={requests}",
        f"workloads.chat.input_tokens={draw(st.sampled_from((200, 2000)))} token",
        f"workloads.chat.slo.ttft={draw(st.sampled_from((100, 500, 3000)))} ms",
        f"workloads.chat.slo.tpot={draw(st.sampled_from((12, 40, 80)))} ms",
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
            point = Configuration(
                name, "mixed", "bf16", "bf16", tp, pp, ep, running, tokens, seqs, 16, "mixed_chunked",
                workload="chat", engine="vllm", engine_version="0.24",
            )  # fmt: skip
            table, refused = price(case, [point])
            if not refused or refused[0].rule != "too_few_sequences":
                break
        if len(table):
            figures = {key: float(values[0]) for key, values in table.figures.items()}
            slo = case.scenario.workloads["chat"].slo
            meets = figures["ttft"] <= slo.ttft and figures["tpot"] <= slo.tpot
            columns.append({**figures, "devices": int(figures["devices"]), "inventory": name, "meets": meets})
    return columns


@settings(max_examples=EXAMPLES)
@given(overrides())
def test_the_pipeline_equals_enumeration(drawn):
    case = load_scenario(QUICKSTART, drawn)
    demand = case.scenario.workloads["chat"].requests
    goals = [("requests" if g.metric == "tokens" else g.metric, g.sense) for g in case.scenario.objective]
    expected = brute_force.best_plan(
        every_column(case),
        {name: (stock.nodes, stock.devices_per_node) for name, stock in stocks(case).items()},
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
    scale = [
        case.scenario.workloads["chat"].output_tokens if g.metric == "tokens" else 1.0 for g in case.scenario.objective
    ]
    assert [v / s for v, s in zip(values, scale, strict=True)] == pytest.approx(expected, rel=1e-9)
    assert plan.objective.bound == pytest.approx(plan.objective.value, rel=1e-9)


def test_a_good_part_of_the_scenarios_was_infeasible():
    total = sum(_seen.values())
    if not total:
        pytest.skip("the scenarios were solved in another process")
    assert total >= EXAMPLES
    assert 0.15 < _seen["infeasible"] / total < 0.85


# --- every role, several workloads, engines and inventories -------------------------------------------------------

MOST_VECTORS, MOST_WITH_LATENCIES = 1500, 200
_together = {"feasible": 0, "infeasible": 0, "apart": 0}


def drawn(rng):
    """Settings of a small scenario."""
    two = rng.random() < 0.3
    devices = rng.randint(2, 8)
    inventory = {"h100": {"hardware": "h100-sxm", "devices": devices, "price": "2.50 USD/h"}}
    if devices <= 4 and rng.random() < 0.6:
        other = rng.choice(("h100-sxm", "h200-sxm", "l40s"))
        inventory["more"] = {"hardware": other, "devices": rng.randint(1, 4), "price": "3 USD/h"}
    engines = [{"name": "vllm"}] if rng.random() < 0.75 else [{"name": "vllm"}, {"name": "sglang"}]
    maximize = rng.random() < 0.4
    goals = rng.choice(
        [
            "{maximize: requests}",
            "[{maximize: tokens}, {minimize: cost}]",
            "[{maximize: requests}, {minimize: ttft}]",
            "{weighted: {requests: 2, cost: 1}}",
        ]
        if maximize
        else [
            "{minimize: devices}",
            "[{minimize: cost}, {maximize: requests}]",
            "{minimize: power}",
            "[{minimize: tpot}, {minimize: devices}]",
            "{weighted: {cost: 0.7, ttft: 0.3}}",
        ]
    )
    counted = "requests" in goals or "tokens" in goals
    workloads = {}
    for name in ("chat", "code")[: 2 if two else 1]:
        rate = f"{rng.randint(1, 24)} /s"
        in_flight = {"concurrency": rng.randint(1, 120)}
        workloads[name] = {
            "model": "chat",
            "requests": "max" if maximize else rate if counted or rng.random() < 0.8 else in_flight,
            "input_tokens": f"{rng.choice((200, 2000, 6000))} token",
            "output_tokens": f"{rng.choice((30, 200, 600))} token",
            "slo": {"ttft": f"{rng.choice((200, 600, 3000))} ms", "tpot": f"{rng.choice((12, 25, 60))} ms"},
        }
    search = {
        "tp": sorted(rng.sample((1, 2, 4), rng.randint(1, 2))),
        "pp": rng.choice(([1], [1], [2])),
        "ep": [1],
        "mean_running": sorted(rng.sample((2, 9, 30, 80), 1 if two else rng.randint(1, 2))),
        "prefill_utilisation": sorted(rng.sample((20, 50, 80), 1 if two else rng.randint(1, 2))),
        "max_num_batched_tokens": [rng.choice((512, 4096, 8192))],
        "prefill_policies": ["mixed_chunked"],
        "context_parallel": [1],
    }
    settings = [
        "models.chat.architecture=" + rng.choice(("Llama-3.1-8B", "Llama-3.1-8B", "Qwen3-32B")),
        f"inventory={inventory}",
        f"engine={engines}",
        f"workloads={workloads}",
        f"search={search}",
        f"objective={goals}",
    ]
    if rng.random() < 0.25:
        settings.append(f"limits.devices={rng.randint(2, 8)}")
    if rng.random() < 0.15:
        settings.append(f"limits.cost={rng.randint(5, 20)} USD/h")
    if rng.random() < 0.15:
        settings.append(f"links=[{{between: [h100, h100], bandwidth: {rng.choice((1, 10))} GB/s}}]")
    return settings


def every_configuration(case):
    """Yield every point of the grid; what is derived takes the smallest of its values that is not refused."""
    for setting in settings_of(case):
        values = searched_values(setting)
        budgets = values["max_num_batched_tokens"]
        for point in itertools.product(*(values[axis] for axis in AXES)):
            chosen = dict(zip(AXES, point, strict=True)) | {"overlaps": ()}
            fixed = setting.pool._asdict()
            del fixed["optional"]
            for seqs in sequence_limits(setting.search):
                for budget in budgets if setting.role == "decode" else [chosen["max_num_batched_tokens"]]:
                    yield fixed | chosen | {"max_num_seqs": seqs, "max_num_batched_tokens": budget}


def priced_alone(case):
    """Return a table of every point of the grid, each with the first limits that suit its load."""
    found, done = [], set()
    for fields in every_configuration(case):
        derived = {"max_num_seqs", *(["max_num_batched_tokens"] if fields["role"] == "decode" else [])}
        key = tuple(value for name, value in fields.items() if name not in derived)
        if key in done:
            continue
        configuration = Configuration(**fields)
        _, refused = price(case, [configuration])
        if not refused:
            found.append(configuration)
        if not refused or refused[0].rule not in ("too_few_sequences", "budget_covers_sequences"):
            done.add(key)
    return price(case, found)[0]


def exact(case):
    """Return the scenario as brute force reads it."""
    table = priced_alone(case)
    table = table.take(np.nonzero(table.meets_limits)[0])
    routes = routes_of(settings_of(case), table)
    problem = planning_problem(case, table)
    columns = []
    for i in range(len(table)):
        pool = table.pools[table.pool[i]]
        figures = {
            name: Fraction(float(table.figures[name][i])) for name in ("rate", "in_flight", "price", "ttft", "tpot")
        }
        fields = {"workload": pool.workload, "inventory": pool.inventory, "role": pool.role}
        fields |= {"devices": int(table.figures["devices"][i]), "power": Fraction(float(table.figures["power"][i]))}
        columns.append({**fields, **figures, "lanes": int(table.axes["attention_dp"][i])})
    names = routes._fields
    pairs = [
        {
            name: int(value) if name in ("prefill", "decode") else Fraction(float(value))
            for name, value in zip(names, row, strict=True)
        }
        for row in zip(*routes, strict=True)
    ]
    return brute_force.Instance(
        columns,
        pairs,
        {
            load.workload: (
                load.kind,
                None if load.demand is None else Fraction(load.demand),
                Fraction(load.output_tokens),
            )
            for load in problem.loads
        },
        {name: (stock.nodes, stock.devices_per_node, stock.domain) for name, stock in problem.stocks.items()},
        {metric: Fraction(most) for metric, most in problem.limits.items()},
        {tuple(link.between): Fraction(link.bandwidth) for link in problem.links},
        Fraction(problem.link_load),
        [{name: Fraction(w) for name, w in goal.weights} or {goal.metric: Fraction(1)} for goal in problem.goals],
    )


def vectors_of(instance):
    """Number of choices that enumeration would try, at most."""
    total = 1
    for name, stock in instance.stocks.items():
        sizes = [c["devices"] for c in instance.columns if c["inventory"] == name]
        total *= sum(1 for _ in itertools.islice(brute_force.replica_counts(sizes, sum(stock[0])), 5000))
    return total


def random_scenario(seed):
    """Return the first scenario of a seed that enumeration can try whole."""
    rng = random.Random(seed)
    while True:
        case = load_scenario(QUICKSTART, drawn(rng))
        instance = exact(case)
        latencies = any({"ttft", "tpot"} & set(goal) for goal in instance.goals)
        if vectors_of(instance) <= (MOST_WITH_LATENCIES if latencies else MOST_VECTORS):
            return case, instance


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_the_pipeline_with_every_role_equals_enumeration(seed):
    case, instance = random_scenario(seed)
    expected = brute_force.BruteForce(instance).values()
    plan = pipeline.solve(case).plan
    if expected is None:
        _together["infeasible"] += 1
        assert plan.termination.reason == "infeasible"
        assert not plan.deployments
        return
    _together["feasible"] += 1
    _together["apart"] += bool(plan.routes)
    assert plan.termination.reason == "optimal"
    values = [goal.value for goal in (plan.objective, *plan.later_objectives)]
    assert values == pytest.approx([float(value) for value in expected], rel=1e-6, abs=1e-7)
    assert plan.objective.bound == pytest.approx(plan.objective.value, rel=1e-6, abs=1e-7)


def test_a_good_part_of_these_scenarios_was_infeasible_and_of_the_others_used_pairs():
    total = _together["feasible"] + _together["infeasible"]
    if total < EXAMPLES:
        pytest.skip("not all of them ran in this process")
    assert 0.15 < _together["infeasible"] / total < 0.85
    assert _together["apart"] > 0.1 * _together["feasible"]
