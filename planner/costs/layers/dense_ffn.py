"""Dense feed-forward layer, split by columns then by rows (Megatron-LM, arXiv 1909.08053, §3)."""

import sympy

from planner.costs import symbols as s
from planner.costs.fusions import norm_in_all_reduce
from planner.costs.operators.collective import all_reduce
from planner.costs.operators.gemm import linear
from planner.costs.operators.norm import gated_activation, rms_norm
from planner.costs.work import FFN_WEIGHTS, Batch, Layer

COUNT = s.dense_layers


def layer(batch: Batch) -> Layer:
    """Normalise, gate and up projections (or one, without a gate), activation, down projection, all-reduce."""
    width = s.ffn_width / s.tp
    first = s.ffn_matrices - 1
    return Layer(
        name="dense",
        operators=(
            rms_norm("ffn_norm", batch.tokens, s.hidden * s.norms / 2, norm_in_all_reduce(batch)),
            linear("up_projection", batch.tokens, s.hidden, first * width, FFN_WEIGHTS, batch.spread),
            gated_activation(batch.tokens, width, s.ffn_matrices),
            linear("down_projection", batch.tokens, width, s.hidden, FFN_WEIGHTS, batch.spread),
            all_reduce("ffn_all_reduce", batch.tokens * s.hidden * s.activation_bytes),
        ),
        floor=s.dense_ffn_floor + 2 * s.ffn_narrow * s.quantise_floor,
    )


def ffn_parameters() -> sympy.Expr:
    """Weights on one device at the precision of dense feed-forward layers."""
    return s.ffn_matrices * s.hidden * s.ffn_width / s.tp


def expert_parameters() -> sympy.Expr:
    """Weights of experts on one device: none."""
    return sympy.Integer(0)


def inactive_parameters() -> sympy.Expr:
    """Weights that one token does not pass through, whole model: none."""
    return sympy.Integer(0)


def unquantised_parameters() -> sympy.Expr:
    """Weights that stay in bf16: normalisation and biases."""
    biases = s.ffn_bias * ((s.ffn_matrices - 1) * s.ffn_width / s.tp + s.hidden)
    return s.norms / 2 * s.norm_vectors * s.hidden + biases


def workspace_width() -> sympy.Expr:
    """Activations per token alive at once: gate and up, and their product."""
    return s.ffn_matrices * s.ffn_width / s.tp
