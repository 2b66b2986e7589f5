"""Routed experts: how many a step touches, how uneven their load is, and what that costs.

Popularity has two classes: a share φ of the experts is hot and draws λ times the mean, the others the rest.
φ = 0 is the uniform profile. Copies of hot experts (redundant experts) take memory and share their load.
"""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, Smaller, either
from planner.costs.tiles import tiled
from planner.costs.work import EXPERT_WEIGHTS, Operator

_MATRICES = 3  # gate, up and down


def expert_parameters() -> sympy.Expr:
    """Weights of one expert on one device when each expert is split over tp·dp/ep devices."""
    return _MATRICES * s.hidden * s.expert_width * s.ep / (s.tp * s.dp)


def slots() -> sympy.Expr:
    """Experts one device holds, copies included."""
    return (s.experts + s.redundant_experts) / s.ep


def hot_load() -> sympy.Expr:
    """Load of a hot expert over the mean, once its copies share it (EPLB of DeepSeek-V3, arXiv 2412.19437, §3.4)."""
    hot = s.hot_share * s.experts
    return either(s.hot_share, Larger(1, s.hot_load * hot / (hot + s.redundant_experts)), 1)


def _cold_load() -> sympy.Expr:
    return (1 - s.hot_share * s.hot_load) / (1 - s.hot_share)


def touched_experts(tokens: sympy.Expr) -> sympy.Expr:
    """Expected distinct experts of one rank that a step of ``tokens`` tokens reads, copies counted like others.

    Σ over classes of experts·(1 − (1 − k·load/E)^tokens)/ep: with one class it is the occupancy of uniform independent
    draws (MegaScale-Infer, SIGCOMM 2025, §2.2). Copies belong to the hot class, and share its load;
    no more experts are touched than tokens visit.
    """
    per_token = s.experts_per_token / s.experts
    hot, cold = s.hot_share * s.experts + s.redundant_experts, (1 - s.hot_share) * s.experts
    missed_hot = (1 - Smaller(1, per_token * hot_load())) ** tokens
    missed_cold = (1 - per_token * _cold_load()) ** tokens
    drawn = hot * (1 - missed_hot) + cold * (1 - missed_cold)
    return Smaller(tokens * s.experts_per_token, drawn) / s.ep


def hottest_touched_experts(tokens: sympy.Expr) -> sympy.Expr:
    """Expected distinct experts on the rank that touches the most.

    With m experts touched on average of n held, the largest of ep ranks lies √(2·m·(1 − m/n)·ln ep) above (Gaussian
    bound on the maximum of ep binomials), never above n, and at 1 where any token is there. Equal to the mean without
    expert parallelism, and where tokens take equally many experts of every group (MoGE, arXiv 2505.21411, §2).
    """
    mean = touched_experts(tokens)
    above = sympy.sqrt(2 * mean * Larger(0, 1 - mean / slots()) * sympy.log(s.ep))
    least = Smaller(1, tokens * s.experts_per_token)
    return Smaller(slots(), Larger(least, mean + either(s.grouped_routing, 0, above)))


def imbalance(tokens: sympy.Expr) -> sympy.Expr:
    """Visits of the hottest rank over the mean: expected maximum over ep ranks (Gaussian bound √(2·ln ep)·σ).

    σ² adds the spread of popularity over the E/ep experts of a rank, φ(λ − 1)²/(1 − φ)·ep/E·(1 − 1/ep), and that of
    chance, 1 over the rank's mean visits. Never above ep: all visits on one rank.
    """
    popularity = s.hot_share * (hot_load() - 1) ** 2 / (1 - s.hot_share) * (s.ep - 1) / s.experts
    chance = s.ep / (tokens * s.experts_per_token)
    uneven = 1 + sympy.sqrt(2 * sympy.log(s.ep) * (popularity + chance))
    return Smaller(s.ep, either(s.grouped_routing, 1, uneven))


def routed_experts(tokens: sympy.Expr) -> Operator:
    """Products of the hottest rank's share of tokens × k expert visits, in whole tiles per expert.

    Reads the touched experts' weights, and moves each visit's activations in and out.
    """
    visits = tokens * s.experts_per_token / s.ep * imbalance(tokens)
    touched = hottest_touched_experts(tokens)
    inner = 3 * s.expert_width * s.ep / (s.tp * s.dp)
    weights = touched * expert_parameters() * s.expert_weight_bytes
    return Operator(
        name="routed_experts",
        flops=2 * touched * tiled(visits / touched) * expert_parameters(),
        part=EXPERT_WEIGHTS,
        vector_flops=2 * visits * inner,
        hbm_bytes=weights + visits * (2 * s.hidden + inner) * s.activation_bytes,
        weight_bytes=weights,
    )
