"""Row 18, DistServe: prompts in a queue of their own, caches on the move, and when it pays to serve them apart."""

import itertools

import numpy as np
import pytest
import sympy

from planner import api
from planner.columns.evaluate import figures
from planner.columns.pairs import routes_of
from planner.columns.pricing import price
from planner.columns.setting import settings
from planner.costs import symbols as s
from planner.costs.disaggregated import prefill_expressions
from planner.costs.structure import Structure
from planner.table import Configuration

APART = "search={{roles: [prefill, decode]{}}}"
D, R, K = sympy.symbols("D R K", positive=True)  # time of a prompt alone [s], prompts per second, speed-up by tp 2


def ttft(pp, step):
    """TTFT of prompts that fill a step each, the host left out, where a step of a stage takes ``step``."""
    found = prefill_expressions(Structure(("gqa",), ("dense",)))
    of = {sympy.Symbol(str(name)): value for name, value in found.definitions.items()}
    expression = found.outputs["ttft"]
    given = {"chunk_step": step, "full_step": step, "chunk": s.isl, "filled": s.isl}
    while known := {x for x in expression.free_symbols if str(x) in given or sympy.Symbol(str(x)) in of}:
        expression = expression.subs({x: given.get(str(x), of.get(sympy.Symbol(str(x)))) for x in known})
    expression = expression.subs({s.host_request: 0, s.host_prompt_token: 0, s.pp: pp, s.dp: 1, s.busy: R * step})
    return expression.replace(lambda e: type(e).__name__ == "Larger", lambda e: sympy.Max(*e.args))


EQUATIONS = {
    "one": (1, D, D + R * D**2 / (2 * (1 - R * D))),
    "inter": (2, D / 2, D + R * D**2 / (4 * (2 - R * D))),
    "intra": (1, D / K, D / K + R * D**2 / (2 * K * (K - R * D))),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_equations_1_to_3(name):
    pp, step, published = EQUATIONS[name]
    assert sympy.simplify(ttft(pp, step) - published) == 0


@pytest.mark.parametrize("speedup", ["1.2", "1.5", "1.8", "1.9"])
def test_the_load_from_which_stages_beat_shards(gold, speedup):
    inter, intra = ttft(2, D / 2), ttft(1, D / K)
    apart = sympy.lambdify(R, (inter - intra).subs({D: 1, K: sympy.Rational(speedup)}))
    low, high = 1e-6, float(speedup) - 1e-6
    assert apart(low) > 0 > apart(high)
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if apart(middle) > 0 else (low, middle)
    gold.check(f"crossing_{speedup}", low)


def prefill(gold, axes_of, **axes):
    setting = next(found for found in settings(gold.case()) if found.role == "prefill")
    found = figures(setting, axes_of(mean_running=0, prefill_utilisation=np.arange(1.0, 90.0), **axes))
    return [np.broadcast_to(found[name], 89) for name in ("rate", "ttft", "prompt_seconds")]


def test_our_stages_and_shards_cross_as_theirs(gold, axes_of):
    """Shards first, stages at high load (§3.1), from a speed-up below 2 that the model itself gives."""
    rate, inter, _ = prefill(gold, axes_of, pp=2, max_num_batched_tokens=759)
    alone = prefill(gold, axes_of, max_num_batched_tokens=759)[2][0]
    rates, intra, sharded = prefill(gold, axes_of, tp=2, max_num_batched_tokens=759)
    assert 1.2 < alone / sharded[0] < 2
    shards = np.interp(rate, rates, intra, right=np.inf)
    assert shards[0] < inter[0]
    assert shards[-1] > inter[-1]


def test_the_cache_of_512_tokens_of_opt_66b(gold):
    case = gold.case(
        "models.chat.architecture=facebook/opt-66b",
        "inventory.a100={hardware: a100-80g-sxm, nodes: 1}",
        "workloads.chat={model: chat, requests: max, input_tokens: 512 token, output_tokens: 64 token}",
    )
    table, refused = price(case, [point(case, "prefill", 4, 20), point(case, "decode", 4, 4)])
    assert not refused
    (size,) = routes_of(settings(case), table).bytes
    gold.check("cache_of_512", size / 2**30)
    gold.check("cache_traffic", 10 * 8 * size)
    gold.check("cache_traffic_printed", 10 * 8 * size)


def point(case, role, tp, load):
    """A configuration of one role; ``load``: utilisation [%] of prefill, requests that decode."""
    use = case.engines[0]
    return Configuration(
        inventory="a100", role=role, weight_precision="bf16", kv_precision="bf16", tp=tp, pp=1, ep=1,
        mean_running=load if role == "decode" else 0, prefill_utilisation=load if role == "prefill" else 0,
        max_num_batched_tokens=2048, max_num_seqs=64, block_size=16, prefill_policy="mixed_chunked",
        workload="chat", engine=use.engine.name, engine_version=use.version,
    )  # fmt: skip


def test_what_their_engine_measured(gold, axes_of):
    """TTFT of the prefill replica, where the log has it; TPOT of the decode replica."""
    given = gold.inputs["logged"]
    sides = {found.role: found for found in settings(gold.case())}
    lengths = {name: given[name] for name in ("isl", "osl")}
    rate, first, _ = prefill(gold, axes_of, tp=given["prefill_tp"], **lengths)
    found = figures(sides["decode"], axes_of(tp=given["decode_tp"], mean_running=np.arange(1.0, 128.0), **lengths))
    for load in given["rates"]:
        gold.check(f"ttft_{load}", np.interp(load, rate, first))
        gold.check(f"tpot_{load}", np.interp(load, found["rate"], found["tpot"]))


def per_device(gold, devices, restricted=""):
    plan = gold.solve(f"inventory.a100.devices={devices}", APART.format(restricted))
    if not plan.deployments:
        return 0.0, 0, 0
    degrees = {d.role: d.tp for d in plan.deployments}
    return plan.predicted.requests_per_s / devices, degrees["prefill"], degrees["decode"]


def test_their_placement(gold):
    """Best per device among parts of a node, for the limit on means and for the load at which 90 % kept theirs."""
    means = max(per_device(gold, devices) for devices in (2, 3, 4))
    gold.check("goodput_of_means", means[0])
    gold.check("prefill_tp", means[1])
    assert means[2] == 2
    theirs = max(
        per_device(gold, devices, f", prefill_utilisation: {gold.inputs['busy_at_90_percent']}")
        for devices in (2, 3, 4)
    )
    gold.check("goodput_at_90_percent", theirs[0])
    gold.check("prefill_tp", theirs[1])
    gold.check("decode_tp", theirs[2])


@pytest.mark.parametrize(("model", "devices"), [("facebook/opt-13b", 4), ("facebook/opt-66b", 16)])
def test_the_limits_of_table_1(gold, model, devices):
    """Two roles are never better than the choice among three."""
    first, each = gold.inputs["table_1"][model]
    limits = f"workloads.chat.slo={{ttft: {first} ms, tpot: {each} ms}}"
    asked = (f"models.chat.architecture={model}", f"inventory.a100.devices={devices}", limits)
    values = [gold.solve(*asked, *gold.ablations[name]["set"]).objective.value for name in ("colocated", "apart")]
    assert gold.solve(*asked).objective.value >= max(values) * (1 - 1e-9) > 0


def test_a_strict_gap_between_tokens_is_met_only_apart(gold):
    free, colocated, apart = gold.solve(), gold.ablated("colocated"), gold.ablated("apart")
    assert free.objective.value == pytest.approx(colocated.objective.value)
    assert apart.objective.value < free.objective.value
    strict = gold.ablated("strict")
    assert {d.role for d in strict.deployments} == {"prefill", "decode"}
    alone = gold.solve(*gold.ablations["strict"]["set"], *gold.ablations["colocated"]["set"])
    assert alone.termination.reason == "infeasible"


@pytest.fixture
def crossing(gold):
    """Return a function that solves the scenario of the crossings: its plan, and the share of requests served apart."""
    path = gold.scenario.with_name("disaggregation_crossing.yaml")

    def solved(*overrides):
        plan = api.solve(api.load_scenario(path, overrides)).plan
        return plan, sum(route.requests_per_s for route in plan.routes) / plan.predicted.requests_per_s

    return solved


def at(bandwidth):
    return f"links=[{{between: [h100, h100], bandwidth: {bandwidth} GB/s}}]"


def test_the_bandwidth_at_which_it_pays_to_part(crossing):
    """Colocated on a slow network, both side by side on a better one, then apart; and never less for more."""
    plans, shares = zip(*(crossing(at(bandwidth)) for bandwidth in (2, 4, 6, 8, 12, 50)), strict=True)
    assert list(shares) == sorted(shares)
    assert shares[0] == 0
    assert 0 < shares[2] < 1
    assert shares[-1] == pytest.approx(1)
    rates = [plan.objective.value for plan in plans]
    assert all(more >= less * (1 - 1e-8) for less, more in itertools.pairwise(rates))
    low, high = 2.0, 12.0
    while high - low > 0.2:
        middle = (low + high) / 2
        low, high = (low, middle) if crossing(at(middle))[1] > 0 else (middle, high)
    # What the caches of the first two prefill replicas take: nothing less is worth their devices.
    (prefill,) = (d for d in plans[-1].deployments if d.role == "prefill")
    cache = 4000 * 2 * 80 * 8 * 128 * 2
    assert 1e9 * low < 2 * cache * prefill.requests_per_s / prefill.replicas < 1.2e9 * high


def test_the_tpot_limit_below_which_it_pays_to_part(crossing):
    low, high = 20, 80
    ends = [crossing(f"workloads.chat.slo.tpot={limit} ms")[1] for limit in (low, high)]
    assert ends == [pytest.approx(1), 0]
    while high - low > 2:
        middle = (low + high) // 2
        low, high = (middle, high) if crossing(f"workloads.chat.slo.tpot={middle} ms")[1] > 0 else (low, middle)
    assert 30 < low < 60


def test_what_parting_gains(crossing):
    colocated, _ = crossing("search.roles=[mixed]")
    apart, share = crossing()
    assert share == pytest.approx(1)
    assert apart.objective.value > 1.2 * colocated.objective.value
    assert apart.totals.devices <= colocated.totals.devices
