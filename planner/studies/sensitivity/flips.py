"""One number at a time: what the goal does at its ends, and where on the way the plan stops being best."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from planner.studies.sensitivity.parameters import Parameter
from planner.studies.sensitivity.sampler import Outcome

Solve = Callable[[Sequence[float]], Outcome]
_STEPS = 4  # between a value and the end of its range, so that a plan that comes back is less likely missed
_NEAR = 1e-3  # of a flip's factor, relative


class Flip(NamedTuple):
    """Where a plan stops being best: the last factor found at which it is, the first at which it is not.

    ``value``: of the parameter at the latter [SI units], None where it is not one number. ``to``: what is best there.
    """

    parameter: str
    keeps: float
    flips: float
    value: float | None
    to: str


class Swing(NamedTuple):
    """The best value of the first goal with a number at its ends, None where there is no plan."""

    parameter: str
    low: float
    high: float
    at_low: float | None
    at_high: float | None


def swing(parameters: Sequence[Parameter], number: int, solve: Solve) -> Swing:
    """Return what the goal does with one number at its ends."""
    p = parameters[number]
    low, high = (solve(_only(parameters, number, factor)).goal for factor in (p.low, p.high))
    return Swing(p.name, p.low, p.high, low, high)


def flips(parameters: Sequence[Parameter], number: int, solve: Solve) -> Iterator[Flip]:
    """Yield where the plan stops being best below and above the value of one number."""
    p = parameters[number]
    for end in (p.low, p.high):
        ratio = (end / 1.0) ** (1 / _STEPS)
        before = 1.0
        for step in range(1, _STEPS + 1):
            here = ratio**step
            outcome = solve(_only(parameters, number, here))
            if not outcome.keeps:
                yield _between(parameters, number, before, here, outcome, solve)
                break
            before = here


def _between(
    parameters: Sequence[Parameter], number: int, keeps: float, flipped: float, outcome: Outcome, solve: Solve
) -> Flip:
    p = parameters[number]
    while abs(flipped / keeps - 1) > _NEAR and p.at(keeps) != p.at(flipped):
        middle = math.sqrt(keeps * flipped)
        if p.at(middle) in (p.at(keeps), p.at(flipped)):
            break
        found = solve(_only(parameters, number, middle))
        keeps, flipped, outcome = (middle, flipped, outcome) if found.keeps else (keeps, middle, found)
    value = None if p.value is None else next(iter(p.at(flipped).values()))
    return Flip(p.name, keeps, flipped, value, outcome.plan)


def _only(parameters: Sequence[Parameter], number: int, factor: float) -> list[float]:
    return [factor if i == number else 1.0 for i in range(len(parameters))]
