"""Calibrations of made-up measurements: what was put in is found, unknown things fall back, files go round."""

import csv
import io
import itertools

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.calibrate import calibrate, read_measurements
from planner.calibrate.data import prepared
from planner.calibrate.design import evaluate
from planner.calibrate.fit import fit, modelled
from planner.catalog import load_calibration, load_efficiencies
from planner.catalog.rows import rows_from_data
from planner.cli import app
from planner.errors import InputError
from planner.posterior import Posterior
from planner.posterior.fields import FIELDS, SHARES, from_scale, slope, to_scale, values_of, with_fields
from planner.prediction import predict_rows
from planner.schema.base import Source

HEADER = (
    "id", "model", "system", "backend", "backend_version", "precision", "devices", "tp", "pp", "attention_dp", "moe_tp",
    "ep", "concurrency", "isl", "osl", "length_spread", "maybe_speculative", "anomalous", "ttft_ms", "tpot_ms",
)  # fmt: skip
SOURCE = Source(title="made up", accessed="now")
SLOW = {"bandwidth.weights": 0.6, "host.request": 0.08}


def grid():
    """Deployments of two models on two systems under two backends, at three loads."""
    models, systems, backends = ("Qwen3-32B", "Llama-3.1-70B"), ("h100_sxm", "h200_sxm"), ("vllm", "trtllm")
    for number, (model, system, backend, tp, clients) in enumerate(
        itertools.product(models, systems, backends, (4, 8), (4, 16, 64))
    ):
        yield {
            "id": f"m{number}", "model": model, "system": system, "backend": backend, "backend_version": "",
            "precision": "fp8", "devices": tp, "tp": tp, "pp": 1, "attention_dp": 1, "moe_tp": 1, "ep": 1,
            "concurrency": clients, "isl": 1024, "osl": 512, "length_spread": "fixed", "maybe_speculative": False,
            "anomalous": False,
        }  # fmt: skip


def measured_text(rows, changed=None, factor=1.0):
    """Write rows with the times that changed efficiencies would give."""
    rows = list(rows)
    truth = Posterior(with_fields(load_efficiencies("operators").value, changed or SLOW))
    found = predict_rows(rows_from_data(list(enumerate(rows))), truth)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, HEADER, lineterminator="\n")
    writer.writeheader()
    for row, p in zip(rows, found, strict=True):
        writer.writerow(row | {"ttft_ms": factor * p.ttft_ms, "tpot_ms": factor * p.tpot_ms})
    return stream.getvalue()


@pytest.fixture(scope="module")
def base():
    return load_efficiencies("operators").value


@pytest.fixture(scope="module")
def measurements(tmp_path_factory):
    path = tmp_path_factory.mktemp("measured") / "rows.csv"
    path.write_text(measured_text(grid()), encoding="utf-8")
    return read_measurements(path)


@pytest.fixture(scope="module")
def calibrated(measurements, base):
    return calibrate(measurements, base, "made-up", SOURCE, lambda stage: None)


def errors(measurements, posterior):
    found = predict_rows(measurements.rows, posterior)
    pairs = ((measurements.ttft, "ttft_ms"), (measurements.tpot, "tpot_ms"))
    return {name: np.abs(np.array([getattr(p, name) for p in found]) / 1e3 / times - 1) for times, name in pairs}


# --- scales and slopes


def test_scales_go_round(base):
    values = values_of(base)
    assert from_scale(to_scale(values)) == pytest.approx(values)
    moved = (from_scale(to_scale(values) + 1e-6) - values) / 1e-6
    assert slope(values) == pytest.approx(moved, rel=1e-4)
    assert (from_scale(to_scale(values) + 50)[: len(SHARES)] <= 1).all()


def test_slopes_from_sympy_equal_central_differences(measurements, base):
    """Of the whole fixed point. Tiles have the slope across their staircase, which shows where the batch moves."""
    (block,) = prepared(measurements, base).blocks
    values = np.repeat(values_of(base)[:, None], block.loop.rows, axis=1)
    _, first, each = evaluate(block, base, values)
    for i, field in enumerate(FIELDS):
        step = 1e-4 * values[i]
        up, down = values.copy(), values.copy()
        up[i] += step
        down[i] -= step
        high, low = (evaluate(block, base, v, gradient=False)[0] for v in (up, down))
        for slopes, a, b in ((first[i], high.ttft, low.ttft), (each[i], high.tpot, low.tpot)):
            expected = (np.log(a) - np.log(b)) / (2 * step)
            assert slopes * values[i] == pytest.approx(expected * values[i], rel=0.05, abs=5e-4), field


# --- what is found


def test_a_fit_explains_what_moved(measurements, base):
    rows = prepared(measurements, base)
    before = modelled(rows.blocks, base, None, len(rows.places))
    fitted = fit(rows.target(rows.weights), base, lambda stage: None)
    after = modelled(rows.blocks, base, fitted, len(rows.places))
    for times, old, new in zip(rows.times, before, after, strict=True):
        assert np.abs(np.log(new / times)).mean() < 0.85 * np.abs(np.log(old / times)).mean()
    assert (fitted.errors > 0).all()
    of_all = {FIELDS[p.field]: o for p, o in zip(fitted.parameters, fitted.offsets, strict=True) if p.system is None}
    assert of_all["bandwidth.weights"] < 0 < of_all["host.request"]
    assert of_all["latency.mla_layer"] == pytest.approx(0, abs=1e-12)  # no row says anything of it


def test_measured_deployments_are_predicted_closely(measurements, base, calibrated):
    calibration, report = calibrated
    before, after = errors(measurements, Posterior(base)), errors(measurements, Posterior.of(calibration))
    assert before["tpot_ms"].mean() > 0.08
    assert max(after["tpot_ms"].mean(), after["ttft_ms"].mean()) < 0.02
    assert report["fitted"]["rows"] == report["rows"]["fitted"] == 48
    known = report["held_out"]["known deployment, unseen load"]
    assert known["tpot_mean"] < 100 * before["tpot_ms"].mean() / 2


def test_intervals_hold_the_prediction_and_widen_with_distance(measurements, calibrated):
    posterior = Posterior.of(calibrated[0])
    known = dict(zip(HEADER, (str(v) for v in next(iter(grid())).values()), strict=False))
    cases = {
        "deployment": known,
        "system+backend": known | {"tp": 2, "devices": 2},
        "system": known | {"backend": "sglang"},
        "none": known | {"system": "b200_sxm"},
    }
    found = predict_rows(rows_from_data([(i, c | {"id": b}) for i, (b, c) in enumerate(cases.items())]), posterior)
    assert [p.basis for p in found] == list(cases)
    widths = []
    for p in found:
        assert p.tpot_ms_p10 < p.tpot_ms < p.tpot_ms_p90
        assert p.ttft_ms_p10 < p.ttft_ms < p.ttft_ms_p90
        widths.append(p.tpot_ms_p90 / p.tpot_ms_p10)
    assert widths[0] == min(widths)
    far = known | {"isl": 30000, "id": "far"}
    ((wide,), (near,)) = (predict_rows(rows_from_data([(1, c)]), posterior) for c in (far, known))
    assert wide.tpot_ms_p90 / wide.tpot_ms_p10 > near.tpot_ms_p90 / near.tpot_ms_p10


def test_the_order_of_rows_does_not_matter(measurements, base, calibrated):
    turned = measurements.take(np.arange(len(measurements.rows))[::-1])
    again, _ = calibrate(turned, base, "made-up", SOURCE, lambda stage: None)
    assert errors(measurements, Posterior.of(again))["tpot_ms"] == pytest.approx(
        errors(measurements, Posterior.of(calibrated[0]))["tpot_ms"], abs=1e-4
    )


def test_flagged_rows_teach_nothing(tmp_path, base):
    rows = [row | {"anomalous": row["id"] != "m0"} for row in grid()]
    path = tmp_path / "rows.csv"
    path.write_text(measured_text(rows[:6]), encoding="utf-8")
    calibration, report = calibrate(read_measurements(path), base, "one", SOURCE, lambda stage: None)
    assert report["rows"] == {"measured": 6, "fitted": 1, "refused": 0}
    assert len(calibration.rows.splitlines()) == 2


# --- files and faults


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_calibration_goes_round_as_a_file(tmp_path, calibrated, measurements):
    rows, out = tmp_path / "rows.csv", tmp_path / "mine.yaml"
    rows.write_text(measured_text(grid()), encoding="utf-8")
    done = run("calibrate", rows, "--out", out)
    assert done.exit_code == 0, done.output
    assert "held out: unseen deployment" in done.output
    loaded = load_calibration(str(out)).value
    assert loaded.rows == calibrated[0].rows
    assert errors(measurements, Posterior.of(loaded))["tpot_ms"] == pytest.approx(
        errors(measurements, Posterior.of(calibrated[0]))["tpot_ms"], abs=1e-6
    )
    predicted = run("predict", rows, "--calibration", out)
    assert predicted.output.splitlines()[0].split(",")[-5:] == [
        "ttft_ms_p10", "ttft_ms_p90", "tpot_ms_p10", "tpot_ms_p90", "basis",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ttft_ms": "fast"}, ":2:1: ttft_ms: must be a number of at least 0.001 (got 'fast')"),
        ({"tpot_ms": ""}, ":2:1: tpot_ms: is empty"),
        ({"anomalous": "maybe"}, ":2:1: anomalous: must be True or False (got 'maybe')"),
        ({"tp": "0"}, ":2:1: tp: must be a number of at least 1 (got '0')"),
    ],
)
def test_faults_are_placed(tmp_path, change, message):
    (row,) = csv.DictReader(io.StringIO(measured_text(itertools.islice(grid(), 1))))
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([",".join(HEADER), ",".join(str((row | change)[name]) for name in HEADER), ""]))
    out = tmp_path / "out.yaml"
    found = run("calibrate", path, "--out", out)
    assert found.exit_code == 2
    assert message in found.output
    assert not out.exists()


def test_nothing_to_fit_to_is_said(tmp_path, base):
    path = tmp_path / "rows.csv"
    path.write_text(",".join(HEADER) + "\n")
    with pytest.raises(InputError, match="holds no rows"):
        read_measurements(path)
    text = measured_text(itertools.islice(grid(), 1)).replace("Qwen3-32B", "NoSuchModel")
    path.write_text(text)
    with pytest.raises(InputError, match="no row can be fitted: model"):
        calibrate(read_measurements(path), base, "none", SOURCE, lambda stage: None)
    assert run("calibrate").exit_code == 2
