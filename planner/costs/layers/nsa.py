"""Native sparse attention (arXiv 2502.11089): compressed blocks, selected blocks and a window instead of every token.

The three branches have keys and values of their own (§3.3.3), so a request caches more than with full attention, and
reads less. The small network that compresses a block is not counted: its size is not published.
"""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, Smaller
from planner.costs.layers import gqa
from planner.costs.operators.attention import Shape, decode, prefill, windowed_context
from planner.costs.work import ONE, Batch, Layer

COUNT = s.nsa_layers
_BRANCHES = 3

norm_parameters = gqa.norm_parameters
state_bytes = gqa.state_bytes
unpacked_parameters = gqa.unpacked_parameters
context_width = gqa.context_width


def compressed_tokens(tokens: sympy.Expr) -> sympy.Expr:
    """Return the whole blocks that ``tokens`` are compressed into: ⌊(t − l)/d⌋ + 1 = ⌈(t − l + 1)/d⌉ (eq. 7)."""
    return Larger(0, sympy.ceiling((tokens - s.nsa_block + 1) / s.nsa_stride))


def read_tokens(tokens: sympy.Expr, queries: sympy.Expr = ONE) -> sympy.Expr:
    """Tokens read of ``tokens``: t/d + n·l' + w, as table 4 counts them, and never more than there are.

    Each of several ``queries`` of a request selects blocks of its own.
    """
    return Smaller(tokens, tokens / s.nsa_stride + _kept(queries))


def _kept(queries: sympy.Expr = ONE) -> sympy.Expr:
    return queries * s.nsa_selected * s.nsa_selected_block + s.nsa_window


def mean_read_tokens(context: sympy.Expr, tokens: sympy.Expr) -> sympy.Expr:
    """Mean of ``read_tokens`` over ``tokens`` of a prompt that see ``context`` on average.

    min(t, t/d + K) = t/d + (1 − 1/d)·min(t, K/(1 − 1/d)): a share of the context, and a window.
    """
    rest = 1 - 1 / s.nsa_stride
    return context / s.nsa_stride + rest * windowed_context(context, tokens, _kept() / rest)


def layer(batch: Batch) -> Layer:
    """Project to one set of queries and three of keys and values, attend to what is kept, gate and project back.

    A prompt's selected blocks differ from token to token, so prefill still reads every key once per chunk.
    """
    shape = Shape(gqa.query_heads(), s.head_dim, s.head_dim, gqa.cached_values())
    seen = mean_read_tokens(batch.prefill_context, batch.prefill)
    context = batch.decode_context
    read = read_tokens(context, batch.queries)
    kernels = (
        decode(batch.decoding, batch.queries, read_tokens(context), shape, read),
        prefill(batch.prefill, seen, batch.prefill_cached, shape),
    )
    full = gqa.projected("nsa", batch, kernels, _BRANCHES)
    return Layer(full.name, full.operators, full.floor + s.index_floor)


def cached_bytes(tokens: sympy.Expr) -> sympy.Expr:
    """Cache of a request in one layer of one device [byte]: all tokens to select from, a window, compressed blocks."""
    kept = tokens + Smaller(tokens, s.nsa_window + s.block_size) + compressed_tokens(tokens)
    return kept * gqa.cached_values() * s.kv_bytes / s.cp


def parameters() -> sympy.Expr:
    """Weights on one device: projections of three branches, and a gate per head and branch."""
    extra = (_BRANCHES - 1) * 2 * gqa.cached_heads() * s.head_dim + _BRANCHES * gqa.query_heads()
    return gqa.parameters() + s.hidden * extra
