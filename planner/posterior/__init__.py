"""What a calibration says about deployments: efficiencies by system and backend, residuals, and intervals."""

from planner.posterior.measured import NUMBERS, Measured, Support
from planner.posterior.place import COLUMNS, Place
from planner.posterior.posterior import Beliefs, Posterior
from planner.posterior.replica import CAUTIOUS, Replica

__all__ = [
    "CAUTIOUS", "COLUMNS", "NUMBERS", "Beliefs", "Measured", "Place", "Posterior", "Replica", "Support",
]  # fmt: skip
