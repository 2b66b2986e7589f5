"""The best plan of a case with numbers changed, thousands of times: priced again, not searched again.

First the fastest replicas of each size, any two parts of pairs as if caches moved at once: a bound, and mostly a plan
that can be had. Only where it cannot are all parts of pairs looked at. Each sample ends in the exact best of what may
matter anywhere between the ends of the ranges.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from formulations import FORMULATIONS
from planner.catalog import Case
from planner.columns.enumerate import merged
from planner.columns.optimistic import best_of_size, every_pair, fastest_of_size
from planner.columns.pairs import routes_of
from planner.columns.resample import Candidates, Tables, chosen, priced_again, walked
from planner.columns.setting import Setting
from planner.errors import InputError
from planner.plan import LATENCIES
from planner.problem import GoalSpec, PlanningProblem
from planner.problems import planning_problem, reduced
from planner.schema.precision import KV_FORMATS
from planner.solvers import solver as solver_named
from planner.studies.sensitivity.few import best_of_few
from planner.studies.sensitivity.space import Space
from planner.table import FORMAT_NAMES, POLICIES, STRUCTURE, ColumnTable, Floats, Ints, degrees, drafts_of

_ABREAST = 8  # points whose columns are priced side by side
_DRAWN = 8  # points with every number at one of its ends
_SAME = 1e-6  # relative difference of goals that counts as none
_SHORT = 1e-9  # share of a demand that rounding may leave unmet
_PROVEN = 1e-8  # relative difference up to which a bound proves a plan


class Outcome(NamedTuple):
    """What becomes of a sample.

    ``goal``: the best value of the first goal, None where there is no plan. ``plan``: replicas of the best plan, in
    words. ``keeps``: whether the plan of the scenario as it stands is still best. ``holds``: whether that one carries
    its load within all limits. ``carries``: the most it does, over all workloads [request/s, or requests in flight].
    ``loses``: how much of the goal is lost by staying with it, relative, None where it does not hold.
    """

    goal: float | None
    plan: str
    keeps: bool
    holds: bool
    carries: float
    loses: float | None


class Kind(NamedTuple):
    """What a replica is, whatever its load: where it stands and how it is built."""

    workload: str
    inventory: str
    engine: str
    engine_version: str
    role: str
    structure: tuple[int, ...]

    @property
    def pool(self) -> tuple[str, ...]:
        """Where it stands and what for."""
        return self[:5]

    def label(self) -> str:
        """Short form for people."""
        axes = dict(zip(STRUCTURE, self.structure, strict=True))
        shown = [degrees(axes), FORMAT_NAMES[axes["weight_precision"]]]
        cache = FORMAT_NAMES[axes["kv_precision"]]
        shown += [f"{cache} cache"] if cache != KV_FORMATS[0] else []
        shown += [] if self.role != "mixed" or not axes["prefill_policy"] else [POLICIES[axes["prefill_policy"]]]
        shown += [drafts_of(axes["speculative_tokens"])] if axes["speculative_tokens"] else []
        role = "" if self.role == "mixed" else f"{self.role} "
        return f"{role}{' '.join(shown)} on {self.inventory}"


Shape = tuple[tuple[Kind, int], ...]  # kinds of replicas, and how many of each


def shape_text(shape: Shape, *, several: bool) -> str:
    """Return a shape for people; ``several``: whether there are several workloads to name."""
    return ", ".join(f"{n} × {kind.label()}" + (f" for {kind.workload}" if several else "") for kind, n in shape)


class Sampler:
    """Solves a case at points of what is varied.

    Raises:
        InputError: the case has no plan, or a first goal that is not a sum over replicas.
    """

    def __init__(self, case: Case, space: Space) -> None:
        goal = case.scenario.objective[0]
        if goal.weighted or goal.metric in LATENCIES:
            message = f"the first objective must be a sum over replicas, not {goal.metric}"
            raise InputError.single(case.scenario.name, message, "objective")
        self.case = case
        self.space = space
        known, every = space.settings(case, space.neutral)
        found = chosen(every, self._walks())
        self.near: tuple[Candidates, ...] = tuple(mine.near for mine in found)
        self.every: tuple[Candidates, ...] = tuple(mine.every for mine in found)
        self.base: Shape = ()
        base = best(known, every, *self._problems(known, every, self._near([every])[0]))
        if base is None:
            raise InputError.single(case.scenario.name, "has no plan; `planner infeasible` says what is missing")
        self.base = base[1]
        # What the plan is made of is priced always, since it may be slower than others of its size elsewhere.
        built = [[kind.structure for kind, _ in self.base if kind.pool == s.pool[:5]] for s in every]
        self.near = tuple(
            near.with_more(every.of_structures(own)) if own else near
            for near, every, own in zip(self.near, self.every, built, strict=True)
        )

    def __call__(self, point: Sequence[float]) -> Outcome:
        """Solve at one point."""
        return next(self.several([point]))

    def several(self, points: Sequence[Sequence[float]]) -> Iterator[Outcome]:
        """Solve at points one after the other; their columns are priced side by side, a few points at a time."""
        for start in range(0, len(points), _ABREAST):
            cases = [self.space.settings(self.case, point) for point in points[start : start + _ABREAST]]
            near = self._near([every for _, every in cases])
            for (case, every), mine in zip(cases, near, strict=True):
                yield self._outcome(case, every, mine)

    def _outcome(self, case: Case, every: Sequence[Setting], near: Sequence[ColumnTable]) -> Outcome:
        problem, whole = self._problems(case, every, near)
        carries, own = self._staying(case, every, problem)
        found = best(case, every, problem, whole, None if own is None else (own, self.base))
        if found is None:
            return Outcome(None, "no plan", keeps=False, holds=False, carries=carries, loses=None)
        goal, shape = found
        loses = None if own is None else abs(goal - own) / max(abs(goal), 1e-12)
        keeps = loses is not None and loses <= _SAME
        return Outcome(goal, self.text(self.base if keeps else shape), keeps, own is not None, carries, loses)

    def text(self, shape: Shape) -> str:
        """Return a plan's shape in words."""
        return shape_text(shape, several=len(self.case.scenario.workloads) > 1)

    def _walks(self) -> list[Tables]:
        """Return the whole grid as things stand, with each number at its ends, and with all at ends together.

        All at the ends that let replicas carry most, or be run hardest, all at the other ones, and some drawn ones.
        """
        ends, middle = self.space.ends, list(self.space.neutral)
        one = [[self._walk([*middle[:i], end, *middle[i + 1 :]]) for end in pair] for i, pair in enumerate(ends)]
        sides = np.random.default_rng(0).integers(0, 2, (_DRAWN, len(ends))).tolist()
        for most in (_fastest, _hardest):
            up = [int(most(low) <= most(high)) for low, high in one]
            sides += [up, [1 - side for side in up]]
        corners = [[pair[side] for pair, side in zip(ends, each, strict=True)] for each in sides]
        return [*itertools.chain.from_iterable(one), *map(self._walk, [middle, *corners])]

    def _walk(self, point: Sequence[float]) -> Tables:
        return walked(self.space.settings(self.case, point)[1])

    def _near(self, points: Sequence[Sequence[Setting]]) -> list[tuple[ColumnTable, ...]]:
        """Return, for the settings of each point, what may be fastest of its size."""
        by_setting = zip(*points, strict=True)
        tables = [priced_again(settings, mine) for settings, mine in zip(by_setting, self.near, strict=True)]
        return list(zip(*tables, strict=True))

    def _problems(
        self, case: Case, every: Sequence[Setting], near: Sequence[ColumnTable]
    ) -> tuple[PlanningProblem, Callable[[], PlanningProblem]]:
        """Return the problem over what may be fastest of its size, and what returns it over all that may matter."""

        def whole() -> PlanningProblem:
            tables = [
                table if setting.role == "mixed" else priced_again([setting], mine)[0]
                for setting, table, mine in zip(every, near, self.every, strict=True)
            ]
            return planning_problem(case, merged(tables))

        return planning_problem(case, merged(near)), whole

    def _staying(self, case: Case, every: Sequence[Setting], problem: PlanningProblem) -> tuple[float, float | None]:
        """Return what the plan as it stands carries, and its first goal, None where it does not carry its load."""
        table = problem.table
        kinds = [kind for kind, _ in self.base]
        mark = _marks(table, kinds)
        mine = table.take(np.nonzero(mark >= 0)[0])
        marked = dataclasses.replace(mine, marks=mark[mark >= 0])
        if any(not (marked.marked == number).any() for number in range(len(kinds))):
            return 0.0, None
        if all(kind.role == "mixed" for kind in kinds):
            best = marked.take(_most_of_each(marked, problem._replace(table=marked).value))
            return _fixed(problem._replace(table=best), np.array([n for _, n in self.base], dtype=np.float64))
        small = reduced(case, problem._replace(table=marked), every)
        there = [np.nonzero(small.table.marked == number)[0].tolist() for number in range(len(kinds))]
        if not all(there):
            return 0.0, None
        small = small._replace(fixed=tuple((tuple(c), n) for c, (_, n) in zip(there, self.base, strict=True)))
        free = small._replace(
            loads=tuple(load._replace(demand=None) for load in small.loads), goals=[GoalSpec("load", "maximize")]
        )
        most, own = _solved(case, free), _solved(case, small)
        return (0.0 if most is None else most[0]), (None if own is None else own[0])


def best(
    case: Case,
    every: Sequence[Setting],
    problem: PlanningProblem,
    whole: Callable[[], PlanningProblem],
    known: tuple[float, Shape] | None = None,
) -> tuple[float, Shape] | None:
    """Return the best value of a problem's first goal and the shape of a plan that has it, None without one.

    Args:
        case: a case.
        every: the settings that its columns are priced in.
        problem: its problem over the columns of the highest rate, at least.
        whole: returns its problem over all columns, of which pairs may need any.
        known: a plan that there is.
    """
    if not len(problem.table):
        return None
    table = best_of_size(problem)
    bound = _bound(case, problem._replace(table=table, routes=every_pair(table)))
    if bound is None:
        return None
    value, replicas = bound
    if known is not None and abs(value - known[0]) <= _PROVEN * abs(value):
        return known
    used = np.nonzero(replicas)[0]
    if table.where(role="mixed")[used].all():
        return value, _shape(table, replicas)
    there = problem.table.take(fastest_of_size(problem)[used])
    attained = _solved(case, problem._replace(table=there, routes=routes_of(every, there)))
    if attained is not None and abs(value - attained[0]) <= _PROVEN * abs(value):
        return attained
    return _solved(case, reduced(case, whole(), every))


def _bound(case: Case, free: PlanningProblem) -> tuple[float, Ints] | None:
    """Return the best of a problem whose pairs are free: of all plans where they are few, else by the solver."""
    few = best_of_few(free)
    return _optimum(case, free) if few is None else few.found


def _fixed(problem: PlanningProblem, replicas: Floats) -> tuple[float, float | None]:
    """Return what replicas that work alone carry, and their first goal, None where that is less than is asked."""
    table, f = problem.table, problem.table.figures
    carried = problem.value * replicas
    if any(
        load.demand is not None and carried[table.where(workload=load.workload)].sum() < load.demand * (1 - _SHORT)
        for load in problem.loads
    ):
        return float(carried.sum()), None
    tokens = {load.workload: load.output_tokens for load in problem.loads}
    each = {
        "requests": f["rate"],
        "tokens": f["rate"] * np.array([tokens[pool.workload] for pool in table.pools])[table.pool],
        "devices": f["devices"],
        "cost": f["devices"] * f["price"],
        "power": f["devices"] * f["power"],
    }[problem.goals[0].metric]
    return float(carried.sum()), float(each @ replicas)


def _solved(case: Case, small: PlanningProblem) -> tuple[float, Shape] | None:
    """Return the best of a problem's first goal and the shape of what has it."""
    found = _optimum(case, small)
    return None if found is None else (found[0], _shape(small.table, found[1]))


def _optimum(case: Case, small: PlanningProblem) -> tuple[float, Ints] | None:
    """Return the best of a problem's first goal and the replicas of each column that have it, shape (C,)."""
    if not len(small.table):
        return None
    encoded = FORMULATIONS["serving"].build(small)
    goal = encoded.milp.objectives[0]
    options = case.scenario.solver
    result = solver_named(options.name, small=True).solve(encoded.milp.with_objective(goal), options.time_limit, 0.0)
    if result.point is None or result.value is None:
        return None
    return result.value, np.array(encoded.replicas(result.point), dtype=np.int64)


def _fastest(tables: Tables) -> float:
    """Return the highest rate of any replica that works alone, a whole one's per device."""
    f = [table.take(np.nonzero(table.where(role="mixed"))[0]).figures for table in tables]
    return max(float((each["rate"] / each["devices"]).max(initial=0.0)) for each in f)


def _hardest(tables: Tables) -> float:
    """Return how many requests replicas can run, a sum of logarithms over their sizes so that each size counts."""
    running = np.concatenate([table.axes["mean_running"] for table in tables])
    size = np.concatenate([table.figures["devices"] for table in tables])[running > 0]
    most = [running[running > 0][size == each].max() for each in np.unique(size)]
    return float(np.log1p(most).sum())


def _shape(table: ColumnTable, replicas: Ints) -> Shape:
    counts: dict[Kind, int] = {}
    for column in np.nonzero(replicas)[0].tolist():
        kind = _kind(table, column)
        counts[kind] = counts.get(kind, 0) + int(replicas[column])
    return tuple(sorted(counts.items()))


def _kind(table: ColumnTable, column: int) -> Kind:
    pool = table.pools[table.pool[column]]
    structure = tuple(int(table.axes[axis][column]) for axis in STRUCTURE)
    return Kind(pool.workload, pool.inventory, pool.engine, pool.engine_version, pool.role, structure)


def _marks(table: ColumnTable, kinds: Sequence[Kind]) -> Ints:
    """Return the number of the kind that each column is of, -1 where it is of none, shape (C,)."""
    found = np.full(len(table), -1, dtype=np.int64)
    for number, kind in enumerate(kinds):
        pools = [pool[:5] == kind.pool for pool in table.pools]
        mine = np.array(pools, dtype=bool)[table.pool]
        for axis, value in zip(STRUCTURE, kind.structure, strict=True):
            mine &= table.axes[axis] == value
        found[mine] = number
    return found


def _most_of_each(table: ColumnTable, value: Any) -> Ints:
    """Return the column of each mark that carries most."""
    order = np.lexsort((-value, table.marked))
    _, first = np.unique(table.marked[order], return_index=True)
    return np.asarray(order[first])
