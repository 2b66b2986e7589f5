"""How a pipeline splits layers."""

import sympy

from planner.costs import symbols as s


def stage_layers() -> sympy.Expr:
    """Layers of the largest stage: ⌈L/p⌉."""
    return sympy.ceiling(s.layers / s.pp)


def stage_share() -> sympy.Expr:
    """Share of the model's layers in the largest stage."""
    return stage_layers() / s.layers
