"""The study: swings, flips, worths, and what becomes of the plan when everything varies at once."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from planner.catalog import AnyCase, Case
from planner.errors import InputError
from planner.studies.sensitivity.answer import Map, Robustness, Sensitivity
from planner.studies.sensitivity.flips import flips, swing
from planner.studies.sensitivity.indices import Method, indices, points_for
from planner.studies.sensitivity.parameters import Parameter, declared, usual, varied
from planner.studies.sensitivity.sampler import Outcome, Sampler
from planner.studies.sensitivity.sweep import Backend, Result, sweep
from planner.studies.sensitivity.worth import searched, worths

_CHECKED = 8  # samples that are solved again over the whole grid
_AGREES = 1e-6
_MAP = 21  # values of each axis of a flip map
_ALONE = Backend(workers=1)
DISAGREE = "{} of {} samples solved again over the whole grid had another best plan: narrow the ranges"
Stage = Callable[[str], None]
OnDone = Callable[[int, int], None]


class Evaluator:
    """Solves samples of a study; in another process it is made again there, once."""

    def __init__(self, case: Case, parameters: tuple[Parameter, ...], study: str) -> None:
        self.case, self.parameters, self.study = case, parameters, study

    def __call__(self, factors: Sequence[float]) -> Result:
        """Return the outcome at factors of the parameters."""
        return _sampler(self)(factors)._asdict()

    def __hash__(self) -> int:
        return hash(self.study)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evaluator) and other.study == self.study


@functools.lru_cache(maxsize=4)
def _sampler(evaluator: Evaluator) -> Sampler:
    return Sampler(evaluator.case, evaluator.parameters)


def sensitivity(
    case: AnyCase,
    ranges: Sequence[str] = (),
    samples: int = 0,
    method: Method = "sobol",
    seed: int = 1,
    over: tuple[str, str] | None = None,
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
        over: names of two of the parameters, for a map of the best plan over both.
        file: where solved points are kept, so that a study may be interrupted.
        backend: who solves.
        on_stage: told what is looked at.
        on_done: told how many points of how many are solved.

    Raises:
        InputError: a range that names no number; a case of a table, without a plan, or whose first goal is no sum.
    """
    if not isinstance(case, Case):
        raise InputError.single("", "a table of columns has no numbers to vary but its own")
    parameters = declared(case, ranges) if ranges else usual(case)
    study = _digest(case, parameters)
    evaluator = Evaluator(case, parameters, study)
    on_stage("pricing configurations")
    sampler = _sampler(evaluator)
    plain = sampler([1.0] * len(parameters))
    on_stage("one at a time")
    swings = tuple(swing(parameters, i, sampler) for i in range(len(parameters)))
    found = tuple(itertools.chain.from_iterable(flips(parameters, i, sampler) for i in range(len(parameters))))
    on_stage("one more of each resource")
    every = tuple(worths(case))
    result = Sensitivity(
        case.scenario.name, plain.plan, case.scenario.objective[0].metric, float(plain.goal or 0.0), parameters, swings,
        found, every, method,
    )  # fmt: skip
    run = functools.partial(sweep, evaluate=evaluator, study=study, file=file, backend=backend, on_done=on_done)
    if samples:
        on_stage("everything at once")
        result = _at_once(result, run, case, samples, method, seed)
    return result if over is None else result._replace(map=_map(parameters, over, run))


def _digest(case: Case, parameters: Sequence[Parameter]) -> str:
    """Return what tells studies apart: the scenario, what it names, and what is varied."""
    named = [specification._asdict() for specification in case.specifications]
    text = json.dumps([repr(case.scenario), named, [[p.name, p.low, p.high] for p in parameters]])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _at_once(
    result: Sensitivity, run: Callable[..., list[Result]], case: Case, samples: int, method: Method, seed: int
) -> Sensitivity:
    names, bounds = [p.name for p in result.parameters], [(p.low, p.high) for p in result.parameters]
    points = points_for(method, names, bounds, samples, seed)
    outcomes = [Outcome(**outcome) for outcome in run(points)]
    carries = np.array([outcome.carries for outcome in outcomes])
    agree = _agreeing(case, result.parameters, points, outcomes, seed)
    low, middle, high = (float(q) for q in np.quantile(carries, (0.1, 0.5, 0.9)))
    losses = [outcome.loses for outcome in outcomes if outcome.loses is not None]
    robustness = Robustness(
        samples=len(outcomes),
        keeps=float(np.mean([outcome.keeps for outcome in outcomes])),
        holds=float(np.mean([outcome.holds for outcome in outcomes])),
        loses=float(np.mean(losses)) if losses else 0.0,
        carries_p10=low,
        carries_p50=middle,
        carries_p90=high,
        checked=min(_CHECKED, len(outcomes)),
        agree=agree,
    )
    rows = tuple(
        {**dict(zip(names, point.tolist(), strict=True)), **o._asdict()}
        for point, o in zip(points, outcomes, strict=True)
    )
    found = indices(method, names, bounds, points, carries, seed)
    notes = () if agree == robustness.checked else (DISAGREE.format(robustness.checked - agree, robustness.checked),)
    return result._replace(robustness=robustness, indices=found, samples=rows, notes=(*result.notes, *notes))


def _agreeing(
    case: Case, parameters: Sequence[Parameter], points: np.ndarray, outcomes: Sequence[Outcome], seed: int
) -> int:
    """Count, of a few samples, those for which a search of the whole grid finds the same best value."""
    chosen = np.random.default_rng(seed).permutation(len(points))[:_CHECKED]
    agree = 0
    for i in chosen.tolist():
        whole, sampled = searched(varied(case, parameters, points[i].tolist())), outcomes[i].goal
        if whole is None or sampled is None:
            agree += whole is None and sampled is None
        else:
            agree += abs(whole - sampled) <= _AGREES * abs(whole)
    return agree


def _map(parameters: Sequence[Parameter], over: tuple[str, str], run: Callable[..., list[Result]]) -> Map:
    names = [p.name for p in parameters]
    unknown = [name for name in over if name not in names]
    if unknown or over[0] == over[1]:
        message = f"the axes of a map are two of the parameters: {', '.join(names)}"
        raise InputError.single(f"--map {' '.join(over)}", message)
    axes = [np.geomspace(parameters[names.index(n)].low, parameters[names.index(n)].high, _MAP) for n in over]
    points = np.ones((_MAP * _MAP, len(names)))
    first, second = np.meshgrid(*axes)
    points[:, names.index(over[0])], points[:, names.index(over[1])] = first.ravel(), second.ravel()
    plans = [str(outcome["plan"]) for outcome in run(points)]
    known = list(dict.fromkeys([str(run(np.ones((1, len(names))))[0]["plan"]), *plans]))
    numbers = np.array([known.index(plan) for plan in plans]).reshape(_MAP, _MAP)
    return Map(
        over,
        tuple(axes[0].tolist()),
        tuple(axes[1].tolist()),
        tuple(tuple(row) for row in numbers.tolist()),
        tuple(known),
    )
