"""Routed experts: how many a step touches and how uneven they are, against counts and against draws."""

import math

import numpy as np
import pytest

from planner.costs import symbols as s
from planner.costs.layers import moe_ffn
from planner.costs.operators import moe as experts
from planner.costs.work import Batch

EXPERTS = {"experts": 128, "experts_per_token": 8}
WIDTHS = {"hidden": 64, "expert_width": 32, "expert_weight_bytes": 1, "activation_bytes": 2}
# 12 of 120 experts draw three times the mean.
SKEWED = {"experts": 120, "experts_per_token": 8, "hot_share": 0.1, "hot_load": 3}
LOADS = np.array([3.0] * 12 + [0.7 / 0.9] * 108)


@pytest.fixture
def touched(value):
    return lambda tokens, **known: value(experts.touched_experts(s.isl), isl=tokens, **EXPERTS | known)


@pytest.fixture
def hottest(value):
    return lambda tokens, **known: value(experts.hottest_touched_experts(s.isl), isl=tokens, **EXPERTS | known)


@pytest.fixture
def imbalance(value):
    return lambda tokens, **known: value(experts.imbalance(s.isl), isl=tokens, **EXPERTS | known)


# --- distinct experts


def test_one_token_touches_k_experts_and_many_touch_all(touched):
    assert touched(1) == pytest.approx(8)
    # two tokens: 16 draws, of which 8/128 of the second eight meet the first
    assert touched(2) == pytest.approx(8 + 8 * (1 - 8 / 128))
    assert touched(10_000) == pytest.approx(128)


@pytest.mark.parametrize("tokens", [1, 5, 64])
def test_the_uniform_profile_is_the_occupancy_formula(touched, tokens):
    expected = 128 * (1 - (1 - 8 / 128) ** tokens)
    assert touched(tokens, hot_share=0) == pytest.approx(expected)
    # one hot load for a hot share of none means nothing, and a hot class as popular as the rest is no class
    assert touched(tokens, hot_share=0, hot_load=5) == pytest.approx(expected)
    assert touched(tokens, hot_share=0.25, hot_load=1) == pytest.approx(expected)


@pytest.mark.parametrize("tokens", [1, 4, 16, 64])
def test_two_classes_touch_what_weighted_draws_touch(touched, tokens):
    """Tokens draw 8 experts each without replacement, with weights: Efraimidis-Spirakis keys, the largest eight."""
    draws = np.random.default_rng(7)
    keys = np.log(draws.random((400, tokens, 120))) / LOADS
    chosen = np.argpartition(-keys, 8, axis=2)[..., :8].reshape(400, -1)
    mean = np.mean([len(np.unique(row)) for row in chosen])
    assert touched(tokens, **SKEWED) == pytest.approx(mean, rel=0.02)
    uniform = touched(tokens, **SKEWED | {"hot_load": 1})
    assert touched(tokens, **SKEWED) < uniform or tokens == 1


def test_ep_divides_the_touched_experts(touched):
    assert touched(32, ep=8) == pytest.approx(touched(32) / 8)


@pytest.mark.parametrize("tokens", [1, 7, 100])
def test_without_expert_parallelism_no_rank_touches_more_than_the_mean(touched, hottest, tokens):
    assert hottest(tokens) == pytest.approx(touched(tokens), rel=1e-12)


def test_the_hottest_rank_touches_more_than_the_mean_and_at_most_all_its_experts(hottest):
    # one token touches 8 of 128 experts, so 1 of the 16 on each of 8 ranks; the largest of 8 binomials(16, 1/16)
    assert hottest(1, ep=8) == pytest.approx(1 + math.sqrt(2 * 1 * (1 - 1 / 16) * math.log(8)))
    assert hottest(100_000, ep=8) == pytest.approx(16)
    found = [hottest(tokens, ep=8) for tokens in (1, 2, 5, 10, 30, 100, 1000)]
    assert found == sorted(found)
    assert max(found) <= 16


def test_the_bound_on_the_hottest_rank_is_above_what_draws_give_and_not_far(hottest):
    """8 distinct experts per token on 8 ranks of 16, drawn 2000 times: the mean of the largest rank's count."""
    draws = np.random.default_rng(3)
    for tokens in (2, 8, 24):
        keys = draws.random((2000, tokens, 128))
        chosen = np.argpartition(keys, 8, axis=2)[..., :8].reshape(2000, -1)
        most = [max(np.bincount(np.unique(row) // 16, minlength=8)) for row in chosen]
        assert np.mean(most) <= hottest(tokens, ep=8) <= 1.35 * np.mean(most)


# --- how uneven


def drawn_imbalance(tokens, ep):
    """Experts placed at random, visits drawn by popularity: the mean of the fullest rank over the mean rank."""
    draws = np.random.default_rng(11)
    most = []
    for _ in range(800):
        ranks = draws.permutation(LOADS).reshape(ep, -1).sum(axis=1)
        most.append(draws.multinomial(tokens * 8, ranks / ranks.sum()).max() / (tokens * 8 / ep))
    return np.mean(most)


@pytest.mark.parametrize("ep", [2, 4, 8])
@pytest.mark.parametrize("tokens", [1, 64, 4096])
def test_imbalance_bounds_draws_from_above_and_not_far(imbalance, tokens, ep):
    drawn = drawn_imbalance(tokens, ep)
    assert drawn <= imbalance(tokens, **SKEWED, ep=ep) <= 1.4 * drawn


@pytest.mark.parametrize(("tokens", "short"), [(1, 0.13), (64, 0.04), (4096, 0.04)])
def test_where_a_rank_holds_few_experts_the_bound_is_an_estimate(imbalance, tokens, short):
    """Three experts per rank, or three visits, are too few for a normal number: the tail is longer."""
    assert imbalance(tokens, **SKEWED, ep=40) == pytest.approx(drawn_imbalance(tokens, 40), rel=short)


def test_imbalance_ends_where_it_must(imbalance):
    assert imbalance(64, **SKEWED, ep=1) == 1
    assert imbalance(64, **SKEWED, ep=8, grouped_routing=1) == 1
    assert imbalance(0.01, **SKEWED, ep=8) == 8  # never more than everything on one rank
    # uniform and many tokens: nothing is left of chance
    assert imbalance(1e9, ep=8) == pytest.approx(1, abs=1e-4)
    # popularity alone: σ² = φ(λ−1)²/(1−φ)·(ep−1)/E
    expected = 1 + math.sqrt(2 * math.log(8) * 0.1 * 4 / 0.9 * 7 / 120)
    assert imbalance(1e12, **SKEWED, ep=8) == pytest.approx(expected, rel=1e-5)


def test_routing_by_groups_touches_equally_many_everywhere(touched, hottest):
    """Pangu Pro MoE: every token takes as many experts from each group."""
    assert hottest(3, ep=8, grouped_routing=1) == pytest.approx(touched(3, ep=8))


def test_redundant_experts_balance_and_take_memory(value, imbalance):
    found = [imbalance(4096, **SKEWED, ep=8, redundant_experts=copies) for copies in (0, 4, 12, 24, 100)]
    assert found == sorted(found, reverse=True)
    assert found[0] > found[1] > found[2]
    # 12 copies of 12 hot experts halve their load; 24 leave the mean, and more do not help
    assert value(experts.hot_load(), **SKEWED, redundant_experts=12) == pytest.approx(1.5)
    assert value(experts.hot_load(), **SKEWED, redundant_experts=24) == pytest.approx(1)
    assert found[3] == found[4]
    held = [value(moe_ffn.expert_parameters(), **SKEWED, **WIDTHS, dp=8, ep=8, redundant_experts=n) for n in (0, 24)]
    assert held == [120 / 8 * 3 * 64 * 32, (120 + 24) / 8 * 3 * 64 * 32]


def test_copies_are_held_and_touched_like_other_experts(touched, hottest):
    """120 experts and 24 copies on 8 ranks: 18 each, all of which a large step reads."""
    copies = SKEWED | {"redundant_experts": 24, "ep": 8}
    assert touched(1_000_000, **copies) == hottest(1_000_000, **copies) == pytest.approx((120 + 24) / 8)
    # 36 of them share the visits of 12 hot experts, and draw the mean: 3·12/36
    tokens, each = 16, 8 / 120
    expected = (36 * (1 - (1 - each) ** tokens) + 108 * (1 - (1 - each * 0.7 / 0.9) ** tokens)) / 8
    assert touched(tokens, **copies) == pytest.approx(expected)


@pytest.mark.parametrize("copies", [0, 12, 24, 100])
@pytest.mark.parametrize("hot_share", [0, 0.1])
def test_no_step_touches_more_experts_than_its_tokens_visit(touched, hot_share, copies):
    known = SKEWED | {"hot_share": hot_share, "redundant_experts": copies}
    for tokens in (1, 2, 16):
        assert touched(tokens, **known) <= 8 * tokens * (1 + 1e-12)


@pytest.mark.parametrize("grouped_routing", [0, 1])
@pytest.mark.parametrize("copies", [0, 64])
def test_the_hottest_rank_touches_an_expert_at_least_and_those_it_holds_at_most(hottest, copies, grouped_routing):
    known = {"ep": 64, "redundant_experts": copies, "grouped_routing": grouped_routing}
    for tokens in (1, 2, 8, 100, 10_000):
        assert 1 <= hottest(tokens, **known) <= (128 + copies) / 64
    # less than a visit, on average: as much as there is
    assert hottest(0.05, **known | {"grouped_routing": 1}) == pytest.approx(0.05 * 8)


# --- operators and layer


def test_experts_whole_with_ep_and_sliced_without(value):
    assert value(experts.expert_parameters(), **WIDTHS, tp=8, ep=8) == 3 * 64 * 32
    assert value(experts.expert_parameters(), **WIDTHS, tp=8, ep=1) == 3 * 64 * 32 / 8
    assert value(experts.expert_parameters(), **WIDTHS, tp=2, dp=4, ep=8) == 3 * 64 * 32
    weights = {ep: value(moe_ffn.expert_parameters(), **WIDTHS, **EXPERTS, tp=8, ep=ep) for ep in (1, 8)}
    assert weights[1] == weights[8] == 128 * 3 * 64 * 32 / 8


def test_routed_experts_with_every_expert_used_are_a_dense_layer(value):
    operator = experts.routed_experts(s.isl)
    known = WIDTHS | {"experts": 4, "experts_per_token": 4, "isl": 10}
    assert value(operator.flops, **known) == 2 * 10 * 4 * 3 * 64 * 32
    assert value(operator.hbm_bytes, **known) == 4 * 3 * 64 * 32 + 40 * (2 * 64 + 3 * 32) * 2
    assert value(operator.weight_bytes, **known) == 4 * 3 * 64 * 32
    assert value(operator.vector_flops, **known) == 2 * 40 * 3 * 32


def test_the_hottest_rank_sets_bytes_and_flops(value, hottest, imbalance):
    operator = experts.routed_experts(s.isl)
    known = EXPERTS | WIDTHS | {"tp": 8, "ep": 8, "isl": 10}
    visits = 10 * imbalance(10, ep=8)
    read = hottest(10, ep=8) * 3 * 64 * 32
    assert value(operator.weight_bytes, **known) == pytest.approx(read)
    assert value(operator.hbm_bytes, **known) == pytest.approx(read + visits * (2 * 64 + 3 * 32) * 2)
    rows = math.ceil(visits / hottest(10, ep=8))
    assert value(operator.flops, **known) == pytest.approx(2 * rows * read)


def test_an_expert_with_few_tokens_works_on_a_whole_tile(value, touched):
    known = EXPERTS | WIDTHS | {"isl": 4, "tile_rows": 128, "least_tile_rows": 16}
    found = value(experts.routed_experts(s.isl).flops, **known)
    assert found == pytest.approx(2 * touched(4) * 16 * 3 * 64 * 32)


def test_shared_experts_see_every_token_and_gates_count(value, one, batch_of):
    layer = moe_ffn.layer(batch_of(10))
    known = WIDTHS | EXPERTS | {"shared_width": 96, "tp": 2}
    assert value(one(layer, "shared_up_projection").flops, **known) == 2 * 10 * 64 * 2 * 48
    assert value(one(layer, "shared_down_projection").flops, **known) == 2 * 10 * 48 * 64
    assert value(moe_ffn.ffn_parameters(), **known) == 3 * 64 * 48
    plain, more = (
        value(moe_ffn.unquantised_parameters(), **known, shared_gate=on, router_bias=on, expert_bias=on)
        for on in (0, 1)
    )
    assert plain == 64 * 128 + 64
    assert more == plain + 64 + 128 + 128 * (2 * 32 + 64)


def test_a_model_without_shared_experts_has_no_work_for_them(value, one, batch_of):
    layer = moe_ffn.layer(batch_of(10))
    for name in ("shared_up_projection", "shared_down_projection"):
        operator = one(layer, name)
        known = WIDTHS | EXPERTS | {"shared_width": 0, "ffn_weight_bytes": 2}
        assert value(operator.flops, **known) == value(operator.hbm_bytes, **known) == 0


def test_experts_work_on_the_tokens_of_all_attention_ranks(value, one):
    fields = dict.fromkeys(Batch.__dataclass_fields__, s.osl * 0) | {"tokens": s.osl, "group_tokens": s.isl}
    layer = moe_ffn.layer(Batch(**fields))
    known = WIDTHS | EXPERTS | {"isl": 40, "osl": 10, "dp": 4}
    inner = 2 * 40 * 8 * 3 * 32 / 4
    assert value(one(layer, "routed_experts").vector_flops, **known) == inner
    assert value(one(layer, "router").flops, **known) == 2 * 10 * 64 * 128
