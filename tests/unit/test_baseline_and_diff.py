"""What runs today beside a plan, and two plans beside each other."""

import json

import pytest
from typer.testing import CliRunner

from planner import api, pipeline
from planner.cli import app
from planner.errors import InputError
from planner.explain.difference import difference
from planner.exporters.json_file import plan_text

CHAT = {
    "schema_version": 1,
    "name": "today",
    "models": {"chat": {"architecture": "Qwen/Qwen3-8B", "max_model_len": "8192 token"}},
    "inventory": {"h100": {"hardware": "h100-sxm", "nodes": 1, "price": "2 USD/h"}},
    "engine": {"name": "vllm"},
    "workloads": {
        "chat": {
            "model": "chat",
            "requests": "max",
            "input_tokens": "2000 token",
            "output_tokens": "200 token",
            "slo": {"ttft": "1 s", "tpot": "30 ms"},
        }
    },
    "objective": {"maximize": "requests"},
    "search": {"max_num_batched_tokens": [2048, 8192], "pp": 1},
}


def solved(**changes):
    """The report of the scenario with other top-level fields."""
    return api.solve(api.load_scenario(CHAT | changes))


def gains(report):
    return {c.metric: c for c in report.plan.baseline}


@pytest.fixture(scope="module")
def best():
    return solved()


def as_running(plan):
    """What a plan deploys, as a baseline says it."""
    fields = ("inventory", "role", "replicas", "tp", "pp", "attention_dp", "ep", "context_parallel", "max_num_seqs")
    return [{name: getattr(d, name) for name in (*fields, "max_num_batched_tokens")} for d in plan.deployments]


def test_no_baseline_no_comparison(best):
    assert best.plan.baseline == ()


def test_a_plan_gains_nothing_over_itself(best):
    found = gains(solved(baseline=as_running(best.plan)))
    for metric in ("requests", "tokens", "devices", "cost", "power"):
        assert found[metric].gain == pytest.approx(0.0, abs=1e-6)


def test_the_best_of_few_devices_is_beaten_by_all():
    found = gains(solved(baseline=[{"inventory": "h100", "tp": 4, "replicas": 1}]))
    assert found["requests"].gain > 1
    assert found["devices"].baseline == 4
    assert found["cost"].baseline == pytest.approx(8.0)


def test_replicas_apart_are_run_as_pairs():
    running = [
        {"inventory": "h100", "role": "prefill", "replicas": 4},
        {"inventory": "h100", "role": "decode", "replicas": 4},
    ]
    found = gains(solved(baseline=running))
    assert found["devices"].baseline == 8
    assert 0 < found["requests"].baseline <= found["requests"].plan


def test_what_the_scenario_searches_does_not_bind_what_runs():
    alone = {"inventory": "h100", "tp": 2, "replicas": 1}
    apart = [{"inventory": "h100", "role": role, "replicas": 2} for role in ("prefill", "decode")]
    for roles, running in ((["prefill", "decode"], [alone]), (["mixed"], apart)):
        found = gains(solved(search={**CHAT["search"], "roles": roles}, baseline=running))
        assert found["requests"].gain > 0


def test_only_what_today_serves_is_compared():
    chat = {**CHAT["workloads"]["chat"], "requests": "5 /s"}
    running = [{"inventory": "h100", "workload": "one", "replicas": 1}]
    report = solved(workloads={"one": chat, "two": chat}, objective={"minimize": "devices"}, baseline=running)
    assert gains(report)["requests"].plan == pytest.approx(report.plan.by_workload["one"].requests_per_s)


def test_what_misses_the_limits_at_every_load_is_unknown():
    slow = [{"inventory": "h100", "tp": 1, "replicas": 8}]
    tight = {**CHAT["workloads"]["chat"], "slo": {"ttft": "1 s", "tpot": "5 ms"}}
    report = solved(baseline=slow, workloads={"chat": tight})
    assert report.plan.deployments
    assert {c.baseline for c in report.plan.baseline} == {None}


def test_a_baseline_that_was_made_better_is_refused():
    plan = solved(baseline=[{"inventory": "h100", "tp": 4, "replicas": 1}]).plan
    first = plan.baseline[0]
    forged = plan._replace(baseline=(first._replace(baseline=first.baseline * 2), *plan.baseline[1:]))
    assert not api.verify_plan(plan).reasons
    assert any("baseline[0].baseline" in reason for reason in api.verify_plan(forged).reasons)


@pytest.mark.parametrize(
    ("running", "field", "words"),
    [
        ({"inventory": "h200", "replicas": 1}, "baseline.0.inventory", "no inventory 'h200'"),
        ({"inventory": "h100", "engine": "sglang", "replicas": 1}, "baseline.0.engine", "no engine 'sglang'"),
        ({"inventory": "h100", "replicas": 0}, "baseline.0.replicas", "at least 1"),
    ],
)
def test_a_faulty_baseline_is_placed(running, field, words):
    with pytest.raises(InputError) as caught:
        api.load_scenario(CHAT | {"baseline": [running]})
    assert any(p.field == field and words in p.message for p in caught.value.problems)


def test_plans_differ_by_what_was_asked_and_what_came_of_it(best, tmp_path):
    other = solved(objective={"maximize": "tokens"}, inventory={"h100": {"hardware": "h100-sxm", "devices": 4}})
    found = difference(best.plan, other.plan)
    asked = {change.field for change in found.question}
    assert {"inventory.h100.nodes", "inventory.h100.devices", "inventory.h100.price"} <= asked
    reached = {change.field: change for change in found.reached}
    assert reached["totals.devices"].after == 4
    assert reached["totals.devices"].change == pytest.approx(-0.5)
    assert difference(best.plan, best.plan).same

    files = [tmp_path / name for name in ("a.json", "b.json")]
    for file, plan in zip(files, (best.plan, other.plan), strict=True):
        file.write_text(plan_text(plan))
    runner = CliRunner()
    shown = runner.invoke(app, ["diff", *map(str, files)])
    assert shown.exit_code == 0
    assert "totals.devices: 8 → 4 (-50.0%)" in shown.output
    data = json.loads(runner.invoke(app, ["diff", *map(str, files), "--json"]).output)
    assert not data["same"]
    assert runner.invoke(app, ["diff", str(files[0]), str(files[0])]).output == "the plans are the same\n"
    assert runner.invoke(app, ["diff", str(files[0]), str(tmp_path / "none.json")]).exit_code == 2


APART = {**CHAT["search"], "roles": ["prefill", "decode"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limits": {"cost": "1 USD/h"}}, "without the limits of the whole plan (cost 1 USD/h)"),
        ({"inventory": {"h100": {"hardware": "h100-sxm", "devices": 1}}, "search": APART}, "no two that room"),
        ({"links": [{"between": ["h100", "h100"], "bandwidth": "1 kB/s"}], "search": APART}, "caches between"),
        (
            {"engine": {"name": "vllm", "scheduler": {"policy": "request"}}, "search": APART},
            "no configuration is legal",
        ),
    ],
    ids=["cost", "room", "links", "roles"],
)
def test_what_cannot_be_says_why(changes, words):
    plan = solved(**changes).plan
    assert plan.termination.reason == "infeasible"
    assert any(words in line for line in plan.shortfall)
    assert not api.verify_plan(plan).reasons


def test_a_weighted_goal_may_come_second():
    load = {**CHAT["workloads"]["chat"], "requests": "5 /s"}
    goals = [{"minimize": "devices"}, {"weighted": {"cost": 1, "requests": 1}}]
    plan = solved(workloads={"chat": load}, objective=goals).plan
    assert set(plan.later_objectives[0].best) == {"cost", "requests"}
    assert not api.verify_plan(plan).reasons


def test_a_worse_second_goal_is_refused():
    load = {**CHAT["workloads"]["chat"], "requests": "5 /s"}
    goals = [{"minimize": "devices"}, {"maximize": "requests"}]
    plan = solved(workloads={"chat": load}, objective=goals, search=APART).plan
    route = plan.routes[0]
    rate = 5.0 / route.requests_per_s
    forged = plan._replace(
        routes=(route._replace(requests_per_s=5.0),),
        predicted=plan.predicted._replace(
            requests_per_s=5.0, output_tokens_per_s=plan.predicted.output_tokens_per_s * rate
        ),
        by_workload={
            "chat": plan.predicted._replace(
                requests_per_s=5.0, output_tokens_per_s=plan.predicted.output_tokens_per_s * rate
            )
        },
        later_objectives=(plan.later_objectives[0]._replace(value=5.0),),
    )
    assert len(plan.routes) == 1
    assert not api.verify_plan(plan).reasons
    assert any("not optimal in requests" in reason for reason in api.verify_plan(forged).reasons)


def test_a_solver_that_is_not_there_is_an_error_before_any_work():
    with pytest.raises(InputError, match="NONESUCH") as caught:
        pipeline.solve(api.load_scenario(CHAT | {"solver": {"name": "pulp:NONESUCH"}}))
    assert caught.value.exit_code == 2
