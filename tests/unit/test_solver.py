"""Known problems, run on every registered solver; and the checks its answers pass."""

import numpy as np
import pytest

from planner.errors import InternalError
from planner.milp.check import rounded, violations
from planner.milp.model import INFINITY, Milp, Objective, Variable, row
from planner.optimizers.lexicographic import lexicographic
from planner.solvers import SOLVERS
from planner.solvers import highs as highs_module


def milp(goals, rows, uppers, *, integer=True):
    variables = tuple(Variable(f"x{i}", 0, upper, integer, "") for i, upper in enumerate(uppers))
    objectives = tuple(Objective(f"goal{i}", sense, np.array(c, float), "1") for i, (sense, c) in enumerate(goals))
    return Milp(variables, tuple(row(f"r[{i}]", c, b, "1", "") for i, (c, b) in enumerate(rows)), objectives)


KNOWN = {
    # knapsack: 3+4 fit into 7 and beat the best ratio alone
    "knapsack": (milp([("maximize", [4, 5, 3])], [([3, 4, 2], (-INFINITY, 7))], [1, 1, 1]), 9.0),
    # the relaxation would take half a unit
    "rounding": (milp([("maximize", [1])], [([2], (-INFINITY, 3))], [9]), 1.0),
    "covering": (milp([("minimize", [2, 3])], [([1, 2], (5, INFINITY))], [9, 9]), 8.0),
    "equality": (milp([("maximize", [1, 1])], [([1, -1], (2, 2)), ([1, 1], (-INFINITY, 9))], [9, 9]), 8.0),
    "continuous": (milp([("maximize", [1])], [([2], (-INFINITY, 3))], [9], integer=False), 1.5),
    "no rows": (milp([("maximize", [1, 2])], [], [3, 4]), 11.0),
    "infeasible": (milp([("maximize", [1])], [([1], (5, INFINITY))], [3]), None),
    "infeasible in integers": (milp([("maximize", [1])], [([2], (3, 3))], [9]), None),
    "no variables, impossible": (milp([("maximize", [])], [([], (1, INFINITY))], []), None),
    "no variables, trivial": (milp([("maximize", [])], [([], (0, 1))], []), 0.0),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", KNOWN)
def test_known_problems(solver, name):
    problem, expected = KNOWN[name]
    result = SOLVERS[solver].solve(problem, 60.0, 0.0)
    if expected is None:
        assert result.termination.reason == "infeasible"
        assert result.point is None
    else:
        assert result.termination.reason == "optimal"
        assert result.value == pytest.approx(expected)
        assert result.bound == pytest.approx(expected)
        assert violations(problem, result.point) == []


def test_later_goals_keep_earlier_ones():
    # x + y = 4 whatever; the second goal wants x small, the third is a multiple of the second
    rows = [([1, 1], (-INFINITY, 4))]
    goals = [("maximize", [1, 1]), ("minimize", [1, 0]), ("minimize", [2, 0]), ("maximize", [1, 0])]
    result = lexicographic(milp(goals, rows, [4, 3]), SOLVERS["highs"].solve, 60.0, 0.0)
    assert result.point.tolist() == [1, 3]
    assert result.value == 4


def test_when_time_runs_out_in_a_later_goal_the_point_so_far_is_kept():
    problem = milp([("maximize", [1, 1]), ("minimize", [1, 0])], [([1, 1], (-INFINITY, 4))], [4, 3])
    answers = []

    def solve(single, time_left, gap):
        answers.append(time_left)
        result = SOLVERS["highs"].solve(single, 60.0, gap)
        return result if len(answers) == 1 else result._replace(point=None, value=None)

    result = lexicographic(problem, solve, 60.0, 0.0)
    assert result.value == 4
    assert result.notes


def test_a_stopped_solve_without_a_point_is_a_result():
    weights = [[(7 * i * j) % 23 + 1 for i in range(40)] for j in range(8)]
    rows = [(w, (-INFINITY, sum(w) / 2 + 0.5)) for w in weights]
    problem = milp([("maximize", [(5 * i) % 17 + 1 for i in range(40)])], rows, [1] * 40)
    result = SOLVERS["highs"].solve(problem, 0.0, 0.0)
    assert result.termination.reason == "stopped"
    assert result.termination.limit == "time"


@pytest.mark.parametrize(
    ("point", "broken"),
    [([1.0, 1.0], 0), ([3.0, 0.0], 2), ([0.5, 0.0], 1), ([2.0, 1.0], 1)],
)
def test_violations_are_found(point, broken):
    problem = milp([("maximize", [1, 1])], [([1, 1], (-INFINITY, 2))], [2, 2])
    assert len(violations(problem, np.array(point))) == broken


def test_only_integers_are_rounded():
    variables = (Variable("n", 0, 9, True, ""), Variable("x", 0, 9, False, ""))
    assert rounded(Milp(variables, (), ()), np.array([1.9999999, 0.5])).tolist() == [2.0, 0.5]


def test_an_answer_that_breaks_the_problem_is_an_error(monkeypatch):
    problem, _ = KNOWN["knapsack"]
    monkeypatch.setattr(highs_module, "rounded", lambda milp, point: point + 5)
    with pytest.raises(InternalError, match="breaks the problem"):
        SOLVERS["highs"].solve(problem, 60.0, 0.0)
