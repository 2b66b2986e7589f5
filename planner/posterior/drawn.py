"""What a calibration leaves unexplained, drawn: how far off the times of each division of a model are, together.

Divisions of one model on one device under one engine share most of what is unknown of them. That part is drawn once,
as the covariance of two divisions that were never measured; what each division has of its own comes on top (a Cholesky
factor with the shared parts first; for indices of dependent inputs see Mara and Tarantola, Reliab. Eng. Syst. Saf. 107,
2012). Widths are those of held-out errors.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from planner.posterior.measured import Measured
from planner.posterior.place import Place
from planner.posterior.replica import Replica
from planner.schema.calibration import MEDIAN
from planner.table import FORMAT_NAMES, Floats

Division = tuple[int, int, int, int, int]  # weight format, tp, pp, attention_dp, ep
_UNHEARD = 1 << 20  # a degree that nothing measured has
_ROUNDING = 1e-12  # of a variance


def mixing(measured: Measured, latency: str, shared: Sequence[Place], own: Sequence[Place]) -> Floats:
    """Return how independent standard normals mix into logarithms of measured over expected times, shape (K, K).

    K: what divisions share at each of the places ``shared``, then all of each division at its place in ``own``. The
    rows that follow have what the rows before leave unknown as their last part.
    """
    twins = [[place._replace(ep=_UNHEARD + twin) for place in shared] for twin in range(2)]
    joint = measured.joint(latency, [*twins[0], *own, *twins[1]])
    count, size = len(shared), len(shared) + len(own)
    found = joint[:size, :size].copy()
    of_twins = np.diag(joint[:count, size:])
    np.fill_diagonal(found[:count, :count], of_twins)
    beyond = np.array([measured.support(place).doublings for place in own]) * measured.intervals.beyond
    found[range(count, size), range(count, size)] += beyond**2
    values, vectors = np.linalg.eigh(found)
    root = vectors * np.sqrt(np.maximum(values, _ROUNDING * values.max(initial=0.0)))
    # QR of a square root is a Cholesky factor that rounding cannot break.
    factor = np.asarray(np.linalg.qr(root.T, mode="r")).T
    return np.asarray(factor * np.sign(np.where(np.diag(factor) == 0, 1.0, np.diag(factor))))


class Drawn(Replica):
    """Replicas whose times are off by what was drawn, from the expected ones.

    ``off``: logarithms of TTFT and of TPOT by division, in widths of a normal distribution; ``rest``: of all others.
    """

    def __init__(
        self, replica: Replica, off: Mapping[Division, tuple[float, float]], rest: tuple[float, float]
    ) -> None:
        super().__init__(replica.measured, replica.place, replica.role, MEDIAN)
        self._off, self._rest = off, rest

    def scales(self, axes: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return ``step_scale`` and ``ttft_scale`` as of any replica, times what was drawn."""
        found = super().scales(axes)
        if not found:
            return found
        names = ("weight_precision", "tp", "pp", "attention_dp", "ep")
        parts = np.broadcast_arrays(*(axes.get(name, np.ones(1)) for name in names))
        kinds, which = np.unique(np.stack([part.ravel() for part in parts]), axis=1, return_inverse=True)
        divisions = [(int(w), int(t), int(p), int(d), int(e)) for w, t, p, d, e in kinds.T.tolist()]
        pairs = np.array([self.logarithms(division) for division in divisions])
        ttft, tpot = pairs[which.ravel()].reshape(*parts[0].shape, 2).transpose(-1, *range(parts[0].ndim))
        scaled = {"step_scale": found["step_scale"] * np.exp(tpot)}
        return scaled | ({"ttft_scale": found["ttft_scale"] * np.exp(ttft - tpot)} if "ttft_scale" in found else {})

    def logarithms(self, division: Division) -> tuple[float, float]:
        """Return logarithms of actual over expected TTFT and TPOT of a division."""
        precision, *degrees = division
        interval = self.support(self.at(FORMAT_NAMES[precision], degrees, self.place.concurrency)).interval
        ttft, tpot = self._off.get(division, self._rest)
        return ttft * interval.ttft.width, tpot * interval.tpot.width
