"""A smooth roofline: compute and memory traffic overlap, but not perfectly."""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.work import ZERO, Operator


@dataclass(frozen=True, slots=True)
class Seconds:
    """Time of an operator, and what each resource alone would need [s]."""

    total: sympy.Expr
    compute: sympy.Expr
    hbm: sympy.Expr
    link: sympy.Expr
    latency: sympy.Expr


def overlap(left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
    """Combine two times that overlap: (x³ + y³)^⅓ is within 26 % of max(x, y) and equals it far from the ridge."""
    if left == ZERO or right == ZERO:
        return left + right
    return sympy.cbrt(left**3 + right**3)


def seconds(operator: Operator) -> Seconds:
    """Time of one operator: flop and bytes overlap, communication follows.

    Williams et al., CACM 2009 (roofline); datasheet rates times the efficiencies of the operator.
    """
    compute = operator.flops / (operator.rate * operator.mfu)
    hbm = operator.hbm_bytes / (s.hbm_bandwidth * operator.mbu)
    link = operator.link_bytes / (operator.link_rate * s.link_efficiency)
    return Seconds(
        total=overlap(compute, hbm) + link + operator.link_latency,
        compute=compute,
        hbm=hbm,
        link=link,
        latency=operator.link_latency,
    )
