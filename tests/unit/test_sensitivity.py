"""What would change a plan: samples priced again against whole solves, flips on both sides, resumed sweeps, indices."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner import pipeline
from planner.catalog import load_scenario
from planner.cli import app
from planner.columns.evaluate import figures, figures_of_each
from planner.columns.setting import settings
from planner.errors import InputError
from planner.exporters.plots.sensitivity import coloured
from planner.milp.model import Milp, Objective, Row, Variable
from planner.solvers.highs import relaxation
from planner.studies.sensitivity import sensitivity, study
from planner.studies.sensitivity.flips import flips
from planner.studies.sensitivity.indices import indices, points_for
from planner.studies.sensitivity.parameters import declared, usual, varied
from planner.studies.sensitivity.sampler import Sampler
from planner.studies.sensitivity.space import Ranges
from planner.studies.sensitivity.sweep import Backend, key_of, sweep
from planner.table import AXES

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
SMALL = [
    "calibration=textbook",
    "search.tp=[1, 2, 4]",
    "search.pp=[1]",
    "search.mean_running=[4, 8, 16, 24, 32, 40, 48, 64]",
]
LEAST = [*SMALL, "workloads.chat.requests=5 /s", "objective={minimize: cost}"]
RANGES = ("hardware.h100.memory.bandwidth=0.7..1.4", "calibration.compute.gemm_bf16=0.7..1.3")
ISHIGAMI = (7.0, 0.1)


def like_whole_solves(case, parameters, sampler, points):
    """Return the outcomes of points, each compared with a solve of the changed scenario."""
    outcomes = []
    for factors in points:
        outcome = sampler(factors)
        plan = pipeline.solve(varied(case, parameters, factors)).plan
        outcomes.append(outcome)
        if not plan.deployments:
            assert outcome.goal is None
        else:
            assert outcome.goal == pytest.approx(plan.objective.value, rel=1e-7)
    return outcomes


@pytest.mark.parametrize("asked", [SMALL, LEAST], ids=["most", "least cost"])
def test_samples_priced_again_are_whole_solves(asked):
    case = load_scenario(QUICKSTART, asked)
    parameters = (*usual(case), *declared(case, ["inventory.h100.price=0.5..2"]))
    sampler = Sampler(case, Ranges(parameters))
    rng = np.random.default_rng(3)
    points = rng.uniform([p.low for p in parameters], [p.high for p in parameters], (12, len(parameters)))
    assert True in {outcome.keeps for outcome in like_whole_solves(case, parameters, sampler, points)}


def test_samples_of_wide_ranges_are_whole_solves_with_pairs_and_a_fitted_calibration():
    case = load_scenario(QUICKSTART, ["search.pp=[1, 2]"])
    parameters = tuple(p._replace(low=0.5, high=2.0) for p in usual(case))
    sampler = Sampler(case, Ranges(parameters))
    points = np.random.default_rng(11).uniform(0.5, 2.0, (6, len(parameters)))
    assert any("prefill" in outcome.plan for outcome in like_whole_solves(case, parameters, sampler, points))


def test_a_sample_does_not_depend_on_those_it_is_priced_with():
    case = load_scenario(QUICKSTART, ["search.pp=[1, 2]"])
    space = Ranges(usual(case))
    sampler = Sampler(case, space)
    points = points_for("morris", space.names, space.ends, 48, seed=3).tolist()  # neighbours share most numbers
    alone = [sampler(point) for point in points]
    assert len(set(alone)) > 1
    assert list(sampler.several(points)) == alone
    assert list(sampler.several(points[::-1])) == alone[::-1]
    assert [*sampler.several(points[:3]), *sampler.several(points[3:])] == alone


def test_figures_side_by_side_are_those_of_each():
    case = load_scenario(QUICKSTART)
    parameters = usual(case)
    changed = [varied(case, parameters, [factor] * len(parameters)) for factor in (0.7, 1.0, 1.3)]
    for every in zip(*map(settings, changed), strict=True):
        axes = {axis: np.array([1.0, 2.0, 4.0]) if axis == "tp" else np.ones(3) for axis in AXES}
        axes |= {
            "weight_precision": np.zeros(3),
            "kv_precision": np.zeros(3),
            "max_num_batched_tokens": np.full(3, 2048.0),
        }
        for setting, found in zip(every, figures_of_each(every, axes), strict=True):
            for name, value in figures(setting, axes).items():
                np.testing.assert_allclose(np.broadcast_to(found[name], 3), np.broadcast_to(value, 3), rtol=1e-12)


def test_a_plan_that_stays_holds_and_loses_nothing():
    case = load_scenario(QUICKSTART, LEAST)
    outcome = Sampler(case, Ranges(declared(case, RANGES)))([1.0, 1.0])
    assert outcome.keeps
    assert outcome.holds
    assert outcome.loses == 0.0
    assert outcome.carries >= 5.0
    assert outcome.goal == pytest.approx(pipeline.solve(case).plan.objective.value)


def test_flips_hold_on_both_sides():
    case = load_scenario(QUICKSTART, LEAST)
    parameters = declared(case, ["workloads.chat.requests=0.3..3", *RANGES])
    sampler = Sampler(case, Ranges(parameters))
    found = [flip for i in range(len(parameters)) for flip in flips(parameters, i, sampler)]
    assert {flip.parameter for flip in found} >= {"workloads.chat.requests"}
    base = pipeline.solve(case).plan
    for flip in found:
        number = [p.name for p in parameters].index(flip.parameter)
        before, after = ([f if i == number else 1.0 for i in range(len(parameters))] for f in (flip.keeps, flip.flips))
        assert sampler(before).keeps
        assert not sampler(after).keeps
        assert abs(flip.flips / flip.keeps - 1) <= 1e-3
        assert sampler(after).plan == flip.to
        kept = pipeline.solve(varied(case, parameters, before)).plan
        assert kept.objective.value == pytest.approx(base.objective.value)  # the price of the same replicas


def ishigami(points):
    """Ishigami and Homma 1990; its indices are known in closed form."""
    a, b = ISHIGAMI
    for x, y, z in points:
        yield {"y": math.sin(x) + a * math.sin(y) ** 2 + b * z**4 * math.sin(x)}


def test_sobol_indices_of_an_analytic_case(tmp_path):
    a, b = ISHIGAMI
    names, ranges = ("x1", "x2", "x3"), [(-math.pi, math.pi)] * 3
    points = points_for("sobol", names, ranges, 5 * 2048, seed=1)
    results = sweep(points, ishigami, "ishigami", tmp_path / "ishigami.jsonl")
    found = indices("sobol", names, ranges, points, np.array([r["y"] for r in results]), seed=1)
    first = [(1 + b * math.pi**4 / 5) ** 2 / 2, a**2 / 8, 0.0]
    variance = a**2 / 8 + b * math.pi**4 / 5 + b**2 * math.pi**8 / 18 + 0.5
    assert [i.measures["S1"] for i in found] == pytest.approx([v / variance for v in first], abs=0.02)
    assert found[2].measures["ST"] == pytest.approx(0.2437, abs=0.02)


def test_morris_ranks_a_linear_function():
    names, ranges = ("a", "b", "c"), [(0.0, 1.0)] * 3
    points = points_for("morris", names, ranges, 400, seed=2)
    found = indices("morris", names, ranges, points, points @ np.array([3.0, 1.0, 0.0]), seed=2)
    assert [i.measures["mu_star"] for i in found] == pytest.approx([3.0, 1.0, 0.0], abs=1e-9)
    assert [i.measures["sigma"] for i in found] == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)


def test_too_few_samples_are_refused():
    with pytest.raises(InputError, match="needs 40 samples"):
        points_for("sobol", ("a", "b", "c"), [(0.0, 1.0)] * 3, 39, seed=1)


class Counting:
    """Counts how often each point is solved; is interrupted at one."""

    def __init__(self, stop_at=None):
        self.solved, self.stop_at = [], stop_at

    def __call__(self, points):
        for point in points:
            if len(self.solved) == self.stop_at:
                raise KeyboardInterrupt
            self.solved.append(tuple(point))
            yield {"sum": sum(point)}


def test_an_interrupted_sweep_goes_on_and_solves_nothing_twice(tmp_path):
    points = np.random.default_rng(0).uniform(size=(40, 2))
    points[7] = points[3]  # the same point twice is one solve
    file, first = tmp_path / "study.jsonl", Counting(stop_at=15)
    with pytest.raises(KeyboardInterrupt):
        sweep(points, first, "mine", file, Backend(workers=1))
    with file.open("a") as stream:
        stream.write('{"key": "cut o')  # as a machine leaves it that loses power
    second, seen = Counting(), []
    results = sweep(points, second, "mine", file, Backend(workers=1), lambda done, total: seen.append((done, total)))
    assert len(first.solved) == 15
    assert not set(first.solved) & set(second.solved)
    assert len(first.solved) + len(second.solved) == 39
    assert [r["sum"] for r in results] == pytest.approx(points.sum(axis=1).tolist())
    assert seen[0] == (15, 39)
    assert seen[-1] == (39, 39)
    third = Counting()
    assert sweep(points, third, "mine", file) == results
    assert not third.solved


def test_results_of_another_study_are_not_taken(tmp_path):
    file = tmp_path / "study.jsonl"
    sweep(np.ones((1, 2)), Counting(), "mine", file)
    with pytest.raises(InputError, match="something else"):
        sweep(np.ones((1, 2)), Counting(), "yours", file)
    file.write_text("not a study\n")
    with pytest.raises(InputError, match="something else"):
        sweep(np.ones((1, 2)), Counting(), "mine", file)


def sums(points):
    return [math.fsum(point) for point in points]


def test_several_workers_give_what_one_gives(tmp_path):
    points = np.random.default_rng(0).uniform(size=(70, 3))
    alone = sweep(points, sums, "mine", None, Backend(workers=1))
    assert sweep(points, sums, "mine", tmp_path / "study.jsonl", Backend(workers=2)) == alone
    assert len((tmp_path / "study.jsonl").read_text().splitlines()) == 71


def test_keys_tell_points_apart():
    assert key_of([1.0, 2.0]) == key_of(np.array([1.0, 2.0]))
    assert key_of([1.0, 2.0]) != key_of([1.0, np.nextafter(2.0, 3.0)])


def test_ranges_that_name_nothing_are_refused_all_at_once():
    case = load_scenario(QUICKSTART)
    wrong = ["hardware.h100.memry.bandwidth=0.5..2", "inventory.h100.nodes=1..2", "solver.name", "hardware.h100=2..1"]
    with pytest.raises(InputError) as caught:
        declared(case, wrong)
    assert len(caught.value.problems) == 4
    assert "did you mean 'memory'?" in str(caught.value)


def test_shares_end_at_one():
    case = load_scenario(QUICKSTART)  # with a calibration for GPUs and one for Ascend: an efficiency stands in both
    (parameter,) = declared(case, ["calibration.bandwidth.weights=0.5..9"])
    assert len(parameter.places) == len(case.calibration)
    assert set(parameter.at(9.0).values()) == {1.0}


def test_a_case_without_a_plan_points_to_what_is_missing():
    with pytest.raises(InputError, match="planner infeasible"):
        sensitivity(load_scenario(QUICKSTART, [*SMALL, "workloads.chat.slo.ttft=1 ms"]), RANGES)


def test_duals_are_the_slopes_of_the_relaxation():
    x = Variable("x", 0.0, 9.0, integer=True, meaning="")
    row = Row("room", "room", {0: 2.0}, -math.inf, 5.0, "1", "")
    for sense, coefficient, value in (("maximize", 3.0, 7.5), ("minimize", -3.0, -7.5)):
        goal = Objective("g", sense, np.array([coefficient]), "1")
        found, duals = relaxation(Milp((x,), (row,), (goal,)))
        assert found == pytest.approx(value)
        assert duals["room"] == pytest.approx(coefficient / 2)


def test_one_more_of_each_resource_is_solved_again():
    case = load_scenario(QUICKSTART, [*LEAST, "limits.devices=8"])
    found = {worth.resource: worth for worth in sensitivity(case, RANGES).worths}
    assert set(found) == {"inventory.h100", "limits.devices", "workloads.chat.requests"}
    now = pipeline.solve(case).plan.objective.value
    more = pipeline.solve(load_scenario(QUICKSTART, [*LEAST, "workloads.chat.requests=6 /s"])).plan.objective.value
    assert found["workloads.chat.requests"].exact == pytest.approx(more - now)
    assert found["workloads.chat.requests"].dual > 0
    assert found["inventory.h100"].exact == 0.0


def test_a_colour_of_a_map_is_of_one_plan_or_of_all_others():
    plan = [[0, *range(1, 12)], [0, *range(1, 6)] + [11] * 6]
    names = [f"plan {i}" for i in range(12)]
    numbers, shown = coloured(plan, names)
    assert shown[:2] == ["plan 0", "plan 11"]
    assert shown[-1] == "4 others, 16.7% of the map"
    for row, colours in zip(plan, numbers.tolist(), strict=True):
        for i, colour in zip(row, colours, strict=True):
            assert shown[colour] == (names[i] if names[i] in shown else shown[-1])


def test_the_command_writes_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "_MAP", 5)
    arguments = ["sensitivity", str(QUICKSTART), *(f"--set={s}" for s in LEAST), *(f"--vary={r}" for r in RANGES)]
    arguments += ["--samples=32", "--workers=1", f"--out={tmp_path / 'samples.csv'}", f"--plot={tmp_path / 'plots'}"]
    arguments += ["--map", "hardware.h100.memory.bandwidth", "calibration.compute.gemm_bf16", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    rows = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    assert data["robustness"]["samples"] == len(rows) == 32
    assert data["robustness"]["agree"] == data["robustness"]["checked"]
    assert data["robustness"]["keeps"] == pytest.approx(np.mean([row["keeps"] == "True" for row in rows]))
    assert {index["parameter"] for index in data["indices"]} == {r.partition("=")[0] for r in RANGES}
    assert len(data["map"]["plans"]) > 1
    shown = CliRunner().invoke(app, [a for a in arguments if a != "--json" and "plots" not in a]).stdout
    assert "over hardware.h100.memory.bandwidth and calibration.compute.gemm_bf16, 25 places" in shown
    assert {file.name for file in (tmp_path / "plots").iterdir()} >= {"tornado.png", "flip_map.svg"}
