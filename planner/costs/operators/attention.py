"""Attention kernels over a paged KV cache."""

import sympy

from planner.costs import symbols as s
from planner.costs.work import Operator

_SCORES_AND_VALUES = 4  # two products of 2 flop per query, key and head dimension


def decode(sequences: sympy.Expr, context: sympy.Expr, query_heads: sympy.Expr, cached_heads: sympy.Expr) -> Operator:
    """One query per sequence over its cached context.

    Reads every cached key and value once: 2·context·kv_heads·d_h·s_kv byte per sequence
    (FlashDecoding, Dao et al. 2023; PagedAttention, Kwon et al. SOSP 2023, §2.2 for the cache size).
    """
    return Operator(
        name="attention_decode",
        flops=_SCORES_AND_VALUES * sequences * context * query_heads * s.head_dim,
        rate=s.bf16_flops,
        mfu=s.mfu_attention,
        hbm_bytes=2 * sequences * context * cached_heads * s.head_dim * s.kv_bytes,
        mbu=s.mbu_kv_cache,
    )


def prefill(
    tokens: sympy.Expr,
    context: sympy.Expr,
    cached: sympy.Expr,
    query_heads: sympy.Expr,
    cached_heads: sympy.Expr,
) -> Operator:
    """A chunk of a prompt attending causally to ``context`` tokens on average.

    4·tokens·context·heads·d_h flop; queries and outputs move once, and the ``cached`` keys and values
    once per chunk, since their reuse stays on chip (FlashAttention-2, Dao 2023, arXiv 2307.08691, §3).
    """
    return Operator(
        name="attention_prefill",
        flops=_SCORES_AND_VALUES * tokens * context * query_heads * s.head_dim,
        rate=s.bf16_flops,
        mfu=s.mfu_attention,
        hbm_bytes=2 * tokens * query_heads * s.head_dim * s.activation_bytes
        + 2 * cached * cached_heads * s.head_dim * s.kv_bytes,
        mbu=s.mbu_kv_cache,
    )
