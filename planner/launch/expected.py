"""What a plan predicts of the requests that go to its targets, at the planned rates."""

from collections.abc import Sequence

from planner.launch.facts import Expected, Latency
from planner.launch.servers import Target
from planner.plan import Deployment, Plan


def of_target(plan: Plan, target: Target) -> Expected:
    """Return what requests to a mixed deployment or through a pair see on average."""
    if target.mixed:
        return _of_deployment(target.mixed[0].deployment, target.rate)
    decoding = {server.deployment.name: server.deployment for server in target.decode}
    return together(
        [
            _scaled(_of_deployment(decoding[route.decode], route.requests_per_s), route.ttft_ms, route.tpot_ms)
            for route in plan.routes
            if route.decode in decoding and route.ttft_ms is not None and route.tpot_ms is not None
        ]
    )


def together(each: Sequence[Expected]) -> Expected:
    """Return what requests of several streams see on average.

    Ends of intervals are averaged, too: what makes one deployment slower than predicted makes all of them.
    """
    total = sum(one.requests_per_s for one in each)
    weights = [one.requests_per_s / total for one in each]

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(w * v for w, v in zip(weights, known, strict=True)) if len(known) == len(values) else None

    def latency(found: Sequence[Latency]) -> Latency:
        middle, low, high = (mean(values) for values in zip(*found, strict=True))
        return Latency(middle or 0.0, low, high)

    return Expected(latency([one.ttft for one in each]), latency([one.tpot for one in each]), total)


def _of_deployment(d: Deployment, rate: float) -> Expected:
    p = d.predicted
    ttft = Latency(p.ttft_ms, getattr(p, "ttft_ms_p10", None), getattr(p, "ttft_ms_p90", None))
    tpot = Latency(p.tpot_ms, getattr(p, "tpot_ms_p10", None), getattr(p, "tpot_ms_p90", None))
    return Expected(ttft, tpot, rate)


def _scaled(expected: Expected, ttft: float, tpot: float) -> Expected:
    """Return other means with intervals as wide for their size: those of a route within its pair."""
    return expected._replace(
        ttft=Latency(*(None if v is None else v * ttft / expected.ttft.mean for v in expected.ttft)),  # type: ignore[arg-type]
        tpot=Latency(*(None if v is None else v * tpot / expected.tpot.mean for v in expected.tpot)),  # type: ignore[arg-type]
    )
