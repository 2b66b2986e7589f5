"""Weights of the fullest pipeline stage, and parameter counts of the model."""

import sympy

from planner.costs import symbols as s
from planner.costs.structure import Structure


def stage_layers() -> sympy.Expr:
    """Layers of the largest stage: ⌈L/p⌉."""
    return sympy.ceiling(s.layers / s.pp)


def device_bytes(structure: Structure) -> sympy.Expr:
    """Weights [byte] of one device: quantised matrices, bf16 norms and routers, vocabulary matrices.

    Vocabulary matrices stay in bf16 (the default of quantised checkpoints) and are split by vocabulary.
    """
    quantised = structure.attention.parameters() + structure.ffn.parameters()
    unquantised = structure.attention.norm_parameters() + structure.ffn.unquantised_parameters()
    vocabulary = s.vocab_matrices * s.vocab * s.hidden / s.tp + s.hidden  # with the final normalisation
    return stage_layers() * (quantised * s.weight_bytes + unquantised * s.activation_bytes) + (
        vocabulary * s.activation_bytes
    )


def total_parameters(structure: Structure) -> sympy.Expr:
    """Parameters of the whole model: meaningful where tp = ep = 1."""
    attention, ffn = structure.attention, structure.ffn
    matrices = attention.parameters() + ffn.parameters()
    others = attention.norm_parameters() + ffn.unquantised_parameters()
    return s.layers * (matrices + others) + s.vocab_matrices_total * s.vocab * s.hidden + s.hidden


def active_parameters(structure: Structure) -> sympy.Expr:
    """Parameters one token passes through, vocabulary matrices included: meaningful where tp = ep = 1."""
    inactive = structure.ffn.parameters() - structure.ffn.active_parameters()
    return total_parameters(structure) - s.layers * inactive
