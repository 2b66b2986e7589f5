"""Factors on the modelled times of replicas of one model and load: what a plan is made with."""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.posterior.measured import CLIENTS, LATENCIES, STEP, Measured, Support, quantile
from planner.posterior.place import Place
from planner.schema.calibration import MEDIAN
from planner.table import FORMAT_NAMES, Floats, Ints

CAUTIOUS = 0.8  # share of deployments far from anything measured that are to be no slower than planned
_DEGREES = 4
_MOST_DEGREE = 1 << 13


class Factors(NamedTuple):
    """Factors on modelled TTFT and TPOT."""

    ttft: Floats
    tpot: Floats


class Replica:
    """Replicas that share all of a place but their degrees and the requests they run.

    What only prefills or only decodes is expected to be as the efficiencies say, and its steps are as unsure as any.
    What mixed replicas leave unexplained is not theirs: most of it is prompts among decodes (docs/adr/0015). Logarithms
    of factors are worked out at loads half a doubling apart, and straight in between.
    """

    def __init__(self, measured: Measured, place: Place, role: str, confidence: float | None) -> None:
        self.measured, self.place, self.role, self.confidence = measured, place, role, confidence
        self._curves: dict[Hashable, Factors] = {}
        self._by_code: dict[int, Factors] = {}
        self._beyond = measured.beyond_by_clients(place)

    def at(self, precision: str, degrees: Sequence[int], running: float) -> Place:
        """Return the place of one replica; ``degrees``: tp, pp, attention_dp, ep."""
        tp, pp, dp, ep = degrees
        clients = self.measured.fewest if self.role == "prefill" else running
        return self.place._replace(precision=precision, tp=tp, pp=pp, attention_dp=dp, ep=ep, concurrency=clients)

    def support(self, place: Place) -> Support:
        """Return how far a replica is from what was measured."""
        return self.measured.support(place, apart=self.role != "mixed")

    def share(self, support: Support) -> float:
        """Return the share of deployments that are to be no slower than planned."""
        return self._share(support.basis)

    def _share(self, basis: str) -> float:
        if self.confidence is not None:
            return self.confidence
        return MEDIAN if basis in ("deployment", "system+backend") else CAUTIOUS

    def scales(self, axes: Mapping[str, Floats]) -> dict[str, Floats]:
        """Return ``step_scale`` and ``ttft_scale`` for configurations given as arrays that broadcast together.

        ``axes``: weight_precision, tp, pp, ep, mean_running of a whole replica, and attention_dp where it is not 1.
        """
        dp = axes.get("attention_dp", np.ones(1))
        code: Ints = axes["weight_precision"].astype(np.int64)
        for degree in (axes["tp"], axes["pp"], dp, axes["ep"]):
            code = code * _MOST_DEGREE + degree.astype(np.int64)
        if not code.size:
            return {}
        codes, which = np.unique(code, return_inverse=True)
        running, when = np.unique(axes["mean_running"], return_inverse=True)
        curves = [self._of_code(number) for number in codes.tolist()]
        which, when = which.reshape(code.shape), when.reshape(axes["mean_running"].shape)
        ttft, tpot = (
            self._at(np.stack([getattr(curve, name) for curve in curves]), running)[which, when] for name in LATENCIES
        )
        if self.role == "prefill":
            return {"step_scale": ttft}
        return {"step_scale": tpot} | ({"ttft_scale": ttft / tpot} if self.role == "mixed" else {})

    def factors(self, place: Place, running: Floats, confidence: float | None = None) -> Factors:
        """Return factors at loads that a share of such deployments does not exceed, by default what ``share`` says."""
        return Factors(*(self._at(curve[None], running)[0] for curve in self._curve(place, confidence)))

    def _at(self, curves: Floats, running: Floats) -> Floats:
        """Return factors of curves at loads, shape (curves, loads); beyond the ends they stay as they are."""
        clients = np.full(running.shape, self.measured.fewest) if self.role == "prefill" else np.maximum(running, 1.0)
        steps = np.clip(np.log2(clients) / STEP, 0.0, len(CLIENTS) - 1)
        before = np.minimum(steps.astype(np.int64), len(CLIENTS) - 2)
        found: Floats = np.exp(curves[:, before] + (steps - before) * (curves[:, before + 1] - curves[:, before]))
        return found

    def _of_code(self, code: int) -> Factors:
        """Return the curve of a code of precision and degrees."""
        if code not in self._by_code:
            rest = code
            degrees: list[int] = []
            for _ in range(_DEGREES):
                rest, degree = divmod(rest, _MOST_DEGREE)
                degrees.insert(0, degree)
            self._by_code[code] = self._curve(self.at(FORMAT_NAMES[rest], degrees, 1.0), None)
        return self._by_code[code]

    def _curve(self, place: Place, confidence: float | None) -> Factors:
        """Return logarithms of factors at ``CLIENTS``; places that nothing measured tells apart share theirs."""
        key = (self.measured.alike(place), confidence)
        if key not in self._curves:
            basis, interval = self.measured.nearest(place, apart=self.role != "mixed")
            wider = self.measured.wider(place)
            outside, doublings = self._beyond
            outside, beyond = outside | any(wider), (doublings + sum(wider)) * self.measured.intervals.beyond
            shares = [self._share(each) if confidence is None else confidence for each in (basis, "none")]
            stated = confidence is not None or self.confidence is not None

            def logarithms(latency: str) -> Floats:
                """Where no confidence was stated, both latencies are as unsure as steps."""
                sure = latency if stated and self.role == "mixed" else "tpot"
                inside, beyond_all = (quantile(getattr(interval, sure), share) for share in shares)
                asked = np.where(outside, beyond_all, inside)
                centre = self.measured.by_clients(latency, place) if self.role == "mixed" else np.zeros(len(CLIENTS))
                if not asked.any():
                    return centre
                found: Floats = centre + asked * np.hypot(self.measured.spread_by_clients(sure, place), beyond)
                return found

            self._curves[key] = Factors(*map(logarithms, LATENCIES))
        return self._curves[key]
