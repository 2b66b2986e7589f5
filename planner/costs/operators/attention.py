"""Attention kernels over a paged KV cache: grouped-query, latent (absorbed in decode), selected, and linear attention.

Three kernels of softmax attention differ in two numbers. ``standard`` writes the scores to device memory and reads them
back, n_S times in all; FlashAttention (Dao et al., NeurIPS 2022, arXiv 2205.14135, §3.1) keeps them on chip. Its first
version gives a core whole heads; the second (arXiv 2307.08691, §3.2) also spreads the tokens of one head over cores.
"""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, Smaller, either
from planner.costs.groups import TENSOR_GROUP
from planner.costs.work import Operator, Part

_SOFTMAX_FLOPS = 5  # scale, maximum, subtract, exponential, sum: per score
_SCORE_VALUES = 2  # a score to the vector units and its probability back
_STATE_FLOPS = 8  # decay, read, outer product, update: per value of a linear-attention state
_DELTA_CHUNK = 64  # tokens that linear attention works on at a time during prefill

INDEX = Part(s.index_bytes, s.index_flops, s.mfu_attention, s.mbu_kv_cache)
CACHED = Part(s.kv_bytes, s.bf16_flops, s.mfu_attention, s.mbu_kv_cache)


@dataclass(frozen=True, slots=True)
class Shape:
    """Widths of an attention kernel on one device.

    ``heads``: query heads. ``score_width``, ``value_width``: of a query against a key, and of what it sums up.
    ``cached_values``: values read per cached token.
    """

    heads: sympy.Expr
    score_width: sympy.Expr
    value_width: sympy.Expr
    cached_values: sympy.Expr


def decode(
    sequences: sympy.Expr, queries: sympy.Expr, context: sympy.Expr, shape: Shape, read: sympy.Expr | None = None
) -> Operator:
    """``queries`` rows per sequence over its cached context; ``read`` tokens of it where rows do not see the same.

    Reads every cached value once, whatever the number of queries: sequences·read·cached_values·s_kv byte, shared out
    over c context-parallel devices (FlashDecoding, Dao et al. 2023; PagedAttention, Kwon et al. SOSP 2023, §2.2 for
    the cache size; for latent attention the absorbed form of DeepSeek-V2, arXiv 2405.04434, §2.1.2).
    """
    scores = sequences * queries * context * shape.heads
    # Kernels that split the context cut it into as many parts as fill the cores (FlashDecoding).
    blocks = sequences * shape.heads
    return Operator(
        name="attention_decode",
        flops=2 * scores * (shape.score_width + shape.value_width),
        part=CACHED,
        vector_flops=_SOFTMAX_FLOPS * scores,
        hbm_bytes=sequences * (context if read is None else read) / s.cp * shape.cached_values * s.kv_bytes
        + spilled_bytes(scores),
        hand_off_bytes=_SCORE_VALUES * scores * s.activation_bytes,
        occupancy=either(s.sequence_blocks, 1, either(blocks, blocks / in_waves(blocks), 1)),
    )


def in_waves(blocks: sympy.Expr) -> sympy.Expr:
    """Return the blocks there is room for in the rounds that ``blocks`` take on all cores: whole rounds."""
    return s.cores * sympy.ceiling(blocks / s.cores)


def spilled_bytes(scores: sympy.Expr) -> sympy.Expr:
    """Traffic of a score matrix that is kept in device memory [byte]: Θ(N²), FlashAttention's theorem 2."""
    return either(s.score_passes, s.score_passes * scores * s.activation_bytes, 0)


def _prefill_occupancy(tokens: sympy.Expr, heads: sympy.Expr) -> sympy.Expr:
    """Share of the cores that a chunk of a prompt, or of several, keeps busy (FlashAttention-2, §3.2).

    Blocks are tiles of a head's rows, the last one partly filled, or whole heads; they run in rounds over the cores.
    """
    rows, prompts = Smaller(tokens, s.isl), Larger(1, tokens / s.isl)
    tiles = heads * prompts * sympy.ceiling(rows / s.tile_rows)
    spread = heads * tokens / (s.tile_rows * in_waves(tiles))
    whole = heads * prompts / in_waves(heads * prompts)
    return either(tokens, either(s.sequence_blocks, spread, whole), 1)


def context_exchange(rows: sympy.Expr, shape: Shape) -> Operator:
    """Queries to, and partial results from, the c devices that share out a request's cache; nothing with one.

    Helix parallelism (arXiv 2507.07120, §2.1): all-gather of queries and reduce-scatter of outputs.
    """
    moved = (s.cp - 1) * rows * shape.heads * (shape.score_width + shape.value_width) * s.activation_bytes
    rounds = either(s.cp - 1, 2, 0)
    return Operator(name="context_exchange", traffic=TENSOR_GROUP.traffic(moved, sympy.Integer(0), rounds))


def prefill(tokens: sympy.Expr, context: sympy.Expr, cached: sympy.Expr, shape: Shape) -> Operator:
    """A chunk of a prompt attending causally to ``context`` tokens on average.

    2·tokens·context·heads·(score + value width) flop; queries and outputs move once, and the ``cached`` keys and
    values once per chunk, since their reuse stays on chip (FlashAttention-2, Dao 2023, arXiv 2307.08691, §3). Scores
    that are kept in memory are a whole rectangle, the masked half included.
    """
    scores = tokens * context * shape.heads
    rectangle = tokens * Smaller(s.isl, cached) * shape.heads
    return Operator(
        name="attention_prefill",
        flops=2 * scores * (shape.score_width + shape.value_width),
        part=CACHED,
        vector_flops=_SOFTMAX_FLOPS * scores,
        hbm_bytes=tokens * shape.heads * (shape.score_width + shape.value_width) * s.activation_bytes
        + cached * shape.cached_values * s.kv_bytes
        + spilled_bytes(rectangle),
        hand_off_bytes=_SCORE_VALUES * scores * s.activation_bytes,
        occupancy=_prefill_occupancy(tokens, shape.heads),
    )


def windowed_context(context: sympy.Expr, tokens: sympy.Expr, window: sympy.Expr) -> sympy.Expr:
    """Mean tokens that ``tokens`` of a prompt attend to when at most ``window`` are seen, ``context`` without a window.

    They stand from context − n/2 to context + n/2 with n = min(tokens, 2·context), and the token at x sees min(w, x):
    the mean is (G(x₁) − G(x₀))/n with G(x) = min(w, x)·(x − min(w, x)/2).
    """
    length = Smaller(tokens, 2 * context)

    def total(position: sympy.Expr) -> sympy.Expr:
        seen = Smaller(window, position)
        return seen * (position - seen / 2)

    first, last = context - length / 2, context + length / 2
    return either(tokens, either(context, (total(last) - total(first)) / length, 0), 0)


def select(
    sequences: sympy.Expr, queries: sympy.Expr, context: sympy.Expr, prefill_tokens: sympy.Expr, attended: sympy.Expr
) -> Operator:
    """Indexer of sparse attention: a light score of every cached token, of which the best k_i are kept.

    (DeepSeek-V3.2, arXiv 2512.02556, §2.1: a_i heads of width d_i against one shared key per token, in fp8.) It works
    on the whole context, so its cost still grows with length.
    """
    scores = (sequences * queries * context + prefill_tokens * attended) * s.index_heads
    return Operator(
        name="select_tokens",
        flops=2 * scores * s.index_dim,
        part=INDEX,
        vector_flops=2 * scores,  # rectify, and weigh by head
        hbm_bytes=sequences * context / s.cp * s.index_dim * s.index_bytes,
        hand_off_bytes=scores * s.activation_bytes,
    )


def linear_decode(sequences: sympy.Expr, queries: sympy.Expr, value_heads: sympy.Expr) -> Operator:
    """One step of the gated delta rule (arXiv 2412.06464, eq. 10): the state of every request is read and written.

    Its size does not depend on the context. Where drafts are verified, the state after each of them is kept, since a
    state cannot be taken back.
    """
    values = sequences * value_heads * s.delta_key_dim * s.delta_value_dim
    return Operator(
        name="linear_attention_decode",
        vector_flops=_STATE_FLOPS * values * queries,
        hbm_bytes=(1 + queries) * values * s.state_bytes,
        part=CACHED,
    )


def linear_prefill(tokens: sympy.Expr, value_heads: sympy.Expr) -> Operator:
    """The gated delta rule over chunks of 64 tokens (arXiv 2412.06464, §3.3): products within and with the state."""
    within = 2 * _DELTA_CHUNK * (2 * s.delta_key_dim + s.delta_value_dim)
    with_state = 6 * s.delta_key_dim * s.delta_value_dim
    width = value_heads * (2 * s.delta_key_dim + 2 * s.delta_value_dim)
    return Operator(
        name="linear_attention_prefill",
        flops=tokens * value_heads * (within + with_state),
        part=CACHED,
        hbm_bytes=tokens * width * s.activation_bytes,
    )
