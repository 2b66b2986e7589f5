"""What is predicted of a row."""

import math
from typing import NamedTuple

from planner.constants import MILLISECONDS_PER_SECOND
from planner.posterior import Beliefs


class Prediction(NamedTuple):
    """What clients of one row see on average [ms]; ``reason`` says why a row is refused, or what to know of its times.

    A replica that only decodes has no TTFT, one that only prefills no TPOT.

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


def modelled(identity: str, ttft: float, tpot: float, known: str = "") -> Prediction:
    """Return what the model says [s], as if nothing had been measured; NaN where there is no such time."""
    first, each = (None if math.isnan(t) else t * MILLISECONDS_PER_SECOND for t in (ttft, tpot))
    return Prediction(identity, first, each, "ok", known, basis="none")


def saturated(clients: float, admitted: float, where: str = "") -> str:
    """Say that more clients ask than are served at once, and where; the times of those grow with every further one."""
    if admitted >= clients:
        return ""
    return f"{where}{math.floor(admitted)} of {clients:.0f} clients are served at once: more of them would only wait"


def believed(found: Prediction, beliefs: Beliefs, i: int) -> Prediction:
    """Return modelled times as what is believed after what was measured; a refusal as it is."""
    if found.status != "ok":
        return found
    factors: dict[str, float] = {}
    for name in ("ttft", "tpot"):
        time = getattr(found, f"{name}_ms")
        if time is not None:
            ends = {f"{name}_ms{end}": getattr(beliefs, f"{name}{end}") for end in ("", "_p10", "_p90")}
            factors |= {field: time * float(factor[i]) for field, factor in ends.items()}
    return found._replace(basis=beliefs.basis[i], **factors)  # type: ignore[arg-type]
