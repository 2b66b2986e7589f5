"""Normalisation and other element-wise operators: bytes only."""

import sympy

from planner.costs import symbols as s
from planner.costs.work import Operator


def rms_norm(name: str, rows: sympy.Expr, width: sympy.Expr) -> Operator:
    """RMS normalisation fused with the residual addition: two tensors in, two out.

    Element-wise operators are bound by bandwidth on every device here
    (Zhang & Sennrich 2019, arXiv 1910.07467, eq. 4 for the operation).
    """
    return Operator(name=name, hbm_bytes=4 * rows * width * s.activation_bytes)


def gated_activation(rows: sympy.Expr, width: sympy.Expr) -> Operator:
    """SwiGLU between the two feed-forward products: gate and up in, one tensor out (arXiv 2002.05202, eq. 5)."""
    return Operator(name="gated_activation", hbm_bytes=3 * rows * width * s.activation_bytes)
