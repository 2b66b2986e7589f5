"""The commands: exit codes, what they print and write, and the names they accept."""

import copy
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from planner import __version__, pipeline, resources, units, yaml_io
from planner.catalog import engine_names, load_about, load_architecture, load_engine, load_hardware
from planner.catalog.architecture import architecture_names
from planner.catalog.specs import hardware_names
from planner.cli import app
from planner.columns.grid import GRID
from planner.errors import EXIT_BAD_INPUT, EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_PLAN, InputError
from planner.schema.scenario import SolverOptions
from planner.solvers import SOLVERS

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = resources.shipped("scenarios")
QUICKSTART = SCENARIOS / "quickstart.yaml"
SMALL = ("--set", "search={tp: [1, 2], pp: 1, mean_running: [16, 24], max_num_batched_tokens: [512, 2048]}")


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    return result


def plan_of(*arguments):
    result = run("solve", QUICKSTART, *SMALL, *arguments, "--json")
    assert result.exit_code == EXIT_PLAN, result.output
    return json.loads(result.stdout)


# --- solve -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "arguments", "code", "reason"),
    [
        pytest.param("quickstart", (), EXIT_PLAN, "optimal", id="plan"),
        pytest.param("infeasible", (), EXIT_INFEASIBLE, "infeasible", id="infeasible"),
        pytest.param("quickstart", ("--time-limit", "0"), EXIT_NO_PLAN, "stopped", id="no-time"),
        pytest.param("quickstart", ("--time-limit", "1e-9"), EXIT_NO_PLAN, "stopped", id="hardly-any-time"),
    ],
)
def test_exit_code_and_file_of_a_solve(scenario, arguments, code, reason, tmp_path):
    out = tmp_path / "plan.json"
    result = run("solve", SCENARIOS / f"{scenario}.yaml", *arguments, "--out", out)
    assert result.exit_code == code, result.output
    plan = json.loads(out.read_text(encoding="utf-8"))
    assert plan["termination"]["reason"] == reason
    assert bool(plan["deployments"]) == (code == EXIT_PLAN)
    assert plan["objective"]["value"] is None or code == EXIT_PLAN
    assert reason in plan["termination"]["detail"]
    assert plan["termination"]["detail"] in result.stdout


def test_a_faulty_scenario_exits_with_2_and_prints_nothing_else(tmp_path):
    out = tmp_path / "plan.json"
    result = run("solve", QUICKSTART, "--set", "confidence=1", "--out", out)
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stdout == ""
    assert result.stderr.startswith("error: --set confidence=1: ")
    assert not out.exists()


def test_infeasible_says_what_could_be_reached():
    result = run("solve", SCENARIOS / "infeasible.yaml")
    assert "ttft ≤ 50 ms cannot be met: the closest that any replica comes at any load is " in result.stdout


def test_infeasible_points_to_the_command_that_says_what_conflicts():
    result = run("solve", SCENARIOS / "infeasible.yaml", "--set", "workloads.chat.slo.ttft=60 ms")
    last = result.stdout.splitlines()[-1]
    assert last.startswith(
        f"next: `planner infeasible {SCENARIOS / 'infeasible.yaml'} --set 'workloads.chat.slo.ttft=60 ms'`"
    )


def test_the_first_line_says_how_surely_the_limits_hold():
    """Of several limits the least sure one counts."""
    result = run("solve", QUICKSTART, *SMALL)
    shares = [int(share) for share in re.findall(r"held by (\d+)%", result.stdout)]
    assert f"each limit held by at least {min(shares)}% of such plans" in result.stdout.splitlines()[0]


def test_json_is_what_out_writes(tmp_path):
    out = tmp_path / "plan.json"
    result = run("solve", QUICKSTART, *SMALL, "--json", "--out", out)
    printed, written = json.loads(result.stdout), json.loads(out.read_text(encoding="utf-8"))
    assert result.stdout == out.read_text(encoding="utf-8")
    assert printed == written
    again = plan_of()
    for plan in (written, again):
        assert plan["statistics"].pop("wall_s") > 0
    assert again == written


def test_json_of_an_infeasible_scenario_is_what_out_writes(tmp_path):
    out = tmp_path / "plan.json"
    result = run("solve", SCENARIOS / "infeasible.yaml", "--json", "--out", out)
    assert result.exit_code == EXIT_INFEASIBLE
    assert result.stdout == out.read_text(encoding="utf-8")


def test_out_replaces_an_earlier_plan_and_leaves_no_other_file(tmp_path):
    out = tmp_path / "plan.json"
    out.write_text("earlier", encoding="utf-8")
    assert run("solve", QUICKSTART, *SMALL, "--out", out).exit_code == EXIT_PLAN
    assert json.loads(out.read_text(encoding="utf-8"))["schema_version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_set_changes_the_result_and_is_recorded():
    plain, tight = plan_of(), plan_of("--set", "workloads.chat.slo.tpot=25 ms")
    assert plain["predicted"]["tpot_ms"] > 25 >= tight["predicted"]["tpot_ms"]
    assert tight["objective"]["value"] < plain["objective"]["value"]
    limits = [plan["scenario"]["resolved"]["workloads"]["chat"]["slo"]["tpot"] for plan in (plain, tight)]
    assert [units.parse_quantity(limit, units.SECONDS) for limit in limits] == [0.04, 0.025]
    assert tight["scenario"]["sha256"] != plain["scenario"]["sha256"]


def test_the_last_setting_of_a_field_wins():
    plan = plan_of("--set", "inventory.h100.reserved_devices=6", "--set", "inventory.h100.reserved_devices=4")
    assert plan["totals"]["devices"] + plan["totals"]["idle_devices"]["h100"] == 4


def test_set_adds_a_field_the_file_does_not_have():
    plan = plan_of("--set", "solver.relative_gap=0.25", "--set", "search.kv_precisions=fp8")
    assert plan["scenario"]["resolved"]["solver"]["relative_gap"] == 0.25
    assert {d["kv_precision"] for d in plan["deployments"]} == {"fp8"}


def test_out_to_a_device_writes_to_it_and_leaves_it_there(monkeypatch):
    # Were the device replaced, only this test's own name for it would be lost.
    monkeypatch.setattr(yaml_io.Path, "replace", lambda *_: pytest.fail("the device was to be replaced"))
    assert run("solve", QUICKSTART, *SMALL, "--out", "/dev/null").exit_code == EXIT_PLAN
    assert Path("/dev/null").is_char_device()


def test_out_over_the_scenario_is_refused_before_solving(no_solve, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(QUICKSTART.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "link.yaml").symlink_to(path)
    for out in (path, tmp_path / "link.yaml"):
        result = run("solve", path, "--out", out)
        assert result.exit_code == EXIT_BAD_INPUT
        assert result.stderr == f"error: {out}: is the scenario itself; give the result another name\n"
    assert path.read_text(encoding="utf-8") == QUICKSTART.read_text(encoding="utf-8")


@pytest.fixture
def no_solve(monkeypatch):
    def fail(*_):
        pytest.fail("solved before the place of the plan was checked")

    monkeypatch.setattr(pipeline, "solve", fail)


def test_missing_folder_of_out_is_refused_before_solving(no_solve, tmp_path):
    out = tmp_path / "absent" / "plan.json"
    result = run("solve", QUICKSTART, "--out", out)
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stderr == f"error: {out}: there is no folder {out.parent}\n"
    assert not out.parent.exists()


def test_out_over_a_folder_is_refused_before_solving(no_solve, tmp_path):
    result = run("solve", QUICKSTART, "--out", tmp_path)
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stderr == f"error: {tmp_path}: is a folder; give the name of a file\n"
    assert list(tmp_path.iterdir()) == []


def test_out_in_a_folder_that_cannot_be_written_is_refused_before_solving(no_solve, tmp_path, monkeypatch):
    # The system's answer is replaced, since a superuser may write everywhere.
    monkeypatch.setattr(yaml_io.os, "access", lambda path, mode: Path(path) != tmp_path)
    result = run("solve", QUICKSTART, "--out", tmp_path / "plan.json")
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stderr == f"error: {tmp_path / 'plan.json'}: the folder {tmp_path} cannot be written to\n"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_earlier_plan(tmp_path, monkeypatch):
    out = tmp_path / "plan.json"
    out.write_text("earlier", encoding="utf-8")

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(yaml_io.Path, "replace", full)
    result = run("solve", QUICKSTART, *SMALL, "--out", out)
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stderr == f"error: {out}: cannot be written: No space left on device\n"
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
    assert out.read_text(encoding="utf-8") == "earlier"


# --- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h100", "H100"])
def test_a_name_that_may_be_several_devices_is_refused_with_all_of_them(name):
    with pytest.raises(InputError, match=f"'{name}' may be h100-nvl or h100-pcie or h100-sxm; write one of them"):
        load_hardware(name)


@pytest.mark.parametrize("name", ["h100-sxm", "H100-SXM", "H100_SXM", "h100_sxm"])
def test_forms_of_a_hardware_name(name):
    assert load_hardware(name).value == load_hardware("h100-sxm").value
    plan = plan_of("--set", f"inventory.h100.hardware={name}")
    assert [d["hardware"] for d in plan["deployments"]] == ["h100-sxm"]


@pytest.mark.parametrize(
    ("name", "shipped", "precision"),
    [
        ("Qwen/Qwen3-32B", "Qwen3-32B", "bf16"),
        ("qwen3-32b", "Qwen3-32B", "bf16"),
        ("Qwen3-32B-FP8", "Qwen3-32B", "fp8"),
        ("Qwen/Qwen3-32B-FP8", "Qwen3-32B", "fp8"),
        ("nvidia/Qwen3-32B-NVFP4", "Qwen3-32B", "fp4"),
        ("Qwen/Qwen3-32B-AWQ", "Qwen3-32B", "int4"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "Qwen3-30B-A3B", "fp8"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "Llama-3.1-8B", "bf16"),
        ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B", "bf16"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "Llama-3.1-8B", "fp8"),
    ],
)
def test_forms_of_an_architecture_name(name, shipped, precision):
    found, plain = load_architecture(name).value, load_architecture(shipped).value
    differs = load_about(shipped).also.get(name.removesuffix("-FP8"), {})
    assert found == plain._replace(precision=precision, **differs)
    assert bool(differs) == ("2507" in name)


def test_precision_of_a_checkpoint_name_is_planned():
    model = "models.chat={architecture: Qwen/Qwen3-32B-FP8, max_model_len: 32768 token}"
    plan = plan_of("--set", model)
    assert {d["weight_precision"] for d in plan["deployments"]} == {"fp8"}
    assert plan["scenario"]["resolved"]["models"]["chat"]["precisions"] == ["fp8"]
    assert plan["objective"]["value"] > plan_of()["objective"]["value"]


# --- the plan file -----------------------------------------------------------------------------------------------

# The fields of the published interface, with the types of their values; `?` marks those that may be null.
INTERFACE = {
    "schema_version": int,
    "planner_version": str,
    "scenario": {"name": str, "sha256": str, "resolved": dict},
    "termination": {"reason": str, "limit?": str, "detail": str},
    "objective": {
        "sense": str, "metric": str, "unit": str, "value": float, "bound": float, "relative_gap": float,
        "bound_kind": str,
    },
    "deployments": [
        {
            "name": str, "model": str, "role": str, "pair?": str, "inventory": str, "hardware": str,
            "engine": {"name": str, "version": str},
            "tp": int, "pp": int, "attention_dp": int, "ep": int, "moe_tp": int,
            "weight_precision": str, "kv_precision": str,
            "max_num_seqs": int, "max_num_batched_tokens": int, "kv_fraction": float, "block_size": int,
            "speculative_tokens": int, "devices_per_replica": int, "replicas": int, "devices": int,
            "requests_per_s": float,
            "predicted": {"ttft_ms": float, "tpot_ms": float, "itl_ms": float, "basis": str},
            "memory_bytes": {
                "weights": float, "kv_cache": float, "activations": float, "graphs": float, "communication": float,
                "runtime": float, "reserve": float, "capacity": float,
            },
            "bound_by": str,
        }
    ],
    "totals": {"devices": int, "idle_devices": {"h100": int}, "cost_usd_per_h": float, "power_w": float},
    "predicted": {"ttft_ms": float, "tpot_ms": float, "requests_per_s": float, "output_tokens_per_s": float},
    "statistics": {"configurations": int, "legal": int, "columns": int, "solver": str, "wall_s": float},
}  # fmt: skip


def departures(given, wanted, place=""):
    if isinstance(wanted, dict):
        for key, inner in wanted.items():
            name = key.removesuffix("?")
            if not isinstance(given, dict) or name not in given:
                yield f"{place}.{name} is missing"
            elif not (key.endswith("?") and given[name] is None):
                yield from departures(given[name], inner, f"{place}.{name}")
    elif isinstance(wanted, list):
        if not isinstance(given, list) or not given:
            yield f"{place} is not a list of something"
            return
        for index, item in enumerate(given):
            yield from departures(item, wanted[0], f"{place}[{index}]")
    elif type(given) is not wanted:
        yield f"{place} is {given!r}, not {wanted.__name__}"


def test_plan_has_the_fields_and_types_of_the_interface():
    plan = plan_of()
    assert list(departures(plan, INTERFACE)) == []
    assert {plan["deployments"][0]["role"], plan["termination"]["reason"]} == {"mixed", "optimal"}


def test_a_lost_or_retyped_field_of_the_interface_would_be_seen():
    plan = plan_of()
    lost, retyped, emptied = copy.deepcopy(plan), copy.deepcopy(plan), copy.deepcopy(plan)
    del lost["deployments"][0]["memory_bytes"]["reserve"]
    retyped["totals"]["devices"] = float(retyped["totals"]["devices"])
    emptied["objective"]["bound"] = None
    assert list(departures(lost, INTERFACE)) == [".deployments[0].memory_bytes.reserve is missing"]
    assert list(departures(retyped, INTERFACE)) == [f".totals.devices is {retyped['totals']['devices']!r}, not int"]
    assert list(departures(emptied, INTERFACE)) == [".objective.bound is None, not float"]


def test_units_of_a_plan_agree_with_each_other():
    plan = plan_of()
    d = plan["deployments"][0]
    assert d["devices_per_replica"] == d["tp"] * d["pp"] * d["attention_dp"]
    assert d["devices"] == d["replicas"] * d["devices_per_replica"]
    assert plan["totals"]["cost_usd_per_h"] == pytest.approx(2.5 * plan["totals"]["devices"])
    assert plan["totals"]["power_w"] == pytest.approx(700 * plan["totals"]["devices"])
    assert plan["predicted"]["requests_per_s"] == pytest.approx(sum(d["requests_per_s"] for d in plan["deployments"]))
    assert plan["predicted"]["output_tokens_per_s"] == pytest.approx(300 * plan["predicted"]["requests_per_s"])
    capacity = d["memory_bytes"].pop("capacity")
    assert sum(d["memory_bytes"].values()) == pytest.approx(capacity)
    assert all(part >= 0 for part in d["memory_bytes"].values())
    assert d["predicted"]["itl_ms"] >= d["predicted"]["tpot_ms"]
    assert 1 < plan["predicted"]["tpot_ms"] <= 40


# --- init --------------------------------------------------------------------------------------------------------


SERVED = {vendor for name in engine_names() for vendor in load_engine(name).value.vendors}
WITH_ENGINE = [name for name in hardware_names() if load_hardware(name).value.vendor in SERVED]
SLOW = {"ascend-310p"}  # a node of them cannot serve the first scenario's model within its limits


@pytest.mark.parametrize("hardware", WITH_ENGINE)
def test_init_writes_a_scenario_that_solves(hardware, tmp_path):
    path = tmp_path / "mine.yaml"
    result = run("init", path, "--hardware", hardware)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {path}; now run: planner solve {path}\n"
    solved = run("solve", path, "--json", "--out", tmp_path / "plan.json")
    assert solved.exit_code == (EXIT_INFEASIBLE if hardware in SLOW else EXIT_PLAN), solved.output
    plan = json.loads(solved.stdout)
    assert {d["hardware"] for d in plan["deployments"]} == ({hardware} if hardware not in SLOW else set())
    assert bool(plan["shortfall"]) == (hardware in SLOW)


@pytest.mark.parametrize("hardware", sorted(set(hardware_names()) - set(WITH_ENGINE)))
def test_init_says_where_no_engine_runs_on_a_device(hardware, tmp_path):
    path = tmp_path / "mine.yaml"
    result = run("init", path, "--hardware", hardware)
    assert result.exit_code == EXIT_BAD_INPUT
    vendor = load_hardware(hardware).value.vendor
    assert f"no shipped engine runs on devices of {vendor}" in result.stderr
    assert not path.exists()


def test_init_takes_a_model(tmp_path):
    path = tmp_path / "mine.yaml"
    assert run("init", path, "--model", "meta-llama/Llama-3.1-8B-Instruct").exit_code == 0
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["models"] == {
        "main": {"architecture": "meta-llama/Llama-3.1-8B-Instruct", "precisions": ["bf16"]}
    }


def test_init_takes_a_precision_that_is_served_and_nodes_that_hold_the_model(tmp_path):
    path = tmp_path / "large.yaml"
    assert run("init", path, "--model", "deepseek-ai/DeepSeek-R1", "--hardware", "ascend-910b3").exit_code == 0
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert written["models"]["main"]["precisions"] == ["int8"]  # the checkpoint is in fp8, which Ascend A2 lacks
    assert written["inventory"]["devices"]["nodes"] == 4  # 671 GB in nodes of 8 × 60 GiB, with room to work
    solved = run("solve", path)
    assert solved.exit_code == EXIT_PLAN
    assert "which this version does not search" not in solved.stdout


def test_init_does_not_overwrite_unless_forced(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("precious", encoding="utf-8")
    refused = run("init", path)
    assert refused.exit_code == EXIT_BAD_INPUT
    assert refused.stderr == f"error: {path}: exists already; choose another name, or add --force\n"
    assert path.read_text(encoding="utf-8") == "precious"
    assert run("init", path, "--force").exit_code == 0
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == "mine"


@pytest.mark.parametrize("stem", ["a: b #c", "true", "12", "null", "'", "caf\u00e9", "plain-name_2.x"])
def test_init_quotes_what_yaml_would_read_otherwise(stem, tmp_path):
    path = tmp_path / f"{stem}.yaml"
    assert run("init", path).exit_code == 0
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == stem


def test_init_into_no_folder_says_what_out_says(tmp_path):
    path = tmp_path / "absent" / "mine.yaml"
    result = run("init", path)
    assert (result.exit_code, result.stderr) == (EXIT_BAD_INPUT, f"error: {path}: there is no folder {path.parent}\n")


def test_init_names_all_that_is_unknown_at_once(tmp_path):
    result = run("init", tmp_path / "mine.yaml", "--model", "no-model", "--hardware", "no-device")
    assert result.exit_code == EXIT_BAD_INPUT
    assert "no-model" in result.stderr
    assert "no-device" in result.stderr


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--hardware", "h10-sxm", "unknown hardware 'h10-sxm'; did you mean 'h100-sxm'?"),
        ("--model", "Qwen3-33B", "unknown architecture 'Qwen3-33B'; did you mean 'Qwen3-32B'?"),
    ],
)
def test_init_with_an_unknown_name_writes_nothing(option, name, message, tmp_path):
    result = run("init", tmp_path / "mine.yaml", option, name)
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stderr.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


# --- schema ------------------------------------------------------------------------------------------------------

FILES = {
    "scenario": sorted(SCENARIOS.glob("*.yaml")),
    "hardware": sorted(resources.shipped("hardware_specs").glob("*.yaml")),
    "engine": sorted(resources.shipped("engines").glob("*.yaml")),
    "calibration": sorted(resources.shipped("hardware_specs/calibrations").glob("*.yaml")),
}


def validator(kind):
    result = run("schema", kind)
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    ("kind", "path"), [(k, p) for k, paths in FILES.items() for p in paths], ids=lambda x: str(x)[-24:]
)
def test_schema_accepts_what_is_shipped_and_refuses_an_unknown_field(kind, path):
    checker = validator(kind)
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [error.message for error in checker.iter_errors(data)] == []
    assert not checker.is_valid({**data, "colour": "red"})
    assert not checker.is_valid({key: value for key, value in data.items() if key != "name"})


def test_every_kind_of_shipped_file_is_checked():
    assert {kind: len(paths) > 0 for kind, paths in FILES.items()} == dict.fromkeys(FILES, True)
    assert QUICKSTART in FILES["scenario"]


def test_schema_without_a_kind_is_that_of_scenarios():
    assert run("schema").stdout == run("schema", "scenario").stdout != run("schema", "hardware").stdout


@pytest.mark.parametrize(
    "setting",
    [
        {"requests": "12 /s"},
        {"requests": {"concurrency": 256}},
        {"slo": {}},
        {"slo": {"ttft": "1 s"}},
    ],
    ids=str,
)
def test_schema_accepts_the_documented_forms_of_a_workload(setting):
    data = yaml.safe_load((SCENARIOS / "ascend_910b.yaml").read_text(encoding="utf-8"))
    data["workloads"]["chat"] |= setting
    assert [error.message for error in validator("scenario").iter_errors(data)] == []


@pytest.mark.parametrize(
    ("goals", "valid"),
    [
        ({"minimize": "devices"}, True),
        ([{"minimize": "devices"}], True),
        ([{"minimize": "devices"}, {"maximize": "requests"}], True),
        ([], False),
        ({"minimise": "devices"}, False),
        ("devices", False),
    ],
    ids=str,
)
def test_schema_accepts_one_goal_or_a_list(goals, valid):
    data = yaml.safe_load((SCENARIOS / "ascend_910b.yaml").read_text(encoding="utf-8"))
    assert validator("scenario").is_valid({**data, "objective": goals}) == valid


@pytest.mark.parametrize(("tp", "valid"), [(2, True), ([1, 2], True), ([], False), (0, False), ("two", False)], ids=str)
def test_schema_accepts_one_value_to_search_or_a_list(tp, valid):
    data = yaml.safe_load((SCENARIOS / "ascend_910b.yaml").read_text(encoding="utf-8"))
    assert validator("scenario").is_valid({**data, "search": {"tp": tp}}) == valid


def test_solvers_of_the_schema_are_those_there_are():
    data = yaml.safe_load((SCENARIOS / "ascend_910b.yaml").read_text(encoding="utf-8"))
    checker = validator("scenario")
    for name in (*SOLVERS, "pulp:GUROBI"):
        assert checker.is_valid({**data, "solver": {"name": name}})
        assert SolverOptions(name=name).name == name
    for name in ("cplex", "pulp:"):
        assert not checker.is_valid({**data, "solver": {"name": name}})
        with pytest.raises(ValueError, match="must be highs, cbc, cp-sat, or pulp:NAME"):
            SolverOptions(name=name)


def test_schema_refuses_a_bare_number():
    data = yaml.safe_load((SCENARIOS / "ascend_910b.yaml").read_text(encoding="utf-8"))
    data["workloads"]["chat"]["input_tokens"] = 3000
    (error,) = validator("scenario").iter_errors(data)
    assert list(error.absolute_path) == ["workloads", "chat", "input_tokens"]


# --- what is shipped ---------------------------------------------------------------------------------------------


def test_hardware_list():
    listed = json.loads(run("hardware", "list", "--json").stdout)
    assert [entry["name"] for entry in listed] == list(hardware_names())
    table = run("hardware", "list").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["name", *hardware_names()]
    row = next(line for line in table if line.startswith("h100-sxm"))
    assert row.split()[2:9] == ["NVIDIA", "80.0", "GiB", "3.35", "TB/s", "989", "TFLOP/s"]


def test_hardware_show():
    shown = json.loads(run("hardware", "show", "H100_SXM", "--json").stdout)
    assert shown["name"] == "h100-sxm"
    assert units.parse_quantity(shown["memory"]["bandwidth"]["value"], units.BYTES_PER_SECOND) == 3.35e12
    text = run("hardware", "show", "h100-sxm").stdout
    (row,) = [line for line in text.splitlines() if line.startswith("memory.bandwidth")]
    assert units.parse_quantity(" ".join(row.split()[1:3]), units.BYTES_PER_SECOND) == 3.35e12
    assert "https://www.nvidia.com/en-us/data-center/h100/" in text


def test_shown_hardware_is_a_specification_of_its_own(tmp_path):
    path = tmp_path / "copy.yaml"
    path.write_text(run("hardware", "show", "h100-sxm", "--json").stdout, encoding="utf-8")
    assert load_hardware(str(path)).value == load_hardware("h100-sxm").value


def test_models_list():
    listed = json.loads(run("models", "list", "--json").stdout)
    assert [entry["name"] for entry in listed] == list(architecture_names())
    lines = run("models", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *architecture_names()]
    for entry in listed:
        # what is published as 13B may be 12.85 billion
        assert entry["parameters"] == pytest.approx(entry["published_parameters"], rel=0.01, abs=0.5e9)


@pytest.mark.parametrize(("name", "precision"), [("Qwen/Qwen3-32B", "bf16"), ("Qwen3-32B-FP8", "fp8")])
def test_models_show(name, precision):
    shown = json.loads(run("models", "show", name, "--json").stdout)
    assert (shown["name"], shown["precision"], shown["num_hidden_layers"]) == ("Qwen3-32B", precision, 64)
    rows = dict(line.rsplit("  ", 1) for line in run("models", "show", name).stdout.splitlines() if "  " in line)
    assert {key.strip(): value for key, value in rows.items()}["precision"] == precision


def test_models_show_of_a_users_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes((resources.shipped("architectures") / "Llama-3.1-8B" / "config.json").read_bytes())
    shown = json.loads(run("models", "show", path, "--json").stdout)
    assert shown["parameters"] == pytest.approx(8.03e9, rel=1e-3)
    assert "huggingface_id" not in shown


@pytest.mark.parametrize("command", ["hardware", "models"])
@pytest.mark.parametrize("json_option", [(), ("--json",)], ids=["text", "json"])
def test_show_of_an_unknown_name(command, json_option):
    result = run(command, "show", "nothing-like-it", *json_option)
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown ")
    assert "'nothing-like-it'; known: " in result.stderr


def test_grid():
    printed = json.loads(run("grid", "--json").stdout)
    assert [v["name"] for v in printed["searched"]] == [v.name for v in GRID]
    assert {v["name"]: v["values"] for v in printed["searched"]}["tp"] == [1, 2, 4, 8, 16]
    text = run("grid").stdout
    for variable in GRID:
        row = next(line for line in text.splitlines() if line.startswith(f"{variable.name} "))
        assert variable.scenario_field in row
        assert variable.reason in row


def test_published_grid_is_what_a_plan_searches():
    plan = json.loads(run("solve", QUICKSTART, "--json").stdout)
    defaults = {v["name"]: v["values"] for v in json.loads(run("grid", "--json").stdout)["searched"]}
    pools = {pool["role"]: pool["values"] for pool in plan["scenario"]["resolved"]["grid"]}
    assert list(pools) == ["mixed", "prefill", "decode"]
    total = 0
    for role, searched in pools.items():
        of_load = {"prefill": "prefill_utilisation"}.get(role, "mean_running")
        for name in ("tp", "pp", of_load, "max_num_batched_tokens"):
            assert searched[name] == defaults[name]
        # A decode replica has no prompts, so its token budget follows.
        free = [name for name in searched if (name, role) != ("max_num_batched_tokens", "decode")]
        total += math.prod(len(searched[name]) for name in free)
    assert plan["statistics"]["configurations"] == total


def test_version():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"{__version__}\n")


# --- as a process ------------------------------------------------------------------------------------------------


def process(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-m", "planner", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "LC_ALL": "C", "HOME": str(folder)},
        capture_output=True,
        check=False,
    )


def test_process_solves_from_another_folder_with_a_plain_locale(tmp_path):
    result = process("solve", str(QUICKSTART), "--json", "--out", "plan.json", folder=tmp_path)
    assert (result.returncode, result.stderr) == (EXIT_PLAN, b"")
    assert json.loads(result.stdout) == json.loads((tmp_path / "plan.json").read_bytes())


@pytest.mark.parametrize("text", ["[", "{a: ", "- "])
def test_process_survives_nesting_beyond_the_stack(text, tmp_path):
    (tmp_path / "deep.yaml").write_text(text * 50_000, encoding="utf-8")
    result = process("solve", "deep.yaml", folder=tmp_path)
    assert result.returncode == EXIT_BAD_INPUT
    assert result.stderr.startswith(b"error: deep.yaml:1:")
    assert result.stderr.endswith(b": nested too deeply: more than 200 levels\n")


def test_process_reports_a_fault_on_stderr(tmp_path):
    (tmp_path / "empty.yaml").write_text("name: ]\n", encoding="utf-8")
    result = process("solve", "empty.yaml", "--out", "plan.json", folder=tmp_path)
    assert result.returncode == EXIT_BAD_INPUT
    assert result.stdout == b""
    assert result.stderr.startswith(b"error: empty.yaml:1:7: not valid YAML: ")
    assert not (tmp_path / "plan.json").exists()


def test_one_precision_needs_no_brackets():
    alone, listed = (plan_of("--set", f"models.chat.precisions={written}") for written in ("fp8", "[fp8]"))
    assert alone["deployments"] == listed["deployments"]
    assert alone["deployments"][0]["weight_precision"] == "fp8"
