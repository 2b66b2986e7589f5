"""Normalisation and other element-wise operators: bytes, and a few operations per value on the vector units."""

import sympy

from planner.costs import symbols as s
from planner.costs.work import ONE, ZERO, Operator

_NORM_FLOPS = 6  # add, square, sum, scale, weight, cast: per value
_GATED = sympy.Integer(3)
_GATE_FLOPS = 6  # exponential, add, divide, two products, cast: per value


def rms_norm(name: str, rows: sympy.Expr, width: sympy.Expr, fused: sympy.Expr = ZERO) -> Operator:
    """RMS normalisation together with the residual addition: two tensors in, two out.

    Element-wise operators are bound by bandwidth on every device here (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4
    for the operation). ``fused`` (1 or 0) with the all-reduce before it, the sum arrives in registers: half the bytes
    and no launch of its own.
    """
    return Operator(
        name=name,
        vector_flops=_NORM_FLOPS * rows * width,
        hbm_bytes=(4 - 2 * fused) * rows * width * s.activation_bytes,
        launched=ONE - fused,
    )


def gated_activation(rows: sympy.Expr, width: sympy.Expr, tensors: sympy.Expr = _GATED) -> Operator:
    """SwiGLU between the two feed-forward products: gate and up in, one tensor out (arXiv 2002.05202, eq. 5).

    ``tensors`` is 2 for a plain activation: one in, one out. The values come from the matrix units and return there.
    """
    return Operator(
        name="activation",
        vector_flops=_GATE_FLOPS * rows * width,
        hbm_bytes=tensors * rows * width * s.activation_bytes,
        hand_off_bytes=tensors * rows * width * s.activation_bytes,
    )
