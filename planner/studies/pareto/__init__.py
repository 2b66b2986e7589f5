"""The frontier: every plan that nothing beats in two or three metrics at once."""

from planner.studies.pareto.frontier import Frontier, Point
from planner.studies.pareto.study import MOST_POINTS, pareto

__all__ = ["MOST_POINTS", "Frontier", "Point", "pareto"]
