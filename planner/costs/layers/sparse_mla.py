"""Latent attention over tokens that an indexer selects (DeepSeek-V3.2, arXiv 2512.02556, §2.1; GLM-5)."""

from dataclasses import replace

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Smaller
from planner.costs.layers import gqa, mla
from planner.costs.operators.attention import Shape, decode, prefill, select, windowed_context
from planner.costs.operators.gemm import linear
from planner.costs.work import ATTENTION_WEIGHTS, Batch, Layer

COUNT = s.sparse_mla_layers

norm_parameters = mla.norm_parameters
state_bytes = mla.state_bytes
unpacked_parameters = mla.unpacked_parameters
context_width = gqa.context_width


def shape() -> Shape:
    """The absorbed form; kernels over selected tokens work on ``sparse_head_tile`` heads at a time."""
    dense = mla.absorbed()
    return replace(dense, heads=s.sparse_head_tile * sympy.ceiling(dense.heads / s.sparse_head_tile))


def layer(batch: Batch) -> Layer:
    """Project and score for the indexer, whole on every device, then attend to what it selects.

    Prefill works on the latent, too: selected tokens differ from query to query, so nothing is expanded once for all.
    """
    attended = windowed_context(batch.prefill_context, batch.prefill, s.index_topk)
    seen, selected = Smaller(batch.decode_context, s.index_topk), s.index_topk * batch.queries
    kernels = (
        linear(
            "index_projection", batch.tokens, s.query_rank, s.index_heads * s.index_dim, ATTENTION_WEIGHTS, batch.spread
        ),
        select(batch.decoding, batch.queries, batch.decode_context, batch.prefill, batch.prefill_context),
        decode(batch.decoding, batch.queries, seen, shape(), read=Smaller(batch.decode_context, selected)),
        prefill(batch.prefill, attended, batch.prefill_cached, shape()),
    )
    return mla.projected("sparse_mla", batch, kernels, s.index_floor, expands=False)


def cached_bytes(tokens: sympy.Expr) -> sympy.Expr:
    """Cache of a request of ``tokens`` in one layer of one device [byte]: the latent, and the indexer's keys."""
    return tokens * (mla.latent_width() * s.kv_bytes + s.index_dim * s.index_bytes) / s.cp


def parameters() -> sympy.Expr:
    """Weights of the projections and of the indexer (queries, key, head weights, key normalisation) on one device."""
    indexer = s.query_rank * s.index_heads * s.index_dim + s.hidden * (s.index_dim + s.index_heads) + 2 * s.index_dim
    return mla.parameters() + indexer
