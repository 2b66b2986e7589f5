"""What one plan gives up and gains beside another."""

from planner.explanation import Trade
from planner.plan import Plan
from planner.units import METRIC_UNITS


def trades(best: Plan, other: Plan) -> tuple[Trade, ...]:
    """Return the metrics of two plans side by side; latencies in milliseconds, the others in their units."""
    mine, theirs = _metrics(best), _metrics(other)
    return tuple(
        Trade(metric, unit, before, theirs[metric][0], _change(before, theirs[metric][0]))
        for metric, (before, unit) in mine.items()
        if before is not None or theirs[metric][0] is not None
    )


def _change(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or not before else after / before - 1


def _metrics(plan: Plan) -> dict[str, tuple[float | None, str]]:
    total, figures = plan.totals, plan.predicted
    return {
        "requests": (figures.requests_per_s, METRIC_UNITS["requests"]),
        "devices": (float(total.devices), METRIC_UNITS["devices"]),
        "cost": (total.cost_usd_per_h, METRIC_UNITS["cost"]),
        "power": (total.power_w, METRIC_UNITS["power"]),
        "ttft": (figures.ttft_ms, "ms"),
        "tpot": (figures.tpot_ms, "ms"),
    }
