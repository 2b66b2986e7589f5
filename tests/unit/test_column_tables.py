"""Plans over a table of columns: what may stand in it, what a plan over it looks like, and what is refused."""

import copy
import hashlib
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import planner
from planner import resources
from planner.catalog import TableCase, load_scenario
from planner.cli import app
from planner.decode import Claim, statistics_of
from planner.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_PLAN
from planner.listed import listed_plan, listed_problem, listed_reduced
from planner.milp.model import Termination

SHIPPED = resources.shipped("scenarios") / "column_table.yaml"
PEER = Path(__file__).parents[2] / "benchmarks" / "data" / "peer_case_qwen3_32b_columns.csv"
HEADER = "role,devices_per_replica,requests_per_s_per_replica"
SCENARIO = {
    "schema_version": 1,
    "name": "table",
    "columns": "table.csv",
    "inventory": {"h200": {"hardware": "h200-sxm", "devices": 24}},
    "workloads": {"chat": {"requests": "max"}},
    "objective": {"maximize": "requests"},
}


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def place(tmp_path):
    """Write a table and a scenario over it; return the scenario's path."""

    def placed(*lines, header=HEADER, **changes):
        (tmp_path / "table.csv").write_text("\n".join((header, *lines)) + "\n", encoding="utf-8")
        path = tmp_path / "scenario.yaml"
        path.write_text(yaml.safe_dump(SCENARIO | changes), encoding="utf-8")
        return path

    return placed


def faults(path, *settings):
    with pytest.raises(planner.InputError) as caught:
        load_scenario(path, settings)
    return [str(problem).removeprefix(f"{path.parent}/") for problem in caught.value.problems]


def columns_of(path):
    return [tuple(column) for column in load_scenario(path).columns]


# --- what may stand in a table -----------------------------------------------------------------------------------


def test_the_peer_s_file_loads_as_it_is():
    case = planner.load_scenario({**SCENARIO, "columns": PEER.name}, folder=PEER.parent)
    assert isinstance(case, TableCase)
    assert [(c.role, c.devices_per_replica, c.label) for c in case.columns] == [
        ("prefill", 1, "tp1"),
        ("decode", 1, "tp1"),
        ("decode", 2, "tp2"),
        ("decode", 4, "tp4"),
        ("mixed", 2, "tp2"),
    ]
    assert case.columns[0].rate == pytest.approx(3.391 * 0.9)
    assert case.specifications[-1] == ("columns", PEER.name, hashlib.sha256(PEER.read_bytes()).hexdigest())


def test_optional_columns_have_defaults_and_others_are_ignored(place):
    path = place("mixed,1,2.5,red", "prefill,4,3,blue", header=f"{HEADER},colour")
    assert columns_of(path) == [
        ("mixed", 1, 2.5, "mixed of 1 device", "", 1.0),
        ("prefill", 4, 3.0, "prefill of 4 devices", "", 1.0),
    ]
    path = place(
        " 0.5 ,mixed,1,2.5, tp1 ,a,H200", "", header=f"rate_matching_factor,{HEADER},parallelism,label,hardware"
    )
    assert columns_of(path) == [("mixed", 1, 2.5, "a", "H200", 0.5)]
    assert columns_of(place("mixed, 1, 2.5", header=HEADER.replace(",", ", "))) == columns_of(place("mixed,1,2.5"))


def test_every_fault_of_a_table_is_reported_with_its_place(place):
    path = place(
        "both,1.5,0,,h100,x",
        "mixed,,-1,,,0",
        "decode,2,nan,,,,8",
        header=f"{HEADER},label,hardware,rate_matching_factor",
    )
    assert faults(path) == [
        "table.csv:2:1: devices_per_replica: must be a whole number (got '1.5')",
        "table.csv:2:1: hardware: no inventory here is called 'h100' or holds it; did you mean 'h200'?",
        "table.csv:2:1: rate_matching_factor: must be a number of at least 0.1 (got 'x')",
        "table.csv:2:1: requests_per_s_per_replica: must be a number of at least 1e-05 (got '0')",
        "table.csv:2:1: role: must be one of mixed, prefill, decode (got 'both')",
        "table.csv:3:1: devices_per_replica: is empty",
        "table.csv:3:1: rate_matching_factor: must be a number of at least 0.1 (got '0')",
        "table.csv:3:1: requests_per_s_per_replica: must be a number of at least 1e-05 (got '-1')",
        "table.csv:4:1: has more cells than there are columns",
        "table.csv:4:1: requests_per_s_per_replica: must be a number of at least 1e-05 (got 'nan')",
    ]
    result = run("solve", path)
    assert result.exit_code == EXIT_BAD_INPUT
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 10


def test_faults_of_the_scenario_and_of_its_table_come_together(place):
    found = faults(place("mixed,1,x", objective={"maximise": "requests"}))
    assert [fault.split(":")[0] for fault in found] == ["scenario.yaml", "table.csv"]


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        pytest.param("a,b", [], f"table.csv:1:1: no row of column names; expected {HEADER}", id="no-header"),
        pytest.param(HEADER, [], "table.csv:1:1: has no row under its column names; list a column or more", id="empty"),
        pytest.param(
            HEADER.replace("role", "roles"),
            ["mixed,1,1"],
            "table.csv:1:1: role: this column is missing; did you mean 'roles'?",
            id="missing",
        ),
        pytest.param(
            f"{HEADER},role", ["mixed,1,1,mixed"], "table.csv:1:1: role: this column is there twice", id="twice"
        ),
    ],
)
def test_faults_of_the_header(header, lines, message, place):
    assert faults(place(*lines, header=header)) == [message]


def test_a_table_that_is_not_there(place):
    path = place("mixed,1,1", columns="other.csv")
    (fault,) = faults(path)
    assert fault.startswith("scenario.yaml:1:1: columns: ")
    assert fault.endswith("other.csv: no such file")


def test_rows_may_stand_in_the_scenario(place):
    row = {"role": "mixed", "devices_per_replica": 2, "requests_per_s_per_replica": 3}
    case = load_scenario(place("mixed,1,1", columns=[row]))
    assert [tuple(column) for column in case.columns] == [("mixed", 2, 3.0, "mixed of 2 devices", "", 1.0)]
    assert [s.kind for s in case.specifications] == ["hardware"]
    (fault,) = faults(place("mixed,1,1", columns=[row, row | {"role": "both"}]))
    assert fault == "scenario.yaml:7:3: columns.1.role: must be one of mixed, prefill, decode (got 'both')"
    for wrong in ([], 3, ["mixed"], ""):
        (fault,) = faults(place("mixed,1,1", columns=wrong))
        assert "columns: must be the path of a CSV file, or a list of its rows" in fault


# --- what a table cannot answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("workloads.chat.requests={concurrency: 8}", "workloads.chat.requests: a table has no latencies"),
        ("objective={maximize: tokens}", "workloads.chat.output_tokens: is required for a goal in tokens"),
        ("objective=[{maximize: requests}, {minimize: ttft}]", "objective: a table has rates, no ttft"),
        ("objective={weighted: {requests: 1, tpot: 1}}", "objective: a table has rates, no tpot"),
        ("objective={minimize: devices}", "workloads.chat.requests: 'max' has no least devices"),
        ("objective=[{maximize: requests}, {minimize: cost}]", "inventory.h200.price: is required to minimise cost"),
        ("limits={cost: 3 USD/h}", "inventory.h200.price: is required for a limit of cost"),
        ("workloads.more={requests: max}", "workloads: a table has rates of one workload; keep one of chat, more"),
        ("links=[{between: [h200, h200], bandwidth: 1 GB/s}]", "links: a table of columns has no sizes of caches"),
        ("baseline=[{inventory: h200, replicas: 1}]", "baseline: a table of columns says nothing of what runs today"),
        ("confidence=0.9", "confidence: a table of columns has no error intervals"),
        ("inventory.h200.hardware=h2000", "inventory.h200.hardware: unknown hardware 'h2000'"),
        ("inventory.h200={nodes: 3}", "inventory.h200.nodes: the hardware decides what nodes are"),
        ("inventory.h200={domains: 3}", "inventory.h200.domains: the hardware decides what domains are"),
        ("inventory.h200={devices: 3, reserved_devices: 3}", "inventory.h200.reserved_devices: leaves no device"),
        ("inventory.h200.reserved_devices=24", "inventory.h200.reserved_devices: leaves no device"),
        ("solver.name=nonsense", "solver.name: must be highs"),
    ],
)
def test_what_a_table_cannot_answer_is_refused(setting, message, place):
    found = faults(place("mixed,1,1"), setting)
    assert any(message in fault for fault in found), found
    assert run("solve", place("mixed,1,1"), "--set", setting).exit_code == EXIT_BAD_INPUT


def test_power_needs_hardware(place):
    path = place(
        "mixed,1,1", inventory={"mine": {"devices": 4}}, objective=[{"maximize": "requests"}, {"minimize": "power"}]
    )
    assert any("inventory.mine.hardware: is required for the power of its devices" in fault for fault in faults(path))


# --- what a plan looks like --------------------------------------------------------------------------------------


def solved(path, *settings):
    return planner.solve(planner.load_scenario(path, settings))


def test_a_plan_carries_the_weaker_side_and_the_mixed_replicas(place):
    path = place("prefill,1,4,0.5", "decode,2,3,", "mixed,2,1.5,1", header=f"{HEADER},rate_matching_factor")
    plan = solved(path, "inventory.h200.devices=7").plan
    # 3 prefill at 2/s and 2 decode at 3/s; nothing of the 7 devices is left for a mixed replica
    assert [(d.role, d.replicas, d.requests_per_s) for d in plan.deployments] == [
        ("prefill", 3, 6.0),
        ("decode", 2, 6.0),
    ]
    assert plan.predicted == (None, None, 6.0, None)
    assert plan.totals == (7, {"h200": 0}, None, 4900.0)
    assert plan.termination.detail == "optimal over 3 columns of the table, inside the table's own linear model"
    few = solved(path, "inventory.h200.devices=4").plan  # two of each would do as much: fewer replicas win
    assert [(d.role, d.replicas) for d in few.deployments] == [("mixed", 2)]
    assert few.predicted.requests_per_s == 3.0


def test_mixed_and_disaggregated_replicas_stand_side_by_side(place):
    plan = solved(place("prefill,1,2", "decode,1,2", "mixed,1,0.5"), "inventory.h200.devices=5").plan
    assert {d.role: d.replicas for d in plan.deployments} == {"prefill": 2, "decode": 2, "mixed": 1}
    assert plan.predicted.requests_per_s == 4.5


def test_replicas_are_packed_into_nodes_where_hardware_is_named(place):
    rows = ("mixed,5,1",)
    named = solved(place(*rows, inventory={"a": {"hardware": "h200-sxm", "devices": 20}})).plan
    assert named.deployments[0].replicas == 2  # nodes of 8, 8 and 4
    beside = solved(place(*rows, inventory={"a": {"devices": 20}})).plan
    assert beside.deployments[0].replicas == 4
    assert beside.totals.power_w is None


@pytest.mark.parametrize(
    ("name", "stands_on"), [("b", {"b"}), ("H200_SXM", {"a", "c"}), ("h200", {"a", "c"}), ("", set("abc"))]
)
def test_hardware_names_an_inventory_or_what_it_holds(name, stands_on, place):
    inventory = {
        "a": {"hardware": "h200-sxm", "devices": 1},
        "b": {"hardware": "h100-sxm", "devices": 1},
        "c": {"hardware": "h200-sxm", "devices": 1},
    }
    plan = solved(place(f"mixed,1,1,{name}", header=f"{HEADER},hardware", inventory=inventory)).plan
    assert {d.inventory for d in plan.deployments} == stands_on


def test_pairs_reach_over_inventories(place):
    inventory = {"fast": {"devices": 2, "price": "5 USD/h"}, "cheap": {"devices": 8, "price": "1 USD/h"}}
    path = place("prefill,1,6,fast", "decode,2,3,cheap", header=f"{HEADER},hardware", inventory=inventory)
    plan = solved(path).plan
    assert {d.inventory: d.replicas for d in plan.deployments} == {"fast": 2, "cheap": 4}
    assert plan.totals.cost_usd_per_h == 18.0
    assert len({d.pair for d in plan.deployments}) == 1


def test_columns_without_room_are_counted(place):
    report = solved(place("mixed,1,1", "mixed,12,99", "mixed,32,999"))
    assert report.plan.statistics.configurations == 3
    assert report.plan.statistics.legal == 1
    assert report.plan.statistics.rejected == {"no_room": 2}
    assert "2  are larger than their inventory, or no whole number of its nodes" in planner.report_text(report)


def test_the_report_is_labelled(place):
    path = place("mixed,2,1,fast", header=f"{HEADER},label")
    text = planner.report_text(solved(path, "workloads.chat.slo.ttft=1 s", "models.m.architecture=none"))
    assert text.startswith("table: 12 request/s with 12 × fast on h200\n")
    assert "inside the table's own linear model" in text
    assert "note: limits of ttft are not checked: a table has rates, no latencies" in text
    assert "note: not used: models; the table has the rates" in text
    assert "output token" not in text
    assert "load      12 request/s, 1200 output token/s" in planner.report_text(
        solved(path, "workloads.chat.output_tokens=100 token")
    )


def test_output_tokens_count_where_they_are_known(place):
    plan = solved(place("mixed,2,1"), "workloads.chat.output_tokens=100 token", "objective={maximize: tokens}").plan
    assert plan.objective.value == plan.predicted.output_tokens_per_s == 1200.0


@pytest.mark.parametrize(
    ("lines", "settings", "code", "shortfall"),
    [
        (["mixed,1,1"], ["workloads.chat.requests=24 /s"], EXIT_PLAN, ""),
        (["mixed,1,1"], ["workloads.chat.requests=25 /s"], EXIT_INFEASIBLE, "most that fits within the limits is 24"),
        (["mixed,99,1"], [], EXIT_INFEASIBLE, "no column of the table has room in its inventory"),
        (["prefill,1,1"], [], EXIT_INFEASIBLE, "every column that has room is for prefill alone"),
        (["prefill,1,1", "decode,1,1"], ["limits.devices=1"], EXIT_INFEASIBLE, "without the limits of the whole plan"),
        (["mixed,1,1"], ["solver.time_limit=0 s"], EXIT_NO_PLAN, ""),
    ],
)
def test_exit_codes_and_files(lines, settings, code, shortfall, place, tmp_path):
    out = tmp_path / "plan.json"
    options = [part for setting in settings for part in ("--set", setting)]
    result = run("solve", place(*lines), *options, "--out", out, "--json")
    assert result.exit_code == code, result.output
    assert result.stdout == out.read_text(encoding="utf-8")
    assert shortfall in "; ".join(json.loads(result.stdout)["shortfall"])
    assert run("verify", out).exit_code == 0


@pytest.mark.parametrize("solver", ["highs", "cbc", "cp-sat"])
def test_every_solver_finds_the_same(solver, place):
    path = place("prefill,1,3.391", "decode,2,12.976", "decode,4,23.784", "mixed,2,2.938")
    plan = solved(path, f"solver.name={solver}", "objective={minimize: devices}", "workloads.chat.requests=40 /s").plan
    assert (plan.objective.value, plan.objective.bound) == pytest.approx((19, 19), rel=1e-9)
    assert planner.verify_plan(plan, path.parent).reasons == ()


# --- verify ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written():
    return json.loads(planner.plan_text(planner.solve(planner.load_scenario(SHIPPED)).plan))


@pytest.fixture
def verify(tmp_path):
    def checked(data, *files):
        for file in files:
            (tmp_path / file.name).write_bytes(file.read_bytes())
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        result = run("verify", path, "--json")
        assert result.stderr == ""
        return json.loads(result.stdout)["reasons"], result.exit_code

    return checked


def signed(data):
    text = json.dumps(data["scenario"]["resolved"], sort_keys=True, ensure_ascii=False)
    data["scenario"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return data


def test_a_plan_is_accepted_with_its_table_beside_it_or_without(written, verify):
    assert written["scenario"]["resolved"]["specifications"][-1]["name"] == "column_table.csv"
    assert verify(written) == ([], 0)
    assert verify(written, SHIPPED.with_suffix(".csv")) == ([], 0)
    assert verify(signed(copy.deepcopy(written))) == ([], 0)


def test_a_plan_is_read_back_as_it_was(written, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(written), encoding="utf-8")
    assert json.loads(planner.plan_text(planner.read_plan(path))) == written


def test_a_plan_from_another_table_is_refused(written, verify, tmp_path):
    (tmp_path / "column_table.csv").write_text(f"{HEADER}\nmixed,1,1\n", encoding="utf-8")
    reasons, code = verify(written)
    assert reasons == ["columns 'column_table.csv' is not the file this plan was made from: solve again"]
    assert code == EXIT_FAILED


ALTERATIONS = {
    "deployments.0.replicas": (18, "deployments[0].devices"),
    "deployments.0.requests_per_s": (60.0, "deployments[0].requests_per_s"),
    "deployments.0.requests_in_flight": (1.0, "deployments[0].requests_in_flight"),
    "deployments.0.label": ("tp2", "chat-prefill-1: not legal"),
    "deployments.0.role": ("mixed", "chat-prefill-1: not legal"),
    "deployments.0.inventory": ("b", "chat-prefill-1: not legal"),
    "deployments.0.devices_per_replica": (2, "chat-prefill-1: not legal"),
    "deployments.0.devices": (18, "deployments[0].devices"),
    "deployments.0.name": ("x", "deployments[0].name"),
    "deployments.0.pair": (None, "deployments[0].pair"),
    "routes.0.requests_per_s": (1.0, "routes[0].requests_per_s"),
    "routes.0.ttft_ms": (1.0, "routes[0].ttft_ms"),
    "routes.0.decode": ("chat-decode-2", "routes[0].decode"),
    "totals.devices": (25, "totals.devices"),
    "totals.idle_devices.h200": (13, "totals.idle_devices.h200"),
    "totals.power_w": (None, "totals.power_w"),
    "predicted.requests_per_s": (52.0, "predicted.requests_per_s"),
    "predicted.output_tokens_per_s": (1.0, "predicted.output_tokens_per_s"),
    "objective.value": (25.0, "objective.value"),
    "objective.bound": (20.0, "objective.bound"),
    "statistics.columns": (9, "statistics.columns"),
    "statistics.configurations": (9, "statistics.configurations"),
    "scenario.resolved.inventory.h200.devices": (40, "scenario.sha256"),
    "termination.detail": ("optimal", "termination.detail"),
}


@pytest.mark.parametrize("place_", ALTERATIONS)
def test_an_altered_plan_is_refused(place_, written, verify):
    data = copy.deepcopy(written)
    value, named = ALTERATIONS[place_]
    *above, last = [int(part) if part.isdigit() else part for part in place_.split(".")]
    inside = data
    for part in above:
        inside = inside[part]
    assert inside[last] != value
    inside[last] = value
    reasons, code = verify(data)
    assert code == EXIT_FAILED
    assert any(reason.startswith(named) for reason in reasons), reasons


def test_a_worse_plan_is_refused_even_where_all_of_it_agrees():
    """A plan of one device too many, truly computed and with a bound that fits it: the second solver knows."""
    case = load_scenario(SHIPPED)
    problem = listed_problem(case)
    small = listed_reduced(problem)
    best = planner.solve(case).plan
    claim = Claim(Termination("optimal"), 27.0)
    statistics = statistics_of(problem.table, len(small.table), "highs", 0.1)
    replicas = [18 if label == "tp1" else 0 for label in small.table.labels]
    replicas[small.table.labels.index("tp2")] = 4
    replicas[1] = 1
    worse = listed_plan(case, small, replicas, claim, statistics)
    assert worse.totals.devices == 27 == best.totals.devices + 1
    assert list(planner.verify_plan(worse, SHIPPED.parent).reasons) == [
        "objective.bound: 27 is not a bound: 26 can be reached",
        "termination.reason: not optimal in devices: 27, the best is 26",
    ]


def test_replicas_must_fit(written, verify):
    data = copy.deepcopy(written)
    data["deployments"][0] |= {"replicas": 40, "devices": 40, "requests_per_s": 40 * 3.391 * 0.9}
    reasons, _ = verify(data)
    assert any(reason.startswith("inventory.h200: the replicas do not fit") for reason in reasons)
    data["deployments"][0]["replicas"] = -1
    assert any("deployments[0]" in reason or "replicas" in reason for reason in verify(data)[0])


def test_the_schema_of_scenarios_covers_tables():
    import jsonschema

    schema = json.loads(run("schema").stdout)
    checker = jsonschema.Draft202012Validator(schema)
    assert checker.is_valid(SCENARIO)
    row = {"role": "mixed", "devices_per_replica": 2, "requests_per_s_per_replica": 3}
    assert checker.is_valid({**SCENARIO, "columns": [row]})
    for columns in (3, [], "", [{**row, "role": "both"}]):
        assert not checker.is_valid({**SCENARIO, "columns": columns})
    assert not checker.is_valid({**SCENARIO, "colour": "red"})
    assert not checker.is_valid({name: value for name, value in SCENARIO.items() if name != "columns"})
