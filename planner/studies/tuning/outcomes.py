"""What a configuration under a load is worth: the scenario's first goal, by the latencies it turns out to have.

A closed loop of N clients completes N/(TTFT + (osl − 1)·TPOT) requests per second (Little's law). A candidate is worth
what a plan of it alone would reach: all requests of the replicas that fit, or requests per unit of what the goal wants
least of. Where a latency limit is missed, it is worth nothing.
"""

from typing import NamedTuple

import numpy as np

from planner.table import Floats

TTFT, TPOT = 0, 1


class Outcomes(NamedTuple):
    """How latencies of C candidates turn into worth, larger being better.

    ``clients``, ``scale`` (C,): clients of a replica, and what its request rate is multiplied by. ``osl``: tokens of an
    answer. ``limits``: most TTFT and TPOT [s]. ``latency``: of a goal that wants one small, which; worth is then its
    reciprocal, where all replicas that fit carry ``demand`` [request/s]. ``unit``: of worth.
    """

    clients: Floats
    scale: Floats
    osl: Floats
    limits: tuple[float, float]
    latency: int | None
    unit: str
    demand: float = 0.0

    def rate(self, ttft: Floats, tpot: Floats) -> Floats:
        """Return the requests per second of a replica, shape (..., C); latencies [s] of that shape."""
        return self.clients / (ttft + (self.osl - 1) * tpot)

    def worth(self, ttft: Floats, tpot: Floats) -> Floats:
        """Return what candidates are worth, shape (..., C); latencies [s] of that shape."""
        within = (ttft <= self.limits[TTFT]) & (tpot <= self.limits[TPOT])
        if self.latency is not None:
            within &= self.rate(ttft, tpot) * self.scale >= self.demand
            return np.where(within, 1 / (tpot if self.latency == TPOT else ttft), 0.0)
        return np.where(within, self.rate(ttft, tpot) * self.scale, 0.0)

    def of(self, candidate: int, ttft: float, tpot: float) -> float:
        """Return what one candidate is worth at latencies [s]."""
        every = np.ones(len(self.clients))
        return float(self.worth(ttft * every, tpot * every)[candidate])
