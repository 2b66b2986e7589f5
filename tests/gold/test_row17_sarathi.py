"""Row 17, Sarathi-Serve: decode iterations, chunks, the token budget a limit leaves, and pipelines over slow links."""

import pytest

from planner import api
from planner.catalog import load_architecture
from planner.columns.census import census
from planner.columns.operators import step_costs
from planner.costs.step import chunk_batch

MODELS = {"mistral": "mistral-7b", "yi": "yi-34b"}


def step(model, hardware="a100-80g-sxm", **changes):
    given = {"efficiencies": "textbook", "backend": "vllm", **changes}
    return step_costs(hardware=str(hardware), model=str(model), **given)["seconds"]


@pytest.mark.parametrize("name", MODELS)
def test_a_decode_iteration(gold, data, name):
    path, given = data / f"{MODELS[name]}.json", gold.inputs
    tp = given[MODELS[name]]["tp"]
    counts = census(load_architecture(str(path)).value)
    moved = counts["parameters"] * 2 + given["requests"] * given["context"] * counts["kv_cache_bytes_per_token"]
    bound = moved / tp / (given["share"] * given["bandwidth"])
    gold.check(f"{name}_lower_bound", bound)
    found = step(path, sequences=given["requests"], context=given["context"], tp=tp)
    gold.check(f"{name}_iteration", found)
    assert found > bound


def test_one_token_beyond_a_tile(gold, data):
    times = [step(data / "mistral-7b.json", sequences=1, context=0, new_tokens=n) for n in (256, 257, 384)]
    gold.check("tile_257_over_256", times[1] / times[0])
    assert times[2] == pytest.approx(times[1], rel=0.02)


@pytest.mark.parametrize(("chunk", "chunks"), [(512, 1), (512, 2), (512, 8), (2048, 5)])
def test_chunks_read_what_came_before(number, chunk, chunks):
    """q chunks of c tokens re-read c·q(q−1)/2 tokens: an identity, and our mean chunk keeps it."""
    read = number(chunk_batch(chunk, decoding=0).prefill_cached, isl=chunk * chunks)
    assert chunks * read - chunk * chunks == chunk * chunks * (chunks - 1) / 2


def test_a_stricter_limit_makes_a_smaller_budget(gold, data):
    """The paper's model under the paper's limits, and a limit below them."""
    model = f"models.chat.architecture={data / 'mistral-7b.json'}"
    plans = [gold.solve(model, *gold.ablations[name]["set"]) for name in ("strict", "paper", "relaxed")]
    budgets = [plan.deployments[0].max_num_batched_tokens for plan in plans]
    gold.check("strict_budget", budgets[1])
    gold.check("relaxed_budget", budgets[2])
    assert budgets == sorted(set(budgets))
    rates = [plan.predicted.requests_per_s for plan in plans]
    assert rates == sorted(set(rates))


def test_the_limit_at_which_the_budget_changes(gold):
    """The sheet of the row: monotone, one doubling after the other."""
    budgets = [
        gold.solve(f"workloads.chat.slo.itl={limit} ms").deployments[0].max_num_batched_tokens
        for limit in (40, 50, 70, 100, 150, 250)
    ]
    assert budgets == sorted(budgets)
    assert len(set(budgets)) >= 3


def falcon(data, **search):
    scenario = {
        "schema_version": 1,
        "name": "falcon",
        "models": {"falcon": {"architecture": "falcon-180b.json", "max_model_len": "4096 token"}},
        "inventory": {"a100": {"hardware": "a100-four-per-node.yaml", "nodes": 2}},
        "engine": {"name": "vllm"},
        "workloads": {
            "chat": {
                "model": "falcon",
                "requests": "max",
                "input_tokens": "1730 token",
                "output_tokens": "415 token",
                "slo": {"tpot": "130 ms"},
            }
        },
        "objective": {"maximize": "requests"},
        "search": search,
    }
    return api.solve(api.load_scenario(scenario, folder=data)).plan


def test_a_pipeline_over_ethernet_beats_tensor_parallelism_over_it(gold, data):
    """Falcon-180B on two nodes of four A100s with 100 Gb/s between."""
    (best,) = falcon(data).deployments
    assert (best.tp, best.pp) == (4, 2)
    (across,) = falcon(data, tp=8, pp=1).deployments
    assert best.requests_per_s > 1.48 * across.requests_per_s  # the paper's smallest gain over TP8
    assert across.bound_by == "link_bandwidth"
    setting = {"model": data / "falcon-180b.json", "hardware": data / "a100-four-per-node.yaml"}
    slow, fast = (step(**setting, sequences=64, context=1730, tp=tp, pp=8 // tp) for tp in (8, 4))
    gold.check("tp8_over_tp4_pp2", slow / fast)
