"""Single metrics optimised under bounds of others."""

import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from formulations import FORMULATIONS
from planner.catalog import AnyCase, Case
from planner.columns import enumerate as columns
from planner.listed import listed_problem, listed_reduced
from planner.milp.model import INFINITY, Milp, Objective, Row, sense_of
from planner.optimizers.lexicographic import lexicographic
from planner.plan import LATENCIES
from planner.problem import Encoded, GoalSpec, PlanningProblem
from planner.problems import planning_problem, reduced_within
from planner.solvers import solver as solver_named

HELD = 1e-9  # how far beyond a bound that must hold rounding may reach, relative
_PAST = 1e-7  # how far past a plan the next bound lies, relative: solvers meet rows to 1e-9
_COARSE = 1.02  # of a latency, before it is stepped through exactly
_USED = 1e-9  # request/s that count as a route in use


class OutOfTimeError(Exception):
    """The time is up before a plan is proven to be the next of the frontier."""


class Found(NamedTuple):
    """The metrics of a plan, and its replicas."""

    values: dict[str, float]
    plan: str


class Search:
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

    def first(self, order: Sequence[str], bounds: Mapping[str, float]) -> Found | None:
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
        return value * (1 + HELD if sense_of(metric) == "minimize" else 1 - HELD)

    def _least(self, metric: str, bounds: Mapping[str, float], known: Found | None) -> Found | None:
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

    def _better(self, metric: str, bounds: Mapping[str, float], than: Found) -> Found | None:
        """Return any plan with less of a latency than another."""
        return self._solved([], {**bounds, metric: self.past(metric, than.values[metric])})

    def _solved(self, metrics: Sequence[str], bounds: Mapping[str, float]) -> Found | None:
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
    ) -> Found | None:
        options = self.case.scenario.solver
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTimeError
        solve = solver_named(options.name, small=True).solve
        result = lexicographic(milp, solve, min(options.time_limit, left), 0.0)
        if result.termination.reason == "stopped":
            raise OutOfTimeError
        if result.point is None:
            return None
        replicas = encoded.replicas(result.point)
        used = np.array(replicas) > 0
        flows = {(flow.prefill, flow.decode) for flow in encoded.flows(result.point) if flow.rate > _USED}
        values = {
            name: _latency(small, name, used, flows) if name in LATENCIES else goals[name].value(result.point)
            for name in self.metrics
        }
        plan = " + ".join(f"{n} × {small.table.label(c)}" for c, n in enumerate(replicas) if n)
        return Found(values, plan)


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
