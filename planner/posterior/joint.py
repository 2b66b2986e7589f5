"""What is believed of several deployments together, and how one measured run changes it.

Residuals are logarithms of measured over modelled times. Each deployment's is a draw of the process plus a part of its
own (the noise of the calibration, which repeats when the same deployment is measured again). A run then tells of all
others by conditioning alone: a rank-one change (Rasmussen and Williams, 2006, eq. 2.25 and 2.26 for one row).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.posterior.process import Inputs, Kernel, Spread, covariance, mean
from planner.table import Floats


class Joint(NamedTuple):
    """Residuals of C deployments: ``mean`` (2, C) and ``covariance`` (2, C, C), of TTFT and of TPOT."""

    mean: Floats
    covariance: Floats

    @property
    def deviation(self) -> Floats:
        """Standard deviations, shape (2, C)."""
        found: Floats = np.sqrt(np.maximum(np.diagonal(self.covariance, axis1=1, axis2=2), 0.0))
        return found


def of_spreads(spreads: Sequence[Spread], rows: Inputs) -> Joint:
    """Return what processes that were conditioned on measured rows say of others."""
    own = [s.joint(rows) + s.process.kernel.noise**2 * np.eye(rows.load.shape[1]) for s in spreads]
    return Joint(np.array([mean(s.process, rows) for s in spreads]), np.array(own))


def of_kernels(kernels: Sequence[Kernel], rows: Inputs) -> Joint:
    """Return what is expected before anything was measured."""
    count = rows.load.shape[1]
    own = [covariance(kernel, rows, rows) + kernel.noise**2 * np.eye(count) for kernel in kernels]
    return Joint(np.zeros((len(kernels), count)), np.array(own))


def observed(joint: Joint, row: int, residuals: Floats, repeat: Floats) -> Joint:
    """Return what is believed after one of the rows was measured.

    Args:
        joint: what was believed before.
        row: the one measured.
        residuals: logarithms of measured over modelled TTFT and TPOT, shape (2,).
        repeat: standard deviations of the same run measured again, shape (2,).
    """
    own = joint.covariance[:, row, row] + repeat**2
    gain = joint.covariance[:, :, row] / own[:, None]
    moved = joint.mean + gain * (residuals - joint.mean[:, row])[:, None]
    return Joint(moved, joint.covariance - gain[:, :, None] * joint.covariance[:, row, None, :])
