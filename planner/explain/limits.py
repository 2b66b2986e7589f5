"""Predictions beside the limits they were asked to keep."""

from collections.abc import Mapping

from planner.constants import MILLISECONDS_PER_SECOND
from planner.plan import Deployment, Plan
from planner.report import Limit


def limits_of(plan: Plan, slo: Mapping[str, Mapping[str, float]]) -> tuple[Limit, ...]:
    """Return one entry per deployment and latency limit [s] of its workload, in milliseconds."""
    return tuple(
        Limit(d.name, name, getattr(d.predicted, f"{name}_ms"), limit * MILLISECONDS_PER_SECOND, "ms")
        for d in plan.deployments
        if isinstance(d, Deployment)
        for name, limit in slo[d.workload].items()
    )
