"""Grouped-query attention, split over tensor-parallel devices by heads."""

import sympy

from planner.costs import symbols as s
from planner.costs.operators.attention import decode, prefill
from planner.costs.operators.collective import all_reduce
from planner.costs.operators.gemm import linear
from planner.costs.operators.norm import rms_norm
from planner.costs.work import Batch, Layer


def query_heads() -> sympy.Expr:
    """Query heads of one device."""
    return s.heads / s.tp


def cached_heads() -> sympy.Expr:
    """KV heads of one device: at least one, so beyond kv_heads devices each head is copied."""
    return sympy.Max(1, s.kv_heads / s.tp)


def layer(batch: Batch) -> Layer:
    """Normalise, project to queries, keys and values, attend, project back, all-reduce (arXiv 2305.13245)."""
    query_width = query_heads() * s.head_dim
    kv_width = cached_heads() * s.head_dim
    return Layer(
        name="attention",
        operators=(
            rms_norm("attention_norm", batch.tokens, s.hidden),
            linear("qkv_projection", batch.tokens, s.hidden, query_width + 2 * kv_width),
            rms_norm("qk_norm", batch.tokens, s.qk_norm * (query_width + kv_width) / 2),
            decode(batch.decoding, batch.decode_context, query_heads(), cached_heads()),
            prefill(batch.prefill, batch.prefill_context, batch.prefill_cached, query_heads(), cached_heads()),
            linear("output_projection", batch.tokens, query_width, s.hidden),
            all_reduce("attention_all_reduce", batch.tokens * s.hidden * s.activation_bytes),
        ),
        floor=s.attention_floor,
    )


def cached_values() -> sympy.Expr:
    """Keys and values that one device caches per token and layer."""
    return 2 * cached_heads() * s.head_dim


def parameters() -> sympy.Expr:
    """Weights of the projections on one device."""
    return s.hidden * s.head_dim * (2 * query_heads() + 2 * cached_heads())


def norm_parameters() -> sympy.Expr:
    """Weights of the normalisations, whole on every device."""
    return s.hidden + 2 * s.qk_norm * s.head_dim
