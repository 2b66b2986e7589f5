"""`planner compare`: results of a benchmark beside the plan, and which term of the costs is off."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.catalog import find_scenario, load_scenario
from planner.cli import app
from planner.columns.setting import setting_of
from planner.comparison import operating
from planner.comparison.attribution import Run as Explained
from planner.comparison.attribution import causes, moved
from planner.comparison.compare import Asked
from planner.comparison.compare import compare as compared
from planner.errors import InputError
from planner.exporters.json_file import plan_text
from planner.importers.measured import Measured

ASKED = ("search.tp=[2]", "search.pp=[1]", "search.roles=[mixed]", "search.context_parallel=[1]")
QUICKSTART = Path("quickstart")


@pytest.fixture
def plan(solved):
    return solved(find_scenario(QUICKSTART), ASKED).plan


@pytest.fixture
def case():
    return load_scenario(find_scenario(QUICKSTART), ASKED)


def measured(ttft, tpot, *, clients=0, rate=0.0, isl=3000, osl=300):
    duration = 100 / rate if rate else 100 * (ttft + tpot * (osl - 1)) / clients
    return Measured(
        "run.json", "line 1", clients, isl, osl, ttft * 1e3, tpot * 1e3, 100, duration, "fixed", failed=0,
        open_loop="requests came at a rate" if rate else "",
    )  # fmt: skip


def at_plan(plan):
    d = plan.deployments[0]
    return operating.Load(d.requests_per_s, 0.0, 3000.0, 300.0, same_lengths=True)


def test_at_the_planned_rate_the_prediction_is_the_plan_s(plan, case):
    d = plan.deployments[0]
    for name in (d.name, d.workload):
        found = operating.seen(case, operating.streams(plan, name), at_plan(plan))
        assert found.ttft * 1e3 == pytest.approx(d.predicted.ttft_ms, rel=0.02)  # between points of the curve
        assert found.tpot * 1e3 == pytest.approx(d.predicted.tpot_ms, rel=0.005)


def test_pairs_at_the_planned_rate_are_as_planned(solved):
    path = find_scenario(Path("deepseek_v3_h200"))
    plan, case = solved(path).plan, load_scenario(path)
    rates = [route.requests_per_s for route in plan.routes]
    planned_ttft, planned_tpot = (
        np.average([getattr(route, name) for route in plan.routes], weights=rates) for name in ("ttft_ms", "tpot_ms")
    )
    load = operating.Load(0.999 * sum(rates), 0.0, 4000.0, 500.0, same_lengths=True)
    found = operating.seen(case, operating.streams(plan, "chat"), load)
    assert found.ttft * 1e3 <= planned_ttft * 1.02  # the plan states latencies of each part's full rate
    assert found.ttft * 1e3 > 0.5 * planned_ttft
    assert 0.9 * planned_tpot < found.tpot * 1e3 <= planned_tpot * 1.005
    clients = load.rate * (found.ttft + found.tpot * 499)
    closed = operating.seen(case, operating.streams(plan, "chat"), load._replace(rate=0.0, clients=clients))
    assert closed.tpot == pytest.approx(found.tpot, rel=1e-3)
    full = operating.seen(case, operating.streams(plan, "chat"), load._replace(rate=0.0, clients=100 * clients))
    assert np.isnan(full.ttft)


def test_less_load_is_never_slower(plan, case):
    full = at_plan(plan)
    found = [
        operating.seen(case, operating.streams(plan, "chat"), full._replace(rate=full.rate * share))
        for share in (0.1, 0.4, 0.7, 1.0)
    ]
    assert np.all(np.diff([at.tpot for at in found]) > 0)
    assert np.all(np.diff([at.ttft for at in found]) > 0)


def test_more_than_the_plan_carries_is_an_error(plan, case):
    run = measured(1.0, 0.04, rate=500.0)
    with pytest.raises(InputError, match="more than chat carries"):
        compared(plan, case, [Asked(run, "chat", 0)], "plan.json")


@pytest.mark.parametrize(
    ("tp", "field", "offset", "kind"),
    [
        (2, "bandwidth.weights", -1.0, "memory bandwidth"),
        (2, "compute.gemm_bf16", -0.7, "compute"),
        (2, "scheduling.prompt_interference", 0.7, "queueing and interference"),
        (8, "latency.collective", 1.0, "links"),
        (8, "latency.attention_layer", 1.0, "launch latency"),
    ],
)
def test_the_term_that_was_made_worse_is_found(solved, tp, field, offset, kind):
    """Times of the model itself with one efficiency moved, at several loads: that term explains them, or as good as."""
    settings = (f"search.tp=[{tp}]", *ASKED[1:])
    path = find_scenario(QUICKSTART)
    plan, case = solved(path, settings).plan, load_scenario(path, settings)
    found, full = operating.streams(plan, "chat"), at_plan(plan)
    runs = []
    for share in (0.05, 0.3, 0.6, 0.8):
        load = full._replace(rate=full.rate * share)
        worse = operating.seen(case, found, load, moved({field: offset}))
        if np.isfinite(worse.ttft + worse.tpot):
            runs.append(Explained(worse, lambda change, load=load: operating.seen(case, found, load, change)))
    assert len(runs) >= 3
    ranked = causes(runs, setting_of(case, plan.deployments[0].configuration()).efficiencies)
    true = next(cause for cause in ranked if cause.kind == kind)
    assert true.explained > 0.8
    assert true.explained > ranked[0].explained - 0.05
    assert true.tpot > 0


@pytest.mark.parametrize(
    ("model", "other"),
    [
        ("", False),
        ("Qwen/Qwen3-32B", False),
        ("/models/Qwen3-32B-fp8", False),
        ("Qwen3-32B", False),
        ("Qwen3-8B", True),
    ],
)
def test_a_result_of_another_model_is_said(plan, case, model, other):
    run = measured(0.9, 0.038, rate=10.0)._replace(model=model)
    (one,) = compared(plan, case, [Asked(run, "chat", 0)], "plan.json").runs
    assert [model in note for note in one.notes if "the result is of" in note] == [True] * other


def test_what_is_as_predicted_has_no_cause(plan, case):
    found, load = operating.streams(plan, "chat"), at_plan(plan)
    same = Explained(operating.seen(case, found, load), lambda change: operating.seen(case, found, load, change))
    assert causes([same], setting_of(case, plan.deployments[0].configuration()).efficiencies) == []


def test_intervals_are_the_plan_s_and_move_with_the_load(plan, case):
    d = plan.deployments[0]

    class WithIntervals(type(d.predicted)):
        ttft_ms_p10, ttft_ms_p90 = d.predicted.ttft_ms * 0.8, d.predicted.ttft_ms * 1.5
        tpot_ms_p10, tpot_ms_p90 = d.predicted.tpot_ms * 0.9, d.predicted.tpot_ms * 1.2

    whole = WithIntervals(**{name: getattr(d.predicted, name) for name in type(d.predicted)._fields})
    known = plan._replace(deployments=(d._replace(predicted=whole),))
    found = compared(known, case, [Asked(measured(1.0, 0.08, rate=d.requests_per_s / 2), "chat", 0)], "plan.json")
    ttft, tpot = found.runs[0].rows
    assert tpot.p90 == pytest.approx(1.2 * tpot.predicted)
    assert tpot.p10 == pytest.approx(0.9 * tpot.predicted)
    assert tpot.inside is False
    assert ttft.predicted < d.predicted.ttft_ms
    none = compared(plan, case, [Asked(measured(1.0, 0.08, rate=d.requests_per_s / 2), "chat", 0)], "plan.json")
    if getattr(d.predicted, "ttft_ms_p10", None) is None:
        assert none.runs[0].rows[0].inside is None


@pytest.fixture
def files(plan, tmp_path):
    file, result = tmp_path / "plan.json", tmp_path / "chat-mixed-1.json"
    file.write_text(plan_text(plan))
    run = {
        "endpoint_type": "openai", "model_id": "Qwen/Qwen3-32B", "num_prompts": 592, "request_rate": "inf",
        "max_concurrency": 37, "duration": 240.0, "completed": 592, "failed": 0, "total_input_tokens": 592 * 3000,
        "total_output_tokens": 592 * 300, "mean_ttft_ms": 1000.0, "mean_tpot_ms": 46.0,
    }  # fmt: skip
    result.write_text(json.dumps(run))
    return file, result, run


def run(*words):
    return CliRunner().invoke(app, ["compare", *map(str, words)])


def test_the_command_prints_what_is_off_and_how_to_calibrate(files):
    file, result, _ = files
    said = run(file, result)
    assert said.exit_code == 0, said.output
    assert "37 clients" in said.output
    assert "planner import" in said.output
    assert "--set system=h100-sxm" in said.output
    data = json.loads(run(file, result, "--json").output)
    assert [row["metric"] for row in data["runs"][0]["rows"]] == ["ttft", "tpot"]
    assert data["runs"][0]["rows"][1]["measured"] == 46.0
    assert data["causes"]


def test_the_commands_it_offers_run(files, tmp_path):
    """As far as they are quick: the import makes a row that `planner predict` takes."""
    file, result, _ = files
    command = json.loads(run(file, result, "--json").output)["commands"][0].split()
    command[command.index("--append") + 1] = str(tmp_path / "runs.csv")
    assert command[:2] == ["planner", "import"]
    imported = CliRunner().invoke(app, command[1:])
    assert imported.exit_code == 0, imported.output
    predicted = CliRunner().invoke(app, ["predict", str(tmp_path / "runs.csv"), "--json"])
    assert json.loads(predicted.output)[0]["status"] == "ok"


def test_an_unknown_name_is_an_error(files):
    file, result, _ = files
    said = run(file, result, "--of", "chatt")
    assert said.exit_code == 2
    assert "did you mean 'chat'" in said.output


def test_a_result_of_another_shape_is_an_error(files):
    file, result, _ = files
    result.write_text("{}")
    assert run(file, result).exit_code == 2


def test_other_lengths_are_predicted_and_said(files):
    file, result, content = files
    result.write_text(json.dumps(content | {"total_input_tokens": 592 * 1500}))
    assert "prompts of 1500 tokens instead of 3000" in run(file, result).output
