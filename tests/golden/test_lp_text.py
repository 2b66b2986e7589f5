"""Each group of constraints, written out: a change of the formulation shows as a difference here.

`pytest tests/golden --update-golden` writes the files anew; look at the difference before committing it.
"""

from pathlib import Path

import numpy as np
import pytest

from formulations import FORMULATIONS
from planner.milp.fewer import with_fewer
from planner.milp.lp_text import lp_text
from planner.milp.model import Termination
from planner.milp.stock import Stock
from planner.optimizers.lexicographic import lexicographic
from planner.problem import GoalSpec, LinkLimit, Load, PlanningProblem, Routes, no_routes
from planner.solvers import SOLVERS
from planner.table import DECIDED, FIGURES, ColumnTable, Pool

FOLDER = Path(__file__).parent / "lp"
MAXIMIZE, MINIMIZE = GoalSpec("requests", "maximize"), GoalSpec("cost", "minimize")
NODE = Stock((8,), 8)


def table_of(pools, sizes, rates=None, **fields):
    """Columns numbered from 1, which is their rate where none are given; ``pools``: workload, inventory and role."""
    count = len(sizes)
    figures = {name: np.ones(count) for name in FIGURES}
    figures |= {
        "devices": np.array(sizes, dtype=float),
        "rate": np.array(rates or range(1, count + 1), dtype=float),
        "price": np.full(count, 2.5),
        "power": np.full(count, 700.0),
    }
    axes = {axis: np.ones(count, dtype=np.int64) for axis in DECIDED}
    for name, values in fields.items():
        (axes if name in axes else figures)[name] = np.array(values, dtype=np.int64 if name in axes else float)
    kinds = list(dict.fromkeys(pools))
    return ColumnTable(
        pools=tuple(Pool(workload, inventory, "vllm", "0.24", role) for workload, inventory, role in kinds),
        pool=np.array([kinds.index(pool) for pool in pools], dtype=np.int64),
        axes=axes,
        figures=figures,
        meets_limits=np.ones(count, bool),
        searched=count,
        legal=count,
        missed={},
        meeting=count,
        rejected=(),
    )


def problem(sizes, stock, demand=None, goal=MAXIMIZE, **more):
    table = table_of([("chat", "h100", "mixed")] * len(sizes), sizes)
    return PlanningProblem(table, no_routes(), (Load("chat", "rate", demand, 300.0),), {"h100": stock}, [goal], **more)


def routes(*pairs):
    """Pairs as (prefill, decode, seconds, bytes, ttft, tpot)."""
    sides = [np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1)]
    return Routes(*sides, *(np.array([pair[part] for pair in pairs], dtype=float) for part in range(2, 6)))


PREFILL, DECODE, MIXED = (("chat", "h800", "prefill"), ("chat", "h20", "decode"), ("chat", "h20", "mixed"))
FLEET = {"h800": Stock((8,), 8), "h20": Stock((8, 8), 8)}


def apart(goals=(MINIMIZE,), kind="rate", demand=6.0, seconds=(0.05, 0.05, 0.4), **more):
    """Two prefill columns and two decode columns, three pairs of them, and a mixed column."""
    table = table_of(
        [PREFILL, PREFILL, DECODE, DECODE, MIXED],
        [2, 4, 2, 8, 4],
        [3, 7, 2, 9, 2.5],
        attention_dp=[1, 2, 1, 4, 1],
        in_flight=[1, 1, 30, 135, 40],
        ttft=[0.3, 0.2, 0.02, 0.03, 0.6],
        tpot=[0, 0, 0.02, 0.03, 0.04],
    )
    pairs = routes(
        (0, 2, seconds[0], 4e9, 0.4, 0.02), (1, 2, seconds[1], 4e9, 0.3, 0.02), (1, 3, seconds[2], 8e9, 0.5, 0.03)
    )
    return PlanningProblem(table, pairs, (Load("chat", kind, demand, 300.0),), FLEET, goals, **more)


def two_workloads():
    """A workload with a pair and one with a mixed column, on the same devices."""
    pools = [("chat", "h100", "prefill"), ("chat", "h100", "decode"), ("code", "h100", "mixed")]
    pairs = routes((0, 1, 0.0, 1e9, 0.4, 0.02))
    loads = (Load("chat", "rate", None, 300.0), Load("code", "rate", 5.0, 100.0))
    return PlanningProblem(table_of(pools, [2, 2, 1]), pairs, loads, {"h100": NODE}, [MAXIMIZE])


def held():
    """What a second goal is solved with: the first one's value in a row."""
    seen = []

    def watched(milp, seconds, gap):
        seen.append(milp)
        return SOLVERS["highs"].solve(milp, seconds, gap)

    goals = [GoalSpec("devices", "minimize"), MAXIMIZE]
    result = lexicographic(FORMULATIONS["serving"].build(apart(goals)).milp, watched, 60.0, 0.0)
    assert result.termination == Termination("optimal")
    return seen[1]


LATENCIES = [GoalSpec("ttft", "minimize"), GoalSpec("tpot", "minimize")]
LIMITS = {"devices": 12.0, "cost": 40.0, "power": 9000.0}
LINKS = [LinkLimit(("h800", "h20"), 50e9), LinkLimit(("h20", "h20"), 100e9)]
NODES = (2,) * 8

CASES = {
    "served": (problem([1, 2], NODE), ("served",)),
    "demand": (problem([1, 2], NODE, demand=12.0, goal=MINIMIZE), ("demand",)),
    "served_and_demand_of_two_workloads": (two_workloads(), ("served", "demand")),
    "demand_of_pairs": (apart(), ("demand",)),
    "demand_of_pairs_in_flight": (apart(kind="in_flight", demand=256.0), ("demand",)),
    "prefill_rate": (apart(), ("prefill_rate",)),
    "decode_rate": (apart(), ("decode_rate",)),
    "prefill_and_decode_rate_of_groups": (
        apart()._replace(
            routes=routes(*((p, d, 0.0, 4e9, 0.4, 0.02) for p in (0, 1) for d in (2, 3))),
            table=table_of([PREFILL, PREFILL, DECODE, DECODE, MIXED], [2, 4, 2, 8, 4]),
        ),
        ("prefill_rate", "decode_rate"),
    ),
    "kv_links": (apart(seconds=(0.05, 0.4, 0.4), link_load=0.7), ("kv_links",)),
    "kv_transfer": (apart(links=LINKS), ("kv_transfer",)),
    "node_capacity_nested": (problem([1, 2, 8, 16], Stock((8, 8, 8, 4), 8)), ("node_capacity",)),
    "node_capacity_patterns": (problem([3, 4, 5, 16], Stock((8, 8, 4), 8)), ("node_capacity", "node_count")),
    "node_capacity_one_node": (problem([3, 4, 5], NODE), ("node_capacity",)),
    "domain_capacity_nested": (problem([1, 2, 4, 8], Stock(NODES, 2, 4)), ("node_capacity",)),
    "domain_capacity_patterns": (
        problem([1, 2, 4, 12], Stock(NODES, 2, 6)),
        ("node_capacity", "node_count", "domain_capacity", "domain_count"),
    ),
    "limit": (apart(limits=LIMITS), ("limit",)),
    "fixed": (problem([1, 2, 4], NODE, fixed=(((0, 1), 3), ((2,), 1))), ("fixed",)),
    "asked": (problem([1, 2, 4], NODE, asked=((0, 2),)), ("asked",)),
    "asked_of_pairs": (apart()._replace(asked=((0, 1),)), ("asked",)),
    "used": (apart(LATENCIES), ("used",)),
    "worst_ttft": (apart(LATENCIES), ("worst_ttft",)),
    "worst_tpot": (apart(LATENCIES), ("worst_tpot",)),
}


def as_written(name, text, request):
    file = FOLDER / f"{name}.lp"
    if request.config.getoption("--update-golden"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_rows_are_as_written_down(name, request):
    given, groups = CASES[name]
    encoded = FORMULATIONS["serving"].build(given)
    assert {row.group for row in encoded.milp.rows} >= set(groups)
    as_written(name, lp_text(encoded.milp, groups), request)


def test_an_earlier_goal_is_held_as_written_down(request):
    as_written("held", lp_text(held(), ("held",)), request)


def test_plans_left_behind_are_as_written_down(request):
    milp = FORMULATIONS["serving"].build(problem([1, 2, 4], NODE)).milp
    left = with_fewer(with_fewer(milp, [([0, 1], 3), ([2], 1)], "1"), [([0], 8)], "2")
    as_written("fewer", lp_text(left, ("fewer", "another")), request)


def test_every_group_of_rows_has_a_case():
    groups = {row.group for given, _ in CASES.values() for row in FORMULATIONS["serving"].build(given).milp.rows}
    assert groups == {group for _, wanted in CASES.values() for group in wanted}


def test_every_row_says_what_it_means_and_in_which_unit():
    for given, _ in CASES.values():
        for row in (*FORMULATIONS["serving"].build(given).milp.rows, *held().rows):
            assert row.meaning
            assert row.unit


def test_links_that_are_never_busy_need_no_row():
    rows = FORMULATIONS["serving"].build(apart(seconds=(0.01, 0.01, 0.01))).milp.rows
    assert "kv_links" not in {row.group for row in rows}
