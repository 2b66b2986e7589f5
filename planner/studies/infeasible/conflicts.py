"""Which requirements of a scenario cannot hold together, and how far each would have to give way."""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from planner.studies.infeasible.requirements import Change, Knob, Requirement
from planner.studies.resolve import with_values

Whole = Any  # what is asked for as a whole: a case, or a migration
Test = Callable[[Whole], bool]
_DOUBLINGS = 40
_NEAR = 1.05  # of the factor of several requirements, before each is looked at by itself


class Found(NamedTuple):
    """A value of a requirement, and the change that brings it about."""

    value: float | None
    change: Change


def without(case: Whole, aside: Iterable[Requirement]) -> Whole:
    """Return a case without some requirements; whole workloads go last, after what is asked of them."""
    for requirement in sorted(aside, key=lambda requirement: requirement.leaves_out):
        case = requirement.aside(case)
    return case


def changed(case: Whole, change: Change) -> Whole:
    """Return a case with a change."""
    return with_values(case, change.values)


def conflicts(case: Whole, asked: Sequence[Requirement], solves: Test) -> list[tuple[Requirement, ...]]:
    """Return sets of requirements that cannot hold together while any fewer of each can, with no member in common.

    Those that come last are kept in a set rather than those that come first. None where the case conflicts without any
    of them.
    """
    found: list[tuple[Requirement, ...]] = []
    gone: list[Requirement] = []
    left = list(asked)
    while left and not solves(without(case, gone)):
        if not solves(without(case, [*gone, *left])):
            return found
        members = _irreducible(case, gone, left, solves)
        found.append(members)
        gone += members
        left = [requirement for requirement in left if requirement not in members]
    return found


def _irreducible(
    case: Whole, gone: Sequence[Requirement], asked: Sequence[Requirement], solves: Test
) -> tuple[Requirement, ...]:
    """Return requirements that conflict while any fewer of them do not, of some that do; ``gone``: not asked any more.

    Halves are set aside at once: what the rest conflicts without holds no member, however many it has (QuickXplain:
    Junker, AAAI 2004).
    """

    def members(kept: Sequence[Requirement], among: Sequence[Requirement], *, more: bool) -> tuple[Requirement, ...]:
        """Return those among some that conflict with what is kept; ``more``: more of it than where they last did."""
        aside = [requirement for requirement in asked if requirement not in kept]
        if more and not solves(without(case, [*gone, *aside])):
            return ()
        if len(among) == 1:
            return tuple(among)
        half = (len(among) + 1) // 2
        first, last = among[:half], among[half:]
        needed = members([*kept, *last], first, more=True)
        return (*needed, *members([*kept, *needed], last, more=bool(needed)))

    return members((), asked, more=False)


def correction(case: Whole, asked: Sequence[Requirement], solves: Test) -> tuple[Requirement, ...]:
    """Return requirements that must all give way, and no fewer of them, so that the others hold; none where all must.

    Those that come last are kept first.
    """
    aside = list(asked)
    if not solves(without(case, aside)):
        return ()
    for requirement in reversed(asked):
        rest = [other for other in aside if other is not requirement]
        if solves(without(case, rest)):
            aside = rest
    return tuple(aside)


def loosened(case: Whole, requirement: Requirement, solves: Test) -> Found | None:
    """Return the least loosening of a requirement with which a case has a plan; None where none is enough."""
    if not solves(requirement.aside(case)):
        return None
    knob = requirement.loosened
    if isinstance(knob, Knob):
        value = _loosened(knob, lambda value: solves(changed(case, knob.change(value))))
        return None if value is None else Found(value, knob.change(value))
    return next((Found(None, change) for change in knob if solves(changed(case, change))), None)


def together(case: Whole, group: Sequence[Requirement], solves: Test) -> tuple[Found, ...] | None:
    """Return changes of all of several requirements that are enough, none of which could be smaller.

    Those with a number are loosened by one factor, the least that is enough; then each in turn as little as the others
    allow. None where a requirement cannot give way far enough.
    """
    found: list[Found] = []
    numbers = [(r, r.loosened) for r in group if isinstance(r.loosened, Knob)]
    for i, requirement in enumerate(options := [r for r in group if not isinstance(r.loosened, Knob)]):
        least = loosened(without(case, [*options[i + 1 :], *(r for r, _ in numbers)]), requirement, solves)
        if least is None:
            return None
        case = changed(case, least.change)
        found.append(least)
    knobs = [knob for _, knob in numbers]
    values = _by_one_factor(case, knobs, solves)
    if values is None:
        return None
    for i, knob in enumerate(knobs):
        others = _with(case, [*knobs[:i], *knobs[i + 1 :]], [*values[:i], *values[i + 1 :]])
        test = functools.partial(_at, others, knob, solves)
        values[i] = knob.asked if test(knob.asked) else _between(knob, knob.asked, values[i], test)
    return (*found, *(Found(v, k.change(v)) for v, k in zip(values, knobs, strict=True) if v != k.asked))


def _at(case: Whole, knob: Knob, solves: Test, value: float) -> bool:
    return solves(changed(case, knob.change(value)))


def _with(case: Whole, knobs: Sequence[Knob], values: Sequence[float]) -> Whole:
    for knob, value in zip(knobs, values, strict=True):
        case = changed(case, knob.change(value))
    return case


def _by_one_factor(case: Whole, knobs: Sequence[Knob], solves: Test) -> list[float] | None:
    """Return the values of knobs loosened by the least factor that is enough, to within ``_NEAR``."""

    def values(factor: float) -> list[float]:
        far = [_rounded(knob, knob.asked * factor**knob.looser, knob.looser) for knob in knobs]
        return [0.0 if v < k.nothing else min(max(v, k.least), k.most) for v, k in zip(far, knobs, strict=True)]

    low, high = 1.0, 1.0
    while not solves(_with(case, knobs, values(high))):
        if high > 2.0**_DOUBLINGS:
            return None
        low, high = high, high * 2
    while high / low > _NEAR:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if solves(_with(case, knobs, values(middle))) else (middle, high)
    return values(high)


def tightened(case: Whole, requirement: Requirement, solves: Test) -> Found | None:
    """Return the best value of a requirement that a case can reach; None where it has no number."""
    knob = requirement.loosened
    if not isinstance(knob, Knob):
        return None
    value = _tightened(knob, lambda value: solves(changed(case, knob.change(value))))
    return None if value is None else Found(value, knob.change(value))


def _loosened(knob: Knob, solves: Callable[[float], bool]) -> float | None:
    bad = knob.asked
    for good in _steps(knob, knob.looser):
        if solves(good):
            return _between(knob, bad, good, solves)
        bad = good
    return None


def _tightened(knob: Knob, solves: Callable[[float], bool]) -> float | None:
    if not solves(knob.asked):
        return _loosened(knob, solves)
    good = knob.asked
    for bad in _steps(knob, -knob.looser):
        if not solves(bad):
            return _between(knob, bad, good, solves)
        good = bad
    return good


def _steps(knob: Knob, way: int) -> Iterator[float]:
    """Yield values ever farther from the one asked for, up (1) or down (-1), each twice as far as the one before."""
    value = knob.asked
    for _ in range(_DOUBLINGS):
        following = min(max(_rounded(knob, value * 2.0**way, way), knob.least), knob.most)
        if following < knob.nothing:
            yield 0.0
            return
        if following == value or following <= 0:
            return
        yield following
        value = following


def _rounded(knob: Knob, value: float, way: int) -> float:
    unit = _unit(knob, value)
    return _exact((math.ceil if way > 0 else math.floor)(round(value / unit, 6)), unit)


def _unit(knob: Knob, value: float) -> float:
    """Return what the last digit of a value counts."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - knob.digits) if value > 0 else 1.0
    return max(unit, 1.0) if knob.whole else unit


def _exact(count: int, unit: float) -> float:
    return float(f"{count * unit:.12g}")


def _between(knob: Knob, bad: float, good: float, solves: Callable[[float], bool]) -> float:
    """Return the last value that solves on the way from one that does to one that does not, to so many digits."""
    unit = _unit(knob, min(bad, good) or max(bad, good))
    ways = (math.floor, math.ceil) if good > bad else (math.ceil, math.floor)
    low, high = ways[0](round(bad / unit, 6)), ways[1](round(good / unit, 6))
    while abs(high - low) > 1:
        middle = (low + high) // 2
        if solves(_exact(middle, unit)):
            high = middle
        else:
            low = middle
    return good if _exact(high, unit) == 0 else _exact(high, unit)
