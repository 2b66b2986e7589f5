"""Times of known efficiencies give these back, and files of rows are read as they were written.

PyTorch is needed only to measure.
"""

import json
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from planner.catalog import load_hardware
from planner.cli.microbench import microbench
from planner.errors import InputError
from planner.microbench import cases as c
from planner.microbench import families, results, work
from planner.microbench.device import open_device
from planner.microbench.fit import fit
from planner.microbench.results import Microbenchmark, Row
from planner.microbench.timing import summary

TRUE = {
    "compute.gemm_bf16": 0.7, "compute.gemm_fp8": 0.55, "compute.gemm_int8": 0.5, "bandwidth.weights": 0.85,
    "gemm_floor": 4e-6, "compute.attention": 0.45, "bandwidth.kv_cache": 0.6, "attention_floor": 6e-6,
    "bandwidth.link": 0.75, "latency.collective": 7e-6,
}  # fmt: skip
app = typer.Typer()
app.command()(microbench)


@pytest.fixture(scope="module")
def h100():
    return load_hardware("h100-sxm").value


def benchmark(rows):
    return Microbenchmark(
        device="Made up", backend="cuda", devices=8, torch="2.9.0", driver="CUDA 13.0", planner="0.1",
        date="2026-01-02", duration=12.5, rows=tuple(rows), skipped=("launch_graph fp32: 'no' graphs: none",),
    )  # fmt: skip


def made_up(hardware, noise=0.0):
    """Rows of the whole ladder with the times that known efficiencies would give, and noise."""
    shapes = list(c.cases(c.ACCELERATOR, host_link=True))
    shapes += [c.Case(c.ALL_REDUCE, "bf16", {"devices": 8, "bytes": size}) for size in c.ACCELERATOR.messages]
    plain = [Row(operation=s.operation, dtype=s.dtype, shape=dict(s.shape), seconds=1e-5, spread=0.01) for s in shapes]
    seconds = dict.fromkeys(range(len(plain)), 1e-5)
    for family in (
        families.gemm(plain, hardware, []),
        families.attention(plain, hardware),
        families.links(plain, hardware),
    ):
        values = np.array([TRUE[name] for name in family.names])
        times = family.seconds(values, np.arange(len(family.rows)))
        seconds |= {plain.index(row): float(time) for row, time in zip(family.rows, times, strict=True)}
    random = np.random.default_rng(0)
    return [
        row.model_copy(update={"seconds": seconds[i] * float(np.exp(noise * random.standard_normal()))})
        for i, row in enumerate(plain)
    ]


def fitted(result):
    flat = {
        f"{group}.{name}": value for group, members in result.efficiencies.items() for name, value in members.items()
    }
    return flat | result.observed


def number(value):
    """A share, or a written time in seconds."""
    if not isinstance(value, str):
        return value
    size, unit = value.split()
    return float(size) * {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]


def test_exact_times_give_their_efficiencies_back(h100):
    found = fitted(fit(benchmark(made_up(h100)), h100))
    for name, value in TRUE.items():
        assert number(found[name].value) == pytest.approx(value, rel=2e-3), name
        assert found[name].held_out_error == pytest.approx(0, abs=1e-3)


def test_noisy_times_give_them_within_their_standard_errors(h100):
    found = fitted(fit(benchmark(made_up(h100, noise=0.05)), h100))
    for name, value in TRUE.items():
        assert number(found[name].value) == pytest.approx(value, abs=4 * number(found[name].standard_error)), name
        assert number(found[name].standard_error) < 0.3 * value, name
        assert 0.01 < found[name].held_out_error < 0.1


def test_the_names_are_those_of_a_calibration(h100):
    from planner.schema.efficiency import Efficiencies

    for group, members in fit(benchmark(made_up(h100)), h100).efficiencies.items():
        assert set(members) <= set(Efficiencies.model_fields[group].annotation.model_fields)


def test_a_format_without_a_rate_is_left_out_and_said(h100):
    a100 = load_hardware("a100-80g-sxm").value
    found = fit(benchmark(made_up(h100)), a100)
    assert "gemm_fp8" not in found.efficiencies["compute"]
    assert "a100-80g-sxm has no rate for fp8: its products are left out" in found.notes


def test_what_rows_do_not_determine_has_no_standard_error(h100):
    large = [row for row in made_up(h100, noise=0.05) if row.operation != c.GEMM or row.shape["m"] == 8192]
    found = fit(benchmark(large), h100)
    assert found.efficiencies["bandwidth"]["weights"].standard_error is None
    assert "bandwidth.weights: these rows do not determine it" in found.notes
    assert found.efficiencies["compute"]["gemm_bf16"].value == pytest.approx(0.7, rel=0.1)


def test_too_few_rows_are_said(h100):
    rows = made_up(h100)
    few = [row for row in rows if row.operation != c.GEMM] + [row for row in rows if row.operation == c.GEMM][:4]
    found = fit(benchmark(few), h100)
    assert any(note.startswith("gemm: 4 rows cannot say") for note in found.notes)
    with pytest.raises(InputError, match="too few rows"):
        fit(benchmark(few[:2]), h100)


def test_work_of_operations():
    gemm = Row(operation=c.GEMM, dtype="fp8", shape={"m": 2, "n": 3, "k": 5}, seconds=1.0, spread=0.0)
    assert (work.flops(gemm), work.moved(gemm)) == (60, 15 + 10 + 12)
    shape = {"batch": 2, "tokens": 100, "heads": 8, "kv_heads": 2, "width": 4}
    prefill, decode = (
        Row(operation=o, dtype="bf16", shape=shape, seconds=1.0, spread=0.0) for o in (c.PREFILL, c.DECODE)
    )
    assert work.flops(prefill) == 4 * 2 * 8 * 4 * 100 * 100 / 2
    assert work.flops(decode) == 4 * 2 * 8 * 4 * 100
    assert work.moved(decode) == 2 * (2 * 2 * 4 * (8 + 2 * 100))  # queries and results, keys and values
    pair = Row(operation=c.ALL_REDUCE, dtype="bf16", shape={"devices": 4, "bytes": 1000}, seconds=1.0, spread=0.0)
    assert work.all_reduce_ways(pair) == ((3000, 1), (1500, 2))
    assert work.depth(4) == 1


def test_the_ladder_starts_with_every_operation():
    listed = list(c.cases(c.ACCELERATOR, host_link=True))
    assert {case.operation for case in listed[:11]} == set(c.OPERATIONS) - {c.ALL_REDUCE}
    assert len({str(case) for case in listed}) == len(listed)
    rows = [case.shape["m"] for case in listed if case.operation == c.GEMM and case.dtype == "bf16"]
    assert {rows[0], rows[6]} == {1, 8192}  # what runs out of time still has both ends


def test_a_median_and_the_distance_of_quartiles():
    assert summary([1.0, 2.0, 3.0, 4.0, 5.0]) == (3.0, pytest.approx(2 / 3))


@pytest.mark.parametrize("with_fit", [False, True])
def test_files_are_read_as_they_were_written(tmp_path, h100, with_fit):
    result = benchmark(made_up(h100, noise=0.01))
    result = fit(result, h100) if with_fit else result
    path = tmp_path / "rows.yaml"
    path.write_text(results.text(result))
    again = results.read(path)
    assert results.text(again) == results.text(result)
    assert [row.seconds for row in again.rows] == pytest.approx([row.seconds for row in result.rows], rel=1e-6)
    assert again.skipped == result.skipped
    assert again.efficiencies == result.efficiencies


def test_faults_of_a_file_have_their_place(tmp_path, h100):
    written = results.text(benchmark(made_up(h100)))
    path = tmp_path / "rows.yaml"
    path.write_text(written.replace("shape: {m: 1, n: 4096, k: 4096}", "shape: {m: 1, n: 4096}", 1))
    with pytest.raises(InputError, match=r"rows.yaml:11:\d+: rows.0.shape: of gemm must have m, n, k"):
        results.read(path)
    path.write_text(written.replace("seconds: 1", "seconds: -1").replace("backend: cuda", "backend: gpu"))
    with pytest.raises(InputError) as caught:
        results.read(path)
    assert "backend: must be one of 'cuda', 'npu', 'cpu'" in str(caught.value)
    assert "seconds: must be more than 0" in str(caught.value)


def test_rows_are_fitted_without_pytorch(tmp_path, h100, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    rows, out = tmp_path / "rows.yaml", tmp_path / "fit.yaml"
    rows.write_text(results.text(benchmark(made_up(h100))))
    run = CliRunner().invoke(app, ["--rows", str(rows), "--hardware", "h100-sxm", "--out", str(out)])
    assert run.exit_code == 0, run.output
    assert "compute.gemm_bf16" in run.stdout
    assert results.read(out).hardware == "h100-sxm"
    run = CliRunner().invoke(app, ["--rows", str(rows), "--hardware", "h100-sxm", "--json"])
    assert json.loads(run.stdout)["efficiencies"]["compute"]["gemm_bf16"]["value"] == pytest.approx(0.7, rel=1e-2)
    run = CliRunner().invoke(app, ["--rows", str(rows)])
    assert (run.exit_code, "needs --hardware" in run.stderr) == (2, True)
    run = CliRunner().invoke(app, ["--rows", str(rows), "--hardware", "h100-sxm", "--out", str(rows)])
    assert (run.exit_code, "is the file of rows itself" in run.stderr) == (2, True)


def test_measuring_without_pytorch_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    run = CliRunner().invoke(app, [])
    assert run.exit_code == 2
    assert "error: microbenchmarks need PyTorch: install torch" in run.stderr
    assert run.stderr.count("\n") == 1
    assert "unknown device 'gpu'" in CliRunner().invoke(app, ["--device", "gpu"]).stderr


def test_a_processor_is_measured(tmp_path):
    pytest.importorskip("torch")
    from planner.microbench.measure import measure

    stages = []
    found = measure("cpu", 10.0, stages.append)
    assert {c.GEMM, c.PREFILL, c.DECODE, c.READ, c.COPY, c.EAGER} <= {row.operation for row in found.rows}
    assert found.duration < 60
    assert all(row.seconds > 0 for row in found.rows)
    assert any("replays no graphs" in reason for reason in found.skipped)
    assert stages[0] == "1 of 66: gemm bf16 m=1 n=512 k=512"
    path = tmp_path / "rows.yaml"
    path.write_text(results.text(found))
    assert len(results.read(path).rows) == len(found.rows)


def test_a_kind_that_is_not_there_is_refused():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"sees no cuda here; it has cpu"):
            open_device("cuda")
