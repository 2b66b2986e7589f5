"""Collectives in the alpha-beta model."""

import sympy

from planner.costs import symbols as s
from planner.costs.work import Operator


def all_reduce(name: str, size: sympy.Expr) -> Operator:
    """All-reduce of ``size`` byte over the tensor-parallel group.

    Each device sends 2·(t−1)/t·size byte (ring bound; Thakur et al., IJHPCA 2005, §4.3); the latency
    grows with the depth of the tree, α·(½ + log₂(t)/4), so that α is the latency over 4 devices. Nothing is
    sent in a group of one: there α is 0 and t − 1 is 0.
    """
    return Operator(
        name=name,
        link_bytes=2 * (s.tp - 1) / s.tp * size,
        link_latency=s.tp_latency * (sympy.Rational(1, 2) + sympy.log(s.tp, 2) / 4),
    )


def all_gather(name: str, size: sympy.Expr) -> Operator:
    """All-gather to ``size`` byte on every device: (t−1)/t·size byte sent (Thakur et al., §4.1)."""
    return Operator(
        name=name,
        link_bytes=(s.tp - 1) / s.tp * size,
        link_latency=s.tp_latency * (sympy.Rational(1, 2) + sympy.log(s.tp, 2) / 4),
    )


def send(name: str, size: sympy.Expr) -> Operator:
    """Hand-over of ``size`` byte to the next pipeline stage; nothing with one stage, where α is 0."""
    return Operator(
        name=name,
        link_bytes=size * sympy.Piecewise((0, s.pp <= 1), (1, True)),
        link_rate=s.pp_bandwidth,
        link_latency=s.pp_latency,
    )
