"""`planner explain`, `why-not` and `alternatives`: what they print, their JSON, their exit codes, their pictures."""

import dataclasses
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner import load_scenario
from planner.cli import app
from planner.columns.enumerate import grid_table
from planner.explain.shortfall import latency_shortfall
from planner.exporters.blocks import as_html, as_markdown, as_text
from planner.exporters.json_file import plan_text, read_plan
from planner.text import Lines, Table

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FEW = ["--set", "search={tp: [1, 2, 4], pp: [1], roles: [mixed]}", "--set", "calibration=textbook"]


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("plans") / "plan.json"
    assert run("solve", SCENARIOS / "quickstart.yaml", *FEW, "--out", path).exit_code == 0
    return path


def test_explain_says_what_binds_and_its_json_has_all_of_it(plan):
    shown = run("explain", plan)
    assert shown.exit_code == 0
    assert "binds     TTFT of chat-mixed-1" in shown.output
    data = json.loads(run("explain", plan, "--json").output)
    (deployment,) = data["deployments"]
    assert sum(part["share"] for part in deployment["parts"]) == pytest.approx(1.0)
    assert {"hbm_bandwidth", "isl", "mfu_ffn"} <= {e["symbol"] for e in deployment["elasticities"]}


def test_why_not_compares_or_names_the_rule_with_its_number(plan):
    shown = run("why-not", plan, "--tp", "4")
    assert shown.exit_code == 0
    assert "all requests pass through replicas with tp 4" in shown.output
    data = json.loads(run("why-not", plan, "--tp", "4", "--json").output)
    assert {trade["metric"] for trade in data["trades"]} >= {"requests", "cost", "ttft", "tpot"}
    assert data["other"]["deployments"][0]["tp"] == 4
    refused = run("why-not", plan, "--tp", "3")
    assert refused.exit_code == 3
    assert "heads_divide_by_tp: tp must divide the query heads (64 heads, tp 3)" in refused.output
    assert run("why-not", plan, "--tp", "2").output.count("the plan is that already") == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--pp", "2"], "pp 2 is not searched: 1"),
        (["--role", "decode"], "role decode is not searched: mixed"),
        (["--weight-precision", "fp8"], "weight_precision fp8 is not accepted for chat: bf16"),
        (["--engine", "sglang"], "engine sglang is not searched: vllm"),
        (["--kv-precision", "fp8"], "kv_precision fp8 is not searched: bf16"),
        (["--max-num-seqs", "100"], "max_num_seqs 100 is not searched"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_the_scenario_does_not_search_is_tried_and_said(plan, asked, said):
    shown = run("why-not", plan, *asked)
    assert shown.exit_code == 0, shown.output
    assert f"{said}" in shown.output
    assert "against the plan" in shown.output or "as good as the plan" in shown.output


def test_reasons_beyond_rules(plan):
    assert "mindie runs on devices of Huawei" in run("why-not", plan, "--engine", "mindie").output
    too_much = run("why-not", plan, "--role", "mixed", "--tp", "1", "--mean-running", "500").output
    assert "kv_cache_too_small" in too_much
    late = run("why-not", plan, "--role", "mixed", "--tp", "1", "--mean-running", "130")
    assert late.exit_code == 3
    assert "cannot be met: the closest that" in late.output or "the closest breaks" in late.output
    many = run("why-not", plan, "--tp", "2", "--replicas", "9")
    assert many.exit_code == 3
    assert "so many such replicas have no room" in many.output


def test_a_workload_whose_load_such_replicas_cannot_carry_is_named_with_what_they_can(tmp_path):
    second = "workloads.second={model: chat, requests: 1 /s, input_tokens: 500 token, output_tokens: 100 token}"
    few = ["--set", second, "--set", "workloads.chat.requests=3 /s", "--set", "objective={minimize: devices}", *FEW]
    path = tmp_path / "plan.json"
    assert run("solve", SCENARIOS / "quickstart.yaml", *few, "--out", path).exit_code == 0

    def reasons(*asked):
        return " ".join(json.loads(run("why-not", path, "--workload", "chat", *asked, "--json").output)["reasons"])

    alone = reasons("--tp", "1", "--replicas", "1")
    assert "the load of 3 request/s for chat is too much" in alone
    assert "second" not in alone
    assert "each workload alone would fit" in reasons("--tp", "4", "--replicas", "2")


def test_configurations_that_differ_in_how_the_model_is_split_or_stored_are_told_apart(plan):
    (deployment,) = read_plan(plan).deployments
    one = deployment.configuration()
    others = [
        one._replace(**{name: value})
        for name, value in {"context_parallel": 2, "redundant_experts": 8, "kv_precision": "fp8", "ep": 2}.items()
    ]
    assert len({c.label() for c in (one, *others)}) == 5


def test_long_times_are_written_out():
    table = grid_table(load_scenario(SCENARIOS / "quickstart.yaml", FEW[1::2]))
    slow = dataclasses.replace(table, figures={**table.figures, "ttft": table.figures["ttft"] + 61.0})
    assert "ttft ≤ 60 000 ms" in latency_shortfall(slow, {"ttft": 60.0})[0]


@pytest.mark.parametrize("command", ["solve", "infeasible", "pareto", "sensitivity"])
def test_a_plan_where_a_scenario_is_asked_for_is_said_in_a_line(plan, command):
    refused = run(command, plan)
    assert refused.exit_code == 2
    assert refused.output.strip() == f"error: {plan}: is a plan; here goes the scenario that it was made from"


def test_alternatives_are_in_order_and_take_a_scenario_too(plan):
    data = json.loads(run("alternatives", plan, "--count", "3", "--json").output)
    values = [one["plan"]["objective"]["value"] for one in data["plans"]]
    assert values == sorted(values, reverse=True)
    assert values[0] == read_plan(plan).objective.value
    near = run("alternatives", plan, "--within", "0.01%")
    assert near.exit_code == 0
    assert "there are no others within 0.01%" in near.output
    assert "1  4 × tp2" in run("alternatives", SCENARIOS / "quickstart.yaml", "--count", "1").output


@pytest.mark.parametrize("command", ["explain", "why-not", "alternatives"])
def test_malformed_input_is_an_error_with_exit_code_2(command, plan, tmp_path):
    more = ["--tp", "4"] if command == "why-not" else []
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    old = tmp_path / "old.json"
    data = json.loads(plan.read_text(encoding="utf-8"))
    old.write_text(json.dumps({**data, "deployments": [{}]}), encoding="utf-8")
    changed = tmp_path / "changed.json"
    data["scenario"]["resolved"]["specifications"][0]["sha256"] = "0"
    changed.write_text(json.dumps(data), encoding="utf-8")
    empty = tmp_path / "empty.json"
    none = read_plan(plan)
    empty.write_text(plan_text(none._replace(deployments=())), encoding="utf-8")
    table = tmp_path / "table.json"
    assert run("solve", SCENARIOS / "column_table.yaml", "--out", table).exit_code == 0
    for path, words in (
        (broken, "broken.json"),
        (tmp_path / "none.json", "none.json"),
        (old, "deployments.0"),
        (changed, "solve again"),
        (empty, "no plan to start from"),
        (table, "listed in a table"),
    ):
        result = run(command, path, *more)
        assert result.exit_code == 2, (path, result.output)
        assert words in result.output
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["why-not"], "name at least one field"),
        (["why-not", "--role", "decoder", "--tp", "0"], "did you mean 'decode'"),
        (["why-not", "--inventory", "h10"], "did you mean 'h100'"),
        (["why-not", "--overlap", "nonsense"], "there is no 'nonsense' here"),
        (["why-not", "--engine", "vlm"], "vlm"),
        (["alternatives", "--within", "near"], "must be a share like 5%"),
        (["alternatives", "--distinct", "color"], "must be one of shape, settings"),
        (["alternatives", "--count", "0"], ""),
    ],
)
def test_values_that_make_no_sense_are_refused(args, words, plan):
    command, *more = args
    result = run(command, plan, *more)
    assert result.exit_code == 2
    assert words in result.output


def test_pictures_are_written_as_png_and_svg(plan, tmp_path):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "pictures"
    assert run("explain", plan, "--plot", folder).exit_code == 0
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{kind}_chat-mixed-1.{form}" for kind in ("budget", "roofline") for form in ("png", "svg")]
    assert (folder / names[0]).read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / names[1]).read_text(encoding="utf-8")


def test_without_matplotlib_the_message_says_what_to_install(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("explain", plan, "--plot", tmp_path / "pictures")
    assert result.exit_code == 2
    assert "llm-deployment-planner[plots]" in result.output
    assert not (tmp_path / "pictures").exists()


def test_blocks_as_text_markdown_and_html():
    blocks = ["a < b", Lines((("name", ("one", "two")), ("none", ()))), Table(("", "x|y"), (("r", "1"),), ("",))]
    assert as_text(blocks) == "a < b\n\nname  one\n      two\n\n   x|y\nr    1\n"
    assert as_markdown(blocks) == "a < b\n\n- **name** one\n- **name** two\n\n|  | x\\|y |\n| :-- | --: |\n| r | 1 |\n"
    html = as_html(blocks)
    assert "<p>a &lt; b</p>" in html
    assert "<li><b>name</b> two</li>" in html
    assert '<td style="text-align: right">1</td>' in html
