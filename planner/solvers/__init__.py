"""Thin adapters from a `Milp` to solver libraries; one file each."""

from planner.registry import by_name
from planner.solvers.highs import HIGHS

SOLVERS = by_name((HIGHS,))
