"""The frontier: every plan that nothing beats in two or three metrics at once.

By ε-constraint (Haimes, Lasdon and Wismer, IEEE Trans. SMC 1(3), 1971): one metric is optimised while the others may be
no worse than a bound, and the bound moves past each plan found. Unlike weighted sums this finds plans inside the convex
hull, too. Columns are priced once. A bound on a latency leaves out columns and pairs, one on anything else is a row.
"""

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from formulations import FORMULATIONS
from planner.catalog import AnyCase, Case
from planner.columns import enumerate as columns
from planner.errors import InputError, Problem, did_you_mean
from planner.listed import listed_problem, listed_reduced
from planner.milp.model import INFINITY, Milp, Objective, Row, Variable, sense_of
from planner.optimizers.lexicographic import lexicographic
from planner.plan import LATENCIES
from planner.problem import Encoded, GoalSpec, PlanningProblem
from planner.problems import planning_problem, reduced_within
from planner.solvers import solver as solver_named
from planner.table import Floats
from planner.text import Readable, aligned, figure
from planner.units import METRIC_UNITS

METRICS = ("requests", "tokens", "devices", "cost", "power", *LATENCIES)
MOST_POINTS = 500
_SHOWN = 30  # plans that are all printed
_PAST = 1e-7  # how far past a plan the next bound lies, relative: solvers meet rows to 1e-9
_HELD = 1e-9  # how far beyond a bound that must hold rounding may reach, relative
_COARSE = 1.02  # of a latency, before it is stepped through exactly
_SUPPORT_TIME = 10.0  # seconds for a linear program of a few weights
_BETTER = {"minimize": "less than", "maximize": "more than"}
_USED = 1e-9  # request/s that count as a route in use
Stage = Callable[[str], None]


class Point(NamedTuple):
    """A plan of the frontier: its metrics in the order asked for [SI units], and what it deploys.

    ``supported``: some weighting of the metrics makes it best; others lie inside the convex hull of the frontier.
    """

    values: tuple[float, ...]
    plan: str
    supported: bool = True
    knee: bool = False


class _Frontier(NamedTuple):
    scenario: str
    metrics: tuple[str, ...]
    points: tuple[Point, ...]
    gap: str = ""


class Frontier(Readable, _Frontier):
    """Every plan that no other is at least as good as in all metrics, by the first one.

    ``gap``: where plans may be missing, empty unless the search was cut off; the plans found are exact all the same.
    """

    @property
    def complete(self) -> bool:
        """Whether every plan of the frontier was found."""
        return not self.gap

    def lines(self) -> Iterator[str]:
        """It for people."""
        return _lines(self)

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        units = {metric: METRIC_UNITS[metric] for metric in self.metrics}
        return {
            "scenario": self.scenario,
            "units": units,
            "complete": self.complete,
            "gap": self.gap,
            "points": self.rows(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping per plan."""
        return [
            {**dict(zip(self.metrics, p.values, strict=True)), "supported": p.supported, "knee": p.knee, "plan": p.plan}
            for p in self.points
        ]


def _lines(frontier: Frontier) -> Iterator[str]:
    points = frontier.points
    yield f"{frontier.scenario}: {len(points)} plans that nothing beats"
    shown = points if len(points) <= _SHOWN else [p for p in points if p.supported or p.knee]
    if shown:
        headers = [f"{metric} [{METRIC_UNITS[metric]}]" for metric in frontier.metrics]
        rows = [[*map(figure, p.values), _remark(p), p.plan] for p in shown]
        yield from aligned([*headers, "", "plan"], rows, ("", "plan"))
    if len(shown) < len(points):
        yield f"{len(points) - len(shown)} inside the convex hull are left out here"
    if frontier.gap:
        yield f"note: {frontier.gap}"


def _remark(point: Point) -> str:
    return "knee" if point.knee else "" if point.supported else "inside"


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
    search = _Search(case, metrics, deadline)
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
        except _OutOfTimeError:
            gap = _gap(f"stopped after {time_limit:g} s", metrics, flat, bounds)
        found += flat
        if len(metrics) == 2 or not flat:
            break
        third = metrics[2]
        bounds = {third: search.past(third, _worst(third, [point.values[2] for point in flat]))}
    kept = _undominated(found, metrics)
    ordered = sorted(kept, key=lambda point: point.values)
    return Frontier(case.scenario.name, tuple(metrics), tuple(_marked(ordered, metrics)), gap)


class _OutOfTimeError(Exception):
    """The time is up before a plan is proven to be the next of the frontier."""


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
    worse = f"; plans with more to gain in {metrics[2]} are not known, either" if len(metrics) > 2 else ""
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


class _Found(NamedTuple):
    """The metrics of a plan, and its replicas."""

    values: dict[str, float]
    plan: str


class _Search:
    """Optimises single metrics under bounds of others, over columns that are priced once."""

    def __init__(self, case: AnyCase, metrics: Sequence[str], deadline: float) -> None:
        self.case = case
        self.deadline = deadline
        self.metrics = tuple(metrics)
        linear = [metric for metric in metrics if metric not in LATENCIES]
        goals = [GoalSpec(metric, sense_of(metric)) for metric in linear]
        if isinstance(case, Case):
            plain = not set(LATENCIES) & set(metrics)
            fixed = any(workload.requests.kind == "concurrency" for workload in case.scenario.workloads.values())
            table = columns.grid_table(case, within_limits=True, best_only=plain and not fixed)
            self.problem = planning_problem(case, table)._replace(goals=goals)
        else:
            self.problem = listed_problem(case)._replace(goals=goals)
        self.encoded = functools.lru_cache(maxsize=64)(self._encoded)

    def _encoded(self, most: tuple[tuple[str, float], ...]) -> tuple[PlanningProblem, Encoded]:
        case = self.case
        small = (
            reduced_within(case, self.problem, dict(most)) if isinstance(case, Case) else listed_reduced(self.problem)
        )
        return small, FORMULATIONS["serving"].build(small)

    def first(self, order: Sequence[str], bounds: Mapping[str, float]) -> _Found | None:
        """Return the best plan by metrics in their order."""
        if not set(LATENCIES) & set(order):
            return self._solved(order, bounds)
        found, held = None, dict(bounds)
        for metric in order:
            found = self._least(metric, held, found) if metric in LATENCIES else self._solved([metric], held)
            if found is None:
                return None
            held[metric] = self.beside(metric, found.values[metric])
        return found

    def past(self, metric: str, value: float) -> float:
        """Return a bound that a plan with this value just misses."""
        return value * (1 - _PAST if sense_of(metric) == "minimize" else 1 + _PAST)

    def beside(self, metric: str, value: float) -> float:
        """Return a bound that a plan with this value just meets."""
        return value * (1 + _HELD if sense_of(metric) == "minimize" else 1 - _HELD)

    def _least(self, metric: str, bounds: Mapping[str, float], known: _Found | None) -> _Found | None:
        """Return a plan with the least worst latency: its values are discrete, so steps between plans end there.

        ``known``: a plan within the bounds, mostly one that there is no better of.
        """
        best = known or self._solved([], bounds)
        if best is None or (found := self._better(metric, bounds, best)) is None:
            return best
        best, figures = found, self.problem.table.figures[metric]
        low = float(figures[figures > 0].min(initial=math.inf))
        while best.values[metric] > low * _COARSE:
            middle = math.sqrt(low * best.values[metric])
            found = self._solved([], {**bounds, metric: middle})
            low, best = (low, found) if found else (middle, best)
        while (found := self._better(metric, bounds, best)) is not None:
            best = found
        return best

    def _better(self, metric: str, bounds: Mapping[str, float], than: _Found) -> _Found | None:
        """Return any plan with less of a latency than another."""
        return self._solved([], {**bounds, metric: self.past(metric, than.values[metric])})

    def _solved(self, metrics: Sequence[str], bounds: Mapping[str, float]) -> _Found | None:
        """Solve for linear metrics in their order; without any, for whatever keeps the bounds."""
        most = tuple(sorted((name, bound) for name, bound in bounds.items() if name in LATENCIES))
        small, encoded = self.encoded(most)
        if not len(small.table):
            return None
        goals = {goal.name: goal for goal in encoded.milp.objectives if isinstance(goal, Objective)}
        rows = [_row(goals[name], bound) for name, bound in bounds.items() if name not in LATENCIES]
        anything = Objective("anything", "minimize", np.zeros(len(encoded.milp.variables)), "1")
        wanted = [goals[name] for name in metrics] or [anything]
        milp = encoded.milp._replace(rows=(*encoded.milp.rows, *rows), objectives=tuple(wanted))
        return self._read(small, encoded, milp, goals)

    def _read(
        self, small: PlanningProblem, encoded: Encoded, milp: Milp, goals: Mapping[str, Objective]
    ) -> _Found | None:
        options = self.case.scenario.solver
        left = self.deadline - time.monotonic()
        solve = solver_named(options.name, small=True).solve
        result = lexicographic(milp, solve, max(0.0, min(options.time_limit, left)), 0.0)
        if result.termination.reason == "stopped":
            raise _OutOfTimeError
        if result.point is None:
            return None
        replicas = encoded.replicas(result.point)
        used = np.array(replicas) > 0
        flows = {(flow.prefill, flow.decode) for flow in encoded.flows(result.point) if flow.rate > _USED}
        values = {
            name: _latency(small, name, used, flows) if name in LATENCIES else goals[name].value(result.point)
            for name in self.metrics
        }
        plan = ", ".join(f"{n} × {small.table.label(c)}" for c, n in enumerate(replicas) if n)
        return _Found(values, plan)


def _row(goal: Objective, bound: float) -> Row:
    """Return that a goal is no worse than a bound, as a share of it."""
    size = abs(bound) or 1.0
    parts = {i: float(value) / size for i, value in enumerate(goal.coefficients) if value}
    bounds = (-INFINITY, bound / size) if goal.sense == "minimize" else (bound / size, INFINITY)
    return Row(f"bound[{goal.name}]", "bound", parts, *bounds, "share of the bound", f"{goal.name} past the last plan")


def _latency(small: PlanningProblem, name: str, used: Any, flows: set[tuple[int, int]]) -> float:
    """Return the worst of a latency in use [s]."""
    mixed = small.table.figures[name][used & small.table.where(role="mixed")]
    routes = small.routes
    pairs = [
        float(value)
        for p, d, value in zip(routes.prefill, routes.decode, getattr(routes, name), strict=True)
        if (int(p), int(d)) in flows
    ]
    return max([*mixed.tolist(), *pairs], default=0.0)


def _flat(search: _Search, metrics: Sequence[str], bounds: Mapping[str, float]) -> Iterator[Point]:
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


def _signed(points: Sequence[Point], metrics: Sequence[str]) -> Floats:
    """Return the metrics of points so that less is better, shape (points, metrics)."""
    signs = np.array([1.0 if sense_of(metric) == "minimize" else -1.0 for metric in metrics])
    values = np.array([point.values for point in points], dtype=np.float64).reshape(len(points), len(metrics))
    return np.asarray(values * signs)


def _worst(metric: str, values: Sequence[float]) -> float:
    return (max if sense_of(metric) == "minimize" else min)(values)


def _undominated(points: Sequence[Point], metrics: Sequence[str]) -> list[Point]:
    """Return the points that no other matches or beats in everything, each once."""
    scores = _signed(points, metrics)
    slack = _HELD * 10 * np.abs(scores)
    kept: list[int] = []
    for i in range(len(points)):
        better = (scores <= scores[i] + slack[i]).all(axis=1)
        strictly = (scores < scores[i] - slack[i]).any(axis=1)
        twin = any(np.all(np.abs(scores[k] - scores[i]) <= slack[i]) for k in kept)
        if not (better & strictly).any() and not twin:
            kept.append(i)
    return [points[i] for i in kept]


def _marked(points: Sequence[Point], metrics: Sequence[str]) -> Iterator[Point]:
    """Yield points with what is supported by a weighting, and the knee marked."""
    scores = _signed(points, metrics)
    span = np.ptp(scores, axis=0) if len(points) else np.zeros(len(metrics))
    scaled = (scores - scores.min(axis=0)) / np.where(span > 0, span, 1.0) if len(points) else scores
    knee = _knee(scaled)
    for i, point in enumerate(points):
        yield point._replace(supported=_supported(scaled, i), knee=i == knee)


def _knee(scaled: Floats) -> int | None:
    """Return the plan farthest below the plane through the best of each metric alone (Das, Struct. Optim. 18, 1999).

    None where none is below it. Scores run from 0, the best, to 1.
    """
    if len(scaled) <= scaled.shape[1]:
        return None
    ends = scaled[[int(np.lexsort((scaled.sum(axis=1), scaled[:, k]))[0]) for k in range(scaled.shape[1])]]
    try:
        normal = np.linalg.solve(ends, np.ones(len(ends)))
    except np.linalg.LinAlgError:
        return None
    below = 1.0 - scaled @ normal
    return int(np.argmax(below)) if below.max() > _COARSE - 1 else None


def _supported(scaled: Floats, point: int) -> bool:
    """Tell whether some weights make a plan best: whether it can be ahead of every other by a margin of 0."""
    count = scaled.shape[1]
    weights = [Variable(f"w{k}", 0.0, 1.0, integer=False, meaning="weight of a metric") for k in range(count)]
    margin = Variable("margin", -1.0, 1.0, integer=False, meaning="how far ahead of the closest other")
    ahead = [
        Row(f"ahead[{j}]", "ahead", {**dict(enumerate((other - scaled[point]).tolist())), count: -1.0}, 0.0, INFINITY,
            "1", "no other is better by these weights")
        for j, other in enumerate(scaled) if j != point
    ]  # fmt: skip
    whole = Row("whole", "whole", dict.fromkeys(range(count), 1.0), 1.0, 1.0, "1", "weights add up to 1")
    goal = Objective("margin", "maximize", np.array([0.0] * count + [1.0]), "1")
    result = solver_named("highs").solve(Milp((*weights, margin), (*ahead, whole), (goal,)), _SUPPORT_TIME, 0.0)
    return result.value is not None and result.value > -_PAST
