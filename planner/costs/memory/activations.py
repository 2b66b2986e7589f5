"""Activations alive at once in the widest operator of a full step."""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, either
from planner.costs.structure import Structure
from planner.costs.work import ZERO


def bytes_per_token(structure: Structure) -> sympy.Expr:
    """Peak per token of the budget, as engines measure it before sizing the KV cache [byte].

    The residual stream and its normalised copy, and the workspace of the widest feed-forward layer; where experts are
    sent every token of every attention rank, these tokens and their results; where scores are
    kept in memory, a row of them per head and its probabilities, as long as the longest request (so N² for N tokens).
    """
    widths = [kind.workspace_width() for kind in structure.ffn_kinds]
    widest = widths[0]
    for width in widths[1:]:
        widest = Larger(widest, width)
    scores = either(s.score_passes, 2 * s.heads / s.tp * s.longest, 0)
    gathered = either(s.dp - 1, either(s.all_to_all, 0, 2 * s.dp * s.hidden), 0) if "moe" in structure.ffn else ZERO
    return (2 * s.hidden + widest + scores + gathered) * s.activation_bytes


def context_bytes(structure: Structure) -> sympy.Expr:
    """Workspace for the context that chunks of long prompts read again, where it is expanded first [byte]."""
    widest = sum((kind.context_width() for kind in structure.attention_kinds), ZERO)
    return s.context_workspace * widest * s.activation_bytes


def bytes_per_request() -> sympy.Expr:
    """A row of logits, gathered on every device, and its copy for sampling [byte]."""
    return s.vocab * s.logit_bytes
