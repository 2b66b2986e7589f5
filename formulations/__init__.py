"""The optimisation problems, one file each; they see numbers, never physics."""

from collections.abc import Mapping

from formulations.serving import SERVING
from planner.problem import Formulation
from planner.registry import by_name

FORMULATIONS: Mapping[str, Formulation] = by_name((SERVING,))
