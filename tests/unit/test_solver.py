"""Known problems, run on every registered solver; and the checks its answers pass."""

import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pulp
import pytest

from planner.errors import EXIT_BAD_INPUT, InputError, InternalError
from planner.milp.check import rounded, violations
from planner.milp.model import INFINITY, Milp, Objective, Variable, row
from planner.optimizers.lexicographic import lexicographic
from planner.solvers import SOLVERS, cp_sat, pulp_solvers, solver
from planner.solvers import highs as highs_module

NAMES = [*SOLVERS, "pulp:HiGHS"]


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
    "a variable that stands nowhere": (milp([("maximize", [1, 0])], [([2, 0], (-INFINITY, 3))], [9, 9]), 1.0),
    "a row without terms": (milp([("maximize", [1])], [([0], (-INFINITY, 3))], [9]), 9.0),
    "a row without terms, impossible": (milp([("maximize", [1])], [([0], (3, INFINITY))], [9]), None),
    "no goal": (milp([("maximize", [0, 0])], [([1, 1], (2, 3))], [9, 9]), 0.0),
    "large and small": (milp([("minimize", [1e-4, 3e-4])], [([1e5, 2.5e5], (4.1e6, INFINITY))], [90, 90]), 4.1e-3),
    "negative": (milp([("minimize", [-3, 2])], [([-1, 1], (-2, 2))], [5, 1]), -7.0),
}


@pytest.mark.parametrize("asked", NAMES)
@pytest.mark.parametrize("name", KNOWN)
def test_known_problems(asked, name):
    problem, expected = KNOWN[name]
    result = solver(asked).solve(problem, 60.0, 0.0)
    if expected is None:
        assert result.termination.reason == "infeasible"
        assert result.point is None
    else:
        assert result.termination.reason == "optimal"
        assert result.value == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert result.bound == pytest.approx(expected, rel=1e-6, abs=1e-12)
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


def test_a_continuous_variable_beside_an_integer(request):
    # ERGO-Code/HiGHS#2957: 1.14.0 calls 29 optimal
    variables = (Variable("x", 0, 20, True, ""), Variable("y", 8, 20, False, ""))
    rows = (row("r[0]", [1, 1], (20.1, INFINITY), "1", ""),)
    problem = Milp(variables, rows, (Objective("goal", "minimize", np.array([1.0, 2.0]), "1"),))
    for asked in ("cbc", "cp-sat"):
        assert solver(asked).solve(problem, 60.0, 0.0).value == pytest.approx(28.2)
    if version("highspy") == "1.14.0":
        request.applymarker(pytest.mark.xfail(reason="this release is wrong"))
    for asked in ("highs", "pulp:HiGHS"):
        assert solver(asked).solve(problem, 60.0, 0.0).value == pytest.approx(28.2)


def knapsacks():
    weights = [[(7 * i * j) % 23 + 1 for i in range(40)] for j in range(8)]
    rows = [(w, (-INFINITY, sum(w) / 2 + 0.5)) for w in weights]
    return milp([("maximize", [(5 * i) % 17 + 1 for i in range(40)])], rows, [1] * 40)


@pytest.mark.parametrize("asked", NAMES)
@pytest.mark.parametrize("limit", [-1.0, 0.0])
def test_a_stopped_solve_without_a_point_is_a_result(asked, limit):
    result = solver(asked).solve(knapsacks(), limit, 0.0)
    assert result.termination == ("stopped", "time")
    assert result.bound is None or result.bound > 0


def test_cp_sat_stopped_before_it_knows_anything_claims_no_bound():
    # it then reports a bound of 0, which no plan reaches that only costs: -1 is the least here
    grid = cp_sat._grid(KNOWN["negative"][0], 20)
    integral = cp_sat._integral(KNOWN["negative"][0], grid, [])
    assert cp_sat._run(integral, 1e-9, 0.0).bound <= -7


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
    wrong = np.full(3, 6.0)
    monkeypatch.setattr(highs_module, "rounded", lambda milp, point: wrong)
    monkeypatch.setattr(pulp_solvers, "_stored", lambda *_: wrong)
    monkeypatch.setattr(pulp_solvers, "_values", lambda *_: wrong)
    monkeypatch.setattr(cp_sat, "_complete", lambda *_: wrong)
    for asked in NAMES:
        with pytest.raises(InternalError, match="breaks the problem"):
            solver(asked).solve(problem, 60.0, 0.0)


# --- names -------------------------------------------------------------------------------------------------------


def test_no_solver_is_imported_before_it_is_asked_for():
    code = "import sys, planner.solvers; print({'highspy', 'ortools', 'pulp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["pulp:PULP_CBC_CMD", "pulp:CBC", "pulp:cbc", "pulp:HiGHS", "pulp:highs"])
def test_names_of_pulp(name):
    assert solver(name).solve(KNOWN["knapsack"][0], 60.0, 0.0).value == 9
    assert solver(name).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cplex", r"must be highs, cbc, cp-sat, or pulp:NAME \(got 'cplex'\)"),
        ("HIGHS", "must be highs, cbc"),
        ("pulp:NONE", "pulp:NONE is not a solver that PuLP finds here; must be one of: pulp:.*PULP_CBC_CMD"),
        ("pulp:", "is not a solver"),
    ],
)
def test_a_solver_that_is_not_there_is_a_fault_of_the_scenario(name, message):
    with pytest.raises(ValueError, match=message) as raised:
        solver(name)
    assert isinstance(raised.value, InputError)
    assert raised.value.exit_code == EXIT_BAD_INPUT
    assert raised.value.problems[0].field == "solver.name"


def test_a_name_of_several_solvers_is_refused(monkeypatch):
    monkeypatch.setattr(pulp, "listSolvers", lambda onlyAvailable: ["CPLEX_CMD", "CPLEX_PY"])
    with pytest.raises(ValueError, match="more than one solver; must be one of: pulp:CPLEX_CMD, pulp:CPLEX_PY"):
        pulp_solvers.find("pulp:cplex")
    assert pulp_solvers.find("pulp:cplex_py").solver == "CPLEX_PY"


def test_solvers_that_come_along():
    assert list(SOLVERS) == ["highs", "cbc", "cp-sat"]
    assert [one.name for one in SOLVERS.values()] == list(SOLVERS)
    assert "gurobi" not in SOLVERS


# --- what CBC says -----------------------------------------------------------------------------------------------

RELAXED = "Version: 2.10.3 \nContinuous objective value is -42.7 - 0.00 seconds\n"


@pytest.mark.parametrize(
    ("status", "log", "late", "reason", "limit"),
    [
        ("Optimal", "", False, "optimal", None),
        ("Optimal (within gap tolerance)", "Result - x\nLower bound:   -42.5\nGap: 0.01", False, "within_gap", None),
        ("Optimal", "Cbc0020I Exiting on maximum time", True, "stopped", "time"),
        ("Infeasible", "", False, "infeasible", None),
        ("Integer infeasible", "Pre-processing says infeasible or unbounded", False, "infeasible", "preprocessing"),
        ("Integer infeasible", "Pre-processing says infeasible or unbounded", True, "stopped", "time"),
        ("Unbounded", "", False, "stopped", "unbounded"),
        ("Stopped on time", "Result - x\nLower bound:   -42.5", True, "stopped", "time"),
        ("Stopped on time (no integer solution - continuous used)", "", True, "stopped", "time"),
        ("Stopped on iterations", "", False, "stopped", "iterations"),
    ],
)
def test_what_cbc_says(status, log, late, reason, limit):
    claim = pulp_solvers._cbc_claim(status, RELAXED + log, np.zeros(1), late=late)
    assert (claim.reason, claim.limit) == (reason, limit)
    assert claim.bound == (pytest.approx(-42.5005, rel=1e-8) if "Lower" in log else None)
    assert claim.solver == "cbc 2.10.3"
    assert (claim.values is None) == (
        reason == "infeasible" or limit == "unbounded" or "continuous" in status or (late and "nfeasible" in status)
    )


def test_what_cbc_has_never_said_is_an_error():
    with pytest.raises(InternalError, match="status 'Status unknown'"):
        pulp_solvers._cbc_claim("Status unknown", RELAXED, np.zeros(1), late=False)


@pytest.mark.parametrize("log", ["Result - x\nLower bound:  -1e+50", "Lower bound:   2 (of a heuristic)\nResult - x"])
def test_what_is_no_bound(log):
    assert pulp_solvers._printed_bound(RELAXED + log) is None


def test_a_relaxation_that_was_not_solved_bounds_nothing():
    assert pulp_solvers._printed_bound("Result - x\nLower bound:  -42.5") is None


def test_a_stopped_point_that_breaks_the_problem_is_none():
    # coin-or/Cbc#440: what is written may be the relaxation
    problem, _ = KNOWN["knapsack"]
    claim = pulp_solvers._Claim("stopped", "time", np.array([0.5, 1, 1]), -9.7, "cbc")
    result = pulp_solvers._result(problem, claim, -1.0, 0.0)
    assert result.termination == ("stopped", "time")
    assert result.point is None
    assert result.bound == 9.7


def test_a_bound_that_the_point_passes_is_none():
    problem, _ = KNOWN["knapsack"]
    claim = pulp_solvers._Claim("stopped", "time", np.array([1.0, 1, 0]), -8.0, "cbc")
    result = pulp_solvers._result(problem._replace(rows=()), claim, -1.0, 0.0)
    assert (result.value, result.bound) == (9, None)
    assert "ignored" in result.notes[0]


def test_cbc_that_cannot_be_run_is_an_error(tmp_path):
    problem, _ = KNOWN["knapsack"]
    with pytest.raises(InternalError, match="cannot be run"):
        pulp_solvers.Cbc(str(tmp_path / "none")).solve(problem, 60.0, 0.0)
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho out of memory\nexit 3\n")
    failing.chmod(0o755)
    with pytest.raises(InternalError, match="code 3: out of memory"):
        pulp_solvers.Cbc(str(failing)).solve(problem, 60.0, 0.0)


# --- what PuLP says of others ------------------------------------------------------------------------------------


class Stub(pulp.LpSolver):
    """Answers as told; takes no relative gap."""

    name = "STUB"
    answer = (pulp.LpStatusOptimal, pulp.LpSolutionOptimal, 1.0)

    def __init__(self, msg=True, timeLimit=None):
        super().__init__(msg=msg, timeLimit=timeLimit)

    def actualSolve(self, lp):
        status, solution, value = self.answer
        for variable in lp.variables():
            variable.varValue = value
        lp.assignStatus(status, solution)
        return status


class GapStub(Stub):
    def __init__(self, msg=True, timeLimit=None, gapRel=None):
        super().__init__(msg, timeLimit)


@pytest.mark.parametrize(
    ("stub", "answer", "gap", "termination", "bound"),
    [
        (Stub, (1, 1, 1.0), 0.0, ("stopped", "unproven"), None),
        (GapStub, (1, 1, 1.0), 0.0, ("optimal", None), 12),
        (GapStub, (1, 1, 1.0), 0.2, ("within_gap", None), 15),
        (GapStub, (1, 2, 1.0), 0.0, ("stopped", "solver"), None),
        (GapStub, (1, 2, None), 0.0, ("stopped", "solver"), None),
        (GapStub, (-1, -1, None), 0.0, ("infeasible", None), None),
        (GapStub, (-2, -2, None), 0.0, ("stopped", "unbounded"), None),
    ],
)
def test_what_other_solvers_of_pulp_say(monkeypatch, stub, answer, gap, termination, bound):
    problem = KNOWN["knapsack"][0]._replace(rows=())
    monkeypatch.setattr(stub, "answer", answer)
    monkeypatch.setattr(pulp, "getSolver", lambda name, **settings: stub(**settings))
    result = pulp_solvers.Pulp("STUB", "pulp:stub").solve(problem, 60.0, gap)
    assert result.termination == termination
    assert result.bound == (None if bound is None else pytest.approx(bound))
    assert (result.point is None) == (answer[2] is None)


@pytest.mark.parametrize("answer", [(0, 0, None), (-3, 0, None), (1, 1, None)])
def test_solvers_of_pulp_that_fail(monkeypatch, answer):
    monkeypatch.setattr(GapStub, "answer", answer)
    monkeypatch.setattr(pulp, "getSolver", lambda name, **settings: GapStub(**settings))
    with pytest.raises(InternalError, match="pulp:stub"):
        pulp_solvers.Pulp("STUB", "pulp:stub").solve(KNOWN["knapsack"][0], 60.0, 0.0)


# --- CP-SAT's integers -------------------------------------------------------------------------------------------


def mixed(upper, coefficients, limits):
    variables = (Variable("n", 0, upper, True, ""), Variable("x", 0, upper, False, ""))
    rows = (row("r[0]", coefficients, limits, "1", ""),)
    return Milp(variables, rows, (Objective("goal", "maximize", np.array([1.0, 1.0]), "1"),))


def test_cp_sat_says_how_it_counts():
    (note,) = solver("cp-sat").solve(mixed(9.0, [1, 3], (-INFINITY, 10)), 60.0, 0.0).notes
    assert "integers (goal times" in note
    assert "continuous variables in 2^12 steps" in note
    assert "0.001, relative" in note


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (mixed(INFINITY, [1, 3], (-INFINITY, 10)), "finite bounds below 2.52: n, x"),
        (
            milp([("maximize", [1, 1])], [([1, 1e15], (0.5, 0.5))], [1e6, 1e6]),
            r"cannot write r\[0\] in 64-bit integers",
        ),
    ],
)
def test_cp_sat_refuses_what_integers_cannot_hold(problem, message):
    with pytest.raises(InternalError, match=message):
        solver("cp-sat").solve(problem, 60.0, 0.0)


def test_integers_whose_continuous_part_fits_only_when_rounded_are_ruled_out():
    # n = 1 needs x = 1000.0004: within CP-SAT's steps of 1000·2^-20, but beyond the upper bound of x
    problem = mixed(1000.0, [-1000.0004, 1], (0, 0))
    result = solver("cp-sat").solve(problem, 60.0, 0.0)
    assert result.value == 0
    assert result.termination.reason == "optimal"


@pytest.mark.parametrize("bits", [20, 28])
def test_the_integer_problem_contains_the_original(bits):
    rng = np.random.default_rng(bits)
    for _ in range(200):
        values = rng.uniform(-5, 5, 6) * 10.0 ** rng.integers(-3, 4, 6)
        sizes = rng.integers(1, 1000, 6).astype(float)
        scaled = cp_sat._scaled(values, sizes, 1e-9, 58)
        point = np.floor(rng.uniform(-1, 1, 6) * sizes)
        exact = sum(int(y) * value for y, value in zip(point, scaled.coefficients, strict=True)) / scaled.scale
        assert abs(exact - values @ point) <= scaled.error + 1e-15 * float(np.abs(values) @ sizes)
        assert sum(abs(c) * int(s) for c, s in zip(scaled.coefficients, sizes, strict=True)) < 2**60
