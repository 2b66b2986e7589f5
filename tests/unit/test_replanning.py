"""What is observed, what is wanted when, whether to change, and in which steps."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner.api import load_scenario, solve
from planner.cli import app
from planner.errors import InputError
from planner.exporters.json_file import plan_text
from planner.milp.stock import Stock
from planner.studies.replanning import moves as moves_module
from planner.studies.replanning.decision import Policy, decide
from planner.studies.replanning.moves import Timing, moves
from planner.studies.replanning.observed import Observed, overrides, read_observed
from planner.studies.replanning.schedule import period_at, read_schedule
from planner.verify.migration import capacity, migration_violations

HERE = Path()
TIMING = Timing(60.0, 60.0, 1e9)
POLICY = Policy(least_gain=0.05, horizon=4 * 3600.0, headroom=0.1)
SMALL = (
    "search={roles: mixed, tp: [2, 4], pp: 1, mean_running: [8, 16, 24, 30, 32], max_num_batched_tokens: [512, 2048]}"
)
FEWEST = (SMALL, "objective={minimize: devices}", "workloads.chat.requests=5 /s", "inventory.h100.nodes=2")


def run(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


@pytest.fixture(scope="module")
def day():
    """Two replicas of tp2 for 5 requests per second, the fewest devices."""
    plan = solve(load_scenario("quickstart", FEWEST)).plan
    assert [(d.tp, d.replicas) for d in plan.deployments] == [(2, 2)]
    return plan


def decided(plan, rate=None, lengths=(3000.0, 300.0), changes=(), policy=POLICY):
    seen = [] if rate is None else [Observed("chat", rate, *lengths)]
    return decide(plan, seen, changes, policy, TIMING, HERE)


VLLM = """# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="m"}} {stop}
vllm:request_success_total{{engine="0",finished_reason="length",model_name="m"}} {length}
vllm:prompt_tokens_total{{engine="0",model_name="m"}} {prompt}
vllm:generation_tokens_total{{engine="0",model_name="m"}} {output}
"""


def test_counters_of_two_snapshots_are_rates_and_mean_lengths(tmp_path):
    before, after = tmp_path / "before.prom", tmp_path / "after.prom"
    before.write_text(VLLM.format(stop=100, length=50, prompt=1.5e5, output=3e4))
    after.write_text(VLLM.format(stop=600, length=150, prompt=1.35e6, output=1.5e5))
    assert read_observed([before, after], 60.0, ["chat"]) == [Observed("chat", 10.0, 2000.0, 200.0)]
    assert read_observed([before], 10.0, ["chat"]) == [Observed("chat", 15.0, 1000.0, 200.0)]
    with pytest.raises(InputError, match="earlier snapshot first"):
        read_observed([after, before], 60.0, ["chat"])


def test_counters_of_sglang_are_read_and_others_are_not(tmp_path):
    path = tmp_path / "metrics"
    path.write_text(
        'sglang:num_requests_total{model_name="a b"} 20\nsglang:prompt_tokens_total{model_name="a b"} 4e3 1700000000\n'
        'sglang:generation_tokens_total{model_name="a b"} 1000\n'
    )
    assert read_observed([path], 10.0, ["chat"]) == [Observed("chat", 2.0, 200.0, 50.0)]
    for text, words in (("up 1\n", "no counter"), ("vllm:x{a} b c\n", "text format"), ("", "no counter")):
        path.write_text(text)
        with pytest.raises(InputError, match=words):
            read_observed([path], 10.0, ["chat"])
    with pytest.raises(InputError, match="--over"):
        read_observed([path], None, ["chat"])
    with pytest.raises(InputError, match="which workload"):
        read_observed([path], 1.0, ["chat", "code"])


def test_every_fault_of_a_table_of_loads_is_placed(tmp_path):
    path = tmp_path / "load.csv"
    path.write_text(
        "workload,requests_per_s,input_tokens,output_tokens\nchat,3,100,10\ncode,0,x,10\nchat,1,1,2\nno,1,1,2\n"
    )
    with pytest.raises(InputError) as error:
        read_observed([path], None, ["chat", "code"])
    assert [(p.line, p.field) for p in error.value.problems] == [
        (3, "input_tokens"), (3, "requests_per_s"), (4, "workload"), (5, "workload"),
    ]  # fmt: skip


def test_as_much_as_fits_stays_so_whatever_is_observed():
    seen = [Observed("chat", 3.0, 100.4, 10.0)]
    assert overrides(seen, {"chat": "max"}, 0.1) == [
        "workloads.chat.input_tokens=100 token", "workloads.chat.output_tokens=10 token",
    ]  # fmt: skip
    assert overrides(seen, {"chat": "rate"}, 0.1)[-1] == "workloads.chat.requests=3.3 /s"


def test_periods_go_over_midnight_and_may_not_overlap(tmp_path):
    path = tmp_path / "week.yaml"
    night = "{name: night, begins: '20:00', ends: '08:00', set: ['objective={minimize: cost}']}"
    path.write_text(f"periods:\n  - {night}\n  - {{name: day, begins: '08:00', ends: '12:00', set: []}}\n")
    schedule = read_schedule(path)
    names = {at: getattr(period_at(schedule, at), "name", None) for at in ("07:59", "08:00", "12:00", "23:00")}
    assert names == {"07:59": "night", "08:00": "day", "12:00": None, "23:00": "night"}
    with pytest.raises(InputError, match="time of day"):
        period_at(schedule, "8 o'clock")
    path.write_text(f"periods:\n  - {night}\n  - {{name: day, begins: '07:00', ends: '12:00', set: []}}\n")
    with pytest.raises(InputError, match=r"week.yaml:3.*overlaps 'night'"):
        read_schedule(path)
    path.write_text("periods:\n  - {name: day, begins: '7:00', ends: '25:00', set: []}\n")
    with pytest.raises(InputError) as error:
        read_schedule(path)
    assert len(error.value.problems) == 2


def test_the_same_load_keeps_the_plan(day):
    found = decided(day, 4.0)
    assert (found.verdict, found.reason) == ("keep", "the best plan is what runs")


def test_more_load_than_runs_carries_must_change_and_loses_none_meanwhile(day):
    found = decided(day, 9.0)
    assert found.verdict == "must change"
    assert "9.9 are asked for" in found.reason
    assert found.report.plan.predicted.requests_per_s >= 9.9
    assert migration_violations(found.moves.migration, found.moves.order.starts, found.moves.order.ticks) == []
    served = [
        capacity(found.moves.migration, found.moves.order.starts, "chat", t) for t in range(found.moves.order.ticks)
    ]
    assert min(served) >= day.predicted.requests_per_s * (1 - 1e-9)


def test_less_load_changes_only_where_it_pays(day):
    found = decided(day, 1.2)
    assert found.verdict == "change"
    assert found.gain == pytest.approx(0.5)
    assert found.payback == pytest.approx(found.moves.device_hours * 3600 / (0.5 * 4))
    assert decided(day, 1.2, policy=POLICY._replace(least_gain=0.6)).verdict == "keep"
    slow = decided(day, 1.2, policy=POLICY._replace(horizon=found.payback * 0.9))
    assert slow.verdict == "keep"
    assert "does not pay" in slow.reason


def test_longer_prompts_are_another_load_at_the_same_rate(day):
    assert decided(day, 4.0, lengths=(6000.0, 300.0)).verdict == "must change"


def test_lost_devices_are_planned_around_and_too_few_hold_nothing(day):
    assert decided(day, 4.0, changes=["inventory.h100={hardware: h100-sxm, devices: 4}"]).verdict == "keep"
    none = decided(day, 40.0)
    assert none.verdict == "nothing holds"
    assert "40" in none.reason or "44" in none.reason


def test_a_plan_over_a_table_cannot_be_priced_for_another_load():
    plan = solve(load_scenario("column_table")).plan
    with pytest.raises(InputError, match="plan over a table"):
        decided(plan, 1.0)


def test_a_full_cluster_names_the_devices_that_a_swap_lacks(day):
    """tp4 for tp2 on one node: nothing may be drained first when all of it is needed."""
    full = (SMALL, "inventory.h100.nodes=1")
    old = solve(load_scenario("quickstart", (*full, "search.tp=2"))).plan
    new = solve(load_scenario("quickstart", (*full, "search.tp=4"))).plan
    rate = min(old.predicted.requests_per_s, new.predicted.requests_per_s)
    found = moves(old, new, {"chat": rate}, TIMING, HERE)
    assert found.order.reason == "infeasible"
    assert found.lacking == ("4 more devices on h100 node 1",)
    relaxed = moves(old, new, {"chat": rate / 2}, TIMING, HERE)
    assert relaxed.order.reason == "optimal"
    assert migration_violations(relaxed.migration, relaxed.order.starts, relaxed.order.ticks) == []
    assert moves(day, day, {"chat": 5.0}, TIMING, HERE).steps == ()


def test_pairs_keep_both_sides_in_service():
    fleet = ("search={tp: [2, 4], pp: 1}", "workloads.chat.slo.tpot=20 ms", "inventory.h100.nodes=2")
    old = solve(load_scenario("quickstart", (*fleet, "search.roles=[prefill, decode]", "inventory.h100.nodes=1"))).plan
    new = solve(load_scenario("quickstart", (*fleet, "search.roles=[mixed]"))).plan
    assert {d.role for d in old.deployments} == {"prefill", "decode"}
    need = 0.9 * old.predicted.requests_per_s
    found = moves(old, new, {"chat": need}, TIMING, HERE)
    if found.order.reason == "optimal":
        for tick in range(found.order.ticks + 1):
            assert capacity(found.migration, found.order.starts, "chat", tick) >= need * (1 - 1e-6)
    else:
        assert found.lacking


@pytest.mark.parametrize(
    ("size", "stock", "places"),
    [
        (4, Stock((8, 8, 3), 8), [(0,), (1,)]),
        (16, Stock((8,) * 5 + (4,), 8), [(0, 1), (2, 3)]),
        (16, Stock((8,) * 6, 8, 24), [(0, 1), (3, 4)]),
        (32, Stock((8,) * 8, 8, 16), [(0, 1, 2, 3), (4, 5, 6, 7)]),
    ],
)
def test_replicas_stand_on_nodes_of_one_domain_or_on_whole_ones(size, stock, places):
    class Replica:
        inventory, devices_per_replica = "h100", size

    nodes = [moves_module.Node("h100", i + 1, room) for i, room in enumerate(stock.nodes)]
    assert list(moves_module._places(Replica, nodes, stock)) == places


def test_commands_say_it_and_programs_can_read_it(day, tmp_path):
    current, load, new = tmp_path / "day.json", tmp_path / "load.csv", tmp_path / "new.json"
    current.write_text(plan_text(day))
    load.write_text("requests_per_s,input_tokens,output_tokens\n9,3000,300\n")
    found = json.loads(run("replan", "--current", current, "--observed", load, "--out", new, "--json").output)
    assert found["verdict"] == "must change"
    assert found["migration"]["result"] == "optimal"
    said = run("migrate", current, new, "--needs", "chat=5 /s")
    assert said.exit_code == 0
    assert "never less than: chat 5 /s" in said.output
    night = tmp_path / "night.yaml"
    night.write_text(
        "periods:\n  - {name: night, begins: '20:00', ends: '08:00', set: ['workloads.chat.slo.ttft=5 s']}\n"
    )
    kept = run("replan", "--current", current, "--schedule", night, "--at", "23:00")
    assert "period    night" in kept.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--at", "10:00"), "no --schedule"),
        (("--horizon", "4"), "not a time"),
        (("--drain-time", "0 s"), "more than zero"),
        (("--observed", "nothing.csv"), "no such file"),
    ],
)
def test_what_replan_cannot_read_is_one_error(day, tmp_path, arguments, words):
    current = tmp_path / "day.json"
    current.write_text(plan_text(day))
    result = run("replan", "--current", current, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_what_migrate_cannot_read_is_one_error(day, tmp_path):
    current = tmp_path / "day.json"
    current.write_text(plan_text(day))
    for needs, words in (("chat", "chat=12 /s"), ("chad=5 /s", "did you mean 'chat'"), ("chat=5", "request rate")):
        result = run("migrate", current, current, "--needs", needs)
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
