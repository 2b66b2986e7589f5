"""Plans of one node, all looked at, against the solver on the same problem."""

from pathlib import Path

import numpy as np
import pytest

from formulations import FORMULATIONS
from planner.catalog import load_scenario
from planner.columns.enumerate import grid_table
from planner.columns.optimistic import best_of_size, every_pair
from planner.problems import planning_problem
from planner.solvers import solver
from planner.studies.sensitivity.few import best_of_few

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
QUESTIONS = {
    "most": [],
    "tokens": ["objective={maximize: tokens}"],
    "least cost": ["workloads.chat.requests=9 /s", "objective={minimize: cost}"],
    "fewest devices within a limit": [
        "workloads.chat.requests=4 /s", "objective={minimize: devices}", "limits.devices=5"
    ],
    "too much asked": ["workloads.chat.requests=90 /s", "objective={minimize: cost}"],
}  # fmt: skip


@pytest.mark.parametrize("settings", QUESTIONS.values(), ids=QUESTIONS)
def test_the_best_of_few_plans_is_the_solver_s(settings):
    case = load_scenario(QUICKSTART, ["calibration=textbook", "search.pp=[1, 2]", *settings])
    whole = planning_problem(case, grid_table(case, within_limits=True))
    rng = np.random.default_rng(5)
    for _ in range(8):
        some = np.sort(rng.choice(len(whole.table), 400, replace=False))
        problem = whole._replace(table=whole.table.take(some))
        table = best_of_size(problem)
        free = problem._replace(table=table, routes=every_pair(table))
        milp = FORMULATIONS["serving"].build(free).milp
        expected = solver("highs").solve(milp.with_objective(milp.objectives[0]), 60.0, 0.0)
        few = best_of_few(free)
        assert few is not None
        if expected.value is None:
            assert few.found is None
        else:
            assert few.found[0] == pytest.approx(expected.value, rel=1e-7)


@pytest.mark.parametrize(
    "settings",
    [["inventory.h100.nodes=2"], ["workloads.chat.requests={concurrency: 64}", "objective={minimize: cost}"]],
    ids=["two nodes", "requests in flight"],
)
def test_what_takes_more_than_rates_is_left_to_the_solver(settings):
    case = load_scenario(QUICKSTART, ["calibration=textbook", "search.pp=[1]", *settings])
    problem = planning_problem(case, grid_table(case, within_limits=True))
    table = best_of_size(problem)
    assert best_of_few(problem._replace(table=table, routes=every_pair(table))) is None
