"""Steps in which a latency counts where it is a goal."""

import numpy as np

from planner.table import Floats

STEP = 1.1
_SMALLEST = 1e-6  # second
_ROUNDING = 1e-9


def level(seconds: Floats) -> Floats:
    """Return the smallest step, 1 µs · 1.1^k, that a latency [s] does not exceed; 0 stays 0.

    A goal of the worst latency weighs plans against each other: differences finer than 10 % are within the model's
    error, and would leave nearly every configuration incomparable with every other.
    """
    with np.errstate(divide="ignore"):
        ratio = np.asarray(seconds, dtype=np.float64) / _SMALLEST
        steps = np.ceil(np.log(ratio) / np.log(STEP) - _ROUNDING)
    return np.where(np.asarray(seconds) > 0, _SMALLEST * STEP**steps, 0.0)
