"""What is predicted of a row."""

from typing import NamedTuple

from planner.constants import MILLISECONDS_PER_SECOND
from planner.posterior import Beliefs


class Prediction(NamedTuple):
    """What clients of one row see on average [ms]; ``reason`` says why a row is refused.

    A tenth of measurements is expected below ``p10``, and a tenth above ``p90``; ``basis`` is the nearest thing that
    was measured: deployment, system+backend, system or none. Without a calibration there are no intervals.
    """

    id: str
    ttft_ms: float | None
    tpot_ms: float | None
    status: str
    reason: str
    ttft_ms_p10: float | None = None
    ttft_ms_p90: float | None = None
    tpot_ms_p10: float | None = None
    tpot_ms_p90: float | None = None
    basis: str = ""


def refused(identity: str, reason: str) -> Prediction:
    """Return the answer to a row that cannot be predicted."""
    return Prediction(identity, None, None, "refused", reason)


def modelled(identity: str, ttft: float, tpot: float) -> Prediction:
    """Return what the model says [s], as if nothing had been measured."""
    first, each = (seconds * MILLISECONDS_PER_SECOND for seconds in (ttft, tpot))
    return Prediction(identity, first, each, "ok", "", basis="none")


def believed(found: Prediction, beliefs: Beliefs, i: int) -> Prediction:
    """Return modelled times as what is believed after what was measured; a refusal as it is."""
    ttft, tpot = found.ttft_ms, found.tpot_ms
    if ttft is None or tpot is None:
        return found
    return found._replace(
        ttft_ms=ttft * float(beliefs.ttft[i]),
        tpot_ms=tpot * float(beliefs.tpot[i]),
        ttft_ms_p10=ttft * float(beliefs.ttft_p10[i]),
        ttft_ms_p90=ttft * float(beliefs.ttft_p90[i]),
        tpot_ms_p10=tpot * float(beliefs.tpot_p10[i]),
        tpot_ms_p90=tpot * float(beliefs.tpot_p90[i]),
        basis=beliefs.basis[i],
    )
