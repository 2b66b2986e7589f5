"""Pruning, formulation, HiGHS and dynamic programming against plain enumeration, on random tables of columns."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulations import FORMULATIONS
from planner.columns.prune import prune
from planner.optimizers.lexicographic import lexicographic
from planner.problem import GoalSpec, PlanningProblem, Stock
from planner.solvers import SOLVERS
from planner.table import AXES, FIGURES, ColumnTable
from planner.verify.optimum import best

_spec = importlib.util.spec_from_file_location("brute_force", Path(__file__).with_name("brute_force.py"))
brute_force = importlib.util.module_from_spec(_spec)
sys.modules["brute_force"] = brute_force
_spec.loader.exec_module(brute_force)

EXAMPLES = 200
# Whole numbers scaled, so that sums are exact and ties are common.
RATES = st.integers(1, 40).map(lambda n: n / 4)
SIZES = st.sampled_from((1, 2, 3, 4, 5, 6, 8, 16))
GOALS = {
    "max": [["requests"], ["requests", "devices"], ["requests", "cost"]],
    "demand": [["devices"], ["cost"], ["power"], ["devices", "requests"], ["cost", "devices", "requests"]],
}
SENSE = {"requests": "maximize", "devices": "minimize", "cost": "minimize", "power": "minimize"}


@st.composite
def problems(draw):
    """A small planning problem; about half of those with a demand cannot carry it."""
    names = ["a", "b"][: draw(st.integers(1, 2))]
    stocks = {}
    for name in names:
        whole = draw(st.sampled_from((4, 8)))
        nodes = [whole] * draw(st.integers(0, 2)) + draw(st.sampled_from(([], [3], [2])))
        stocks[name] = (tuple(nodes or [whole]), whole)
    if sum(sum(nodes) for nodes, _ in stocks.values()) > 20:
        stocks = {"a": stocks["a"]}
    columns = []
    for _ in range(draw(st.integers(0, 5))):
        name = draw(st.sampled_from(sorted(stocks)))
        nodes, whole = stocks[name]
        size = draw(SIZES)
        inside = size <= max(nodes) if size <= whole else size % whole == 0 and size // whole <= nodes.count(whole)
        if not inside:
            continue
        columns.append(
            {
                "inventory": name,
                "devices": size,
                "rate": draw(RATES),
                "in_flight": draw(RATES),
                "price": {"a": 2.0, "b": 3.0}[name],
                "power": {"a": 700.0, "b": 350.0}[name],
                "meets": draw(st.integers(0, 4)) > 0,
                "ttft": draw(st.integers(1, 9)) / 10,
                "tpot": draw(st.integers(1, 9)) / 100,
            }
        )
    kind = draw(st.sampled_from(("max", "demand")))
    demand = None if kind == "max" else draw(st.integers(1, 120)) / 4
    goals = draw(st.sampled_from(GOALS[kind]))
    load = "rate" if "requests" in goals or kind == "max" else draw(st.sampled_from(("rate", "in_flight")))
    return columns, stocks, demand, goals, load


def planning_problem(columns, stocks, demand, goals, load):
    names = tuple(stocks)
    count = len(columns)
    table = ColumnTable(
        inventories=names,
        inventory=np.array([names.index(c["inventory"]) for c in columns], dtype=np.int64),
        axes={axis: np.ones(count, dtype=np.int64) for axis in (*AXES, "max_num_seqs")},
        figures={f: np.array([float(c.get(f, 1.0)) for c in columns]) for f in FIGURES},
        meets_limits=np.array([c["meets"] for c in columns], dtype=bool),
        searched=count,
        rejected=(),
    )
    specs = [GoalSpec(metric, SENSE[metric]) for metric in goals]
    of = {name: Stock(nodes, whole) for name, (nodes, whole) in stocks.items()}
    return PlanningProblem(table, "load", load, demand, 100.0, of, specs)


def solved_values(problem):
    """Solve like the pipeline does; returns goal values, and the replicas of the pruned columns."""
    pruned = problem._replace(table=prune(problem.table, problem.value))
    encoded = FORMULATIONS["serving"].build(pruned)
    result = lexicographic(encoded.milp, SOLVERS["highs"].solve, 60.0, 0.0)
    if result.point is None:
        assert result.termination.reason == "infeasible"
        return None, None, pruned
    assert result.termination.reason == "optimal"
    wanted = [goal.metric for goal in problem.goals]
    values = {goal.name: goal.value(result.point) for goal in encoded.milp.objectives}
    return tuple(values[metric] for metric in wanted), encoded.replicas(result.point), pruned


def dynamic_values(problem):
    table = problem.table
    devices = table.figures["devices"].astype(np.int64)
    columns, prices, powers = {}, {"a": 2.0, "b": 3.0}, {"a": 700.0, "b": 350.0}
    for name in problem.stocks:
        mine = table.meets_limits & table.of(name)
        columns[name] = (devices[mine], problem.value[mine])
    weights = {
        "devices": dict.fromkeys(problem.stocks, 1.0),
        "cost": prices,
        "power": powers,
        "requests": dict.fromkeys(problem.stocks, 1.0),
    }
    return best(problem.stocks, columns, problem.demand, problem.goals, weights)


_seen = {"feasible": 0, "infeasible": 0}


@settings(max_examples=EXAMPLES)
@given(problems())
def test_solver_and_dynamic_programming_equal_enumeration(drawn):
    columns, stocks, demand, goals, load = drawn
    expected = brute_force.best_plan(columns, stocks, demand, [(g, SENSE[g]) for g in goals], load)
    problem = planning_problem(columns, stocks, demand, goals, load)
    values, replicas, pruned = solved_values(problem)
    dynamic = dynamic_values(problem)
    if expected is None:
        _seen["infeasible"] += 1
        assert values is None
        assert dynamic.status == "infeasible"
        return
    _seen["feasible"] += 1
    assert values == pytest.approx(expected, rel=1e-9)
    assert dynamic.values == pytest.approx(expected, rel=1e-9)
    for name, (nodes, whole) in stocks.items():
        sizes = [
            int(pruned.table.figures["devices"][i])
            for i, n in enumerate(replicas)
            for _ in range(n)
            if pruned.table.of(name)[i]
        ]
        assert brute_force.packs(sizes, nodes, whole)


def test_a_good_part_of_the_instances_was_infeasible():
    total = sum(_seen.values())
    assert total >= EXAMPLES
    assert 0.15 < _seen["infeasible"] / total < 0.85


@settings(max_examples=60)
@given(problems(), st.integers(0, 4), st.integers(1, 8).map(lambda n: n / 4))
def test_a_faster_column_never_makes_the_best_plan_worse(drawn, which, gain):
    columns, stocks, demand, goals, load = drawn
    before, _, _ = solved_values(planning_problem(columns, stocks, demand, goals, load))
    faster = [
        {**c, "rate": c["rate"] + gain, "in_flight": c["in_flight"] + gain} if i == which else c
        for i, c in enumerate(columns)
    ]
    after, _, _ = solved_values(planning_problem(faster, stocks, demand, goals, load))
    if before is None:
        return
    assert after is not None
    if SENSE[goals[0]] == "maximize":
        assert after[0] >= before[0] * (1 - 1e-12)
    else:
        assert after[0] <= before[0] * (1 + 1e-12)


@settings(max_examples=60)
@given(problems())
def test_the_order_of_columns_does_not_matter(drawn):
    columns, stocks, demand, goals, load = drawn
    forward, _, _ = solved_values(planning_problem(columns, stocks, demand, goals, load))
    backward, _, _ = solved_values(planning_problem(columns[::-1], stocks, demand, goals, load))
    assert (forward is None) == (backward is None)
    if forward is not None:
        assert backward == pytest.approx(forward, rel=1e-12)
