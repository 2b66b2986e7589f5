"""What would change a plan: one number at a time, everything at once, and what its calibration is unsure of."""

from planner.studies.sensitivity.answer import Map, Sensitivity
from planner.studies.sensitivity.likely import Kept, Likely
from planner.studies.sensitivity.robustness import Robustness
from planner.studies.sensitivity.study import LIKELY_SAMPLES, likely, sensitivity
from planner.studies.sensitivity.sweep import Backend

__all__ = ["LIKELY_SAMPLES", "Backend", "Kept", "Likely", "Map", "Robustness", "Sensitivity", "likely", "sensitivity"]
