"""Matrix products with weights."""

import sympy

from planner.costs import symbols as s
from planner.costs.work import Operator


def linear(name: str, rows: sympy.Expr, inputs: sympy.Expr, outputs: sympy.Expr) -> Operator:
    """Product of ``rows`` tokens with an inputs×outputs weight at the weights' precision.

    2·m·n·k flop; every weight is read once and every activation is read or written once
    (roofline of Williams et al., CACM 2009, applied per product as in LLM-Viewer, arXiv 2402.16363, §3).
    """
    return Operator(
        name=name,
        flops=2 * rows * inputs * outputs,
        rate=s.gemm_flops,
        mfu=s.mfu_gemm,
        hbm_bytes=inputs * outputs * s.weight_bytes + rows * (inputs + outputs) * s.activation_bytes,
        mbu=s.mbu_weights,
    )


def unquantised(name: str, rows: sympy.Expr, inputs: sympy.Expr, outputs: sympy.Expr) -> Operator:
    """The same product with a weight that stays in bf16 (router, head)."""
    return Operator(
        name=name,
        flops=2 * rows * inputs * outputs,
        rate=s.bf16_flops,
        mfu=s.mfu_head,
        hbm_bytes=(inputs * outputs + rows * (inputs + outputs)) * s.activation_bytes,
        mbu=s.mbu_activations,
    )
