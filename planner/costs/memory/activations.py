"""Activations alive at once in the widest operator of a full step."""

import sympy

from planner.costs import symbols as s
from planner.costs.structure import Structure


def bytes_per_token(structure: Structure) -> sympy.Expr:
    """Peak per token of the budget, as engines measure it before sizing the KV cache [byte].

    The residual stream and its normalised copy, and the workspace of the feed-forward layer.
    """
    return (2 * s.hidden + structure.ffn.workspace_width()) * s.activation_bytes


def bytes_per_request() -> sympy.Expr:
    """A row of logits, gathered on every device, and its copy for sampling [byte]."""
    return s.vocab * s.logit_bytes
