"""Matrix products with weights."""

import sympy

from planner.costs import symbols as s
from planner.costs.tiles import tiled
from planner.costs.work import UNQUANTISED, ZERO, Operator, Part


def linear(
    name: str, rows: sympy.Expr, inputs: sympy.Expr, outputs: sympy.Expr, part: Part, spread: sympy.Expr = ZERO
) -> Operator:
    """Product of ``rows`` tokens, give or take ``spread``, with an inputs×outputs weight stored as ``part`` says.

    2·m·n·k flop on whole tiles; every weight is read once and every activation is read or written once
    (roofline of Williams et al., CACM 2009, applied per product as in LLM-Viewer, arXiv 2402.16363, §3).
    """
    weights = inputs * outputs * part.weight_bytes
    return Operator(
        name=name,
        flops=2 * tiled(rows, spread) * inputs * outputs,
        part=part,
        hbm_bytes=weights + rows * (inputs + outputs) * s.activation_bytes,
        weight_bytes=weights,
    )


def unquantised(name: str, rows: sympy.Expr, inputs: sympy.Expr, outputs: sympy.Expr) -> Operator:
    """The same product with a weight that stays in bf16 (router, head)."""
    return linear(name, rows, inputs, outputs, UNQUANTISED)
