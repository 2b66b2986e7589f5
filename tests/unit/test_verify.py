"""`planner verify` refuses a plan in which anything was altered, and says what."""

import copy
import hashlib
import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from planner import pipeline, resources, units
from planner.catalog import load_scenario, scenario_from_data
from planner.certainty import certainty
from planner.cli import app
from planner.columns import enumerate as columns
from planner.decode import Choice, Claim, decode, statistics_of
from planner.errors import EXIT_BAD_INPUT, EXIT_FAILED
from planner.exporters.json_file import plan_text
from planner.milp.model import Termination
from planner.problems import planning_problem, reduced

SCENARIOS = resources.shipped("scenarios")
SEARCH = "search={roles: [mixed], tp: [1, 2, 4], pp: 1, mean_running: [9, 20, 40], max_num_batched_tokens: [512, 2048]}"
BEST = 1e-9


@pytest.fixture(scope="module")
def case():
    return load_scenario(SCENARIOS / "quickstart.yaml", [SEARCH])


@pytest.fixture(scope="module")
def solved(case):
    return json.loads(plan_text(pipeline.solve(case).plan))


@pytest.fixture
def plan(solved):
    return copy.deepcopy(solved)


def run(path, *arguments):
    result = CliRunner().invoke(app, ["verify", str(path), *arguments])
    assert isinstance(result.exception, SystemExit | None), repr(result.exception)
    return result


@pytest.fixture
def verify(tmp_path):
    """Return a function that gives the exit code and the reasons for which a plan is refused."""

    def checked(data):
        path = tmp_path / "plan.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        result = run(path, "--json")
        assert result.stderr == ""
        verdict = json.loads(result.stdout)
        assert verdict["accepted"] == (result.exit_code == 0) == (not verdict["reasons"])
        return result.exit_code, verdict["reasons"]

    return checked


def inside(data, place):
    """Return the container and key of a place like ``deployments.0.tp``."""
    *above, last = [int(part) if part.isdigit() else part for part in place.split(".")]
    for part in above:
        data = data[part]
    return data, last


def altered(data, place, value):
    """Change one field to a value, or by a function of what it was."""
    container, key = inside(data, place)
    before = container[key]
    container[key] = value(before) if callable(value) else value
    assert container[key] != before
    return data


def signed(data):
    """Make the digest agree with the resolved scenario, as a careful forger would."""
    text = json.dumps(data["scenario"]["resolved"], sort_keys=True, ensure_ascii=False)
    data["scenario"]["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return data


def about(reasons, field):
    return [reason for reason in reasons if reason.startswith(f"{field}: ")]


@pytest.mark.parametrize("name", ["quickstart", "ascend_910b", "infeasible"])
def test_plans_of_the_shipped_scenarios_are_accepted(name, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plan_text(pipeline.solve(load_scenario(SCENARIOS / f"{name}.yaml")).plan), encoding="utf-8")
    result = run(path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{path}: accepted")


def test_the_unaltered_plan_is_accepted_even_when_written_anew(plan, verify):
    assert verify(plan) == (0, [])
    assert verify(signed(plan)) == (0, []), "the digest is that of the resolved scenario as it stands"


def test_a_refusal_is_printed_with_its_reason(plan, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(altered(plan, "totals.power_w", 1.0)), encoding="utf-8")
    result = run(path)
    assert (result.exit_code, result.stderr) == (EXIT_FAILED, "")
    assert result.stdout == "refused: totals.power_w: is 1, recomputed 5600\n"


def more(value):
    return value * 1.001


def one_more(value):
    return value + 1


# One field is altered; the reasons must name the field given last.
ALTERATIONS = [
    # A figure of its own: nothing else follows from it, so it alone is named.
    *(
        pytest.param(place, value, place.replace(".0.", "[0].", 1), True, id=place)
        for place, value in (
            ("deployments.0.name", "another"),
            ("deployments.0.model", "another"),
            ("deployments.0.pair", "pair-1"),
            ("deployments.0.hardware", "h200-sxm"),
            ("deployments.0.devices", one_more),
            ("deployments.0.moe_tp", one_more),
            ("deployments.0.kv_fraction", more),
            ("deployments.0.requests_per_s", more),
            ("deployments.0.requests_in_flight", more),
            ("deployments.0.predicted.ttft_ms", more),
            ("deployments.0.predicted.tpot_ms", more),
            ("deployments.0.predicted.itl_ms", more),
            ("deployments.0.predicted.basis", "fitted"),
            ("deployments.0.memory_bytes.weights", more),
            ("deployments.0.memory_bytes.kv_cache", more),
            ("deployments.0.memory_bytes.activations", more),
            ("deployments.0.memory_bytes.graphs", more),
            ("deployments.0.memory_bytes.communication", more),
            ("deployments.0.memory_bytes.runtime", more),
            ("deployments.0.memory_bytes.reserve", more),
            ("deployments.0.memory_bytes.capacity", more),
            ("deployments.0.bound_by", "host"),
            ("deployments.0.time_share.compute", more),
            ("predicted.ttft_ms", more),
            ("predicted.tpot_ms", more),
            ("predicted.requests_per_s", more),
            ("predicted.output_tokens_per_s", more),
            ("totals.devices", 7),
            ("totals.idle_devices.h100", 1),
            ("totals.cost_usd_per_h", 19.0),
            ("totals.cost_usd_per_h", None),
            ("totals.power_w", 1000.0),
            ("statistics.configurations", one_more),
            ("statistics.legal", one_more),
            ("statistics.meeting_slo", one_more),
            ("statistics.columns", one_more),
            ("statistics.rejected.kv_cache_too_small", one_more),
            ("objective.metric", "tokens"),
            ("objective.sense", "minimize"),
            ("objective.unit", "token/s"),
            ("objective.relative_gap", 0.25),
            ("objective.relative_gap", None),
            ("objective.bound_kind", "dual"),
            ("objective.bound_kind", None),
            ("scenario.name", "another"),
            ("termination.limit", "time"),
            ("statistics.wall_s", -1.0),
            ("termination.detail", "optimal over everything"),
        )
    ),
    # Much follows from these; that includes the field named.
    pytest.param("deployments.0.tp", 4, "deployments[0].devices_per_replica", False, id="tp"),
    pytest.param("deployments.0.mean_running", 9, "deployments[0].requests_per_s", False, id="mean-running"),
    # The scenario does not search these.
    pytest.param("deployments.0.role", "decode", "chat-mixed-1", False, id="role"),
    pytest.param("deployments.0.engine.version", "0.23", "chat-mixed-1", False, id="engine-version"),
    pytest.param("deployments.0.block_size", 32, "chat-mixed-1", False, id="block-size"),
    pytest.param("deployments.0.prefill_policy", "separate_whole", "chat-mixed-1", False, id="prefill-policy"),
    pytest.param("deployments.0.prefill_utilisation", 50, "chat-mixed-1", False, id="prefill-utilisation"),
    pytest.param("deployments.0.context_parallel", 2, "chat-mixed-1", False, id="context-parallel"),
    pytest.param("deployments.0.redundant_experts", 32, "chat-mixed-1", False, id="redundant-experts"),
    pytest.param("deployments.0.pp", 2, "chat-mixed-1", False, id="pp"),
    pytest.param("deployments.0.attention_dp", 2, "chat-mixed-1", False, id="attention-dp"),
    pytest.param("deployments.0.mean_running", 5, "chat-mixed-1", False, id="mean-running-between"),
    pytest.param("deployments.0.weight_precision", "fp8", "chat-mixed-1", False, id="weights"),
    pytest.param("deployments.0.kv_precision", "fp8", "chat-mixed-1", False, id="kv-precision"),
    pytest.param("deployments.0.speculative_tokens", 2, "chat-mixed-1", False, id="speculative-tokens"),
    pytest.param("deployments.0.ep", 2, "chat-mixed-1", False, id="ep"),
    pytest.param("deployments.0.inventory", "h200", "chat-mixed-1", False, id="inventory"),
    pytest.param("deployments.0.replicas", 3, "deployments[0].devices", False, id="fewer-replicas"),
    pytest.param("deployments.0.replicas", 5, "inventory.h100", False, id="more-replicas"),
    pytest.param("deployments.0.replicas", -1, "inventory.h100", False, id="negative-replicas"),
    pytest.param("deployments.0.replicas", 0, "deployments", False, id="no-replicas"),
    pytest.param("deployments.0.devices_per_replica", 4, "deployments[0].devices_per_replica", False, id="per-replica"),
    pytest.param("deployments.0.max_num_seqs", 512, "deployments[0].memory_bytes.kv_cache", False, id="max-num-seqs"),
    pytest.param("deployments.0.max_num_seqs", 2, "chat-mixed-1", False, id="too-few-seqs"),
    pytest.param("deployments.0.max_num_batched_tokens", 2048, "chat-mixed-1", False, id="budget"),
    pytest.param("deployments.0.devices_per_replica", 0, "inventory.h100", False, id="no-devices"),
    pytest.param("deployments.0.weight_precision", "fp9", "chat-mixed-1", False, id="weights-unknown"),
    pytest.param("objective.bound", None, "objective.bound", False, id="no-bound"),
    pytest.param("objective.value", more, "objective.value", False, id="objective-value"),
    pytest.param("objective.bound", more, "objective.bound", False, id="bound-above"),
    pytest.param("objective.bound", lambda bound: bound * 0.99, "objective.bound", False, id="bound-below"),
    pytest.param("termination.reason", "infeasible", "termination.reason", False, id="says-infeasible"),
    pytest.param("termination.reason", "within_gap", "termination.detail", False, id="says-within-gap"),
    pytest.param("termination.reason", "stopped", "termination.detail", False, id="says-stopped"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value", "field", "alone"), ALTERATIONS)
def test_an_altered_field_is_refused_by_name(place, value, field, alone, plan, verify):
    code, reasons = verify(altered(plan, place, value))
    assert code == EXIT_FAILED
    assert about(reasons, field), reasons
    assert not alone or len(reasons) == len(about(reasons, field)), reasons


def test_refusal_shows_what_is_written_and_what_was_found(plan, verify):
    right = plan["deployments"][0]["predicted"]["tpot_ms"]
    _, reasons = verify(altered(plan, "deployments.0.predicted.tpot_ms", 12.5))
    assert reasons == [f"deployments[0].predicted.tpot_ms: is 12.5, recomputed {right:.8g}"]


def test_rounding_in_the_seventh_digit_is_no_alteration(plan, verify):
    assert verify(altered(plan, "predicted.tpot_ms", lambda value: value * (1 + 1e-8))) == (0, [])


def test_a_removed_deployment_is_refused(plan, verify):
    plan["deployments"] = []
    code, reasons = verify(plan)
    assert code == EXIT_FAILED
    assert about(reasons, "objective.value")
    assert about(reasons, "totals.devices")


def test_a_duplicated_deployment_is_refused(plan, verify):
    plan["deployments"] *= 2
    code, reasons = verify(plan)
    assert code == EXIT_FAILED
    assert about(reasons, "inventory.h100") == [
        "inventory.h100: the replicas do not fit into nodes of 8 devices",
    ]
    assert about(reasons, "deployments[1].name")


# --- the question inside the plan --------------------------------------------------------------------------------


def seconds(value):
    return units.format_quantity(value, units.SECONDS)


RESOLVED = "scenario.resolved."
QUESTIONS = [
    ("workloads.chat.slo.tpot", seconds(0.025)),
    ("workloads.chat.slo.tpot", seconds(0.05)),
    ("workloads.chat.slo.ttft", seconds(0.3)),
    ("workloads.chat.input_tokens", "2999 token"),
    ("inventory.h100.nodes", 2),
    ("inventory.h100.price", units.format_quantity(3.0, units.USD_PER_HOUR)),
    ("inventory.h100.reserved_devices", 1),
    ("search.tp", [2]),
    ("name", "another"),
]


@pytest.mark.parametrize(("place", "value"), QUESTIONS, ids=lambda value: str(value))
def test_an_altered_question_breaks_the_digest(place, value, plan, verify):
    code, reasons = verify(altered(plan, RESOLVED + place, value))
    assert code == EXIT_FAILED
    assert reasons == ["scenario.sha256: the resolved scenario is not the one this plan was made for"]


def test_an_altered_digest_is_refused(plan, verify):
    code, reasons = verify(altered(plan, "scenario.sha256", "0" * 64))
    assert (code, [reason.split(": ")[0] for reason in reasons]) == (EXIT_FAILED, ["scenario.sha256"])


def test_a_tightened_limit_is_missed_whatever_the_digest(plan, verify):
    tpot = plan["deployments"][0]["predicted"]["tpot_ms"]
    assert tpot > 25
    code, reasons = verify(signed(altered(plan, RESOLVED + "workloads.chat.slo.tpot", seconds(0.025))))
    assert code == EXIT_FAILED
    assert about(reasons, "chat-mixed-1.predicted.tpot_ms") == [
        f"chat-mixed-1.predicted.tpot_ms: {tpot:.6g} misses the limit of 25"
    ]


def test_a_loosened_limit_makes_the_plan_suboptimal_whatever_the_digest(verify):
    """Of this grid the plan takes the middle load, and would take the last one."""
    case = load_scenario(SCENARIOS / "quickstart.yaml", [SEARCH, "search.mean_running=[9, 36, 44]"])
    plan = json.loads(plan_text(pipeline.solve(case).plan))
    plan = altered(plan, RESOLVED + "workloads.chat.slo.tpot", seconds(0.2))
    code, reasons = verify(signed(altered(plan, RESOLVED + "workloads.chat.slo.ttft", seconds(20.0))))
    assert code == EXIT_FAILED
    (reason,) = about(reasons, "termination.reason")
    assert reason.startswith("termination.reason: not optimal in requests: ")
    assert " is not a bound: " in about(reasons, "objective.bound")[0]


def test_a_second_node_makes_the_plan_suboptimal_whatever_the_digest(plan, verify):
    best = 2 * plan["objective"]["value"]
    code, reasons = verify(signed(altered(plan, RESOLVED + "inventory.h100.nodes", 2)))
    assert code == EXIT_FAILED
    assert about(reasons, "totals.idle_devices.h100") == ["totals.idle_devices.h100: is 0, recomputed 8"]
    assert about(reasons, "termination.reason")[0].endswith(f"the best is {best:.8g}")


def test_a_reserved_device_leaves_too_little_room_whatever_the_digest(plan, verify):
    code, reasons = verify(signed(altered(plan, RESOLVED + "inventory.h100.reserved_devices", 1)))
    assert code == EXIT_FAILED
    assert about(reasons, "inventory.h100") == ["inventory.h100: the replicas do not fit into nodes of 7 devices"]


def test_another_price_changes_the_cost_whatever_the_digest(plan, verify):
    price = units.format_quantity(3.0, units.USD_PER_HOUR)
    _, reasons = verify(signed(altered(plan, RESOLVED + "inventory.h100.price", price)))
    assert reasons == ["totals.cost_usd_per_h: is 20, recomputed 24"]


def test_a_load_beyond_the_plan_is_missed_whatever_the_digest(plan, verify):
    rate = units.format_quantity(100.0, units.REQUESTS_PER_SECOND)
    _, reasons = verify(signed(altered(plan, RESOLVED + "workloads.chat.requests", rate)))
    (reason,) = about(reasons, "demand")
    assert reason.endswith(" of 100 of chat")
    assert about(reasons, "termination") == ["termination: there is a plan, but the scenario is infeasible"]


def test_a_narrower_grid_changes_the_statistics_whatever_the_digest(plan, verify):
    plan = altered(plan, RESOLVED + "search.tp", [2])
    _, reasons = verify(signed(altered(plan, RESOLVED + "grid.0.values.tp", [2])))
    assert about(reasons, "statistics.configurations") == ["statistics.configurations: is 180, recomputed 60"]


@pytest.mark.parametrize("recorded", [None, "x", ["x"], [{}], [[]], [{"kind": [], "name": {}}]], ids=str)
def test_specifications_that_are_no_list_of_files_are_refused(recorded, plan, verify):
    code, reasons = verify(signed(altered(plan, RESOLVED + "specifications", recorded)))
    assert code == EXIT_FAILED
    assert len(reasons) == 5  # architecture, hardware, engine, two calibrations
    assert all(reason.endswith("is not the one this plan was made from: solve again") for reason in reasons)


@pytest.mark.parametrize("kind", ["architecture", "hardware", "engine", "calibration"])
@pytest.mark.parametrize("sign", [signed, lambda data: data], ids=["signed", "unsigned"])
def test_a_specification_that_changed_is_named(kind, sign, plan, verify):
    recorded = plan["scenario"]["resolved"]["specifications"]
    index = next(i for i, entry in enumerate(recorded) if entry["kind"] == kind)
    name = recorded[index]["name"]
    code, reasons = verify(sign(altered(plan, f"{RESOLVED}specifications.{index}.sha256", "0" * 64)))
    assert code == EXIT_FAILED
    assert reasons == [f"{kind} '{name}' is not the one this plan was made from: solve again"]


def test_a_specification_that_is_not_recorded_is_named(plan, verify):
    recorded = plan["scenario"]["resolved"]["specifications"]
    dropped = recorded.pop()
    _, reasons = verify(signed(plan))
    assert reasons == [f"{dropped['kind']} '{dropped['name']}' is not the one this plan was made from: solve again"]


def test_a_users_specification_that_was_edited_since_is_named(tmp_path):
    text = (resources.shipped("hardware_specs") / "h100-sxm.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    scenario = (SCENARIOS / "quickstart.yaml").read_text(encoding="utf-8")
    path = tmp_path / "scenario.yaml"
    path.write_text(scenario.replace("hardware: h100-sxm", "hardware: mine.yaml"), encoding="utf-8")
    plan_path = tmp_path / "plan.json"
    plan_path.write_text(plan_text(pipeline.solve(load_scenario(path, [SEARCH])).plan), encoding="utf-8")
    assert run(plan_path).exit_code == 0
    (tmp_path / "mine.yaml").write_text(text.replace("3.35 TB/s", "3.30 TB/s"), encoding="utf-8")
    result = run(plan_path)
    assert result.exit_code == EXIT_FAILED
    assert result.stdout == "refused: hardware 'mine.yaml' is not the one this plan was made from: solve again\n"


# --- forged claims whose figures agree with each other -----------------------------------------------------------


def forged(case, replicas_of, reason="optimal", bound=None):
    """Return a plan in which all figures follow from the replicas chosen, with a claim about how good it is."""
    table = columns.grid_table(case)
    problem = planning_problem(case, table)
    replicas = replicas_of(table, problem.value)
    carried = float(problem.value @ np.array(replicas)) if any(replicas) else None
    statistics = statistics_of(table, len(reduced(case, problem).table), "highs", 0.1)
    claim = Claim(Termination(reason), carried if bound is None else bound)
    plan = decode(case, problem, Choice(replicas), claim, statistics)
    return json.loads(plan_text(plan._replace(certainty=certainty(case, plan))))


def none(table, value):
    return [0] * len(table)


def fewer(table, value):
    """One replica of the best column: all limits hold, most devices idle."""
    at = int(np.argmax(np.where(table.meets_limits, value, -np.inf)))
    return [int(i == at) for i in range(len(table))]


def second_best(table, value):
    """All devices with a column that another column of the same size beats."""
    devices = table.figures["devices"]
    order = sorted(np.nonzero(table.meets_limits & (devices == 2))[0], key=lambda i: -value[i])
    assert value[order[1]] < value[order[0]] * (1 - BEST)
    return [4 * int(i == order[1]) for i in range(len(table))]


def too_slow(table, value):
    """All devices with a column that misses a latency limit and carries more."""
    late = np.nonzero(~table.meets_limits & (table.figures["devices"] == 2))[0]
    assert len(late)
    return [4 * int(i == late[0]) for i in range(len(table))]


def best(table, value):
    at = int(np.argmax(np.where(table.meets_limits, value / table.figures["devices"], -np.inf)))
    return [int(8 // table.figures["devices"][at]) * int(i == at) for i in range(len(table))]


def test_a_plan_made_this_way_from_the_best_replicas_is_accepted(case, solved, verify):
    plan = forged(case, best)
    assert plan["objective"]["value"] == pytest.approx(solved["objective"]["value"])
    assert verify(plan) == (0, [])


@pytest.mark.parametrize("choice", [fewer, second_best])
def test_a_suboptimal_plan_is_not_optimal_however_consistent(choice, case, solved, verify):
    plan = forged(case, choice)
    stated, right = plan["objective"]["value"], solved["objective"]["value"]
    assert plan["objective"]["bound"] == stated < right
    code, reasons = verify(plan)
    assert code == EXIT_FAILED
    assert reasons == [
        f"objective.bound: {stated:.8g} is not a bound: {right:.8g} can be reached",
        f"termination.reason: not optimal in requests: {stated:.8g}, the best is {right:.8g}",
    ]


def test_a_suboptimal_plan_with_the_true_bound_leaves_a_gap(case, solved, verify):
    code, reasons = verify(forged(case, second_best, bound=solved["objective"]["bound"]))
    assert code == EXIT_FAILED
    assert "more than the 0 claimed" in about(reasons, "objective.bound")[0]
    assert about(reasons, "termination.reason")


def test_a_stopped_search_may_be_suboptimal_but_not_its_bound(case, solved, verify):
    assert verify(forged(case, second_best, reason="stopped", bound=solved["objective"]["bound"])) == (0, [])
    _, reasons = verify(forged(case, second_best, reason="stopped"))
    assert [reason.split(": ")[0] for reason in reasons] == ["objective.bound"]


def test_within_gap_may_not_exceed_the_gap_allowed(case, solved, verify):
    bound = solved["objective"]["bound"]
    loose = load_scenario(SCENARIOS / "quickstart.yaml", [SEARCH, "solver.relative_gap=0.9"])
    assert verify(forged(loose, second_best, reason="within_gap", bound=bound)) == (0, [])
    _, reasons = verify(forged(case, second_best, reason="within_gap", bound=bound))
    assert [reason.split(": ")[0] for reason in reasons] == ["objective.bound"]


def test_a_plan_that_misses_a_limit_is_refused_however_consistent(case, verify):
    code, reasons = verify(forged(case, too_slow))
    assert code == EXIT_FAILED
    assert any(reason.startswith("chat-mixed-1.predicted.") and "misses the limit of" in reason for reason in reasons)


def test_a_feasible_scenario_is_not_infeasible(case, solved, verify):
    plan = forged(case, none, reason="infeasible")
    assert plan["deployments"] == []
    assert [plan["objective"][key] for key in ("value", "bound", "relative_gap")] == [None] * 3
    code, reasons = verify(plan)
    assert code == EXIT_FAILED
    best_value = solved["objective"]["value"]
    assert f"termination.reason: not infeasible: {best_value:.8g} can be reached" in reasons


@pytest.mark.parametrize(("key", "value"), [("bound", 5.0), ("relative_gap", 0.0), ("bound_kind", "milp")])
def test_a_later_goal_claims_no_bound(key, value, verify):
    settings = [SEARCH, "workloads.chat.requests=2 /s", "objective=[{minimize: devices}, {maximize: requests}]"]
    plan = json.loads(plan_text(pipeline.solve(load_scenario(SCENARIOS / "quickstart.yaml", settings)).plan))
    _, reasons = verify(altered(plan, f"later_objectives.0.{key}", value))
    (reason,) = reasons
    assert reason.startswith(f"later_objectives[0].{key}: is ")
    assert reason.endswith(", recomputed null")


def test_fields_named_like_what_only_a_search_knows_are_checked(plan, verify):
    plan["statistics"]["rejected"]["limit"] = 3
    assert verify(plan) == (EXIT_FAILED, ["statistics.rejected.limit: should not be there"])


def test_an_infeasible_scenario_has_no_bound(tmp_path, verify):
    case = load_scenario(SCENARIOS / "infeasible.yaml")
    plan = json.loads(plan_text(pipeline.solve(case).plan))
    assert plan["objective"]["bound"] is None
    plan["objective"] |= {"bound": 1.0, "bound_kind": "milp"}
    assert verify(plan)[1] == ["objective.bound: must be null, since nothing is feasible"]


def test_a_search_that_stopped_without_a_plan_may_not_claim_too_strong_a_bound(case, solved, verify):
    right = solved["objective"]["value"]
    assert verify(forged(case, none, reason="stopped", bound=2 * right)) == (0, [])
    _, reasons = verify(forged(case, none, reason="stopped", bound=right / 2))
    assert reasons == [f"objective.bound: {right / 2:.8g} is not a bound: {right:.8g} can be reached"]


def test_emptied_deployments_do_not_make_a_plan_infeasible(plan, verify):
    plan["deployments"] = []
    plan["termination"]["reason"] = "infeasible"
    plan["objective"] |= {"value": None, "bound": None, "relative_gap": None, "bound_kind": None}
    code, reasons = verify(plan)
    assert code == EXIT_FAILED
    assert about(reasons, "termination.reason")[0].startswith("termination.reason: not infeasible: ")
    assert about(reasons, "totals.devices")


def test_optimal_needs_deployments(case, verify):
    _, reasons = verify(forged(case, none, reason="optimal"))
    assert reasons == ["termination.reason: 'optimal' needs deployments"]


def test_a_later_goal_must_be_optimal_too(verify):
    settings = [SEARCH, "workloads.chat.requests=2 /s", "objective=[{minimize: devices}, {maximize: requests}]"]
    case = load_scenario(SCENARIOS / "quickstart.yaml", settings)
    plan = json.loads(plan_text(pipeline.solve(case).plan))
    assert verify(plan) == (0, [])
    devices = plan["totals"]["devices"]

    def weaker(table, value):
        fits = table.meets_limits & (table.figures["devices"] == devices) & (value >= 2)
        order = sorted(np.nonzero(fits)[0], key=lambda i: value[i])
        assert value[order[0]] < value[order[-1]] * (1 - BEST)
        return [int(i == order[0]) for i in range(len(table))]

    forged_plan = forged(case, weaker, bound=float(devices))
    assert forged_plan["objective"] == plan["objective"]
    code, reasons = verify(forged_plan)
    assert code == EXIT_FAILED
    assert [reason.split(",")[0].split(": ")[:2] for reason in reasons] == [
        ["termination.reason", "not optimal in requests"]
    ]


def test_the_resolved_scenario_is_the_whole_question(case, solved):
    extra = ("specifications", "grid")
    resolved = {key: value for key, value in solved["scenario"]["resolved"].items() if key not in extra}
    again = json.loads(plan_text(pipeline.solve(scenario_from_data(resolved, folder=SCENARIOS)).plan))
    for plan in (again, expected := copy.deepcopy(solved)):
        del plan["statistics"]["wall_s"]
    assert again == expected


# --- files that are no plan --------------------------------------------------------------------------------------


def nested(levels):
    return json.loads("[" * levels + "]" * levels)


def lost(field):
    def change(data):
        container, key = inside(data, field)
        del container[key]
        return json.dumps(data)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda plan: "", ":1:1: not valid JSON: Expecting value", id="empty"),
        pytest.param(lambda plan: "name: quickstart\n", ":1:1: not valid JSON: Expecting value", id="yaml"),
        pytest.param(lambda plan: json.dumps(plan)[:-1], ": not valid JSON: ", id="cut-off"),
        pytest.param(lambda plan: "[]", ": schema_version: must be 1 ", id="list"),
        pytest.param(
            lambda plan: json.dumps({**plan, "schema_version": 2}), ": schema_version: must be 1 ", id="later"
        ),
        pytest.param(lost("objective"), ":1:1: objective: is required", id="no-objective"),
        pytest.param(lost("deployments.0.tp"), ": deployments.0.tp: is required", id="no-tp"),
        pytest.param(
            lambda plan: json.dumps(altered(plan, "deployments.0.tp", 2.5)),
            ": deployments.0.tp: must be a whole number (got 2.5)",
            id="half",
        ),
        pytest.param(
            lambda plan: json.dumps(altered(plan, "termination.reason", "best")),
            ": termination.reason: must be one of",
            id="reason",
        ),
        pytest.param(
            lambda plan: json.dumps({**plan, "colour": "red"}), ": colour: unknown field; known: ", id="unknown-field"
        ),
        *(
            pytest.param(
                lambda plan, place=place, value=value: json.dumps(altered(plan, place, value)), f": {place}: ", id=id
            )
            for place, value, id in (
                ("deployments.0.tp", "2", "text-for-a-count"),
                ("deployments.0.replicas", True, "true-for-a-count"),
                ("deployments.0.kv_fraction", "0.5", "text-for-a-number"),
                ("deployments.0.name", 1, "number-for-a-name"),
                ("deployments.0", lambda fields: list(fields.values()), "list-for-fields"),
                ("deployments.0.engine", lambda fields: list(fields.values()), "list-for-inner-fields"),
            )
        ),
        pytest.param(
            lambda plan: json.dumps(altered(plan, "deployments.0.tp", 10**30)), " is too large: ", id="large-count"
        ),
        pytest.param(
            lambda plan: json.dumps(altered(plan, "objective.bound", math.nan)), "NaN is not a finite", id="nan"
        ),
        pytest.param(lambda plan: f'{{"schema_version": {"7" * 5000}}}', " is too large: ", id="endless-number"),
        pytest.param(lambda plan: "[" * 100_000, ":1:1: nested too deeply", id="deep"),
        pytest.param(
            lambda plan: json.dumps(altered(plan, RESOLVED + "description", nested(400))),
            "recursion limit",
            id="nested",
        ),
        pytest.param(
            lambda plan: json.dumps(plan).replace('"totals"', '"predicted": {}, "totals"'),
            ": predicted: is written twice",
            id="key-twice",
        ),
    ],
)
def test_a_file_that_is_no_plan_is_bad_input(change, message, plan, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(change(plan), encoding="utf-8")
    result = run(path)
    assert (result.exit_code, result.stdout) == (EXIT_BAD_INPUT, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: {path}")
    assert message in line


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(lambda path: path.mkdir(), "cannot be read: Is a directory", id="folder"),
        pytest.param(lambda path: path.write_bytes(b"\xff\xfe"), "not a UTF-8 text file", id="binary"),
    ],
)
def test_a_plan_that_cannot_be_read_is_bad_input(make, message, tmp_path):
    path = tmp_path / "plan.json"
    make(path)
    result = run(path)
    assert (result.exit_code, result.stdout) == (EXIT_BAD_INPUT, "")
    assert result.stderr == f"error: {path}: {message}\n"


def test_a_question_that_is_no_scenario_is_bad_input(plan, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(signed(altered(plan, RESOLVED + "inventory.h100.nodes", 0))), encoding="utf-8")
    result = run(path)
    assert (result.exit_code, result.stdout) == (EXIT_BAD_INPUT, "")
    assert result.stderr.endswith(": inventory.h100.nodes: must be at least 1 (got 0)\n")
