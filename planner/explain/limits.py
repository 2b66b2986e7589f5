"""Predictions beside the limits they were asked to keep."""

import math
from collections.abc import Mapping
from statistics import NormalDist

from planner.constants import MILLISECONDS_PER_SECOND
from planner.plan import Deployment, Latencies, Plan
from planner.report import Limit


def limits_of(plan: Plan, slo: Mapping[str, Mapping[str, float]]) -> tuple[Limit, ...]:
    """Return one entry per deployment and latency limit [s] of its workload, in milliseconds."""
    return tuple(
        Limit(d.name, name, getattr(d.predicted, f"{name}_ms"), most, "ms", _held(d.predicted, name, most))
        for d in plan.deployments
        if isinstance(d, Deployment)
        for name, limit in slo[d.workload].items()
        for most in [limit * MILLISECONDS_PER_SECOND]
    )


def _held(predicted: Latencies, name: str, limit: float) -> float | None:
    """Return the share of such deployments below a limit: two halves of a lognormal through the percentiles."""
    low, middle, high = (getattr(predicted, f"{name}_ms_p{share}", None) for share in (10, 50, 90))
    if not (low and middle and high):
        return None
    tenth = math.log(high / middle) if limit > middle else math.log(middle / low)
    far = math.log(limit / middle) * NormalDist().inv_cdf(0.9)
    return NormalDist().cdf(far / tenth) if tenth else float(limit >= middle)
