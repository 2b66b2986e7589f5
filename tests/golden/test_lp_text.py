"""Each group of constraints, written out: a change of the formulation shows as a difference here.

`pytest tests/golden --update-golden` writes the files anew; look at the difference before committing it.
"""

from pathlib import Path

import numpy as np
import pytest

from formulations import FORMULATIONS
from planner.milp.lp_text import lp_text
from planner.problem import GoalSpec, PlanningProblem, Stock
from planner.table import AXES, FIGURES, ColumnTable

FOLDER = Path(__file__).parent / "lp"
MAXIMIZE, MINIMIZE = GoalSpec("requests", "maximize"), GoalSpec("cost", "minimize")


def problem(sizes, stock, demand=None, goal=MAXIMIZE):
    count = len(sizes)
    figures = {name: np.ones(count) for name in FIGURES}
    figures |= {
        "devices": np.array(sizes, dtype=float),
        "rate": np.arange(1, count + 1, dtype=float),
        "price": np.full(count, 2.5),
        "power": np.full(count, 700.0),
    }
    axes = {axis: np.ones(count, dtype=np.int64) for axis in (*AXES, "max_num_seqs")}
    table = ColumnTable(("h100",), np.zeros(count, dtype=np.int64), axes, figures, np.ones(count, bool), count, ())
    return PlanningProblem(table, "chat", "rate", demand, 300.0, {"h100": stock}, [goal])


CASES = {
    "served": (problem([1, 2], Stock((8,), 8)), ("served",)),
    "demand": (problem([1, 2], Stock((8,), 8), demand=12.0, goal=MINIMIZE), ("demand",)),
    "node_capacity_nested": (problem([1, 2, 8, 16], Stock((8, 8, 8, 4), 8)), ("node_capacity",)),
    "node_capacity_patterns": (problem([3, 4, 5, 16], Stock((8, 8, 4), 8)), ("node_capacity", "node_count")),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_are_as_written_down(name, request):
    given, groups = CASES[name]
    encoded = FORMULATIONS["serving"].build(given)
    text = lp_text(encoded.milp, groups)
    file = FOLDER / f"{name}.lp"
    if request.config.getoption("--update-golden"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


def test_every_group_of_rows_has_a_case():
    groups = {row.group for given, _ in CASES.values() for row in FORMULATIONS["serving"].build(given).milp.rows}
    assert groups == {group for _, wanted in CASES.values() for group in wanted}


def test_every_row_says_what_it_means_and_in_which_unit():
    for given, _ in CASES.values():
        for row in FORMULATIONS["serving"].build(given).milp.rows:
            assert row.meaning
            assert row.unit
