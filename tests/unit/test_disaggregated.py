"""Replicas that only prefill or only decode in cases that can be worked out by hand, and the cache between them.

DistServe (OSDI 2024, §3.1): with D the time of a prompt alone and R prompts per second, TTFT is D + R·D²/(2(1−RD)) on
one device (eq. 1) and D + R·D²/(4(2−RD)) on two pipeline stages (eq. 2).
"""

import math

import numpy as np
import pytest

from planner.columns import evaluate
from planner.costs.compile import compiled
from planner.table import POLICIES

ISL, OSL = 3000, 300
DENSE, EXPERTS, LATENT = "Llama-3.1-8B", "Qwen3-30B-A3B", "DeepSeek-V3"
BUSY = (4, 30, 60, 90)


@pytest.fixture
def prefill(setting_of, axes_of):
    """Return a function that gives the setting and axes of a prefill replica whose token budget is one prompt."""

    def made(model=DENSE, busy=50, budget=ISL, policy="separate_chunked", **axes):
        setting = setting_of(model, isl=ISL, osl=OSL)._replace(role="prefill")
        chosen = {"prefill_utilisation": busy, "mean_running": 0, "prefill_policy": POLICIES.index(policy)}
        return setting, axes_of(max_num_batched_tokens=budget, **chosen, **axes)

    return made


@pytest.fixture
def decode(setting_of, axes_of):
    """Return a function that gives the setting and axes of a decode replica."""

    def made(model=DENSE, **axes):
        return setting_of(model, isl=ISL, osl=OSL)._replace(role="decode"), axes_of(**axes)

    return made


def figures(setting, axes):
    return {name: float(np.ravel(value)[0]) for name, value in evaluate.figures(setting, axes).items()}


def numbers(evaluated, setting, axes):
    return {name: float(np.ravel(value)[0]) for name, value in evaluated(setting, axes).items()}


def host_time(setting):
    host = setting.efficiencies.host
    return host.request.value + host.prompt_token.value * ISL


# --- prefill


@pytest.mark.parametrize("busy", BUSY)
def test_ttft_of_one_stage_is_distserve_s_first_equation(busy, prefill):
    setting, axes = prefill(busy=busy)
    found = figures(setting, axes)
    alone, rate = found["prompt_seconds"], found["rate"]
    assert rate * alone == pytest.approx(busy / 100)
    expected = alone + rate * alone**2 / (2 * (1 - rate * alone))
    assert found["ttft"] - host_time(setting) == pytest.approx(expected)


@pytest.mark.parametrize("busy", BUSY)
def test_ttft_of_two_stages_is_distserve_s_second_equation(busy, prefill, inside):
    setting, axes = prefill(busy=busy, pp=2)
    found, between = figures(setting, axes), numbers(inside, setting, axes)
    alone, rate = found["prompt_seconds"], found["rate"]
    assert between["full_step"] == pytest.approx(alone / 2)
    expected = alone + rate * alone**2 / (4 * (2 - rate * alone))
    assert found["ttft"] - host_time(setting) == pytest.approx(expected)


def test_an_idle_replica_takes_a_prompt_s_own_time(prefill):
    setting, axes = prefill(busy=1e-9)
    found = figures(setting, axes)
    assert found["ttft"] - host_time(setting) == pytest.approx(found["prompt_seconds"])


@pytest.mark.parametrize("policy", ["separate_chunked", "separate_whole"])
@pytest.mark.parametrize("budget", [512, ISL, 8192])
@pytest.mark.parametrize(("model", "dp"), [(DENSE, 1), (EXPERTS, 1), (EXPERTS, 2)])
def test_the_rate_is_the_share_of_time_over_a_prompt_s_own(policy, budget, model, dp, prefill, inside):
    setting, axes = prefill(model, busy=60, budget=budget, policy=policy, attention_dp=dp)
    found, between = figures(setting, axes), numbers(inside, setting, axes)
    assert found["rate"] == pytest.approx(dp * 0.6 / between["prompt_service"])
    filled = budget if policy == "separate_chunked" else max(1, budget // ISL) * ISL
    assert between["filled"] == filled
    assert between["prompt_service"] == pytest.approx(ISL / filled * between["full_step"])


def test_several_prompts_in_a_step_take_no_longer_each_than_one_alone(prefill, inside):
    setting, axes = prefill(budget=4 * ISL)
    between = numbers(inside, setting, axes)
    assert between["prompt_service"] < between["prefill_time"]
    # The step that is running is longer than a prompt's share of it.
    rest = between["wait"] - 0.5 * between["prompt_service"] / (2 * 0.5)
    assert rest >= 0.5 * (between["prefill_time"] - between["prompt_service"]) / 2 * (1 - 1e-12)


def test_prompts_inside_follow_little_s_law(prefill, inside):
    setting, axes = prefill(busy=70)
    found, between = figures(setting, axes), numbers(inside, setting, axes)
    assert between["prompts_inside"] == pytest.approx(found["rate"] * (found["ttft"] - host_time(setting)))
    assert found["slots_needed"] > between["prompts_inside"]
    assert found["in_flight"] == pytest.approx(found["rate"] * found["ttft"])


# --- decode


@pytest.mark.parametrize(("model", "axes"), [(DENSE, {}), (DENSE, {"pp": 2}), (EXPERTS, {"attention_dp": 2, "tp": 2})])
@pytest.mark.parametrize("running", [1, 16, 200])
def test_requests_that_run_are_those_that_come_while_one_stays(model, axes, running, decode):
    setting, axes = decode(model, mean_running=running, **axes)
    found = figures(setting, axes)
    assert found["rate"] * OSL * found["tpot"] == pytest.approx(running)
    assert found["in_flight"] == running


@pytest.mark.parametrize("model", [DENSE, EXPERTS])
@pytest.mark.parametrize("running", [1, 16, 200])
def test_without_prompts_a_step_is_the_mixed_replica_s_decode_step(model, running, decode, inside):
    setting, axes = decode(model, mean_running=running)
    apart, mixed = (numbers(inside, setting._replace(role=role), axes) for role in ("decode", "mixed"))
    assert apart["decode_step"] == pytest.approx(mixed["decode_step"])
    assert figures(setting, axes)["tpot"] <= figures(setting._replace(role="mixed"), axes)["tpot"]
    # A batch that varies slows its steps more when it is large than it gains when small.
    slowdown = apart["elasticity"] * apart["dispersion"] / running
    assert slowdown > 0
    assert figures(setting, axes)["itl"] == pytest.approx(apart["decode_step"] * (1 + slowdown))


def test_drafts_gain_tokens_but_first_tokens_wait_for_a_round(setting_of, axes_of, inside):
    drafts = ("models.chat.speculative={acceptance: [0.8, 0.7]}",)
    setting = setting_of(LATENT, isl=ISL, osl=OSL, changes=drafts)._replace(role="decode")
    axes = axes_of(tp=8, mean_running=16, speculative_tokens=2)
    found, between = figures(setting, axes), numbers(inside, setting, axes)
    gained = 1 + 0.8 + 0.8 * 0.7
    slowdown = between["elasticity"] * between["dispersion"] / 16
    assert found["itl"] == pytest.approx(between["decode_step"] * (1 + slowdown))
    assert found["tpot"] == pytest.approx(found["itl"] / gained + between["preemption_time"])
    assert found["ttft"] >= between["decode_step"]


# --- the cache in between


@pytest.fixture
def moved(setting_of, axes_of):
    """Return a function that gives the figures of moving a prompt's cache."""

    def found(model=DENSE, prefill=(1, 1), decode=(1, 1), bandwidth=50e9, latency=1e-5, **switches):
        setting = setting_of(model, isl=ISL, osl=OSL)
        given = evaluate.symbol_values(setting, axes_of(tp=prefill[0], pp=prefill[1])) | {
            "prefill_tp": prefill[0],
            "prefill_pp": prefill[1],
            "decode_tp": decode[0],
            "decode_pp": decode[1],
            "senders": 1.0,
            "layerwise": 0.0,
            "relayout": 0.0,
            "transfer_bandwidth": bandwidth,
            "transfer_latency": latency,
            **switches,
        }
        kernel = compiled(*evaluate.structure_of(setting)[:3], "transfer")
        return setting, {name: float(np.ravel(value)[0]) for name, value in kernel(**given).items()}

    return found


WHOLE = 2 * 32 * 8 * 128 * 2 * math.ceil(ISL / 16) * 16  # keys and values of 32 layers, 8 heads of 128, bf16, in blocks


@pytest.mark.parametrize("decode", [(1, 1), (2, 1), (8, 1), (1, 4), (4, 2)])
@pytest.mark.parametrize("prefill", [(1, 1), (4, 1), (1, 2), (2, 4)])
def test_all_of_a_prompt_s_cache_moves_whatever_the_degrees(prefill, decode, moved):
    setting, found = moved(prefill=prefill, decode=decode)
    assert found["bytes"] == pytest.approx(WHOLE)
    # The side with fewer devices is what takes time: each of them sends, or receives, more.
    each = WHOLE / min(prefill[0] * prefill[1], decode[0] * decode[1])
    expected = 1e-5 + each / (50e9 * setting.efficiencies.bandwidth.link.value)
    assert found["seconds"] == pytest.approx(expected)


def test_a_latent_cache_goes_whole_to_every_device_of_the_decode_side(moved):
    _, one = moved(LATENT, prefill=(8, 1), decode=(1, 1))
    _, all_of_them = moved(LATENT, prefill=(8, 1), decode=(8, 1))
    assert all_of_them["bytes"] == pytest.approx(8 * one["bytes"])


def test_pulled_after_prefill_all_of_it_is_exposed(moved):
    _, found = moved(prefill=(2, 1), decode=(4, 1))
    assert (found["least"], found["behind"]) == (found["seconds"], 0)


def test_pushed_by_layers_at_least_the_last_one_is_exposed(moved):
    _, pulled = moved(prefill=(2, 2), decode=(4, 1))
    _, pushed = moved(prefill=(2, 2), decode=(4, 1), layerwise=1.0)
    assert pushed["seconds"] == pulled["seconds"]
    assert pushed["least"] == pytest.approx(pushed["seconds"] / 32)
    assert pushed["behind"] == pytest.approx(31 / 32)


def test_another_layout_is_read_and_written_once_more(moved):
    setting, same = moved(prefill=(2, 1), decode=(4, 1))
    _, other = moved(prefill=(2, 1), decode=(4, 1), relayout=1.0)
    memory = setting.hardware.memory.bandwidth.value * setting.efficiencies.bandwidth.kv_cache.value
    assert other["seconds"] - same["seconds"] == pytest.approx(2 * WHOLE / 4 / memory)


def test_a_faster_link_leaves_its_latency(moved):
    _, found = moved(bandwidth=1e30, latency=3e-5)
    assert found["seconds"] == pytest.approx(3e-5)
