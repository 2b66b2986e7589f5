"""Routed experts."""

import sympy

from planner.costs import symbols as s
from planner.costs.work import Operator

_MATRICES = 3  # gate, up and down


def expert_parameters() -> sympy.Expr:
    """Weights of one expert on one device when each expert is split over tp/ep devices."""
    return _MATRICES * s.hidden * s.expert_width * s.ep / s.tp


def touched_experts(tokens: sympy.Expr) -> sympy.Expr:
    """Expected distinct experts of one rank that a step of ``tokens`` tokens reads.

    E/ep·(1 − (1 − k/E)^(tokens^x)): each token draws k of E experts; x < 1 accounts for tokens that draw
    alike. With x = 1 it is the occupancy of uniform independent draws (MegaScale-Infer, SIGCOMM 2025, §2.2).
    """
    missed = (1 - s.experts_per_token / s.experts) ** (tokens**s.expert_token_exponent)
    return s.experts / s.ep * (1 - missed)


def hottest_touched_experts(tokens: sympy.Expr) -> sympy.Expr:
    """Expected distinct experts on the rank that touches the most.

    With m experts touched on average of E/ep, the largest of ep ranks lies √(2·m·(1 − m·ep/E)·ln ep) above
    (Gaussian bound on the maximum of ep binomials), and never above E/ep. Equal to the mean without expert parallelism.
    """
    mean = touched_experts(tokens)
    above = sympy.sqrt(2 * mean * sympy.Max(0, 1 - mean * s.ep / s.experts) * sympy.log(s.ep))
    return sympy.Min(s.experts / s.ep, mean + above)


def routed_experts(tokens: sympy.Expr) -> Operator:
    """Products of the hottest rank's share of tokens × k expert visits.

    Reads the touched experts' weights, and moves each visit's activations in and out.
    """
    visits = tokens * s.experts_per_token / s.ep * s.expert_imbalance
    return Operator(
        name="routed_experts",
        flops=2 * visits * expert_parameters(),
        rate=s.gemm_flops,
        mfu=s.mfu_experts,
        hbm_bytes=hottest_touched_experts(tokens) * expert_parameters() * s.weight_bytes
        + visits * (2 * s.hidden + 3 * s.expert_width * s.ep / s.tp) * s.activation_bytes,
        mbu=s.mbu_experts,
    )
