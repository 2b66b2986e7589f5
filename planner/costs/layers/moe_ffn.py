"""Mixture-of-experts feed-forward layer, with shared experts where the model has them.

Without attention data parallelism every device of the group holds all tokens after the attention's all-reduce, computes
the experts it owns (whole ones with expert parallelism, slices without), and one all-reduce adds the partial results.
With it, every attention rank sends its tokens to the experts and takes their results back.
"""

from dataclasses import replace

import sympy

from planner.costs import symbols as s
from planner.costs.functions import either
from planner.costs.fusions import all_reduce_in_experts, norm_in_all_reduce
from planner.costs.operators.collective import all_gather, all_reduce, exchange, one_of
from planner.costs.operators.gemm import linear, unquantised
from planner.costs.operators.moe import expert_parameters as one_expert
from planner.costs.operators.moe import routed_experts, slots
from planner.costs.operators.norm import rms_norm
from planner.costs.work import FFN_WEIGHTS, ONE, Batch, Layer, Operator

COUNT = s.moe_layers
_MATRICES = 3


def layer(batch: Batch) -> Layer:
    """Normalise, route, dispatch, run shared and routed experts, combine, all-reduce.

    (Switch, arXiv 2101.03961, §2; top-k routing and shared experts of DeepSeekMoE, arXiv 2401.06066, §3.)
    """
    width, shared_rows = s.shared_width / s.tp, batch.tokens * either(s.shared_width, 1, 0)
    # Partial sums of all devices; or results that came back to one device of each attention rank's group each.
    results = batch.tokens * s.hidden * s.activation_bytes
    joined = one_of(s.dp - 1, all_gather("ffn_all_gather", results), all_reduce("ffn_all_reduce", results))
    return Layer(
        name="moe",
        operators=(
            rms_norm("ffn_norm", batch.tokens, s.hidden * s.norms / 2, norm_in_all_reduce(batch)),
            unquantised("router", batch.tokens, s.hidden, s.experts),
            _fused(exchange("dispatch", s.dispatch_bytes, batch.group_tokens, s.hidden)),
            linear("shared_up_projection", shared_rows, s.hidden, 2 * width, FFN_WEIGHTS),
            linear("shared_down_projection", shared_rows, width, s.hidden, FFN_WEIGHTS),
            routed_experts(batch.group_tokens),
            _fused(exchange("combine", s.activation_bytes, batch.group_tokens, s.hidden)),
            replace(joined, launched=ONE - all_reduce_in_experts(batch)),
        ),
        floor=s.moe_ffn_floor + 2 * s.experts_narrow * s.quantise_floor,
    )


def _fused(operator: Operator) -> Operator:
    return replace(operator, launched=ONE - s.fused_dispatch)


def ffn_parameters() -> sympy.Expr:
    """Weights of the shared experts on one device."""
    return _MATRICES * s.hidden * s.shared_width / s.tp


def expert_parameters() -> sympy.Expr:
    """Weights of the routed experts on one device: whole ones, or slices of all; copies included."""
    return slots() * one_expert()


def inactive_parameters() -> sympy.Expr:
    """Weights of the experts one token does not visit, whole model without copies."""
    return (s.experts - s.experts_per_token) * (_MATRICES * s.hidden * s.expert_width + _biases_of_one())


def _biases_of_one() -> sympy.Expr:
    return s.expert_bias * (2 * s.expert_width + s.hidden)


def unquantised_parameters() -> sympy.Expr:
    """Weights that stay in bf16: router, normalisation, biases, the gate of shared experts."""
    router = s.hidden * s.experts + s.router_bias * s.experts
    biases = s.experts / s.ep * _biases_of_one()
    return router + biases + s.shared_gate * s.hidden + s.norms / 2 * s.norm_vectors * s.hidden


def workspace_width() -> sympy.Expr:
    """Activations per token alive at once: k visits with their inner width and output."""
    return s.experts_per_token * (2 * s.expert_width * s.ep / (s.tp * s.dp) + s.hidden)
