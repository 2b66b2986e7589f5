"""KV cache in blocks (PagedAttention, Kwon et al., SOSP 2023, §4)."""

import sympy

from planner.costs import symbols as s
from planner.costs.memory.weights import stage_layers
from planner.costs.structure import Structure


def bytes_per_token(structure: Structure) -> sympy.Expr:
    """What one token leaves in the cache of one device of the largest stage [byte]."""
    return stage_layers() * structure.attention.cached_values() * s.kv_bytes


def blocks(tokens: sympy.Expr) -> sympy.Expr:
    """Tokens reserved for a request that holds ``tokens``: whole blocks."""
    return s.block_size * sympy.ceiling(tokens / s.block_size)


def likely_tokens(prefilling: sympy.Expr, dispersion: sympy.Expr) -> sympy.Expr:
    """Cached tokens that suffice at ``occupancy_sigmas`` standard deviations above the mean.

    b requests run on average, each at a uniformly random point of its output, so their lengths K sum to a
    compound number: mean b·E[K], variance b·V·E[K²] with V the variance over mean of their count,
    E[K] = n_i + n_o/2 and E[K²] = E[K]² + n_o²/12; half a block of each is unused. Prompts being prefilled hold
    their whole length.
    """
    mean = s.isl + s.osl / 2 + s.block_size / 2
    square = mean**2 + s.osl**2 / 12
    return (
        s.running * mean + s.occupancy_sigmas * sympy.sqrt(s.running * dispersion * square) + prefilling * blocks(s.isl)
    )
