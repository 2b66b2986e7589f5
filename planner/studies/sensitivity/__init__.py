"""What would change a plan: one number at a time, and everything at once."""

from planner.studies.sensitivity.answer import Map, Robustness, Sensitivity
from planner.studies.sensitivity.study import sensitivity
from planner.studies.sensitivity.sweep import Backend

__all__ = ["Backend", "Map", "Robustness", "Sensitivity", "sensitivity"]
