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
from planner.catalog import load_calibration, load_efficiencies, load_priors
from planner.catalog.rows import rows_from_data
from planner.cli import app
from planner.errors import InputError
from planner.posterior import Posterior
from planner.posterior.fields import FIELDS, SHARES, datasheet, from_scale, slope, to_scale, values_of, with_fields
from planner.prediction import predict_rows
from planner.schema.base import Source

HEADER = (
    "id", "model", "system", "backend", "backend_version", "precision", "devices", "tp", "pp", "attention_dp", "moe_tp",
    "ep", "concurrency", "isl", "osl", "length_spread", "maybe_speculative", "anomalous", "ttft_ms", "tpot_ms",
)  # fmt: skip
SOURCE = Source(title="made up", accessed="now")
PRIORS = load_priors("silicon").value
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
    return calibrate(measurements, base, PRIORS, "made-up", SOURCE, lambda stage: None)


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
    (block,) = prepared(measurements, base, PRIORS).blocks
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
    rows = prepared(measurements, base, PRIORS)
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
    again, _ = calibrate(turned, base, PRIORS, "made-up", SOURCE, lambda stage: None)
    assert errors(measurements, Posterior.of(again))["tpot_ms"] == pytest.approx(
        errors(measurements, Posterior.of(calibrated[0]))["tpot_ms"], abs=1e-4
    )


def test_flagged_rows_teach_nothing(tmp_path, base):
    rows = [row | {"anomalous": row["id"] != "m0"} for row in grid()]
    path = tmp_path / "rows.csv"
    path.write_text(measured_text(rows[:6]), encoding="utf-8")
    calibration, report = calibrate(read_measurements(path), base, PRIORS, "one", SOURCE, lambda stage: None)
    assert report["rows"] == {"measured": 6, "fitted": 1, "refused": 0}
    assert len(calibration.rows.splitlines()) == 2


def test_rows_faster_than_data_sheets_teach_nothing_and_are_named(tmp_path, base):
    """One run whose prompts came from a cache must not make other deployments look faster."""
    path = tmp_path / "rows.csv"
    rows = read_measurements(_written(path, measured_text(list(grid())[:6])))
    assert (prepared(rows, base, PRIORS).datasheet < 1).all()
    fast = rows._replace(
        ttft=np.where(np.arange(6) == 2, rows.ttft / 20, rows.ttft),
        tpot=np.where(np.arange(6) == 2, rows.tpot / 20, rows.tpot),
    )
    ready = prepared(fast, base, PRIORS)
    assert np.nonzero(ready.weights == 0)[0].tolist() == [2]
    assert ready.datasheet[2] == pytest.approx(20 * prepared(rows, base, PRIORS).datasheet[2])
    _, report = calibrate(fast, base, PRIORS, "one", SOURCE, lambda stage: None)
    assert [row["id"] for row in report["impossible"]] == ["m2"]
    assert report["rows"]["fitted"] == 5


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_row_is_possible_up_to_the_data_sheet_itself(tmp_path, base, share):
    """Software that reaches every rate takes the whole time that data sheets allow: a share of 1."""
    rows = read_measurements(_written(tmp_path / "rows.csv", measured_text(list(grid())[:3])))
    perfect = predict_rows(rows.rows, Posterior(datasheet(base)))
    at_limit = rows._replace(
        ttft=np.array([p.ttft_ms for p in perfect]) / 1e3 / share,
        tpot=np.array([p.tpot_ms for p in perfect]) / 1e3 / share,
    )
    if share > 1:
        with pytest.raises(InputError, match="faster than data sheets allow"):
            prepared(at_limit, base, PRIORS)
    else:
        assert prepared(at_limit, base, PRIORS).datasheet == pytest.approx(share, rel=0.02)


def _written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


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
        ({"ttft_ms": "", "tpot_ms": ""}, ":2:1: tpot_ms: is empty"),
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
        calibrate(read_measurements(path), base, PRIORS, "none", SOURCE, lambda stage: None)
    assert run("calibrate").exit_code == 2


# --- runs of one role, times that were not measured, and who measured


ASCEND = {
    "model": "DeepSeek-V3", "system": "ascend-910c", "backend": "sglang", "precision": "int8", "tp": 1,
    "attention_dp": 32, "moe_tp": 1, "ep": 32, "devices": 32, "isl": 2000, "osl": 500,
    "speculative_acceptance": "0.7", "expert_load": "even",
}  # fmt: skip


def one_role(folder, factor=1.0):
    """Decode steps at five batches, and one prefill, from two sources, as much slower as is asked for."""
    base = dict.fromkeys(HEADER, "") | next(grid()) | ASCEND
    rows = [base | {"id": f"d{n}", "role": "decode", "concurrency": 32 * n, "source": "ab"[n % 2]} for n in range(1, 6)]
    rows.append(base | {"id": "p", "role": "prefill", "concurrency": 64, "speculative_acceptance": "", "source": "a"})
    found = predict_rows(rows_from_data(list(enumerate(rows))), Posterior(load_efficiencies("operators").value))
    path = folder / "one_role.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [*rows[0]], lineterminator="\n")
        writer.writeheader()
        for row, p in zip(rows, found, strict=True):
            ttft, tpot = ("" if t is None else factor * t for t in (p.ttft_ms, p.tpot_ms))
            writer.writerow(row | {"ttft_ms": ttft, "tpot_ms": tpot})
    return path


def test_slopes_of_one_role_equal_central_differences(tmp_path, base):
    rows = prepared(read_measurements(one_role(tmp_path)), base, PRIORS)
    for block in rows.blocks:
        values = np.repeat(values_of(base)[:, None], block.loop.rows, axis=1)
        found, *by_field = evaluate(block, base, values)
        for i, field in enumerate(FIELDS):
            step = 1e-4 * values[i]
            up, down = values.copy(), values.copy()
            up[i] += step
            down[i] -= step
            high, low = (evaluate(block, base, v, gradient=False)[0] for v in (up, down))
            for name, part in zip(("ttft", "tpot"), by_field, strict=True):
                if np.isfinite(getattr(found, name)).all():
                    expected = (np.log(getattr(high, name)) - np.log(getattr(low, name))) / (2 * step)
                    assert part[i] * values[i] == pytest.approx(expected * values[i], rel=0.05, abs=5e-4), field


def test_what_one_role_measures_is_believed_and_the_other_time_stays_open(tmp_path, base):
    measurements = read_measurements(one_role(tmp_path, factor=1.3))
    assert np.isnan(measurements.ttft).sum() == 5
    assert np.isnan(measurements.tpot).sum() == 1
    calibration, report = calibrate(measurements, base, PRIORS, "one-role", SOURCE, lambda stage: None)
    assert report["held_out"]["unseen source"]["rows"] == 5  # that have a TPOT
    found = predict_rows(measurements.rows, Posterior.of(calibration))
    for p, tpot in zip(found, measurements.tpot, strict=True):
        assert (p.tpot_ms is None) == np.isnan(tpot)
        if p.tpot_ms is not None:
            assert p.tpot_ms / 1e3 == pytest.approx(tpot, rel=0.1)
            assert p.tpot_ms_p10 < p.tpot_ms < p.tpot_ms_p90
    assert ",," in calibration.rows  # an open residual


def test_a_time_that_a_role_does_not_have_is_refused(tmp_path):
    path = one_role(tmp_path)
    text = path.read_text(encoding="utf-8").splitlines()
    place = text[0].split(",").index("ttft_ms")
    cells = text[1].split(",")
    cells[place] = "12"
    path.write_text("\n".join([text[0], ",".join(cells)]), encoding="utf-8")
    with pytest.raises(InputError, match="a replica that only does decode has no such time"):
        read_measurements(path)
