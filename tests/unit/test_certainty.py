"""Plans with a fitted calibration: what they believe of deployments, how cautious and how sure of the best they are."""

import math

import numpy as np
import pytest

from planner import api
from planner.catalog import load_calibration
from planner.certainty import certainty
from planner.columns.rivals import rivals
from planner.columns.setting import settings
from planner.posterior import CAUTIOUS, Place, Posterior
from planner.resources import shipped
from planner.schema.calibration import MEDIAN
from planner.yaml_io import load

QUICKSTART = shipped("scenarios") / "quickstart.yaml"
SMALL = [
    "search={tp: [1, 2, 4], pp: [1, 2], roles: [mixed], mean_running: [8, 16, 32, 64], max_num_batched_tokens: [2048]}"
]


def solved(*changes):
    return api.solve(api.load_scenario(QUICKSTART, [*SMALL, *changes])).plan


@pytest.fixture(scope="module")
def posterior():
    return Posterior.of(load_calibration("silicon").value)


@pytest.fixture(scope="module")
def place():
    return Place("h100-sxm", "vllm", "Qwen3-32B", "bf16", 2, 1, 1, 1, 64.0, 3000.0, 300.0)


def test_a_plan_carries_percentiles_around_what_it_expects():
    (d,) = solved("confidence=0.5").deployments
    p = d.predicted
    assert p.confidence == MEDIAN
    assert p.ttft_ms == pytest.approx(p.ttft_ms_p50)
    assert p.tpot_ms_p10 < p.tpot_ms_p50 < p.tpot_ms_p90
    assert p.basis in ("deployment", "system+backend")
    assert p.outside == ()


@pytest.mark.parametrize(("share", "name"), [(0.1, "p10"), (0.9, "p90")])
def test_a_replica_has_the_percentiles_of_a_prediction(posterior, place, share, name):
    """Held-out errors are not symmetric, so neither percentile mirrors the other."""
    beliefs = posterior.beliefs([place])
    found = posterior.replica(place, "mixed", None).factors(place, np.array([place.concurrency]), share)
    for latency in ("ttft", "tpot"):
        assert getattr(found, latency)[0] == pytest.approx(getattr(beliefs, f"{latency}_{name}")[0], rel=1e-3)


def test_more_confidence_never_promises_more():
    rates = [solved(f"confidence={share}").objective.value for share in (0.3, 0.5, 0.8, 0.95)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[-1]


def test_a_cautious_plan_keeps_its_limits_at_that_share():
    (d,) = solved("confidence=0.9").deployments
    assert d.predicted.tpot_ms == pytest.approx(d.predicted.tpot_ms_p90)
    assert d.predicted.tpot_ms <= 40
    assert d.predicted.ttft_ms_p90 <= 1000


def test_stages_that_nobody_measured_are_named_and_planned_for_with_care():
    asked = {k: v for k, v in load(QUICKSTART).data.items() if k != "confidence"}
    (d,) = api.solve(api.load_scenario(asked, [*SMALL, "search.pp=[2]"])).plan.deployments
    assert d.predicted.basis == "none"
    assert d.predicted.confidence == CAUTIOUS
    assert any(line.startswith("pp 2") for line in d.predicted.outside)
    assert d.predicted.tpot_ms > d.predicted.tpot_ms_p50


def test_a_plan_s_factors_are_those_of_predictions(posterior, place):
    """At a load where the curve has a point, the factor on TPOT is the one that planner predict multiplies with."""
    believed = posterior.replica(place, "mixed", MEDIAN)
    factors, beliefs = believed.factors(place, np.array([64.0])), posterior.beliefs([place])
    assert factors.tpot[0] == pytest.approx(beliefs.tpot[0])
    assert factors.ttft[0] == pytest.approx(beliefs.ttft[0])
    ninth = believed.factors(place, np.array([64.0]), 0.9)
    assert ninth.tpot[0] == pytest.approx(beliefs.tpot_p90[0])


def test_a_strange_device_is_less_sure_the_farther_it_is(posterior, place):
    near = posterior.beliefs([place]).tpot_p90[0] / posterior.beliefs([place]).tpot[0]
    strange = place._replace(system="ascend-910b3")
    far = posterior.beliefs([strange]).tpot_p90[0] / posterior.beliefs([strange]).tpot[0]
    farther = strange._replace(pp=8)
    farthest = posterior.beliefs([farther]).tpot_p90[0] / posterior.beliefs([farther]).tpot[0]
    assert near < far < farthest


def test_what_prefills_alone_is_expected_as_efficiencies_say(posterior, place):
    assert posterior.replica(place, "prefill", MEDIAN).factors(place, np.array([1.0])).ttft[0] == 1
    assert posterior.replica(place, "prefill", 0.8).factors(place, np.array([1.0])).ttft[0] > 1


def test_without_a_fitted_calibration_there_is_no_interval_and_no_chance():
    plan = solved("calibration=textbook")
    assert plan.certainty == ()
    assert plan.deployments[0].predicted.confidence is None
    assert plan.deployments[0].predicted.tpot_ms_p90 is None


def test_the_only_division_has_no_rivals_and_is_surely_the_best():
    (found,) = solved("search.tp=[2]", "search.pp=[1]").certainty
    assert (found.rivals, found.chance_best, found.expected_regret) == (0, 1.0, 0.0)


def test_chances_of_all_divisions_add_up():
    """Each division in turn as the choice: exactly one of them is the best of any draw."""
    case = api.load_scenario(QUICKSTART, SMALL)
    plan = api.solve(case).plan
    (chosen,) = plan.deployments
    (setting,) = [s for s in settings(case) if s.role == "mixed"]
    table = rivals(setting, chosen.configuration())
    total = 0.0
    for i in range(len(table)):
        c, rate = table.configuration(i), float(table.figures["rate"][i])
        other = chosen._replace(
            tp=c.tp, pp=c.pp, mean_running=c.mean_running, max_num_seqs=c.max_num_seqs, devices_per_replica=c.devices,
            max_num_batched_tokens=c.max_num_batched_tokens, replicas=1, requests_per_s=rate,
        )  # fmt: skip
        (found,) = certainty(case, plan._replace(deployments=(other,)))
        assert 0 <= found.expected_regret < 1
        total += found.chance_best
    assert len(table) > 2
    assert total == pytest.approx(1.0, abs=0.02)


def test_the_curse_takes_off_what_held_out_picks_fell_short(posterior):
    (found,) = solved("confidence=0.5").certainty
    (d,) = solved("confidence=0.5").deployments
    interval = getattr(posterior.measured.intervals, "deployment" if d.predicted.basis == "deployment" else "new_model")
    assert found.requests_per_s == pytest.approx(d.requests_per_s * math.exp(-interval.optimism))
