"""The study: swings, flips, worths, and what becomes of the plan when everything varies at once."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner import pipeline
from planner.catalog import AnyCase, Case
from planner.errors import InputError
from planner.studies.sensitivity.answer import Map, Sensitivity
from planner.studies.sensitivity.draws import draws
from planner.studies.sensitivity.flips import flips, swing
from planner.studies.sensitivity.indices import Method, indices, points_for
from planner.studies.sensitivity.likely import Likely, likely_of
from planner.studies.sensitivity.parameters import Parameter, declared, usual
from planner.studies.sensitivity.robustness import robustness, rows_of
from planner.studies.sensitivity.sampler import Outcome, Sampler
from planner.studies.sensitivity.space import Ranges, Space
from planner.studies.sensitivity.sweep import Backend, Result, sweep
from planner.studies.sensitivity.worth import worths
from planner.table import Floats

LIKELY_SAMPLES = 4096
_MAP = 21  # values of each axis of a flip map
_ALONE = Backend(workers=1)
Stage = Callable[[str], None]
OnDone = Callable[[int, int], None]


class Evaluator:
    """Solves points of a study; in another process it is made again there, once."""

    def __init__(self, case: Case, space: Space, study: str) -> None:
        self.case, self.space, self.study = case, space, study

    def __call__(self, points: Sequence[Sequence[float]]) -> Iterator[Result]:
        """Yield the outcome at each point."""
        return (outcome._asdict() for outcome in _sampler(self).several(points))

    def __hash__(self) -> int:
        return hash(self.study)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluator) and other.study == self.study


@functools.lru_cache(maxsize=4)
def _sampler(evaluator: Evaluator) -> Sampler:
    return Sampler(evaluator.case, evaluator.space)


class _Runner(NamedTuple):
    """Solves points of one study: here, or side by side and each once."""

    case: Case
    space: Space
    file: Path | None
    backend: Backend
    on_done: OnDone

    @property
    def evaluator(self) -> Evaluator:
        """What solves a point."""
        return Evaluator(self.case, self.space, _digest(self.case, self.space))

    @property
    def sampler(self) -> Sampler:
        """What solves a point in this process."""
        return _sampler(self.evaluator)

    def solve(self, points: Floats) -> list[Result]:
        """Return the results of points, shape (points, numbers)."""
        mine = self.evaluator
        return sweep(points, mine, mine.study, self.file, self.backend, self.on_done)


def sensitivity(
    case: AnyCase,
    ranges: Sequence[str] = (),
    samples: int = 0,
    method: Method = "sobol",
    seed: int = 1,
    axes: tuple[str, str] | None = None,
    file: Path | None = None,
    backend: Backend = _ALONE,
    on_stage: Stage = lambda stage: None,
    on_done: OnDone = lambda done, total: None,
) -> Sensitivity:
    """Say what would change the best plan of a case.

    Args:
        case: a scenario with everything it names.
        ranges: what is varied, like ``hardware.h100.memory.bandwidth=0.8..1.2`` (factors); the usual where not given.
        samples: solves with everything varied at once, at most; none where 0.
        method: how they are chosen and read: Sobol indices, or Morris screening.
        seed: of the samples.
        axes: names of two of the parameters, for a map of the best plan over both.
        file: where solved points are kept, so that a study may be interrupted.
        backend: who solves.
        on_stage: told what is looked at.
        on_done: told how many points of how many are solved.

    Raises:
        InputError: a range that names no number; a case of a table, without a plan, or whose first goal is no sum.
    """
    priced = _priced(case)
    parameters = declared(priced, ranges) if ranges else usual(priced)
    run = _Runner(priced, Ranges(parameters), file, backend, on_done)
    on_stage("pricing configurations")
    sampler = run.sampler
    plain = sampler(run.space.neutral)
    on_stage("one at a time")
    swings = tuple(swing(parameters, i, sampler) for i in range(len(parameters)))
    found = tuple(itertools.chain.from_iterable(flips(parameters, i, sampler) for i in range(len(parameters))))
    on_stage("one more of each resource")
    result = Sensitivity(
        priced.scenario.name, plain.plan, priced.scenario.objective[0].metric, float(plain.goal or 0.0), parameters,
        swings, found, tuple(worths(priced)), method,
    )  # fmt: skip
    if samples:
        on_stage("everything at once")
        result = _at_once(result, run, samples, method, seed)
    return result if axes is None else result._replace(map=_map(parameters, axes, run))


def likely(
    case: AnyCase,
    samples: int = LIKELY_SAMPLES,
    method: Method = "sobol",
    seed: int = 1,
    file: Path | None = None,
    backend: Backend = _ALONE,
    on_stage: Stage = lambda stage: None,
    on_done: OnDone = lambda done, total: None,
) -> Likely:
    """Say how likely the best plan of a case stays best and keeps its limits, given what its calibration is unsure of.

    Args:
        case: a scenario with everything it names.
        samples: draws, at most; each is solved.
        method: how they are chosen and read: Sobol indices, or Morris screening.
        seed: of the draws.
        file: where solved points are kept, so that a study may be interrupted.
        backend: who solves.
        on_stage: told what is looked at.
        on_done: told how many points of how many are solved.

    Raises:
        InputError: no calibration that was fitted; a case of a table, without a plan, or whose first goal is no sum.
    """
    priced = _priced(case)
    on_stage("pricing configurations")
    space = draws(priced)
    run = _Runner(priced, space, file, backend, on_done)
    plain = run.sampler(space.neutral)
    plan = pipeline.solve(priced).plan
    on_stage("drawing what is unknown")
    return likely_of(priced, space, plan, (plain.plan, float(plain.goal or 0.0)), run.solve, samples, method, seed)


def _priced(case: AnyCase) -> Case:
    if isinstance(case, Case):
        return case
    raise InputError.single("", "a table of columns has no numbers to vary but its own")


def _digest(case: Case, space: Space) -> str:
    """Return what tells studies apart: the scenario, what it names, and what is varied."""
    named = [specification._asdict() for specification in case.specifications]
    varied = [[name, *ends] for name, ends in zip(space.names, space.ends, strict=True)]
    text = json.dumps([repr(case.scenario), named, type(space).__name__, varied])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _at_once(result: Sensitivity, run: _Runner, samples: int, method: Method, seed: int) -> Sensitivity:
    names, bounds = run.space.names, run.space.ends
    points = points_for(method, names, bounds, samples, seed)
    outcomes = [Outcome(**outcome) for outcome in run.solve(points)]
    found = robustness(run.case, run.space, points, outcomes, seed)
    carries = np.array([outcome.carries for outcome in outcomes])
    return result._replace(
        robustness=found,
        indices=indices(method, names, bounds, points, carries, seed),
        samples=rows_of(names, points, outcomes),
        notes=(*result.notes, *found.notes),
    )


def _map(parameters: Sequence[Parameter], axes: tuple[str, str], run: _Runner) -> Map:
    names = [p.name for p in parameters]
    unknown = [name for name in axes if name not in names]
    if unknown or axes[0] == axes[1]:
        message = f"the axes of a map are two of the parameters: {', '.join(names)}"
        raise InputError.single(f"--map {' '.join(axes)}", message)
    values = [np.geomspace(parameters[names.index(n)].low, parameters[names.index(n)].high, _MAP) for n in axes]
    points = np.ones((_MAP * _MAP, len(names)))
    first, second = np.meshgrid(*values)
    points[:, names.index(axes[0])], points[:, names.index(axes[1])] = first.ravel(), second.ravel()
    plans = [str(outcome["plan"]) or "no plan" for outcome in run.solve(points)]
    known = list(dict.fromkeys([str(run.solve(np.ones((1, len(names))))[0]["plan"]), *plans]))
    numbers = np.array([known.index(plan) for plan in plans]).reshape(_MAP, _MAP)
    return Map(
        axes,
        tuple(values[0].tolist()),
        tuple(values[1].tolist()),
        tuple(tuple(row) for row in numbers.tolist()),
        tuple(known),
    )
