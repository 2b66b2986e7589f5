"""Prefill and decode pools under a closed loop: limits that can be worked out, laws that hold, faults of rows."""

import heapq
import math

import numpy as np
import pytest
import sympy

from planner.catalog import load_calibration, load_engine
from planner.catalog.rows import PooledRow, read_rows, rows_from_data
from planner.columns import closed_network as network
from planner.columns.closed_network import PoolRows, Prompts, closed_network
from planner.columns.evaluate import figures
from planner.costs import symbols as s
from planner.costs.closed_network import prompt_wait
from planner.costs.work import Definitions
from planner.errors import InputError
from planner.posterior import Posterior
from planner.prediction import named, predict_rows

ISL, OSL = 3000, 300
GOOD = {
    "id": "a", "model": "Qwen3-32B", "system": "h200-sxm", "backend": "sglang", "backend_version": "0.5.9",
    "precision": "bf16", "concurrency": 16, "isl": 1000, "osl": 100, "prefill_replicas": 1, "prefill_tp": 2,
    "prefill_attention_dp": 1, "prefill_moe_tp": 1, "prefill_ep": 1, "decode_replicas": 2, "decode_tp": 4,
    "decode_attention_dp": 1, "decode_moe_tp": 1, "decode_ep": 1,
}  # fmt: skip


def row(**changes):
    (found,) = rows_from_data([(2, GOOD | changes)])
    return found


@pytest.fixture(scope="module")
def predict():
    posterior = Posterior.of(load_calibration("silicon").value)
    return lambda *rows: predict_rows(rows, posterior)


@pytest.fixture
def pools(setting_of, axes_of):
    """Return a function that gives latencies of clients of prefill and decode pools of Llama-3.1-8B."""

    def found(clients, prefill=1, decode=1, most=1024, lockstep=0, **axes):
        clients = np.atleast_1d(np.asarray(clients, dtype=float))
        shape, sides = clients.shape, []
        for role, replicas in (("prefill", prefill), ("decode", decode)):
            setting = setting_of("Llama-3.1-8B", isl=ISL, osl=OSL)._replace(role=role)
            given = axes_of(attention_dp=1, isl=ISL, osl=OSL, max_num_batched_tokens=ISL, **axes)
            given = {name: np.broadcast_to(v, shape) for name, v in given.items() if name != "mean_running"}
            sides.append(PoolRows(setting, given, np.full(shape, float(replicas)), np.full(shape, float(most))))
        separate = sides[0].setting.engine.disaggregation
        return (*sides, *closed_network(*sides, separate, clients, np.full(shape, float(lockstep))))

    return found


def prompts_of(prefill, decode):
    return network.prompts_of(prefill, decode, prefill.setting.engine.disaggregation)


def round_time(decode, running):
    """Time of a decode round with so many requests, as a decode replica has it without any spread."""
    axes = decode.axes | {"mean_running": np.atleast_1d(running), "batch_varies": np.zeros(1)}
    found = figures(decode.setting, axes)
    return found["ttft"] / 1.5


# --- limits


def test_one_client_sees_no_queue(pools):
    """Host, prompt, transfer, host; then half of a round to join and a round of its own, as both pools are idle."""
    prefill, decode, seen, _ = pools([1])
    prompts = prompts_of(prefill, decode)
    each = round_time(decode, seen.running)
    assert prompts.alone == pytest.approx(prompts.crowded)  # a single rank has nobody beside it
    assert seen.ttft == pytest.approx(2 * prompts.host + prompts.alone + prompts.exposed + 1.5 * each, rel=1e-6)
    assert seen.tpot == pytest.approx(each, rel=1e-6)


def test_prefill_in_no_time_leaves_the_closed_loop_of_decoding(pools, monkeypatch):
    """All clients decode but for half a round to join and the host: TPOT is a round of all of them."""

    def nothing(prefill, *others):
        return Prompts(*[np.zeros_like(prefill.replicas)] * 5, np.full_like(prefill.replicas, np.inf))

    monkeypatch.setattr(network, "prompts_of", nothing)
    _, decode, seen, _ = pools([64])
    host = decode.setting.efficiencies.host
    once = host.request.value + host.prompt_token.value * ISL
    assert seen.ttft == pytest.approx(once + 1.5 * seen.tpot)
    assert seen.running == pytest.approx(64 * OSL * seen.tpot / (seen.ttft + (OSL - 1) * seen.tpot), rel=1e-5)
    assert seen.running == pytest.approx(64, rel=0.02)
    assert seen.tpot == pytest.approx(round_time(decode, seen.running), rel=1e-5)


@pytest.mark.parametrize(("prefill", "decode", "most"), [(1, 1, 1024), (1, 8, 1024), (4, 1, 16), (2, 3, 64)])
def test_throughput_never_exceeds_the_slower_pool_and_comes_close_to_it(pools, prefill, decode, most):
    clients = np.unique(np.geomspace(1, 4000, 60).round())
    first, second, seen, _ = pools(clients, prefill, decode, most)
    rate = clients / (seen.ttft + (OSL - 1) * seen.tpot)
    prompts = prefill / prompts_of(first, second).pace
    answers = decode * seen.admitted / (OSL * seen.tpot)
    slower = np.minimum(prompts, answers)
    assert (rate <= slower * (1 + 1e-6)).all()
    assert rate[-1] == pytest.approx(slower[-1], rel=1e-3)


@pytest.mark.parametrize(("prefill", "decode"), [(1, 1), (3, 2), (1, 4)])
def test_requests_of_all_stations_add_up_to_the_clients(pools, prefill, decode):
    """Little's law: rate times the stay at decode are the requests decoding there, and all the others wait before."""
    clients = np.array([8, 40, 200, 1000], dtype=float)
    _, _, seen, _ = pools(clients, prefill, decode)
    rate = clients / (seen.ttft + (OSL - 1) * seen.tpot)
    assert decode * seen.running == pytest.approx(rate * OSL * seen.tpot, rel=1e-4)
    before = seen.ttft - seen.tpot  # a request stays for one step before its first token
    assert decode * seen.running + rate * before == pytest.approx(clients, rel=1e-4)


def test_more_clients_wait_longer(pools):
    """TPOT may fall by less than 1 %: the load of a decode replica is rounded up to captured sizes."""
    _, _, seen, _ = pools(np.arange(1, 600), 1, 2)
    assert (np.diff(seen.ttft) > -1e-3 * seen.ttft[:-1]).all()
    assert (seen.tpot[1:] > 0.99 * seen.tpot[:-1]).all()


def test_a_prefill_pool_that_is_too_small_collects_the_clients(pools):
    """Rate matching: the decode batch stops to grow, and each client more waits for one more prompt."""
    prefill, decode, seen, _ = pools([2000, 3000], 1, 4)
    assert seen.running[1] == pytest.approx(seen.running[0], rel=0.01)
    pace = prompts_of(prefill, decode).pace
    assert seen.ttft[1] - seen.ttft[0] == pytest.approx(1000 * pace[0], rel=0.01)


def test_a_decode_pool_that_is_too_small_collects_the_clients(pools):
    """Each client more waits until another of the batch is answered."""
    _, _, seen, _ = pools([100, 300], 8, 1, most=4)
    assert seen.running == pytest.approx([4, 4])
    assert seen.ttft[1] - seen.ttft[0] == pytest.approx(200 / 4 * OSL * seen.tpot[0])


def test_twice_of_everything_is_twice_the_rate(pools):
    _, _, one, _ = pools([300], 2, 3)
    _, _, two, _ = pools([600], 4, 6)
    assert (two.ttft, two.tpot) == (pytest.approx(one.ttft), pytest.approx(one.tpot))


def test_clients_that_start_together_wait_only_where_prompts_do_not_queue_anyway(pools, monkeypatch):
    """The burst is the larger part of a light load's wait, and none of that of a pool that always has a queue."""
    mostly, saturated = pools([32], 1, 4)[2].ttft, pools([3000], 1, 4)[2].ttft
    values = network.loop_of

    def without(*given):
        loop = values(*given)
        return loop._replace(values=loop.values | {"burst_share": np.zeros(loop.rows)})

    monkeypatch.setattr(network, "loop_of", without)
    assert pools([32], 1, 4)[2].ttft < 0.8 * mostly
    assert pools([3000], 1, 4)[2].ttft == pytest.approx(saturated, rel=1e-3)


def test_experts_of_a_rank_alone_at_work_have_only_its_tokens(setting_of, axes_of):
    """So a lone prompt is prefilled sooner than one of eight ranks that are all busy."""
    setting = setting_of("Qwen3-30B-A3B", isl=ISL, osl=OSL)._replace(role="prefill")
    axes = axes_of(tp=1, attention_dp=8, ep=8, max_num_batched_tokens=ISL, mean_running=0)
    found = figures(setting, axes)
    assert 0.2 < found["lone_prompt_seconds"] / found["prompt_seconds"] < 0.95
    one = figures(setting, axes_of(tp=8, attention_dp=1, ep=8, max_num_batched_tokens=ISL, mean_running=0))
    assert one["lone_prompt_seconds"] == pytest.approx(one["prompt_seconds"])


# --- the queue of prompts


def waited(clients, pace, others):
    """Mean wait for a rank with services of one length, by the closed form."""
    define = Definitions()
    expr = prompt_wait(sympy.Float(others), define)
    for symbol, inner in reversed(define.items.items()):
        expr = expr.xreplace({symbol: inner})
    known = {s.clients: sympy.Float(clients), s.prefill_ranks: sympy.Integer(1), s.prompt_pace: sympy.Float(pace)}
    return float(expr.xreplace(known).doit())


def simulated(clients, pace, think, rounds=20_000):
    """Mean wait of clients that come back after a time drawn from an exponential distribution."""
    random = np.random.default_rng(1)
    back = list(random.exponential(think, clients))
    heapq.heapify(back)
    free, waits = 0.0, []
    for _ in range(rounds):
        arrived = heapq.heappop(back)
        begun = max(arrived, free)
        waits.append(begun - arrived)
        free = begun + pace
        heapq.heappush(back, free + random.exponential(think))
    return float(np.mean(waits[rounds // 5 :]))


@pytest.mark.parametrize("clients", [2, 4, 16, 64])
@pytest.mark.parametrize("load", [0.1, 0.5, 0.8, 1.0, 1.3, 3.0])
def test_the_wait_is_that_of_a_simulated_rank(clients, load):
    """``load``: services per round that would never wait. The wait is within 25 %, the whole round within 4 %."""
    think = max(0.0, clients / load - 1)
    if not think:
        pytest.skip("clients that come back at once are the next test's")
    wait, real = waited(clients, 1.0, think + 1), simulated(clients, 1.0, think)
    assert wait == pytest.approx(real, rel=0.25)
    assert wait + think + 1 == pytest.approx(real + think + 1, rel=0.04)


def test_the_wait_in_its_limits():
    assert waited(1, 2.0, 5.0) == 0
    assert waited(0.5, 2.0, 5.0) == 0  # more ranks than clients
    assert waited(10, 2.0, 2.0) == pytest.approx(18.0)  # all come back at once: each waits for the nine others
    assert waited(10, 1e-9, 5.0) == pytest.approx(0, abs=1e-8)
    assert math.isclose(waited(50, 1.0, 1000.0), 49 / 1000 / (2 * (1 - 49 / 1000)), rel_tol=0.01)  # M/D/1


# --- rows


def test_pools_are_read_with_what_they_leave_out():
    found = row(decode_max_num_seqs=64, prefill_system="h100-sxm", prefill_pp="", length_spread="uniform[0.8,1.0]")
    assert isinstance(found, PooledRow)
    assert (found.prefill_replicas, found.decode_replicas) == (1, 2)
    assert (found.prefill.tp, found.prefill.pp, found.prefill.system) == (2, 1, "h100-sxm")
    assert (found.decode.tp, found.decode.system, found.decode.max_num_seqs) == (4, "h200-sxm", 64)
    assert (found.prefill.max_num_seqs, found.prefill.length_factor) == (0, 0.9)
    assert found.prefill.concurrency == found.decode.concurrency == 16


def written(folder, header, *lines):
    path = folder / "rows.csv"
    path.write_text("\n".join([",".join(header), *lines, ""]), encoding="utf-8")
    return path


def test_a_file_may_hold_pools_and_lone_replicas(tmp_path):
    header = [*GOOD, "tp", "pp", "attention_dp", "moe_tp", "ep"]
    pooled = ",".join(str(value) for value in GOOD.values())
    start = ",".join(str(GOOD[name]) for name in list(GOOD)[:9])
    lone = start.replace("a,", "b,", 1) + "," * 10 + ",2,1,1,1,1"
    first, second = read_rows(written(tmp_path, header, pooled + ",,,,,", lone))
    assert isinstance(first, PooledRow)
    assert (second.id, second.tp) == ("b", 2)


def test_missing_columns_of_a_pool_are_named_and_those_of_a_lone_replica_are_not(tmp_path):
    header = [name for name in GOOD if name not in ("decode_tp", "prefill_replicas")]
    with pytest.raises(InputError) as caught:
        read_rows(written(tmp_path, header))
    assert {problem.field for problem in caught.value.problems} == {"decode_tp", "prefill_replicas"}


FAULTS = {
    "replicas": ({"decode_replicas": 0}, "decode_replicas", "must be a number of at least 1 (got 0)"),
    "no replicas": ({"prefill_replicas": ""}, "prefill_replicas", "is empty"),
    "degree": ({"prefill_tp": "two"}, "prefill_tp", "must be a number of at least 1 (got 'two')"),
    "part of a replica": ({"decode_ep": 1.5}, "decode_ep", "must be a whole number"),
    "limit": ({"decode_max_num_seqs": -1}, "decode_max_num_seqs", "must be a number of at least 1"),
    "a lone replica's degree": ({"tp": 4}, "tp", "must be empty where a row has pools; prefill_tp and decode_tp say"),
    "a lone replica's limit": ({"max_num_seqs": 4}, "max_num_seqs", "must be empty where a row has pools"),
    "exchange": ({"decode_expert_exchange": "mail"}, "decode_expert_exchange", "must be all_gather or all_to_all"),
    "shared": ({"isl": 0}, "isl", "must be a number of at least 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_column_once(name):
    changes, field, message = FAULTS[name]
    with pytest.raises(InputError) as caught:
        row(**changes)
    (problem,) = caught.value.problems
    assert (problem.line, problem.field) == (2, field)
    assert message in problem.message


REFUSED = {
    "side": ({"decode_tp": 3}, "decode: tp must divide the 64 query heads"),
    "other side": ({"prefill_system": "abacus"}, "system: "),
    "caches": (
        {"model": "DeepSeek-V3", "precision": "fp8", "prefill_system": "b200-sxm", "prefill_tp": 8, "decode_tp": 8,
         "prefill_moe_tp": 8, "decode_moe_tp": 8},
        "would keep caches in different formats; kv_precision says which one both use",
    ),
    "memory of prefill": ({"model": "Llama-3.1-405B", "decode_tp": 8}, "prefill: weights and buffers leave no room"),
    "memory of decode": (
        {"model": "Llama-3.1-405B", "prefill_tp": 8, "decode_tp": 2}, "decode: weights and buffers leave no room",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_pools_that_cannot_run_are_refused_with_the_reason(predict, name):
    changes, reason = REFUSED[name]
    (found,) = predict(row(**changes))
    assert (found.status, found.ttft_ms, found.tpot_ms) == ("refused", None, None)
    assert reason in found.reason


def test_an_engine_that_has_no_pools_is_refused(predict, monkeypatch):
    def without(name):
        loaded = load_engine(name)
        return loaded._replace(value=loaded.value.model_copy(update={"disaggregation": None}))

    monkeypatch.setattr(named, "load_engine", without)
    (found,) = predict(row())
    assert "sglang: nothing is known of how it moves caches between prefill and decode" in found.reason


def test_answers_keep_the_order_of_rows_of_both_kinds(predict):
    lone = {name: value for name, value in GOOD.items() if not name.startswith(("prefill", "decode"))}
    lone |= {"tp": 4, "pp": 1, "attention_dp": 1, "moe_tp": 1, "ep": 1}
    (mixed,) = rows_from_data([(3, lone | {"id": "2"})])
    rows = [row(id="1"), mixed, row(id="3", system="h100-sxm"), row(id="4", decode_tp=3), row(id="5", concurrency=64)]
    together = predict(*rows)
    assert [found.id for found in together] == ["1", "2", "3", "4", "5"]
    assert [found.status for found in together] == ["ok", "ok", "ok", "refused", "ok"]
    for given, expected in zip(rows, together, strict=True):
        (alone,) = predict(given)
        if expected.status == "ok":
            assert (alone.ttft_ms, alone.tpot_ms) == pytest.approx((expected.ttft_ms, expected.tpot_ms), rel=1e-5)


def test_intervals_are_those_of_what_nothing_alike_was_measured_of(predict):
    """Wider than those of a replica of the same kind that does both, and around what the model says."""
    (pooled,) = predict(row(model="Llama-3.1-8B"))
    assert pooled.basis == "none"
    assert pooled.tpot_ms_p10 < pooled.tpot_ms < pooled.tpot_ms_p90
    lone = {name: value for name, value in GOOD.items() if not name.startswith(("prefill", "decode"))}
    lone |= {"model": "Llama-3.1-8B", "backend": "trtllm", "tp": 1, "pp": 1, "attention_dp": 1, "moe_tp": 1, "ep": 1}
    (mixed,) = predict(*rows_from_data([(3, lone)]))
    for name in ("ttft", "tpot"):
        wide, narrow = (
            getattr(found, f"{name}_ms_p90") / getattr(found, f"{name}_ms_p10") for found in (pooled, mixed)
        )
        assert wide > narrow


def test_different_systems_are_a_slower_prefill_or_a_slower_decode(predict):
    same, prefill, decode = predict(
        row(id="1"), row(id="2", prefill_system="h20-sxm"), row(id="3", decode_system="h100-sxm")
    )
    assert prefill.ttft_ms > 1.5 * same.ttft_ms
    assert prefill.tpot_ms <= same.tpot_ms
    assert decode.tpot_ms > same.tpot_ms


def test_rows_say_where_clients_only_wait(predict):
    """Few clients wait for nothing; many wait for prompts, or for the requests that may decode at once."""
    calm, prompts, decodes = predict(
        row(id="calm", concurrency=2),
        row(id="prompts", concurrency=400, osl=2),
        row(id="decodes", concurrency=64, decode_max_num_seqs=8),
    )
    assert (calm.status, calm.reason) == ("ok", "")
    assert prompts.status == "ok"
    assert prompts.reason.startswith("prefill: ")
    assert "16 of 64 clients are served at once" in decodes.reason
