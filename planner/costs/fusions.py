"""Where fusions and overlaps take effect: 1 or 0 for a step, from an engine's switches and its conditions on them.

The switches are symbols; what each changes stands with the operators it concerns and in ``overlaps``. The conditions
are data (planner/engines): tokens of a step, steps with prompts, groups of more than one device.
"""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import either
from planner.costs.work import Batch

_HALF = sympy.Rational(1, 2)  # between two whole numbers of tokens


def _at_most(tokens: sympy.Expr, most: sympy.Expr) -> sympy.Expr:
    return either(most + _HALF - tokens, 1, 0)


def norm_in_all_reduce(batch: Batch) -> sympy.Expr:
    """All-reduce and normalisation as one kernel, where there is an all-reduce."""
    return s.fused_norm * either(s.tp - 1, 1, 0) * _at_most(batch.tokens, s.fused_norm_most)


def all_reduce_in_experts(batch: Batch) -> sympy.Expr:
    """The experts' sum, the all-reduce after it and the normalisation as one kernel."""
    return s.fused_moe_reduce * either(s.tp - 1, 1, 0) * _at_most(batch.tokens, s.fused_moe_most)


def matmul_behind_all_reduce(batch: Batch) -> sympy.Expr:
    """A product and its all-reduce at the same time: in large steps, or in steps with prompts only."""
    large = _at_most(s.overlap_least, batch.tokens)
    return s.overlap_matmul * large * either(s.overlap_prompts, either(batch.prefill, 1, 0), 1)


def shared_beside_routed(batch: Batch) -> sympy.Expr:
    """Shared experts in a second stream, in small steps."""
    return s.shared_overlap * _at_most(batch.tokens, s.shared_most)


def half_batches(batch: Batch) -> sympy.Expr:
    """Two half batches in turn, where the step is large enough to be cut."""
    return s.dual_batch * _at_most(s.dual_least, batch.tokens)
