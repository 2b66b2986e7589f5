"""Grouped-query attention, split over tensor-parallel devices by heads."""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger
from planner.costs.fusions import norm_in_all_reduce
from planner.costs.operators.attention import Shape, context_exchange, decode, prefill
from planner.costs.operators.collective import all_reduce, where
from planner.costs.operators.gemm import linear
from planner.costs.operators.norm import rms_norm
from planner.costs.work import ATTENTION_WEIGHTS, ZERO, Batch, Layer, Operator

COUNT = s.gqa_layers
_FP32 = 2  # activations in a number of 32 bit


def query_heads() -> sympy.Expr:
    """Query heads of one device."""
    return s.heads / s.tp


def cached_heads() -> sympy.Expr:
    """KV heads of one device: at least one, so beyond kv_heads devices each head is copied."""
    return Larger(1, s.kv_heads / s.tp)


def shape() -> Shape:
    """Widths of the attention kernel on one device."""
    return Shape(query_heads(), s.head_dim, s.head_dim, cached_values())


def layer(batch: Batch) -> Layer:
    """Normalise, project to queries, keys and values, attend, project back, all-reduce (arXiv 2305.13245)."""
    kernels = (
        decode(batch.decoding, batch.queries, batch.decode_context, shape()),
        prefill(batch.prefill, batch.prefill_context, batch.prefill_cached, shape()),
    )
    return projected("gqa", batch, kernels)


def projected(name: str, batch: Batch, kernels: tuple[Operator, ...], branches: int = 1) -> Layer:
    """Put the projections, norms and collectives of grouped-query attention around its kernels.

    ``branches``: sets of keys and values that every token is projected to. Where queries and keys are normalised over
    their whole width, devices that hold some of the heads add up two sums of squares per token (MiniMax-M2; engines
    send both at once, vLLM's minimax_m2.py and pull request 31493).
    """
    query_width, kv_width = query_heads() * s.head_dim, branches * cached_heads() * s.head_dim
    projections = (1 + s.query_gate) * query_width + 2 * kv_width
    return Layer(
        name=name,
        operators=(
            rms_norm("attention_norm", batch.tokens, s.hidden * s.norms / 2, norm_in_all_reduce(batch)),
            linear("qkv_projection", batch.tokens, s.hidden, projections, ATTENTION_WEIGHTS, batch.spread),
            rms_norm("qk_norm", batch.tokens, s.qk_norm * (query_width + kv_width) / 2),
            where(s.qk_norm_joint, all_reduce("qk_norm_all_reduce", 2 * batch.tokens * _FP32 * s.activation_bytes)),
            *kernels,
            context_exchange(batch.decoding * batch.queries, shape()),
            linear("output_projection", batch.tokens, query_width, s.hidden, ATTENTION_WEIGHTS, batch.spread),
            all_reduce("attention_all_reduce", batch.tokens * s.hidden * s.activation_bytes),
        ),
        floor=s.attention_floor + 2 * s.attention_narrow * s.quantise_floor,
    )


def cached_values() -> sympy.Expr:
    """Keys and values that one device caches per token and layer, before context parallelism shares them out."""
    return 2 * cached_heads() * s.head_dim


def cached_bytes(tokens: sympy.Expr) -> sympy.Expr:
    """Cache of a request of ``tokens`` in one layer of one device [byte]."""
    return tokens * cached_values() * s.kv_bytes / s.cp


def parameters() -> sympy.Expr:
    """Weights of the projections on one device."""
    return s.hidden * s.head_dim * ((2 + s.query_gate) * query_heads() + 2 * cached_heads())


def norm_parameters() -> sympy.Expr:
    """Weights of normalisations, biases and sinks, counted whole on every device."""
    return s.norms / 2 * s.norm_vectors * s.hidden + s.qk_norm_width + s.attention_bias_width


def unpacked_parameters() -> sympy.Expr:
    """Weights that engines keep a second time, in 16 bit: none."""
    return ZERO


def context_width() -> sympy.Expr:
    """Values alive per token of the context that a prompt's chunk expands at a time: none."""
    return ZERO


def state_bytes() -> sympy.Expr:
    """Bytes a request holds whatever its length: none."""
    return ZERO
