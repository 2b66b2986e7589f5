"""Directions that must hold: better hardware, looser limits, lower prices, more devices."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.catalog import load_scenario
from planner.columns.evaluate import figures
from planner.columns.grid import SEQUENCE_LIMITS, encode
from planner.columns.pricing import price
from planner.columns.setting import settings as case_settings
from planner.pipeline import solve
from planner.table import AXES, Configuration

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FILES = {"h100": "quickstart.yaml", "atlas": "ascend_910b.yaml"}
MODELS = ("Qwen3-32B", "Llama-3.1-8B", "Qwen3-30B-A3B")
FACTORS = st.floats(1.001, 5)
ISL, OSL = st.integers(64, 8000), st.integers(2, 1000)
repeated = settings(max_examples=50, derandomize=True, deadline=None)
SLACK = 1 + 1e-12


def load(inventory, changes):
    """Load a case of physics alone: what measured runs leave unexplained need not be monotonic."""
    fixed = ["search.roles=[mixed]", "models.chat.max_model_len=16384 token", "calibration=textbook"]
    return load_scenario(SCENARIOS / FILES[inventory], [*fixed, f"inventory.{inventory}.nodes=2", *changes])


@st.composite
def cases(draw, isl=ISL, osl=OSL):
    """A case on two nodes, with its inventory and lengths."""
    inventory = draw(st.sampled_from(sorted(FILES)))
    changes = [
        f"models.chat.architecture={draw(st.sampled_from(MODELS))}",
        "models.chat.precisions=[bf16]",
        f"workloads.chat.input_tokens={draw(isl)} token",
        f"workloads.chat.output_tokens={draw(osl)} token",
    ]
    return load(inventory, changes)


@st.composite
def configurations(draw, case):
    tp = draw(st.sampled_from((1, 2, 4, 8, 16)))
    experts = case.architecture("chat").num_experts
    (use,) = case.engines
    return Configuration(
        inventory=next(iter(case.scenario.inventory)),
        role="mixed",
        weight_precision="bf16",
        kv_precision="bf16",
        tp=tp,
        pp=draw(st.sampled_from([pp for pp in (1, 2, 4) if tp * pp <= 16])),
        ep=draw(st.sampled_from((1, tp))) if experts else 1,
        mean_running=draw(st.sampled_from((1, 4, 12, 32, 64, 128, 256))),
        max_num_batched_tokens=draw(st.sampled_from((1024, 2048, 8192))),
        max_num_seqs=0,  # follows from the rest
        block_size=use.engine.block_size.value,
        prefill_policy=use.engine.scheduling.policies.value[0],
        workload="chat",
        engine=use.engine.name,
        engine_version=use.version,
    )


def legal(data, case):
    """A configuration that runs, with its figures."""
    configuration = data.draw(configurations(case))
    before = figures_of(case, configuration)
    assume(before is not None)
    return configuration, before


def figures_of(case, configuration):
    """Figures of a configuration with the smallest max_num_seqs that suffices; None where it is illegal."""
    needed = raw(case, configuration)["slots_needed"]
    seqs = next((n for n in SEQUENCE_LIMITS if n >= needed), None)
    if seqs is None:
        return None
    table, refused = price(case, [configuration._replace(max_num_seqs=seqs)])
    return None if refused else {name: float(values[0]) for name, values in table.figures.items()}


def raw(case, configuration, evaluated=figures):
    """Every output of the cost model, those that no column carries included."""
    (setting,) = case_settings(case)
    values = configuration._asdict() | {"overlaps": 0}
    found = evaluated(setting, {axis: np.array([encode(axis, values[axis])]) for axis in AXES})
    return {name: float(np.broadcast_to(value, (1,))[0]) for name, value in found.items()}


def without_queue(found, between):
    """TTFT less the time a prompt waits for other prompts: ρ·S / 2(1 − ρ), with S = ρ / rate, and ρ/2 mixed steps."""
    load = found["prefill_load"]
    return found["ttft"] - load**2 / found["rate"] / (2 * (1 - load)) - load * between["mixed_step"] / 2


def kind_of(case):
    (hardware,) = case.hardware.values()
    return hardware.engines.kind


def scaled(case, change):
    """The case with every device changed."""
    return case._replace(hardware={name: change(hardware) for name, hardware in case.hardware.items()})


def times(sourced, factor):
    return sourced.model_copy(update={"value": sourced.value * factor})


def memory(field, factor):
    def change(hardware):
        part = hardware.memory.model_copy(update={field: times(getattr(hardware.memory, field), factor)})
        return hardware.model_copy(update={"memory": part})

    return change


def flops(factor):
    return lambda hardware: hardware.model_copy(
        update={"peak_flops": {name: times(rate, factor) for name, rate in hardware.peak_flops.items()}}
    )


def link(field, factor):
    def faster(network):
        return network.model_copy(update={"bandwidth": times(network.bandwidth, factor)})

    def change(hardware):
        part = getattr(hardware, field)
        changed = tuple(map(faster, part)) if isinstance(part, tuple) else faster(part)
        return hardware.model_copy(update={field: changed})

    return change


def assert_no_slower(before, after, names=("tpot", "ttft")):
    assert after is not None, "was legal before"
    for name in names:
        assert after[name] <= before[name] * SLACK, name
    assert after["rate"] * SLACK >= before["rate"]


# --- hardware, at a fixed configuration


@repeated
@given(st.data(), cases(), FACTORS)
def test_more_flops_never_slow_a_configuration(data, case, factor):
    configuration, before = legal(data, case)
    after = figures_of(scaled(case, flops(factor)), configuration)
    assert_no_slower(before, after)
    # the slowest component counts alone, and need not be the matrix units
    if kind_of(case) == "roofline":
        assert after["tpot"] < before["tpot"]


@repeated
@given(st.data(), cases(), FACTORS, st.sampled_from(("scale_up", "scale_out")))
def test_more_link_bandwidth_never_slows_a_configuration(data, case, factor, field):
    configuration, before = legal(data, case)
    after = figures_of(scaled(case, link(field, factor)), configuration)
    assert_no_slower(before, after)


def without_second_order(found, between, running):
    """TPOT times 1/p less the mean of what a varying number of requests adds: elasticity·dispersion/b decode steps."""
    return found["tpot"] - between["decode_step"] * between["elasticity"] * between["dispersion"] / running


def settled(found, between):
    """Tell whether TPOT is mostly its first term: then the second is small, and small are its changes.

    It goes with the square of ``stretch`` and with 1/(1 − elasticity), which nears ten where matrix products fill a
    step. See ``test_faster_memory_never_makes_a_plan_worse_where_prompts_stretch_steps_much`` for the rest.
    """
    second = found["tpot"] / between["fluid_step"] - 1
    return second * between["stretch"] / max(0.1, 1 - between["elasticity"]) < 0.25


@repeated
@given(st.data(), cases(), FACTORS)
def test_more_hbm_bandwidth_never_slows_tpot_rate_or_ttft_without_its_queue(inside, data, case, factor):
    """A configuration runs at a given mean of decoding requests. Faster decoding raises its rate, so prompts queue
    longer behind each other where prefill is bound by compute (and it may no longer be legal): only TTFT without
    that queue must fall."""
    configuration, _ = legal(data, case)
    faster = scaled(case, memory("bandwidth", factor))
    before, after = raw(case, configuration), raw(faster, configuration)
    between, between_after = raw(case, configuration, inside), raw(faster, configuration, inside)
    # strictly, but where the host takes longest: with a prompt, devices have more to do than without, and the host as
    # much (in a step of prompts alone, less)
    bound_by_host = between["decode_step"] <= between["decode_host"]
    for name in ("decode_step", "mixed_step", "full_step", "fluid_step", "prompt_service"):
        strictly = kind_of(case) == "roofline" and not bound_by_host
        assert between_after[name] < between[name] * (1 if strictly else SLACK), name
    stages, running = configuration.pp, configuration.mean_running
    of_stage, of_stage_after = (found | {"tpot": found["tpot"] / stages} for found in (before, after))
    first, first_after = (
        without_second_order(*pair, running) for pair in ((of_stage, between), (of_stage_after, between_after))
    )
    assert first_after <= first * SLACK
    assert after["rate"] * after["tpot"] == pytest.approx(before["rate"] * before["tpot"])
    assume(settled(of_stage, between))
    assume(settled(of_stage_after, between_after))
    assert after["tpot"] <= before["tpot"] * SLACK
    assert bound_by_host or after["tpot"] < before["tpot"]
    assert without_queue(after, between_after) <= without_queue(before, between) * SLACK


@pytest.mark.parametrize("output", [100, 300])
def test_faster_memory_never_makes_a_plan_worse_where_prompts_stretch_steps_much(output):
    """At a given mean of decoding requests TPOT may rise here, since the rate rises with it (the second-order term goes
    with the square of ``stretch``); but a plan chooses that mean."""
    changes = ["models.chat.architecture=Llama-3.1-8B", "models.chat.precisions=[bf16]"]
    changes += ["workloads.chat.input_tokens=5627 token", f"workloads.chat.output_tokens={output} token"]
    changes += ["workloads.chat.requests=max", "objective={maximize: requests}", "search.tp=[1, 2]", "search.pp=[1]"]
    case = load("atlas", changes)
    before, after = solve(case).plan, solve(scaled(case, memory("bandwidth", 4.82))).plan
    assert after.objective.value >= before.objective.value


@repeated
@given(st.data(), cases(), FACTORS)
def test_more_memory_never_makes_a_legal_configuration_illegal_and_changes_no_time(data, case, factor):
    configuration, before = legal(data, case)
    after = figures_of(scaled(case, memory("capacity", factor)), configuration)
    assert after is not None
    for name in ("tpot", "ttft", "rate", "in_flight", "weights_bytes"):
        assert after[name] == before[name], name
    assert after["kv_cache_bytes"] > before["kv_cache_bytes"]


# --- load, at a fixed configuration


@repeated
@given(st.data(), cases(), st.integers(1, 2000))
def test_longer_prompts_never_speed_up(data, case, more):
    """Whether or not they take one more chunk."""
    chat = case.scenario.workloads["chat"]
    workload = chat.model_copy(update={"input_tokens": chat.input_tokens + more})
    scenario = case.scenario.model_copy(update={"workloads": {"chat": workload}})
    longer = case._replace(scenario=scenario)
    configuration, before = legal(data, case)
    after = figures_of(longer, configuration)
    assume(after is not None)
    assert after["tpot"] * SLACK >= before["tpot"]
    assert after["ttft"] > before["ttft"]
    assert after["rate"] <= before["rate"] * SLACK


@repeated
@given(st.data(), cases(isl=st.integers(16, 8000)), st.integers(1, 2000))
def test_longer_prompts_always_lengthen_the_decode_step_and_ttft_without_its_queue(inside, data, case, more):
    chat = case.scenario.workloads["chat"]
    workload = chat.model_copy(update={"input_tokens": chat.input_tokens + more})
    longer = case._replace(scenario=case.scenario.model_copy(update={"workloads": {"chat": workload}}))
    configuration, _ = legal(data, case)
    assume(figures_of(longer, configuration) is not None)
    before, after = raw(case, configuration), raw(longer, configuration)
    between, between_after = raw(case, configuration, inside), raw(longer, configuration, inside)
    for name in ("decode_step", "mixed_step", "fluid_step", "prefill_time"):
        assert between_after[name] >= between[name] * (2 - SLACK), name
    # the cache that is read; its time may hide behind the host's, or behind a slower component
    assert between_after["decode_hbm_bandwidth"] > between["decode_hbm_bandwidth"]
    # the queue is not part of it: fewer requests arrive when each takes longer
    assert without_queue(after, between_after) > without_queue(before, between)


@repeated
@given(st.data(), cases(osl=st.integers(2, 500)), st.integers(1, 500))
def test_longer_outputs_lower_the_request_rate_and_lengthen_the_decode_step(inside, data, case, more):
    chat = case.scenario.workloads["chat"]
    workload = chat.model_copy(update={"output_tokens": chat.output_tokens + more})
    longer = case._replace(scenario=case.scenario.model_copy(update={"workloads": {"chat": workload}}))
    configuration, before = legal(data, case)
    after = figures_of(longer, configuration)
    assume(after is not None)
    between, between_after = raw(case, configuration, inside), raw(longer, configuration, inside)
    assert between_after["decode_hbm_bandwidth"] > between["decode_hbm_bandwidth"]
    fluid_rate = [
        b["fluid_step"] * (load.output_tokens - 1) for b, load in ((between, chat), (between_after, workload))
    ]
    assert fluid_rate[1] > fluid_rate[0]
    assume(settled(before | {"tpot": before["tpot"] / configuration.pp}, between))
    assert after["rate"] < before["rate"]


# --- what is solved

SMALL = [
    "search.roles=[mixed]",
    "search.tp=[1, 2, 4, 8]",
    "search.pp=[1, 2]",
    "search.mean_running=[4, 16, 40, 90, 200]",
]
DEMAND = st.sampled_from((1, 3, 7, 12, 30, 60))


@st.composite
def questions(draw, goal):
    """Settings of a small scenario, as a dict of overrides."""
    fixed = {
        "models.chat.architecture": draw(st.sampled_from(MODELS)),
        "models.chat.max_model_len": "16384 token",
        "workloads.chat.input_tokens": f"{draw(st.sampled_from((200, 1000, 3000)))} token",
        "workloads.chat.output_tokens": f"{draw(st.sampled_from((20, 100, 400)))} token",
        "workloads.chat.slo.ttft": f"{draw(st.sampled_from((150, 400, 1000, 3000)))} ms",
        "workloads.chat.slo.tpot": f"{draw(st.sampled_from((12, 25, 40, 80)))} ms",
        "inventory.h100.nodes": f"{draw(st.integers(1, 3))}",
        "objective": goal,
    }
    if "minimize" in goal:
        fixed["workloads.chat.requests"] = f"{draw(DEMAND)} /s"
    return fixed


def solved(question):
    """The first goal's value; None where the question is infeasible."""
    case = load_scenario(SCENARIOS / "quickstart.yaml", [*SMALL, *(f"{k}={v}" for k, v in question.items())])
    plan = solve(case).plan
    assert plan.termination.reason in ("optimal", "infeasible")
    return plan.objective.value


GOALS = ("{maximize: requests}", "{minimize: devices}", "{minimize: cost}")


def assert_no_worse(goal, before, after):
    assume(before is not None)
    assert after is not None, "was feasible before"
    if "maximize" in goal:
        assert after >= before * (1 - 1e-9)
    else:
        assert after <= before * (1 + 1e-9)


@repeated
@given(st.data(), st.sampled_from(GOALS), st.sampled_from(("ttft", "tpot")), st.floats(1.01, 10))
def test_a_looser_limit_never_makes_the_objective_worse(data, goal, name, factor):
    question = data.draw(questions(goal))
    field = f"workloads.chat.slo.{name}"
    looser = question | {field: f"{float(question[field].split()[0]) * factor} ms"}
    assert_no_worse(goal, solved(question), solved(looser))


@repeated
@given(st.data(), st.sampled_from(GOALS), st.integers(1, 3))
def test_more_nodes_never_make_the_objective_worse(data, goal, more):
    question = data.draw(questions(goal))
    larger = question | {"inventory.h100.nodes": f"{int(question['inventory.h100.nodes']) + more}"}
    assert_no_worse(goal, solved(question), solved(larger))


@repeated
@given(st.data(), st.floats(0.01, 100))
def test_k_times_the_price_is_k_times_the_cost(data, factor):
    question = data.draw(questions("{minimize: cost}")) | {"inventory.h100.price": "2.50 USD/h"}
    before = solved(question)
    after = solved(question | {"inventory.h100.price": f"{2.5 * factor!r} USD/h"})
    assert (before is None) == (after is None)
    assume(before is not None)
    assert abs(after - factor * before) <= 1e-9 * factor * before


@repeated
@given(st.data(), st.just(0.0) | st.floats(0.001, 0.99))
def test_a_lower_price_of_one_inventory_never_raises_the_cost(data, share):
    """Two inventories of the same devices; one gets cheaper."""
    question = data.draw(questions("{minimize: cost}"))
    del question["inventory.h100.nodes"]

    def inventory(price):
        items = {"h100": {"hardware": "h100-sxm", "devices": 6, "price": "2.50 USD/h"}}
        items["more"] = {"hardware": "h100-sxm", "nodes": 1, "price": f"{price!r} USD/h"}
        return {"inventory": items}

    assert_no_worse("{minimize: cost}", solved(question | inventory(3.0)), solved(question | inventory(3.0 * share)))


@repeated
@given(st.data(), st.integers(1, 30))
def test_more_load_never_needs_less(data, more):
    question = data.draw(questions("{minimize: devices}"))
    rate = int(question["workloads.chat.requests"].split()[0])
    higher = question | {"workloads.chat.requests": f"{rate + more} /s"}
    assert_no_worse("{minimize: devices}", solved(higher), solved(question))


# --- prefill and decode apart

ROLES = ("[mixed]", "[prefill, decode]", "[mixed, prefill, decode]")
APART = ["search.tp=[1, 2, 4]", "search.pp=[1]", "search.mean_running=[4, 16, 64]", "search.context_parallel=[1]"]
APART += ["search.prefill_utilisation=[20, 50, 80]", "search.max_num_batched_tokens=[2048, 8192]"]


def case_apart(question, roles=ROLES[1]):
    settings = [*APART, f"search.roles={roles}", "calibration=textbook", *(f"{k}={v}" for k, v in question.items())]
    return load_scenario(SCENARIOS / "quickstart.yaml", settings)


def value_of(case):
    plan = solve(case).plan
    assert plan.termination.reason in ("optimal", "infeasible")
    return plan.objective.value


@repeated
@given(st.data(), st.sampled_from(GOALS), FACTORS, st.sampled_from(("scale_up", "scale_out")), st.sampled_from(ROLES))
def test_more_link_bandwidth_never_makes_a_plan_of_pairs_worse(data, goal, factor, field, roles):
    case = case_apart(data.draw(questions(goal)), roles)
    assert_no_worse(goal, value_of(case), value_of(scaled(case, link(field, factor))))


@repeated
@given(st.data(), st.sampled_from(GOALS), FACTORS)
def test_more_memory_bandwidth_never_makes_a_plan_of_pairs_worse(data, goal, factor):
    case = case_apart(data.draw(questions(goal)))
    assert_no_worse(goal, value_of(case), value_of(scaled(case, memory("bandwidth", factor))))


@repeated
@given(st.data(), st.sampled_from(GOALS), st.integers(1, 3), st.sampled_from(ROLES[1:]))
def test_more_nodes_never_make_a_plan_of_pairs_worse(data, goal, more, roles):
    """From two nodes on: caches within a single node go over its own links, between nodes over the network."""
    question = data.draw(questions(goal))
    nodes = int(question["inventory.h100.nodes"]) + 1
    smaller, larger = (question | {"inventory.h100.nodes": f"{n}"} for n in (nodes, nodes + more))
    assert_no_worse(goal, value_of(case_apart(smaller, roles)), value_of(case_apart(larger, roles)))


@repeated
@given(st.data(), st.sampled_from(GOALS), st.sampled_from(ROLES[:2]))
def test_more_roles_never_make_a_plan_worse(data, goal, roles):
    question = data.draw(questions(goal))
    assert_no_worse(goal, value_of(case_apart(question, roles)), value_of(case_apart(question, ROLES[2])))


@repeated
@given(st.data(), st.sampled_from(GOALS), st.integers(1, 100), st.floats(1.01, 20))
def test_a_wider_link_between_pools_never_makes_a_plan_worse(data, goal, bandwidth, factor):
    question = data.draw(questions(goal))

    def limited(most):
        return case_apart(question | {"links": f"[{{between: [h100, h100], bandwidth: {most!r} GB/s}}]"})

    assert_no_worse(goal, value_of(limited(bandwidth)), value_of(limited(bandwidth * factor)))
