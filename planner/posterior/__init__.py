"""What a calibration says about deployments: efficiencies by system and backend, residuals, and intervals."""

from planner.posterior.posterior import COLUMNS, NUMBERS, Beliefs, Place, Posterior

__all__ = ["COLUMNS", "NUMBERS", "Beliefs", "Place", "Posterior"]
