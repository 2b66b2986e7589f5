"""Time of an operator, and what each resource alone would need."""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.work import Operator


@dataclass(frozen=True, slots=True)
class Seconds:
    """Times [s]: ``total``, and by resource. ``hand_off`` is part of ``vector``; ``device`` leaves links out."""

    total: sympy.Expr
    device: sympy.Expr
    compute: sympy.Expr
    vector: sympy.Expr
    hbm: sympy.Expr
    link: sympy.Expr
    latency: sympy.Expr


def matrix_seconds(operator: Operator) -> sympy.Expr:
    """Matrix units: flop over the datasheet rate times the share reached, of the cores that have work."""
    return operator.flops / (operator.part.rate * operator.part.mfu * operator.occupancy)


def vector_seconds(operator: Operator) -> sympy.Expr:
    """Vector units: element-wise flop over their rate times the share reached, of the cores that have work."""
    return operator.vector_flops / (s.vector_flops * s.vector_share * operator.occupancy)


def memory_seconds(operator: Operator) -> sympy.Expr:
    """Device memory: bytes over the datasheet bandwidth times the share reached."""
    return operator.hbm_bytes / (s.hbm_bandwidth * operator.part.mbu)


def link_seconds(operator: Operator) -> sympy.Expr:
    """Links: near bytes and far bytes one after the other, as a hierarchical collective moves them."""
    traffic = operator.traffic
    return (traffic.near_bytes / traffic.near_rate + traffic.far_bytes / traffic.far_rate) / s.link_efficiency


def combined(operator: Operator, device: sympy.Expr, vector: sympy.Expr) -> Seconds:
    """Put communication after the device's own time."""
    link = link_seconds(operator)
    return Seconds(
        total=device + link + operator.traffic.latency,
        device=device,
        compute=matrix_seconds(operator),
        vector=vector,
        hbm=memory_seconds(operator),
        link=link,
        latency=operator.traffic.latency,
    )
