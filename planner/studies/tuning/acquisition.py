"""Which trial to run next, and whether another is worth it.

Worth is sampled from what is believed of all candidates together. The gain of a trial is how much more than the best
measured worth its candidate has on average where it has more: expected improvement (Jones, Schonlau and Welch, J. of
Global Optimization 13, 1998, eq. 14), here over samples, since limits cut worth off. Trials are ranked by gain per
hour. What stopping now would lose is the expected regret: the best of all candidates in each sample, less the worth of
the one recommended.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from planner.posterior.joint import Joint
from planner.studies.tuning.outcomes import TPOT, TTFT, Outcomes
from planner.table import Floats, Ints

_SAMPLES = 512
_JITTER = 1e-9  # variance that keeps a covariance of rank less than its size positive


class Prospects(NamedTuple):
    """What is expected of C candidates.

    ``worth``, ``likely`` (C,): mean over samples, and the share of samples within all limits. ``gain`` (C,): expected
    improvement of a trial over the best measured. ``recommended``: the candidate of most expected worth. ``regret``:
    what recommending it is expected to lose.
    """

    worth: Floats
    likely: Floats
    gain: Floats
    recommended: int
    regret: float

    @property
    def relative_regret(self) -> float:
        """Expected regret over the worth of what is recommended; infinite where that is worth nothing."""
        expected = float(self.worth[self.recommended])
        return self.regret / expected if expected > 0 else np.inf


def prospects(
    joint: Joint, modelled: Floats, outcomes: Outcomes, possible: Ints, measured: Mapping[int, float], seed: int
) -> Prospects:
    """Return what is expected of candidates.

    Args:
        joint: what is believed of their residuals.
        modelled: their TTFT and TPOT by the cost model [s], shape (2, C).
        outcomes: what latencies are worth.
        possible: indices of candidates that may be run or recommended.
        measured: worth of candidates that were tried, which counts as it was measured.
        seed: of the samples; the same numbers are drawn after every trial, so that only what was learned changes.
    """
    count = modelled.shape[1]
    worth = np.zeros((_SAMPLES, count))
    worth[:, possible] = samples(joint, modelled, outcomes, seed)[:, possible]
    for tried, value in measured.items():
        worth[:, tried] = value
    expected = worth.mean(axis=0)
    gain = np.maximum(worth - max(measured.values(), default=0.0), 0.0).mean(axis=0)
    recommended = int(np.argmax(expected))
    regret = float(worth.max(axis=1).mean() - expected[recommended])
    return Prospects(expected, (worth > 0).mean(axis=0), gain, recommended, regret)


def samples(joint: Joint, modelled: Floats, outcomes: Outcomes, seed: int) -> Floats:
    """Return what candidates are worth in samples of their latencies, shape (samples, C)."""
    count = modelled.shape[1]
    normal = np.random.default_rng(seed).standard_normal((2, _SAMPLES, count))
    times = []
    for part in (TTFT, TPOT):
        root = np.linalg.cholesky(joint.covariance[part] + _JITTER * np.eye(count))
        times.append(modelled[part] * np.exp(joint.mean[part] + normal[part] @ root.T))
    return outcomes.worth(times[TTFT], times[TPOT])
