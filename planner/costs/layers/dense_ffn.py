"""Gated dense feed-forward layer, split by columns then by rows (Megatron-LM, arXiv 1909.08053, §3)."""

import sympy

from planner.costs import symbols as s
from planner.costs.operators.collective import all_reduce
from planner.costs.operators.gemm import linear
from planner.costs.operators.norm import gated_activation, rms_norm
from planner.costs.work import Batch, Layer


def layer(batch: Batch) -> Layer:
    """Normalise, gate and up projections, activation, down projection, all-reduce."""
    width = s.ffn_width / s.tp
    return Layer(
        name="dense_ffn",
        operators=(
            rms_norm("ffn_norm", batch.tokens, s.hidden),
            linear("gate_up_projection", batch.tokens, s.hidden, 2 * width),
            gated_activation(batch.tokens, width),
            linear("down_projection", batch.tokens, width, s.hidden),
            all_reduce("ffn_all_reduce", batch.tokens * s.hidden * s.activation_bytes),
        ),
        floor=s.dense_ffn_floor,
    )


def parameters() -> sympy.Expr:
    """Weights on one device."""
    return 3 * s.hidden * s.ffn_width / s.tp


def active_parameters() -> sympy.Expr:
    """Weights one token passes through: all of them."""
    return parameters()


def unquantised_parameters() -> sympy.Expr:
    """Weights that stay in bf16: the normalisation."""
    return s.hidden


def workspace_width() -> sympy.Expr:
    """Activations per token alive at once: gate and up, and their product."""
    return 3 * s.ffn_width / s.tp
