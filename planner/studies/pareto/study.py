"""The frontier: every plan that nothing beats in two or three metrics at once.

By ε-constraint (Haimes, Lasdon and Wismer, IEEE Trans. SMC 1(3), 1971): one metric is optimised while the others may be
no worse than a bound, and the bound moves past each plan found. Unlike weighted sums this finds plans inside the convex
hull, too. Columns are priced once. A bound on a latency leaves out columns and pairs, one on anything else is a row.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from planner.catalog import AnyCase, Case
from planner.errors import InputError, Problem, did_you_mean
from planner.milp.model import sense_of
from planner.plan import LATENCIES
from planner.studies.pareto.frontier import Frontier, Point
from planner.studies.pareto.marks import marked, undominated
from planner.studies.pareto.search import OutOfTimeError, Search
from planner.text import figure
from planner.units import METRIC_UNITS

METRICS = ("requests", "tokens", "devices", "cost", "power", *LATENCIES)
MOST_POINTS = 500
_BETTER = {"minimize": "less than", "maximize": "more than"}
Stage = Callable[[str], None]


def _silent(stage: str) -> None:
    """Ignore progress."""


def pareto(
    case: AnyCase,
    metrics: Sequence[str],
    most: int = MOST_POINTS,
    on_stage: Stage = _silent,
    time_limit: float = math.inf,
) -> Frontier:
    """Return the frontier of a case over two or three metrics; its own goals are left aside.

    Args:
        case: a scenario with everything it names.
        metrics: of requests, tokens, devices, cost, power, ttft and tpot; latencies are the worst of any in use.
        most: plans to stop after.
        on_stage: told how far it is.
        time_limit: seconds to stop after; the plans found by then are of the frontier, and what is not known is said.

    Raises:
        InputError: unknown metrics, or ones that the case has no figures for.
    """
    deadline = time.monotonic() + time_limit
    _check(case, metrics)
    on_stage("pricing configurations")
    search = Search(case, metrics, deadline)
    found: list[Point] = []
    bounds: dict[str, float] = {}
    gap = ""
    # Every frontier of the first two metrics under a bound of the third, which moves past the worst of them.
    while not gap:
        flat: list[Point] = []
        try:
            for point in _flat(search, metrics[:2], bounds):
                flat.append(point)
                on_stage(f"{len(found) + len(flat)} plans, the last with {_told(metrics, point)}")
                if len(found) + len(flat) >= most:
                    gap = _gap(f"stopped after {most} plans", metrics, flat, bounds)
                    break
        except OutOfTimeError:
            gap = _gap(f"stopped after {time_limit:g} s", metrics, flat, bounds)
        found += flat
        if len(metrics) == 2 or not flat:
            break
        third = metrics[2]
        bounds = {third: search.past(third, _worst(third, [point.values[2] for point in flat]))}
    kept = undominated(found, metrics)
    ordered = sorted(kept, key=lambda point: point.values)
    return Frontier(case.scenario.name, tuple(metrics), tuple(marked(ordered, metrics)), gap)


def _told(metrics: Sequence[str], point: Point) -> str:
    """Say a plan's metrics."""
    return ", ".join(f"{n} {figure(v)} {METRIC_UNITS[n]}" for n, v in zip(metrics, point.values, strict=True))


def _gap(why: str, metrics: Sequence[str], flat: Sequence[Point], bounds: Mapping[str, float]) -> str:
    """Say what of a frontier is not known: plans beyond the last one found, in the metric that is stepped through."""
    moving, _ = _ways(metrics[:2])
    held = "".join(f" and {name} within {figure(bound)} {METRIC_UNITS[name]}" for name, bound in bounds.items())
    if not flat:
        return f"{why}: no plan{held.replace(' and', ' with', 1)} is known; there may be some"
    last, better = flat[-1].values[metrics.index(moving)], _BETTER[sense_of(moving)]
    worse = f"; nor are those with a better {metrics[2]} than these" if len(metrics) > 2 else ""
    return f"{why}: plans with {moving} {better} {figure(last)} {METRIC_UNITS[moving]}{held} are not known{worse}"


def _check(case: AnyCase, metrics: Sequence[str]) -> None:
    problems = [*_unknown(case, metrics), *_unfit(case, metrics)]
    if problems:
        raise InputError(Problem("", 0, 0, "", problem) for problem in problems)


def _unknown(case: AnyCase, metrics: Sequence[str]) -> Iterator[str]:
    for metric in metrics:
        if metric not in METRICS:
            yield f"'{metric}' is no metric; {did_you_mean(metric, METRICS)}"
        elif metric in LATENCIES and not isinstance(case, Case):
            yield f"a table of columns has no {metric}; choose of {', '.join(METRICS[:5])}"
    if len(set(metrics)) != len(metrics):
        yield "name different metrics"


def _unfit(case: AnyCase, metrics: Sequence[str]) -> Iterator[str]:
    goods = {"requests", "tokens"} & set(metrics)
    for name, workload in case.scenario.workloads.items():
        if workload.requests.kind == "max" and not goods:
            yield f"'{name}' asks for as much as fits: make requests or tokens a metric, or give it a rate"
        if workload.requests.kind == "concurrency" and goods:
            yield f"'{name}' has a number of requests in flight, which fixes requests and tokens"
    if "cost" in metrics and any(item.price is None for item in case.scenario.inventory.values()):
        yield "cost needs a price for every inventory"
    known = [name for name, hardware in case.hardware.items() if hardware.power is not None]
    if "power" in metrics and set(known) != set(case.scenario.inventory):
        yield "power needs hardware with a published power for every inventory"


def _flat(search: Search, metrics: Sequence[str], bounds: Mapping[str, float]) -> Iterator[Point]:
    """Yield the frontier of two metrics under bounds of others: the best of one while the other must get better."""
    moving, optimised = _ways(metrics)
    now = dict(bounds)
    while (plan := search.first([optimised, moving], now)) is not None:
        yield Point(tuple(plan.values[metric] for metric in search.metrics), plan.plan)
        now[moving] = search.past(moving, plan.values[moving])


def _ways(metrics: Sequence[str]) -> list[str]:
    """Return which of two metrics is stepped through, then the other, which is optimised.

    A bound on a latency leaves columns out, which is quicker than to optimise it.
    """
    return sorted(metrics, key=lambda metric: (metric not in LATENCIES, metrics.index(metric)))


def _worst(metric: str, values: Sequence[float]) -> float:
    return (max if sense_of(metric) == "minimize" else min)(values)
