"""Best values known without the pairs are those of the whole problem, and plans are the same with and without them."""

from pathlib import Path

import pytest

from formulations import FORMULATIONS
from planner import bracket, pipeline
from planner.catalog import load_scenario
from planner.optimizers.lexicographic import lexicographic
from planner.problems import planning_problem, reduced
from planner.solvers import solver

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
SMALL = ("search={tp: [1, 2, 4], pp: 1, mean_running: [2, 9, 30, 80], prefill_utilisation: [20, 60]}",)
MORE = (
    "inventory={h100: {hardware: h100-sxm, nodes: 2, price: 2.5 USD/h}, "
    "l40s: {hardware: l40s, nodes: 4, price: 0.9 USD/h}}"
)
ASKED = {
    "most": (),
    "cost": (MORE, "workloads.chat.requests=20 /s", "objective=[{minimize: cost}, {minimize: devices}]"),
    "devices": (MORE, "workloads.chat.requests=7 /s", "objective={minimize: devices}", "confidence=0.8"),
    "in flight": ("workloads.chat.requests={concurrency: 150}", "objective={minimize: devices}"),
    "tight": ("workloads.chat.requests=9 /s", "workloads.chat.slo.tpot=16 ms", "objective={minimize: power}"),
    "latency": ("objective=[{maximize: requests}, {minimize: ttft}]",),
    "none": ("workloads.chat.requests=900 /s", "objective={minimize: devices}"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def any_number_of_pairs(monkeypatch):
    monkeypatch.setattr(bracket, "_MANY", 0)


@pytest.mark.parametrize("name", ASKED)
def test_values_known_beforehand_are_the_best(name):
    case = load_scenario(QUICKSTART, [*SMALL, *ASKED[name]])
    small = reduced(case, planning_problem(case, pipeline.search(case)))
    highs = solver("highs").solve
    known = bracket.agreed(small, highs, 60.0)
    milp = FORMULATIONS["serving"].build(small).milp
    whole, held = (lexicographic(milp, highs, 60.0, 0.0, known=values) for values in ((), known))
    assert held.termination == whole.termination
    assert (len(known) > 0) == (name in ("most", "cost", "devices"))
    if whole.point is not None:
        assert held.notes == whole.notes == ()
        for goal in milp.objectives:
            assert goal.value(held.point) == pytest.approx(goal.value(whole.point), rel=1e-7)


@pytest.mark.parametrize("required", ["asked", "fixed"])
def test_columns_that_are_required_are_not_looked_for_among_others(required):
    case = load_scenario(QUICKSTART, [*SMALL, *ASKED["cost"]])
    small = reduced(case, planning_problem(case, pipeline.search(case)))
    last = (len(small.table) - 1,)  # neither of the small problems has as many columns
    small = small._replace(asked=(last,)) if required == "asked" else small._replace(fixed=((last, 1),))
    whole = lexicographic(FORMULATIONS["serving"].build(small).milp, solver("highs").solve, 60.0, 0.0)
    choice, found = pipeline.optimise(case, small, 60.0)
    assert found.termination == whole.termination
    assert found.value == pytest.approx(whole.value, rel=1e-7)
    assert choice.replicas[last[0]] >= 1
