"""Fits efficiencies to measurements, and tells how far off predictions are."""

from planner.calibrate.calibrate import calibrate
from planner.calibrate.measurements import Measurements, read_measurements

__all__ = ["Measurements", "calibrate", "read_measurements"]
