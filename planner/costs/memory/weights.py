"""Weights of the fullest pipeline stage, and parameter counts of the model."""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import either
from planner.costs.structure import Structure, drafting, in_stage
from planner.costs.work import ZERO


def device_bytes(structure: Structure) -> sympy.Expr:
    """Weights [byte] of one device: quantised matrices, bf16 norms and routers, vocabulary matrices.

    Vocabulary matrices stay in bf16 (the default of quantised checkpoints) and are split by vocabulary. A draft module
    of the model's own (MTP) adds a layer, and a product of two residual streams with one.
    """
    total = ZERO
    for kind in structure.attention_kinds:
        count = in_stage(kind) + drafting(kind, structure.attention_kinds)
        in_16_bit = kind.norm_parameters() + kind.unpacked_parameters()
        total += count * (kind.parameters() * s.attention_weight_bytes + in_16_bit * s.activation_bytes)
    for kind in structure.ffn_kinds:
        count = in_stage(kind) + drafting(kind, structure.ffn_kinds)
        total += count * (
            kind.ffn_parameters() * s.ffn_weight_bytes
            + kind.expert_parameters() * s.expert_weight_bytes
            + kind.unquantised_parameters() * s.activation_bytes
        )
    merge = s.draft_layers * 2 * s.hidden * s.hidden / s.tp
    vocabulary = (s.vocab_matrices * s.vocab + s.positions) * s.hidden / s.tp + s.norm_vectors * s.hidden
    return total + (vocabulary + merge) * s.activation_bytes


def total_parameters(structure: Structure) -> sympy.Expr:
    """Parameters of the whole model, draft modules left out: meaningful where tp = ep = dp = 1."""
    attention = sum((k.COUNT * (k.parameters() + k.norm_parameters()) for k in structure.attention_kinds), ZERO)
    ffn = sum(
        (k.COUNT * (k.ffn_parameters() + k.expert_parameters() + k.unquantised_parameters())
         for k in structure.ffn_kinds),
        ZERO,
    )  # fmt: skip
    vocabulary = s.vocab_matrices_total * s.vocab + s.positions + s.norm_vectors
    return attention + ffn + vocabulary * s.hidden


def active_parameters(structure: Structure) -> sympy.Expr:
    """Parameters one token passes through, vocabulary matrices included: meaningful where tp = ep = dp = 1."""
    inactive = sum((k.COUNT * k.inactive_parameters() for k in structure.ffn_kinds), ZERO)
    return total_parameters(structure) - inactive - either(s.positions, (s.positions - 1) * s.hidden, 0)
