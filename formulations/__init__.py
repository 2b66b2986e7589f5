"""The optimisation problems, one file each; they see numbers, never physics."""

from formulations.serving import SERVING
from planner.registry import by_name

FORMULATIONS = by_name((SERVING,))
