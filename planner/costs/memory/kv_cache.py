"""KV cache in blocks (PagedAttention, Kwon et al., SOSP 2023, §4), windows and states."""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import either
from planner.costs.structure import Structure, drafting, in_stage
from planner.costs.work import ZERO


def request_bytes(structure: Structure, tokens: sympy.Expr) -> sympy.Expr:
    """What one request of ``tokens`` holds on one device of the largest stage [byte]."""
    kinds = structure.attention_kinds
    return sum(
        ((in_stage(k) + drafting(k, kinds)) * (k.cached_bytes(tokens) + k.state_bytes()) for k in kinds), ZERO
    )  # fmt: skip


def token_bytes(structure: Structure) -> sympy.Expr:
    """What one more token adds on one device of the largest stage while no window is full [byte]."""
    kinds = structure.attention_kinds
    return sum((in_stage(k) * k.cached_bytes(sympy.Integer(1)) for k in kinds), ZERO)


def blocks(tokens: sympy.Expr) -> sympy.Expr:
    """Tokens reserved for a request that holds ``tokens``: whole blocks."""
    return s.block_size * sympy.ceiling(tokens / s.block_size)


def reserved_bytes(structure: Structure) -> sympy.Expr:
    """What a request may come to hold on one device [byte]: its blocks, or room for the longest from the start."""
    return request_bytes(structure, either(s.whole_reserved, blocks(s.longest), blocks(s.isl + s.osl)))


def mean_tokens() -> sympy.Expr:
    """Tokens a decoding request holds on average: its prompt, half its output, and half a block unused."""
    return s.isl + s.osl / 2 + s.block_size / 2


def likely_bytes(structure: Structure, prefilling: sympy.Expr, dispersion: sympy.Expr) -> sympy.Expr:
    """Cache that suffices at ``occupancy_sigmas`` standard deviations above the mean, on one device [byte].

    b/d requests run per attention rank on average, each at a uniformly random point of its output, so their sizes K sum
    to a compound number: mean b·E[K], variance b·V·E[K²] with V the variance over mean of their count, and
    E[K²] = E[K]² + (n_o·size of a token)²/12; half a block of each is unused. Prompts being prefilled hold their whole
    length.
    """
    running = s.running / s.dp
    mean = request_bytes(structure, mean_tokens())
    square = mean**2 + (s.osl * token_bytes(structure)) ** 2 / 12
    spread = s.occupancy_sigmas * sympy.sqrt(running * dispersion * square)
    return running * mean + spread + prefilling * request_bytes(structure, blocks(s.isl))


def needed_bytes(structure: Structure, slots: sympy.Expr, prefilling: sympy.Expr, dispersion: sympy.Expr) -> sympy.Expr:
    """Cache that is rarely exceeded on one device [byte]: as likely, or a reservation for each of ``slots``."""
    likely = likely_bytes(structure, prefilling, dispersion)
    return either(s.whole_reserved, slots * reserved_bytes(structure), likely)
