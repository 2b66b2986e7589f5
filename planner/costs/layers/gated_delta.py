"""Gated-delta linear attention (Gated DeltaNet, arXiv 2412.06464; as in Qwen3-Next and Qwen3.5).

Split over tensor-parallel devices by heads. A request holds a state of fixed size instead of a growing cache.
"""

import sympy

from planner.costs import symbols as s
from planner.costs.fusions import norm_in_all_reduce
from planner.costs.layers import gqa
from planner.costs.operators.attention import linear_decode, linear_prefill
from planner.costs.operators.collective import all_reduce
from planner.costs.operators.gemm import linear
from planner.costs.operators.norm import rms_norm
from planner.costs.work import ATTENTION_WEIGHTS, ZERO, Batch, Layer

COUNT = s.gated_delta_layers


unpacked_parameters = gqa.unpacked_parameters
context_width = gqa.context_width


def _key_width() -> sympy.Expr:
    return s.delta_key_heads * s.delta_key_dim / s.tp


def _value_width() -> sympy.Expr:
    return s.delta_value_heads * s.delta_value_dim / s.tp


def _input_width() -> sympy.Expr:
    """Queries, keys, values, the output gate; and two gates per value head."""
    return 2 * _key_width() + 2 * _value_width() + 2 * s.delta_value_heads / s.tp


def layer(batch: Batch) -> Layer:
    """Project, convolve, update the state, normalise and gate, project back, all-reduce."""
    heads = s.delta_value_heads / s.tp
    return Layer(
        name="gated_delta",
        operators=(
            rms_norm("attention_norm", batch.tokens, s.hidden, norm_in_all_reduce(batch)),
            linear("input_projection", batch.tokens, s.hidden, _input_width(), ATTENTION_WEIGHTS, batch.spread),
            rms_norm("convolution", batch.tokens, _key_width() + _value_width() / 2),
            linear_decode(batch.decoding, batch.queries, heads),
            linear_prefill(batch.prefill, heads),
            rms_norm("output_norm", batch.tokens, _value_width()),
            linear("output_projection", batch.tokens, _value_width(), s.hidden, ATTENTION_WEIGHTS, batch.spread),
            all_reduce("attention_all_reduce", batch.tokens * s.hidden * s.activation_bytes),
        ),
        floor=s.gated_delta_floor + 2 * s.attention_narrow * s.quantise_floor,
    )


def cached_bytes(tokens: sympy.Expr) -> sympy.Expr:
    """Nothing grows with the length of a request."""
    return ZERO * tokens


def state_bytes() -> sympy.Expr:
    """State and last inputs of the convolution, of one request in one layer [byte]; one of each per draft, too."""
    state = s.delta_value_heads / s.tp * s.delta_key_dim * s.delta_value_dim * s.state_bytes
    inputs = (s.delta_conv - 1) * (2 * _key_width() + _value_width()) * s.activation_bytes
    return (1 + s.drafts) * (state + inputs)


def parameters() -> sympy.Expr:
    """Weights of the projections on one device."""
    return s.hidden * (_input_width() + _value_width())


def norm_parameters() -> sympy.Expr:
    """Norms, the convolution, and a decay and a bias per value head; counted on one device's heads."""
    convolution = s.delta_conv * (2 * _key_width() + _value_width())
    return s.hidden + convolution + 2 * s.delta_value_heads / s.tp + s.delta_value_dim
