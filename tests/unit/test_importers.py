"""Result files of five benchmarks become the same kind of rows; what cannot be a row is named, all at once."""

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from planner.catalog.rows import read_rows
from planner.cli.import_ import import_
from planner.errors import InputError
from planner.importers import FORMATS, read_benchmark
from planner.importers.csv_file import COLUMNS
from planner.importers.deployment import load_deployment
from planner.importers.measured import length_spread
from planner.importers.rows import measurement_rows

DATA = Path(__file__).parent / "data" / "benchmarks"
FACTS = ("model=Qwen/Qwen3-8B", "system=h100-sxm", "backend=vllm", "precision=bf16", "tp=2")
# format: file, then clients, isl, osl, TTFT and TPOT of the first closed loop
FILES = {
    "vllm": ("vllm.json", (8, 512, 64, 100.0, 10.0)),
    "sglang": ("sglang.jsonl", (16, 1000, 100, 200.0, 12.0)),
    "aiperf": ("profile_export_aiperf.json", (10, 550, 64, 50.0, 15.0)),
    "guidellm": ("guidellm.json", (1, 256, 128, 30.0, 8.0)),
    "aisbench": ("aisbench.json", (12, 1024, 128, 149.0, 14.0)),
}

app = typer.Typer()
app.command("import")(import_)
app.callback()(lambda: None)


def run(*arguments):
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def sets(*facts):
    return [part for fact in facts for part in ("--set", fact)]


def changed(tmp_path, name, change):
    """A copy of a JSON file whose only run was changed."""
    data = json.loads(
        (DATA / name).read_text().splitlines()[0] if name.startswith(("vllm", "sglang")) else (DATA / name).read_text()
    )
    change(data)
    path = tmp_path / name
    path.write_text(json.dumps(data))
    return path


def rows(path, *facts):
    return measurement_rows(read_benchmark(path), *load_deployment(None, facts or FACTS)).rows


def test_there_is_a_file_for_every_format():
    assert set(FILES) == set(FORMATS)


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_recognised_and_read(name):
    file, expected = FILES[name]
    found = read_benchmark(DATA / file)
    assert found == read_benchmark(DATA / file, name)
    first = found[0]
    assert (first.concurrency, first.isl, first.osl, first.ttft_ms, first.tpot_ms) == pytest.approx(expected)
    assert first.in_flight == pytest.approx(first.concurrency, rel=0.02)  # Little's law: times and lengths fit together
    assert first.ttft_tail.p99 > first.ttft_ms
    assert not first.open_loop


@pytest.mark.parametrize("name", FILES)
def test_rows_can_be_read_back_as_prediction_rows(name, tmp_path):
    file, (clients, isl, osl, *_) = FILES[name]
    facts = [fact.replace("vllm", "sglang") if name == "sglang" else fact for fact in FACTS if "model" not in fact]
    out = tmp_path / "rows.csv"
    model = [] if name != "aisbench" else sets("model=Qwen/Qwen3-8B")
    result = run(DATA / file, *sets(*facts), *model, "--skip-open-loop", "--out", out)
    assert result.exit_code == 0, result.output
    assert out.read_text().splitlines()[0] == ",".join(COLUMNS)
    first = read_rows(out)[0]
    assert (first.concurrency, first.isl, first.osl, first.tp, first.moe_tp, first.ep) == (clients, isl, osl, 2, 2, 1)


def test_lengths_are_nominal_and_the_spread_says_how_far_they_lie_apart():
    fixed, spread = read_benchmark(DATA / "sglang.jsonl")
    assert (fixed.length_spread, spread.length_spread) == ("fixed", "uniform[0.8,1]")
    assert (spread.isl, spread.osl) == (900, 90)  # the mean of 0.8 to 1 times what was asked for
    facts = [fact.replace("vllm", "sglang") for fact in FACTS[1:]]
    row = rows(DATA / "sglang.jsonl", *facts)[1]
    assert (row["isl"], row["osl"]) == (1000, 100)


def test_a_uniform_spread_is_found_again_from_the_lengths_of_all_requests():
    assert length_spread([100, 101, 99], [50, 50]) == "fixed"
    low, high = (float(x) for x in length_spread([100] * 101, range(80, 121)).removeprefix("uniform[")[:-1].split(","))
    assert (low, high) == pytest.approx((0.8, 1.2), abs=0.01)


def test_vllm_says_how_lengths_spread_only_with_details(tmp_path):
    def vary(data):
        data["total_output_tokens"] += 5

    assert read_benchmark(changed(tmp_path, "vllm.json", vary))[0].length_spread == ""
    result = run(tmp_path / "vllm.json", *sets(*FACTS))
    assert "taken as fixed" in result.stderr
    assert ",fixed," in result.stdout
    assert "uniform" in run(tmp_path / "vllm.json", *sets(*FACTS, "length_spread=uniform[0.9,1.1]")).stdout

    def detail(data):
        lengths = [48, 80] * 32
        data.update(total_output_tokens=sum(lengths), input_lens=[512] * 64, output_lens=lengths)

    assert read_benchmark(changed(tmp_path, "vllm.json", detail))[0].length_spread.startswith("uniform[0.56")


def test_guidellm_times_per_token_leave_the_first_token_out_and_are_means_over_requests():
    single, many, varied, _ = read_benchmark(DATA / "guidellm.json")
    assert (single.tpot_ms, many.tpot_ms) == (8.0, 11.0)
    assert varied.tpot_ms == 12.0  # of 10, 14, 10, 14; the report's mean over tokens is 12.4
    (old,) = read_benchmark(DATA / "guidellm_0.3.json")
    assert (old.concurrency, old.tpot_ms, old.model) == (4, 9.0, "Qwen/Qwen3-8B")


def test_units_of_aiperf_are_those_the_file_gives(tmp_path):
    def seconds(data):
        data["time_to_first_token"] = {"unit": "sec", "avg": 0.05, "p50": 0.049}
        data["benchmark_duration"] = {"unit": "ms", "avg": 9950.0}

    found = read_benchmark(changed(tmp_path, "profile_export_aiperf.json", seconds))[0]
    assert (found.ttft_ms, found.ttft_tail.p50, found.duration_s) == pytest.approx((50, 49, 9.95))
    with pytest.raises(InputError, match=r"inter_token_latency.unit: must be a unit of time"):
        read_benchmark(
            changed(tmp_path, "profile_export_aiperf.json", lambda d: d["inter_token_latency"].update(unit="h"))
        )


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("vllm.json", lambda d: d.update(request_rate=4.0), "at 4 per second"),
        ("vllm.json", lambda d: d.update(max_concurrency=None), "sent at once; --max-concurrency"),
        ("vllm.json", lambda d: d.update(ramp_up_strategy="linear"), "ramped up"),
        ("sglang.jsonl", lambda d: d.update(request_rate="trace"), "as a trace has them"),
        ("profile_export_aiperf.json", lambda d: d["input_config"]["loadgen"].update(request_rate=3.0), "at 3 per sec"),
        (
            "profile_export_aiperf.json",
            lambda d: d["input_config"].update(phases=[{"type": "poisson", "rate": 2.0, "concurrency": 9}]),
            "at 2 per second",
        ),
    ],
)  # fmt: skip
def test_open_loops_are_no_rows(tmp_path, name, change, reason):
    path = changed(tmp_path, name, change)
    out = tmp_path / "rows.csv"
    result = run(path, *sets(*FACTS), "--out", out)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert "fixed number of clients" in result.stderr
    assert not out.exists()
    assert run(path, *sets(*FACTS), "--skip-open-loop").exit_code == 2  # no run is left


def test_newer_configurations_of_aiperf_list_phases(tmp_path):
    phases = [{"type": "concurrency", "concurrency": 2, "exclude_from_results": True}]
    phases.append({"type": "concurrency", "concurrency": 10})
    path = changed(tmp_path, "profile_export_aiperf.json", lambda d: d["input_config"].update(phases=phases))
    assert read_benchmark(path)[0].concurrency == 10


@pytest.mark.parametrize(
    ("change", "doubt"),
    [
        ({"failed": 6}, "6 of 70 requests failed"),
        (
            {"completed": 5, "total_input_tokens": 2560, "total_output_tokens": 320},
            "5 requests cannot keep 8 clients busy",
        ),
        ({"duration": 11.68}, "only 4.0 of 8 clients"),
        ({"mean_ttft_ms": 0.1, "mean_tpot_ms": 40.0}, "are more than 8 clients can have"),
    ],
)
def test_doubtful_figures_are_marked_anomalous(tmp_path, change, doubt):
    path = changed(tmp_path, "vllm.json", lambda d: d.update(change))
    result = run(path, *sets(*FACTS), "--json")
    assert result.exit_code == 0
    assert doubt in result.stderr
    assert [row["anomalous"] for row in json.loads(result.stdout)] == [True]


def test_drafts_that_the_file_shows_are_not_hidden(tmp_path):
    rates = {"spec_decode_acceptance_length": 2.2, "spec_decode_per_position_acceptance_rates": [0.8, 0.4, 0.0]}
    (row,) = rows(changed(tmp_path, "vllm.json", lambda d: d.update(rates)))
    assert row["speculative_acceptance"] == "0.8,0.5"  # each after those before it
    assert row["maybe_speculative"] is False
    path = changed(tmp_path, "sglang.jsonl", lambda d: d.update(accept_length=2.5))
    facts = [fact.replace("vllm", "sglang") for fact in FACTS[1:]]
    result = run(path, *sets(*facts), "--json")
    assert json.loads(result.stdout)[0]["maybe_speculative"] is True
    assert "speculative_acceptance" in result.stderr


def test_the_server_of_sglang_says_what_it_is(tmp_path):
    def spread(data):
        data["server_info"] |= {
            "tp_size": 8,
            "dp_size": 4,
            "enable_dp_attention": True,
            "ep_size": 8,
            "quantization": "fp8",
        }

    (row,) = rows(changed(tmp_path, "sglang.jsonl", spread), "system=h200-sxm")
    assert (row["tp"], row["attention_dp"], row["ep"], row["moe_tp"], row["devices"]) == (2, 4, 8, 1, 8)
    assert (row["precision"], row["backend_version"]) == ("fp8", "0.5.4")
    result = run(DATA / "sglang.jsonl", *sets("system=h200-sxm", "precision=bf16", "tp=4"))
    assert "tp: is 4, but" in result.stderr
    assert result.exit_code == 2


def test_all_faults_of_all_files_are_told_at_once_and_nothing_is_written(tmp_path):
    broken = changed(
        tmp_path, "vllm.json", lambda d: (d.pop("duration"), d.update(mean_ttft_ms=0.0, endpoint_type="x"))
    )
    broken.write_text(broken.read_text().replace('"num_prompts"', '"duration": null, "num_prompts"'))
    other = tmp_path / "other.json"
    other.write_text('\n\n{"figures": [1, 2}')
    out = tmp_path / "rows.csv"
    result = run(broken, other, *sets(*FACTS), "--out", out)
    assert result.exit_code == 2
    assert f"{broken}:1:1: duration: is missing" in result.stderr
    assert "mean_ttft_ms: must be more than 0: without streaming" in result.stderr
    assert f"{other}:3:" in result.stderr
    assert not out.exists()


def test_unknown_files_and_wrong_facts_name_what_would_be_right(tmp_path):
    odd = tmp_path / "odd.json"
    odd.write_text('{"a": 1}')
    assert "is of no known format; known: vllm (" in run(odd, *sets(*FACTS)).stderr
    assert "mean_ttft_ms: is missing" in run(odd, "--format", "vllm", *sets(*FACTS)).stderr
    assert "did you mean 'vllm'" in run(odd, "--format", "vlm", *sets(*FACTS)).stderr
    said = run(DATA / "vllm.json", *sets("systm=h100-sxm", "precision=bf16", "tp=0")).stderr
    assert "did you mean 'system'" in said
    assert "tp: must be at least 1" in said
    said = run(DATA / "vllm.json", *sets("system=h100-sxm", "tp=2", "ep=4", "devices=3", "concurrency=9")).stderr
    for words in (
        "backend: is required",
        "precision: is required",
        "ep × moe_tp must be",
        "devices: must be tp × pp",
        "9",
    ):
        assert words in said


def test_the_file_of_times_must_lie_beside_that_of_totals(tmp_path):
    shutil.copy(DATA / "aisbench.json", tmp_path)
    with pytest.raises(InputError, match=r"aisbench.csv: no such file"):
        read_benchmark(tmp_path / "aisbench.json")
    times = (DATA / "aisbench.csv").read_text().replace("TPOT,total,14.0 ms", "TPOT,total,14.0 h").replace("TTFT", "FT")
    (tmp_path / "aisbench.csv").write_text(times)
    with pytest.raises(InputError) as caught:
        read_benchmark(tmp_path / "aisbench.csv")
    said = str(caught.value)
    assert "aisbench.csv:4:1: TPOT, Average: must be more than 0" in said
    assert "no row 'TTFT' of this stage" in said


def test_rows_are_added_once_under_the_columns_of_the_file(tmp_path):
    out = tmp_path / "rows.csv"
    first = ["--append", out, *sets(*FACTS)]
    assert "2 rows written" in run(DATA / "vllm.json", *first).stdout
    assert "1 row added" in run(DATA / "profile_export_aiperf.json", *first).stdout
    before = out.read_text()
    again = run(DATA / "vllm.json", *first)
    assert again.exit_code == 2
    assert "was this file imported before? --id" in again.stderr
    assert "column is missing" in run(DATA / "vllm.json", *first, "--id", "b", "--set", "kv_precision=fp8").stderr
    assert out.read_text() == before
    assert [row.concurrency for row in read_rows(out)] == [8, 32, 10]


def test_a_deployment_file_is_read_and_settings_win(tmp_path):
    path = tmp_path / "deployment.yaml"
    path.write_text("system: h100-sxm\nbackend: vllm\nbackend_version: 0.10\nprecision: bf16\ntp: 1\n")
    result = run(DATA / "vllm.json", "--deployment", path, "--set", "tp=4")
    assert "backend_version: must be text in quotes" in result.stderr
    path.write_text(path.read_text().replace("0.10", "'0.10'"))
    result = run(DATA / "vllm.json", "--deployment", path, "--set", "tp=4")
    assert ",0.10,bf16,4,4,1,1,4,1,8,512,64," in result.stdout


def test_sources_are_not_overwritten(tmp_path):
    shutil.copy(DATA / "vllm.json", tmp_path)
    result = run(tmp_path / "vllm.json", *sets(*FACTS), "--out", tmp_path / "vllm.json")
    assert result.exit_code == 2
    assert "is a result of a benchmark itself" in result.stderr


# What pinned clients wrote about `planner fake-engine`: vLLM 0.24.0, SGLang 0.5.23, AIPerf 0.13.0, GuideLLM 0.8.1 and
# AISBench 3.1, their per-request lists shortened. All asked for 128 tokens in and 32 out.
CLIENTS = DATA / "clients"
CLOSED = (
    "vllm-closed.json",
    "sglang-closed.jsonl",
    "aiperf-closed/profile_export_aiperf.json",
    "guidellm-closed.json",
    "aisbench-closed.json",
)
OPEN = ("vllm-open.json", "sglang-open.jsonl", "aiperf-open/profile_export_aiperf.json", "guidellm-open.json")


@pytest.mark.parametrize("name", CLOSED)
def test_loops_are_read_as_the_real_clients_write_them(name):
    (found,) = read_benchmark(CLIENTS / name)
    assert (found.concurrency, found.isl, found.osl, found.completed) == (8, 128, 32, 32)
    assert not found.failed
    assert found.length_spread == "fixed"
    assert 6 < found.tpot_ms < 8  # they measured the same engine
    assert found.completed / found.duration_s == pytest.approx(
        8e3 / (found.ttft_ms + 31 * found.tpot_ms), rel=0.15
    )  # Little's law


@pytest.mark.parametrize("name", OPEN)
def test_open_loops_are_told_as_the_real_clients_write_them(name):
    (found,) = read_benchmark(CLIENTS / name)
    assert "20 per second" in found.open_loop
    assert found.concurrency == 0
