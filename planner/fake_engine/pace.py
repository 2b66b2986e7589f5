"""How fast the fake engine answers: the closed loop of the cost model, by how many requests are in its hands."""

from typing import NamedTuple

import numpy as np

from planner.catalog.rows import Row
from planner.errors import InputError
from planner.posterior import Posterior
from planner.prediction import predict_rows
from planner.table import Floats

_LADDER = tuple(sorted({round(2 ** (step / 4)) for step in range(45)}))  # requests in flight, 1 to 2 048


class Curve(NamedTuple):
    """Times of requests of one length [s] by requests in flight, shape (ladder,)."""

    ttft: Floats
    tpot: Floats

    def at(self, in_flight: int) -> tuple[float, float]:
        """Return TTFT and TPOT [s]."""
        where = np.log(max(in_flight, 1))
        ttft, tpot = (float(np.interp(where, np.log(_LADDER), times)) for times in self)
        return ttft, tpot


class Pace:
    """Curves by lengths, each computed when it is first asked for."""

    def __init__(self, replica: Row, posterior: Posterior) -> None:
        self.replica = replica
        self.posterior = posterior
        self._curves: dict[tuple[int, int], Curve] = {}

    def curve(self, isl: int, osl: int) -> Curve:
        """Return the times of requests of these lengths [token].

        Raises:
            InputError: the replica cannot run, or cannot run requests that long; says why.
        """
        if (isl, osl) not in self._curves:
            rows = [self.replica._replace(id=str(n), concurrency=n, isl=isl, osl=osl, lockstep=True) for n in _LADDER]
            found = predict_rows(rows, self.posterior)
            refused = next((one.reason for one in found if one.status != "ok"), None)
            if refused:
                raise InputError.single("", refused)
            times = np.array([[one.ttft_ms or 0.0, one.tpot_ms or 0.0] for one in found]) / 1e3
            self._curves[isl, osl] = Curve(times[:, 0], times[:, 1])
        return self._curves[isl, osl]
