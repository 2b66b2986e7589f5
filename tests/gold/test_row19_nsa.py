"""Row 19, native sparse attention: tokens read, bytes and flop saved, a cache that does not shrink."""

import numpy as np
import pytest
import sympy

from planner.columns.evaluate import figures
from planner.columns.setting import settings
from planner.costs.layers import gqa, nsa
from planner.costs.step import Batch
from planner.costs.work import ZERO

CONTEXTS = (8192, 16384, 32768, 65536)


@pytest.fixture
def known(gold):
    return {f"nsa_{name}": value for name, value in gold.inputs.items()}


def kernel(layer, name):
    return next(operator for operator in layer.operators if operator.name == name)


@pytest.mark.parametrize("context", CONTEXTS)
def test_tokens_a_query_reads(gold, number, known, context):
    tokens = sympy.Integer(context)
    gold.check(f"tokens_{context}", number(nsa.read_tokens(tokens), **known))
    kept = gold.inputs["selected"] * gold.inputs["selected_block"] + gold.inputs["window"]
    gold.check(f"exact_{context}", number(nsa.compressed_tokens(tokens), **known) + kept)


@pytest.mark.parametrize("context", CONTEXTS)
def test_bytes_of_a_decode_step(gold, number, known, context):
    one, tokens = sympy.Integer(1), sympy.Integer(context)
    batch = Batch(one, one, one, tokens, ZERO, ZERO, ZERO, one, one)
    values = {**known, "heads": 64, "kv_heads": 4, "head_dim": 192, "tp": 1, "cp": 1, "kv_bytes": 2, "score_passes": 0}
    values["activation_bytes"] = 2
    full, sparse = (number(kernel(kind.layer(batch), "attention_decode").hbm_bytes, **values) for kind in (gqa, nsa))
    gold.check(f"speed_up_{context}", full / sparse)


def test_short_contexts_are_read_whole(number, known):
    assert number(nsa.read_tokens(sympy.Integer(1000)), **known) == 1000


def test_flop_of_a_prompt(gold, number, known):
    n = 65536
    mean = number(nsa.mean_read_tokens(sympy.Rational(n, 2), sympy.Integer(n)), **known)
    counted = np.minimum(np.arange(n), np.arange(n) / 16 + 1536).mean()
    assert mean == pytest.approx(counted, rel=1e-3)
    gold.check("forward_65536", n / 2 / mean)


def steps(gold, context, *changes):
    """A decode step [s] of 8 requests and their cache [byte] at a context."""
    case = gold.case("models.long.max_model_len=131072 token", *changes)
    setting = next(setting for setting in settings(case) if setting.role == "mixed")
    axes = {name: np.ones(1) for name in ("tp", "pp", "ep")} | {"mean_running": np.array([8.0])}
    axes |= {"weight_precision": np.zeros(1), "kv_precision": np.zeros(1), "isl": np.array([float(context)])}
    axes |= {"max_num_batched_tokens": np.array([2048.0]), "osl": np.array([2.0])}
    found = figures(setting, axes)
    return found["decode_seconds"].item(), found["kv_request_bytes"].item()


def test_the_context_at_which_it_starts_to_pay(gold):
    """The sheet of the row: below, three branches and selection cost more than the cache they do not read."""

    def gain(context):
        return steps(gold, context, *gold.ablations["full"]["set"])[0] / steps(gold, context)[0]

    low, high = 1024, 65536
    assert gain(low) < 1 < gain(high)
    while high / low > 1.02:
        middle = int((low * high) ** 0.5)
        low, high = (middle, high) if gain(middle) < 1 else (low, middle)
    assert 2000 < low < 12000


def test_decoding_gains_and_the_cache_does_not(gold):
    gains = []
    for context in CONTEXTS:
        sparse, full = steps(gold, context), steps(gold, context, *gold.ablations["full"]["set"])
        gains.append(full[0] / sparse[0])
        assert 1 < sparse[1] / full[1] < 1.2
    assert gains == sorted(gains)


def test_the_plan_carries_more_at_long_contexts(gold):
    sparse, full = gold.solve(), gold.ablated("full")
    assert sparse.deployments[0].attention.layers == {"nsa": 32}
    assert full.deployments[0].attention.layers == {"gqa": 32}
    assert sparse.predicted.requests_per_s > 1.3 * full.predicted.requests_per_s
    assert sparse.deployments[0].attention.time_share < full.deployments[0].attention.time_share
