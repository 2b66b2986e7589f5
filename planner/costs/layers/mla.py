"""Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, §2.1).

Heads are split over tensor-parallel devices; the down-projections and the cached latent are whole on each of them.
Decode works on the latent (absorbed), prefill on keys and values projected up from it.
"""

from dataclasses import replace

import sympy

from planner.costs import symbols as s
from planner.costs.functions import either
from planner.costs.fusions import norm_in_all_reduce
from planner.costs.operators.attention import Shape, context_exchange, decode, prefill
from planner.costs.operators.collective import all_reduce
from planner.costs.operators.gemm import linear
from planner.costs.operators.norm import rms_norm
from planner.costs.tiles import tiled
from planner.costs.work import ATTENTION_WEIGHTS, ONE, UNQUANTISED, ZERO, Batch, Layer, Operator

COUNT = s.mla_layers


def heads() -> sympy.Expr:
    """Heads of one device."""
    return s.heads / s.tp


def latent_width() -> sympy.Expr:
    """Values cached per token and layer: the compressed keys and values, and the shared part with position."""
    return s.latent_rank + s.rope_dim


def absorbed() -> Shape:
    """Decode against the latent: keys and values are one cached vector."""
    return Shape(heads(), latent_width(), s.latent_rank, latent_width())


def expanded() -> Shape:
    """Prefill against keys and values projected up, written and read once."""
    key_width = s.nope_dim + s.rope_dim
    return Shape(heads(), key_width, s.value_dim, heads() * (key_width + s.value_dim))


def layer(batch: Batch) -> Layer:
    """Down- and up-projections, attention in both forms, output projection, all-reduce."""
    kernels = (
        decode(batch.decoding, batch.queries, batch.decode_context, absorbed()),
        prefill(batch.prefill, batch.prefill_context, batch.prefill_cached, expanded()),
    )
    return projected("mla", batch, kernels)


def projected(
    name: str, batch: Batch, kernels: tuple[Operator, ...], floor: sympy.Expr = ZERO, *, expands: bool = True
) -> Layer:
    """Put the projections, norms and collectives of latent attention around its kernels.

    ``expands``: whether prefill works on keys and values projected up, or absorbed like decode.
    """
    rows = batch.tokens
    prolog = (
        rms_norm("attention_norm", rows, s.hidden, norm_in_all_reduce(batch)),
        linear("down_projection", rows, s.hidden, s.query_rank + latent_width(), ATTENTION_WEIGHTS, batch.spread),
        rms_norm("latent_norm", rows, s.query_rank + s.latent_rank),
        linear("query_projection", rows, _query_inputs(), _query_width(), ATTENTION_WEIGHTS, batch.spread),
        *_up_projections(batch, expands=expands),
    )
    return Layer(
        name=name,
        operators=(
            *(_in_prolog(operator, first=i == 0) for i, operator in enumerate(prolog)),
            *kernels,
            context_exchange(batch.decoding * batch.queries, absorbed()),
            linear("output_projection", rows, heads() * s.value_dim, s.hidden, ATTENTION_WEIGHTS, batch.spread),
            all_reduce("attention_all_reduce", rows * s.hidden * s.activation_bytes),
        ),
        floor=s.mla_floor + floor + 4 * s.attention_narrow * s.quantise_floor,
    )


def _up_projections(batch: Batch, *, expands: bool) -> tuple[Operator, ...]:
    """The two halves of the up-projection, absorbed for rows that decode; the whole of it for the prompt's latent.

    Absorbed, a head's queries go to the latent's width and its result comes back from there: batched products with
    weights that engines unpack to 16 bit (vLLM keeps W_UK and W_UV beside the quantised projection). Prefill expands
    the latent of the chunks before it, too.
    """
    rows, cached = batch.tokens - batch.prefill if expands else batch.tokens, batch.prefill_cached
    weights = s.latent_rank * heads() * (s.nope_dim + s.value_dim)
    moved = rows * heads() * (s.nope_dim + s.value_dim + 2 * s.latent_rank)
    unpacked = either(rows, weights * s.activation_bytes, 0)
    absorbing = Operator(
        "absorbed_projections",
        flops=2 * tiled(rows) * weights,
        part=UNQUANTISED,
        hbm_bytes=unpacked + moved * s.activation_bytes,
        weight_bytes=unpacked,
    )
    if not expands:
        return (absorbing,)
    expanding = linear(
        "kv_up_projection", cached, s.latent_rank, heads() * (s.nope_dim + s.value_dim), ATTENTION_WEIGHTS
    )
    read = either(cached, expanding.weight_bytes, 0)
    bytes_read = expanding.hbm_bytes - expanding.weight_bytes + read
    return absorbing, replace(expanding, hbm_bytes=bytes_read, weight_bytes=read)


def _in_prolog(operator: Operator, *, first: bool) -> Operator:
    """One kernel for everything before attention leaves one launch (MLAProlog, CloudMatrix384, arXiv 2506.12708)."""
    launched = operator.launched if first else operator.launched * (ONE - s.mla_prolog)
    return replace(operator, launched=launched)


def _query_width() -> sympy.Expr:
    return heads() * (s.nope_dim + s.rope_dim)


def _query_inputs() -> sympy.Expr:
    """Queries come from their compressed form, or straight from the residual stream."""
    return either(s.query_rank, s.query_rank, s.hidden)


def cached_bytes(tokens: sympy.Expr) -> sympy.Expr:
    """Cache of a request of ``tokens`` in one layer of one device [byte]: t does not divide it, c does."""
    return tokens * latent_width() * s.kv_bytes / s.cp


def parameters() -> sympy.Expr:
    """Weights of the projections on one device."""
    down = s.hidden * (s.query_rank + latent_width())
    up = s.latent_rank * heads() * (s.nope_dim + s.value_dim)
    return down + _query_inputs() * _query_width() + up + heads() * s.value_dim * s.hidden


def unpacked_parameters() -> sympy.Expr:
    """Weights that engines keep a second time, in 16 bit: the up-projection, for the absorbed form."""
    return s.latent_rank * heads() * (s.nope_dim + s.value_dim)


def context_width() -> sympy.Expr:
    """Values alive per token of the context that a prompt's chunk expands at a time: latent, keys and values."""
    return latent_width() + heads() * (s.nope_dim + s.value_dim)


def norm_parameters() -> sympy.Expr:
    """Weights of the normalisations, whole on every device."""
    return s.hidden + s.query_rank + s.latent_rank + s.attention_bias_width


def state_bytes() -> sympy.Expr:
    """Bytes a request holds whatever its length: none."""
    return ZERO
