"""Mixture-of-experts feed-forward layer without attention data parallelism.

Every device of the group holds all tokens after the attention's all-reduce, computes the experts it owns
(whole ones with expert parallelism, slices without), and one all-reduce adds the partial results.
"""

import sympy

from planner.costs import symbols as s
from planner.costs.operators.collective import all_reduce
from planner.costs.operators.gemm import unquantised
from planner.costs.operators.moe import expert_parameters, routed_experts
from planner.costs.operators.norm import rms_norm
from planner.costs.work import Batch, Layer


def layer(batch: Batch) -> Layer:
    """Normalise, route, run the experts, all-reduce (Switch, arXiv 2101.03961, §2; top-k routing)."""
    return Layer(
        name="moe_ffn",
        operators=(
            rms_norm("ffn_norm", batch.tokens, s.hidden),
            unquantised("router", batch.tokens, s.hidden, s.experts),
            routed_experts(batch.tokens),
            all_reduce("ffn_all_reduce", batch.tokens * s.hidden * s.activation_bytes),
        ),
        floor=s.moe_ffn_floor,
    )


def parameters() -> sympy.Expr:
    """Quantisable weights on one device: its experts, or its slices of all experts."""
    return s.experts / s.ep * expert_parameters()


def active_parameters() -> sympy.Expr:
    """Weights one token passes through, summed over the group."""
    return 3 * s.hidden * s.expert_width * s.experts_per_token


def unquantised_parameters() -> sympy.Expr:
    """Weights that stay in bf16: router and normalisation."""
    return s.hidden * s.experts + s.hidden


def workspace_width() -> sympy.Expr:
    """Activations per token alive at once: k visits with their inner width and output."""
    return s.experts_per_token * (2 * s.expert_width * s.ep / s.tp + s.hidden)
