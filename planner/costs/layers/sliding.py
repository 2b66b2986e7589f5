"""Grouped-query attention over a sliding window (Mistral 7B, arXiv 2310.06825, §2; gpt-oss, Gemma 3)."""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Smaller
from planner.costs.layers import gqa
from planner.costs.operators.attention import decode, prefill, windowed_context
from planner.costs.work import Batch, Layer

COUNT = s.sliding_layers

parameters = gqa.parameters
norm_parameters = gqa.norm_parameters
cached_values = gqa.cached_values
state_bytes = gqa.state_bytes
unpacked_parameters = gqa.unpacked_parameters
context_width = gqa.context_width


def layer(batch: Batch) -> Layer:
    """Like full attention, but no query sees more than the window."""
    kernels = (
        decode(batch.decoding, batch.queries, Smaller(batch.decode_context, s.window), gqa.shape()),
        prefill(
            batch.prefill,
            windowed_context(batch.prefill_context, batch.prefill, s.window),
            Smaller(batch.prefill_cached, batch.prefill + s.window),
            gqa.shape(),
        ),
    )
    return gqa.projected("sliding", batch, kernels)


def cached_bytes(tokens: sympy.Expr) -> sympy.Expr:
    """Cache of a request of ``tokens`` in one layer of one device [byte]: no more than the window, in whole blocks."""
    return Smaller(tokens, s.window + s.block_size) * cached_values() * s.kv_bytes / s.cp
