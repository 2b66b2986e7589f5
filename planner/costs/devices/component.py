"""Component roofline of Ascend devices: Cube, Vector and the transfer engines have queues of their own.

Different components run in parallel, so an operator takes the slowest of them, plus what cannot overlap: Cube and
Vector are separate cores, and what one makes for the other passes through the L2 cache (component roofline, ASPLOS
2025: T ≥ max over components of work over rate; hand-offs are the serial part).
"""

from collections.abc import Iterable

import sympy

from planner.costs import symbols as s
from planner.costs.devices.seconds import Seconds, combined, matrix_seconds, memory_seconds, vector_seconds
from planner.costs.functions import Larger
from planner.costs.work import ZERO, Operator


def seconds(operator: Operator) -> Seconds:
    """Time of one operator: the slowest component, then the hand-offs, then communication."""
    hand_off = operator.hand_off_bytes / s.hand_off
    vector = vector_seconds(operator)
    slowest = Larger(matrix_seconds(operator), Larger(vector, memory_seconds(operator)))
    return combined(operator, slowest + hand_off, vector + hand_off)


def mean_rate(parts: Iterable[tuple[sympy.Expr, sympy.Expr]]) -> sympy.Expr:
    """Rate of a component on mixed work, given (work, rate) of each precision or path: I = ΣO / Σ(O/P).

    The harmonic mean weighted by work (component roofline, ASPLOS 2025); operators here run in one precision each.
    """
    shares = list(parts)
    return sum((work for work, _ in shares), ZERO) / sum((work / rate for work, rate in shares), ZERO)
