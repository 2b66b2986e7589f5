"""Row 2, component roofline: mixed rates, diagnosis, and the engine that binds a plan on Ascend."""

import pytest

from planner.costs.devices.component import mean_rate
from planner.explain.components import Diagnosis, Use, diagnose

HAND_OFF, VECTOR = "engines.hand_off.value", "engines.vector_flops.value"


def test_mixed_precisions_run_at_the_harmonic_mean(gold):
    gold.check("mixed_rate", mean_rate([(100, 200), (80, 400)]))


def test_efficiency_is_utilisation_over_the_active_share(gold):
    gold.check("avgpool_efficiency", Use(**gold.inputs["avgpool"]).efficiency)


def test_speed_ups(gold):
    for name in ("add_relu", "avgpool"):
        before, after = gold.inputs[f"{name}_us"]
        gold.check(f"{name}_speed_up", before / after)


@pytest.mark.parametrize(("bound", "active"), [(0.8, 0.8), (0.72, 0.47), (1.0, 0.83)])
def test_the_paper_s_classes(gold, bound, active):
    def found(name):
        return diagnose([Use(**gold.inputs[name]), Use("Scalar", 0.01, 0.05)], bound, active)

    assert found("avgpool") == Diagnosis("inefficient", "Vector")
    assert found("depthwise") == Diagnosis("insufficient parallelism", None)
    assert found("depthwise_tuned") == Diagnosis("inefficient", "MTE-GM")
    assert diagnose([Use("Cube", 1.0, 1.0)], bound, active) == Diagnosis("bound", "Cube")
    assert gold.inputs["thresholds"] == {"bound": 0.8, "active": 0.8}


def binding(gold, hardware="ascend-910b3"):
    plan = gold.solve(f"inventory.atlas.hardware={hardware}")
    return plan.deployments[0].bound_by_engine


def test_the_plan_names_the_engine_and_slower_parts_change_it(gold, variant):
    assert binding(gold) == "Cube"
    assert binding(gold, variant("ascend-910b3", {HAND_OFF: "0.1 TB/s"})) == "Vector"
    assert binding(gold, variant("ascend-910b3", {VECTOR: "0.5 TFLOP/s"})) == "Vector"
    assert binding(gold, variant("ascend-910b3", {"memory.bandwidth.value": "0.2 TB/s"})) == "MTE"


def test_the_rate_between_cube_and_vector_at_which_the_engine_changes(gold, variant):
    """The sheet of the row: above 0.3 TB/s Cube binds, a tenth of what the device has."""
    low, high = 0.05, 3.1
    while high / low > 1.05:
        middle = (low * high) ** 0.5
        slow = binding(gold, variant("ascend-910b3", {HAND_OFF: f"{middle:.4f} TB/s"})) == "Vector"
        low, high = (middle, high) if slow else (low, middle)
    assert 0.1 < low < 0.6
