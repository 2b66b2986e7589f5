"""Trials through commands: launch, health, load, and every way that it fails; nothing is left running."""

import json
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner.api import load_scenario
from planner.cli import app
from planner.errors import InputError
from planner.launch.definition import definition, from_flags
from planner.studies.tuning.log import Options
from planner.studies.tuning.loop import asked, standing, tuner_of
from planner.studies.tuning.run import adapted, values_of
from planner.trials import Adapter, adapter_names, load_adapter, run_trial

SERVER = """
import http.server, os, subprocess, sys
open(sys.argv[2], "w").write(str(os.getpid()))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[2] + ".child", "w").write(str(child.pid))
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Health).serve_forever()
"""
RESULT = {
    "endpoint_type": "openai", "num_prompts": 40, "request_rate": "inf", "max_concurrency": 8, "duration": 20.0,
    "completed": 40, "failed": 0, "total_input_tokens": 4000, "total_output_tokens": 400, "mean_ttft_ms": 100.0,
    "mean_tpot_ms": 10.0,
}  # fmt: skip


@pytest.fixture
def adapter_of(tmp_path):
    """Return a function that makes an adapter of Python programs."""

    def make(benchmark=None, server=SERVER, **changes):
        written = f"open('result.json', 'w').write({json.dumps(json.dumps(RESULT))})"
        programs = {"server.py": server, "benchmark.py": benchmark or written}
        for name, text in programs.items():
            (tmp_path / name).write_text(f"import os\nos.chdir({str(tmp_path / 'trial')!r})\n{textwrap.dedent(text)}")
        launch = f"{sys.executable} {tmp_path}/server.py {{port}} {tmp_path}/pid"
        data = {
            "launch": {"command": launch, "ready_timeout": "20 s", "stop_timeout": "2 s"},
            "benchmark": {"command": f"{sys.executable} {tmp_path}/benchmark.py", "result": "result.json"},
        }
        for key, value in changes.items():
            section, _, field = key.partition("_")
            data[section][field] = value
        return Adapter.model_validate(data)

    return make


def alive(pid):
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_trial_is_launched_measured_and_cleaned_up_with_all_it_started(adapter_of, tmp_path):
    outcome = run_trial(adapter_of(), {}, tmp_path / "trial")
    assert (outcome.failure, outcome.reason) == ("", "")
    assert (outcome.run.concurrency, outcome.run.ttft_ms, outcome.run.osl) == (8, 100.0, 10.0)
    for name in ("pid", "pid.child"):
        assert not alive(int((tmp_path / name).read_text()))


@pytest.mark.parametrize(
    ("changes", "failure", "words"),
    [
        ({"server": "raise SystemExit('out of memory')"}, "no_start", "out of memory"),
        ({"server": "import time; time.sleep(60)", "launch_ready_timeout": "1 s"}, "no_start", "not ready after 1 s"),
        ({"launch_command": "no-such-engine --port {port}"}, "no_start", "cannot be run"),
        ({"benchmark": "import time; time.sleep(60)", "benchmark_timeout": "1 s"}, "no_answer", "not ended after 1 s"),
        ({"benchmark": "raise SystemExit('bad flag')"}, "unreadable", "bad flag"),
        ({"benchmark": "open('result.json', 'w').write('{not json')"}, "unreadable", "not valid JSON"),
        ({"benchmark": "open('result.json', 'w').write('{}')"}, "unreadable", "no known format"),
        ({"benchmark": "pass"}, "unreadable", "wrote no result.json"),
        (
            {"benchmark": f"open('result.json', 'w').write({json.dumps(json.dumps({**RESULT, 'mean_ttft_ms': 0}))})"},
            "unreadable",
            "must be more than 0",
        ),
        (
            {"benchmark": "import os, signal, time; os.kill(int(open('../pid').read()), 9); time.sleep(0.5)"},
            "no_answer",
            "ended with code -9 under load",
        ),
    ],
)
def test_how_a_trial_fails_is_told_and_nothing_is_left_running(adapter_of, tmp_path, changes, failure, words):
    outcome = run_trial(adapter_of(**changes), {}, tmp_path / "trial")
    assert outcome.failure == failure, outcome
    assert words in outcome.reason
    assert outcome.run is None
    time.sleep(0.1)
    pids = [int((tmp_path / name).read_text()) for name in ("pid", "pid.child") if (tmp_path / name).exists()]
    assert not any(alive(pid) for pid in pids)


def test_the_result_of_an_interrupted_trial_is_not_taken_for_a_new_one(adapter_of, tmp_path):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "result.json").write_text(json.dumps(RESULT))
    assert run_trial(adapter_of("pass"), {}, tmp_path / "trial").failure == "unreadable"


def test_an_engine_that_ignores_the_polite_request_is_ended_all_the_same(adapter_of, tmp_path):
    stubborn = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVER
    outcome = run_trial(adapter_of(server=stubborn, launch_stop_timeout="1 s"), {}, tmp_path / "trial")
    assert outcome.failure == ""
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("name", adapter_names())
def test_the_places_of_every_shipped_adapter_have_values(name, tmp_path):
    case = load_scenario("fake_engine")
    adapter = load_adapter(("vllm", name))
    adapted(case, adapter, Options(), tmp_path, tmp_path, None)
    tuner = tuner_of(case, Options())
    trial = asked(tuner, standing(tuner, ()), 1)
    values = {**values_of(case, trial.candidate, Options(), tmp_path, None), "port": 1, "url": "u", "folder": "f"}
    for command in (adapter.launch, adapter.benchmark):
        assert not any("{" in word for word in command.line(values))
    for text in adapter.benchmark.files.values():
        compile(text.format_map(values), "file", "exec")


def test_options_of_a_command_are_left_out_where_their_values_are_as_given():
    launch = load_adapter(["vllm"]).launch
    values = dict.fromkeys(set(launch.names()), 1) | {"kv_precision": "bf16", "quantised_to": ""}
    assert "--enable-expert-parallel" not in launch.line(values)
    assert "--enable-expert-parallel" in launch.line(values | {"ep": 8})
    assert launch.line(values | {"kv_precision": "fp8"})[-2:] == ["--kv-cache-dtype", "fp8"]


@pytest.mark.parametrize(
    ("name", "part", "definition_of", "program", "words"),
    [
        ("vllm", "launch", "vllm", "serve", 3),
        ("vllm", "benchmark", "vllm", "bench", 3),
        ("sglang", "launch", "sglang", "serve", 3),
        ("sglang", "benchmark", "sglang", "bench", 3),
        ("aiperf", "benchmark", "aiperf", "bench", 2),
    ],
)
def test_shipped_adapters_use_options_that_pinned_versions_take(name, part, definition_of, program, words):
    """With every option that some trials need; the words before are the program's, and a model without a name."""
    command = getattr(load_adapter(("vllm", name)), part)
    line = command.line({**dict.fromkeys(command.names(), 8), "kv_precision": "fp8", "quantised_to": "fp8"})
    options = from_flags(definition_of, program, line[words:])
    assert list(definition(definition_of).faults(program, options)) == []
    assert len(options) > 4


def test_adapters_combine_and_their_faults_are_placed(tmp_path):
    assert load_adapter(("vllm", "aiperf")).launch == load_adapter(["vllm"]).launch
    assert load_adapter(("vllm", "aiperf")).benchmark == load_adapter(("sglang", "aiperf")).benchmark
    assert load_adapter(["vllm"], ["launch.ready_timeout=10 min"]).launch.ready_timeout == 600
    mine = tmp_path / "mine.yaml"
    mine.write_text("benchmark:\n  command: x\n  resultt: y\n  timeout: 5\n")
    with pytest.raises(InputError) as error:
        load_adapter([str(mine)])
    assert [p.line for p in error.value.problems] == [1, 3, 4]
    with pytest.raises(InputError, match="did you mean 'vllm'"):
        load_adapter(["vlm"])
    mine.write_text("benchmark: {command: 'x {wheels}', result: y}\n")
    with pytest.raises(InputError, match="wheels"):
        adapted(load_scenario("fake_engine"), load_adapter([str(mine)]), Options(), tmp_path, tmp_path, None)


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def test_offline_the_next_trial_is_printed_and_its_result_taken(tmp_path):
    log = tmp_path / "log.yaml"
    first = json.loads(run("tune", "fake_engine", "--log", log, "--json").output)
    again = json.loads(run("tune", "fake_engine", "--log", log, "--json").output)
    assert first["next"] == again["next"]
    asked_for, expected = first["next"], first["next"]["expected"]
    result = tmp_path / "result.json"
    requests, tokens = asked_for["requests"], (asked_for["isl"], asked_for["osl"])
    result.write_text(json.dumps({
        **RESULT, "num_prompts": requests, "completed": requests, "max_concurrency": asked_for["clients"],
        "total_input_tokens": requests * tokens[0], "total_output_tokens": requests * tokens[1],
        "mean_ttft_ms": expected["ttft_ms"], "mean_tpot_ms": expected["tpot_ms"],
    }))  # fmt: skip
    rows, plan = tmp_path / "rows.csv", tmp_path / "plan.json"
    second = json.loads(
        run("tune", "fake_engine", "--log", log, "--result", result, "--rows", rows, "--out", plan, "--json").output
    )
    assert second["trials"][0]["status"] == "measured"
    assert second["next"]["number"] == 2
    assert second["recommended"]["measured_in_trial"] == 1
    assert run("predict", rows, "--calibration", "textbook").exit_code == 0
    assert run("verify", plan).exit_code == 0
    failed = run("tune", "fake_engine", "--log", log, "--failed", "no_start: out of memory")
    assert "no start  out of memory" in failed.output
    assert "trial 3" in failed.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--result", "missing.json"), "no trial waits"),
        (("--failed", "it broke"), "no trial waits"),
        (("--launch-time", "5"), "is not a time"),
        (("--adapter", "nothing"), "unknown adapter"),
    ],
)
def test_what_tune_cannot_read_is_one_error(tmp_path, arguments, words):
    result = run("tune", "fake_engine", "--log", tmp_path / "log.yaml", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
