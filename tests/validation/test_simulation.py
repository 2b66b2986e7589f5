"""The closed form against a simulation of one replica, at the columns an optimiser picks.

Tolerances are what was found, rounded up. TPOT agrees within 6 %. TTFT comes out up to 30 % too low where prompts take
most of a replica's time or slots run short (the wait for a slot is not in the closed form), and may be too high.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from planner.catalog import load_scenario
from planner.columns.enumerate import grid_table, setting_table
from planner.columns.grid import encode
from planner.columns.setting import settings

_spec = importlib.util.spec_from_file_location("simulation", Path(__file__).with_name("simulation.py"))
simulation = importlib.util.module_from_spec(_spec)
sys.modules["simulation"] = simulation
_spec.loader.exec_module(simulation)

SCENARIOS = Path(__file__).parents[2] / "scenarios"
MOST = ["workloads.chat.requests=max", "objective={maximize: requests}"]


def lengths(isl, osl):
    return [f"workloads.chat.input_tokens={isl} token", f"workloads.chat.output_tokens={osl} token"]


CASES = {
    "quickstart": ("quickstart", []),
    "quickstart on tp8": ("quickstart", ["search.tp=[8]"]),
    "large budget": ("quickstart", ["search.max_num_batched_tokens=[8192]"]),
    "ascend": ("ascend_910b", MOST),
    "long prompts": ("quickstart", [*lengths(8000, 100), "workloads.chat.slo.ttft=3 s"]),
    "long outputs": ("quickstart", lengths(200, 2000)),
    "short prompts": ("quickstart", lengths(600, 100)),
    "experts": ("quickstart", ["models.chat.architecture=Qwen3-30B-A3B"]),
}


def chosen(name, overrides):
    """Return the best column per device that meets the limits, without pipeline stages."""
    one = [
        "search.pp=[1]",
        "search.attention_dp=[1]",
        "search.roles=[mixed]",
        "search.prefill_policies=[mixed_chunked]",
    ]
    case = load_scenario(SCENARIOS / f"{name}.yaml", ["calibration=textbook", *overrides, *one])
    table = grid_table(case)
    meets = np.nonzero(table.meets_limits)[0]
    best = meets[np.argmax(table.figures["rate"][meets] / table.figures["devices"][meets])]
    return case, table.configuration(int(best)), {k: float(v[best]) for k, v in table.figures.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_chosen_column_does_in_simulation_what_is_predicted(name):
    case, configuration, figures = chosen(*CASES[name])
    # enough that filling and emptying the replica, a batch each, is a small part
    requests = 2500 + 15 * configuration.mean_running
    outcome = simulation.simulate(settings(case)[0], configuration, figures["rate"], requests=requests)
    assert figures["tpot"] / outcome.tpot == pytest.approx(1, abs=0.06)
    assert -0.3 < figures["ttft"] / outcome.ttft - 1 < 0.6
    assert outcome.capped < 0.1  # the limit on running requests is rarely reached
    assert outcome.decoding == pytest.approx(configuration.mean_running, rel=0.08)


def test_a_replica_at_twice_its_rate_breaks_down():
    case, configuration, figures = chosen(*CASES["quickstart"])
    outcome = simulation.simulate(settings(case)[0], configuration, 2 * figures["rate"], requests=1500)
    assert outcome.ttft > 5 * figures["ttft"]


# --- prefill and decode apart -------------------------------------------------------------------------------------


def setting_in(role, overrides=()):
    case = load_scenario(SCENARIOS / "quickstart.yaml", ["calibration=textbook", *overrides, "workloads.chat.slo={}"])
    (setting,) = [setting for setting in settings(case) if setting.role == role]
    return setting


def column_of(setting, **wanted):
    """Return the legal column with these values, with its figures."""
    narrow = {name: [value] for name, value in wanted.items() if name in type(setting.search).model_fields}
    table = setting_table(setting._replace(search=setting.search.model_copy(update=narrow)))
    at = np.ones(len(table), dtype=bool)
    for name, value in ({"pp": 1, "context_parallel": 1} | wanted).items():
        at &= table.axes[name] == encode(name, value)
    (column, *_) = np.nonzero(at)[0]
    return table.configuration(int(column)), {k: float(v[column]) for k, v in table.figures.items()}


SHORT = lengths(600, 100)
PREFILL = {
    "a prompt and a bit, idle": ([], {"tp": 2, "prefill_utilisation": 20, "max_num_batched_tokens": 4096}),
    "a prompt and a bit": ([], {"tp": 2, "prefill_utilisation": 60, "max_num_batched_tokens": 4096}),
    "a prompt and a bit, busy": ([], {"tp": 2, "prefill_utilisation": 86, "max_num_batched_tokens": 4096}),
    "chunks of prompts": ([], {"tp": 4, "prefill_utilisation": 60, "max_num_batched_tokens": 1024}),
    "five prompts, idle": ([], {"tp": 4, "prefill_utilisation": 20, "max_num_batched_tokens": 16384}),
    "five prompts": ([], {"tp": 4, "prefill_utilisation": 60, "max_num_batched_tokens": 16384}),
    "five prompts, busy": ([], {"tp": 4, "prefill_utilisation": 86, "max_num_batched_tokens": 16384}),
    "many short prompts": (SHORT, {"tp": 2, "prefill_utilisation": 60, "max_num_batched_tokens": 8192}),
    "many short prompts, busy": (SHORT, {"tp": 2, "prefill_utilisation": 86, "max_num_batched_tokens": 8192}),
    "short prompts, few tokens": (SHORT, {"tp": 2, "prefill_utilisation": 60, "max_num_batched_tokens": 512}),
}
DECODE = {
    "few": ([], {"tp": 2, "mean_running": 4}),
    "some": ([], {"tp": 2, "mean_running": 32}),
    "many": ([], {"tp": 4, "mean_running": 128}),
    "short": (SHORT, {"tp": 2, "mean_running": 64}),
    "long outputs": (lengths(200, 1000), {"tp": 2, "mean_running": 64}),
    "long prompts": (lengths(8000, 200), {"tp": 4, "mean_running": 32}),
}


@pytest.mark.parametrize("name", PREFILL)
def test_a_prefill_replica_does_in_simulation_nearly_what_is_predicted(name):
    """Within 10 %, both ways: too low for many short prompts that a step holds, too high for a few when busy.

    The closed form takes steps to be as full as the token budget; emptier ones take longer per prompt, so the replica
    is busier than it is asked to be.
    """
    overrides, wanted = PREFILL[name]
    setting = setting_in("prefill", overrides)
    configuration, figures = column_of(setting, **wanted)
    ttft, busy = simulation.simulate_prefill(setting, configuration, figures["rate"])
    assert -0.11 < figures["ttft"] / ttft - 1 < 0.09
    assert 0 <= busy - wanted["prefill_utilisation"] / 100 < 0.07


STAGES = {
    "a few prompts": ([], {"tp": 1, "pp": 4, "prefill_utilisation": 60, "max_num_batched_tokens": 16384}),
    "a few prompts, busy": ([], {"tp": 1, "pp": 8, "prefill_utilisation": 86, "max_num_batched_tokens": 16384}),
    "one prompt, busy": ([], {"tp": 1, "pp": 8, "prefill_utilisation": 86, "max_num_batched_tokens": 4096}),
    "many short prompts": (SHORT, {"tp": 1, "pp": 8, "prefill_utilisation": 40, "max_num_batched_tokens": 16384}),
    "many short prompts, busy": (SHORT, {"tp": 1, "pp": 8, "prefill_utilisation": 80, "max_num_batched_tokens": 16384}),
}


@pytest.mark.parametrize("name", STAGES)
def test_steps_of_many_prompts_queue_in_a_pipeline_as_predicted(name):
    """In a pipeline short steps wait behind long ones.

    The closed form is up to a sixth too high where steps hold a few prompts, a quarter too low where they hold many and
    the replica is busy.
    """
    overrides, wanted = STAGES[name]
    setting = setting_in("prefill", ["engine={name: sglang}", *overrides])  # vLLM hands nothing over from stages
    configuration, figures = column_of(setting, **wanted)
    ttft, _ = simulation.simulate_prefill(setting, configuration, figures["rate"])
    assert -0.26 < figures["ttft"] / ttft - 1 < 0.17


def test_one_prompt_at_a_time_is_met_by_the_closed_form():
    """M/D/1 itself (DistServe, OSDI 2024, eq. 1): what is left is the noise of arrivals."""
    setting = setting_in("prefill", ["search.max_num_batched_tokens=[3000]"])
    configuration, figures = column_of(setting, tp=2, prefill_utilisation=60)
    ttft, busy = simulation.simulate_prefill(setting, configuration, figures["rate"])
    assert figures["ttft"] / ttft == pytest.approx(1, abs=0.03)
    assert busy == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize("name", DECODE)
def test_a_decode_replica_does_in_simulation_what_is_predicted(name):
    """TPOT within 4 %, too low where many run; TTFT, half a step and one more, within 6 %, too low as well."""
    overrides, wanted = DECODE[name]
    setting = setting_in("decode", overrides)
    configuration, figures = column_of(setting, **wanted)
    requests = 2500 + 15 * configuration.mean_running
    outcome = simulation.simulate_decode(setting, configuration, figures["rate"], requests=requests)
    assert figures["tpot"] / outcome.tpot == pytest.approx(1, abs=0.05)
    assert figures["ttft"] / outcome.ttft == pytest.approx(1, abs=0.07)
    assert outcome.decoding == pytest.approx(configuration.mean_running, rel=0.03)
