"""What a calibration is unsure of: draws against its own covariance, and shares against what plans print."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner import pipeline
from planner.catalog import load_scenario
from planner.cli import app
from planner.columns.setting import settings
from planner.errors import InputError
from planner.posterior.drawn import mixing
from planner.studies.sensitivity import likely
from planner.studies.sensitivity.draws import draws
from planner.studies.sensitivity.sampler import Sampler
from planner.studies.sensitivity.space import Ranges
from planner.table import FORMAT_NAMES

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
SMALL = ["search.roles=[mixed]", "search.tp=[1, 2, 4]", "search.pp=[1]", "search.mean_running=[8, 16, 24, 32, 40, 48]"]
SAMPLES = 320


@pytest.fixture(scope="module")
def case():
    return load_scenario(QUICKSTART, SMALL)


@pytest.fixture(scope="module")
def found(case):
    return likely(case, SAMPLES)


def test_normals_mix_into_the_covariance_of_the_calibration(case):
    space = draws(case)
    replica = settings(case)[0].believed
    places = [replica.at(FORMAT_NAMES[own.division[0]], own.division[1:], own.running) for own in space.own]
    for latency, mixed in space.mixing.items():
        expected = replica.measured.joint(latency, places)
        beyond = [replica.support(place).doublings * replica.measured.intervals.beyond for place in places]
        assert (mixed @ mixed.T)[1:, 1:] == pytest.approx(expected + np.diag(np.square(beyond)), abs=1e-8)
        assert np.triu(mixed, 1) == pytest.approx(0.0, abs=1e-9)
        assert (np.diag(mixed) >= 0).all()


def test_what_divisions_share_is_what_two_unmeasured_ones_have_in_common(case):
    replica = settings(case)[0].believed
    near, far = (replica.at("bf16", degrees, 16.0) for degrees in ((3, 1, 1, 1), (5, 1, 1, 1)))
    measured = replica.measured
    shared = mixing(measured, "tpot", [near], [near, far])
    joint = measured.joint("tpot", [near, far])
    assert shared[0, 0] ** 2 == pytest.approx(joint[0, 1], rel=1e-6)
    assert shared[1, 0] * shared[2, 0] == pytest.approx(joint[0, 1], rel=1e-6)
    assert abs(shared[2, 1]) < 1e-6  # nothing is left that only these two share


def test_the_point_of_no_draw_is_the_plan(case):
    space = draws(case)
    sampler = Sampler(case, space)
    outcome = sampler(space.neutral)
    assert outcome.keeps
    assert outcome.goal == pytest.approx(pipeline.solve(case).plan.objective.value)
    assert outcome == Sampler(case, Ranges(()))(())


def test_slower_steps_carry_less_and_only_where_they_are_drawn(case):
    space = draws(case)
    sampler = Sampler(case, space)
    names = list(space.names)
    mine = next(name for name in names if name.startswith("tpot of tp2"))
    slow, fast = ([2.0 * sign if name == mine else 1e-9 for name in names] for sign in (1, -1))
    assert sampler(slow).carries < sampler(space.neutral).carries < sampler(fast).carries


def test_shares_agree_with_what_the_plan_prints(case, found):
    printed = {limit.name: limit.held for limit in pipeline.solve(case).limits}
    assert {kept.latency for kept in found.kept} == {"ttft", "tpot"}
    for kept in found.kept:
        # Printed from skewed percentiles, drawn from a normal of their width.
        assert kept.chance == pytest.approx(printed[kept.latency], abs=0.06)
    assert 0 < found.robustness.keeps <= 1
    assert found.robustness.keeps + sum(share for _, share in found.instead) == pytest.approx(1.0, abs=0.05)
    assert found.robustness.agree == found.robustness.checked
    assert all(index.parameter in found.samples[0] for index in found.carries)


def test_a_calibration_that_was_not_fitted_is_unsure_of_nothing():
    with pytest.raises(InputError, match="says nothing of how far off it is"):
        likely(load_scenario(QUICKSTART, ["calibration=textbook"]))


def test_the_command_refuses_ranges_and_writes_draws(tmp_path):
    command = [
        "sensitivity",
        str(QUICKSTART),
        "--over",
        "calibration",
        "--workers",
        "1",
        *(f"--set={s}" for s in SMALL),
    ]
    wrong = CliRunner().invoke(app, [*command, "--vary", "hardware.h100.memory.bandwidth=0.8..1.2", "--map", "a", "b"])
    assert wrong.exit_code == 2
    assert wrong.output.count("declared") == 2
    pytest.importorskip("pyarrow")
    table = tmp_path / "draws.parquet"
    result = CliRunner().invoke(app, [*command, "--samples", "90", "--method", "morris", "--json", "--out", str(table)])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    from pyarrow.parquet import read_table

    assert read_table(table).num_rows == data["robustness"]["samples"]
    assert any("no chances" in note for note in data["notes"])
