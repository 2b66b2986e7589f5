"""What becomes of a plan over many samples: shares of them, and percentiles."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from planner.catalog import Case
from planner.studies.sensitivity.sampler import Outcome
from planner.studies.sensitivity.space import Space
from planner.studies.sensitivity.worth import searched
from planner.table import Floats
from planner.text import figure

_CHECKED = 8  # samples that are solved again over the whole grid
_AGREES = 1e-6
DISAGREE = "{} of {} samples solved again over the whole grid had another best plan: narrow the ranges"


class Robustness(NamedTuple):
    """What becomes of the plan over all samples: shares of them, and percentiles of what it carries.

    ``keeps``: it is still best. ``holds``: it carries its load within all limits. ``loses``: the mean of what is lost
    by staying with it where it holds, relative. ``checked``: samples solved again over the whole grid, ``agree`` of
    them with the same best value.
    """

    samples: int
    keeps: float
    holds: float
    loses: float
    carries_p10: float
    carries_p50: float
    carries_p90: float
    checked: int
    agree: int

    def lines(self) -> Iterator[str]:
        """It for people."""
        carries = " … ".join(map(figure, (self.carries_p10, self.carries_p50, self.carries_p90)))
        yield f"  stays best            {self.keeps:.1%}"
        yield f"  holds load and limits {self.holds:.1%}"
        yield f"  carries               {carries} (p10, p50, p90)"
        yield f"  lost by staying       {self.loses:.2%} on average where it holds"
        yield f"  solved again          {self.agree} of {self.checked} over the whole grid with the same best"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before trusting it."""
        wrong = self.checked - self.agree
        return (DISAGREE.format(wrong, self.checked),) if wrong else ()


def rows_of(names: Sequence[str], points: Floats, outcomes: Sequence[Outcome]) -> tuple[dict[str, Any], ...]:
    """Return one mapping per sample: its numbers by name, and what becomes of it."""
    return tuple(
        {**dict(zip(names, point.tolist(), strict=True)), **outcome._asdict()}
        for point, outcome in zip(points, outcomes, strict=True)
    )


def robustness(case: Case, space: Space, points: Floats, outcomes: Sequence[Outcome], seed: int) -> Robustness:
    """Return what becomes of a plan over the outcomes of points; ``seed`` chooses those that are solved again."""
    carries = np.array([outcome.carries for outcome in outcomes])
    low, middle, high = (float(q) for q in np.quantile(carries, (0.1, 0.5, 0.9)))
    losses = [outcome.loses for outcome in outcomes if outcome.loses is not None]
    return Robustness(
        samples=len(outcomes),
        keeps=float(np.mean([outcome.keeps for outcome in outcomes])),
        holds=float(np.mean([outcome.holds for outcome in outcomes])),
        loses=float(np.mean(losses)) if losses else 0.0,
        carries_p10=low,
        carries_p50=middle,
        carries_p90=high,
        checked=min(_CHECKED, len(outcomes)),
        agree=_agreeing(case, space, points, outcomes, seed),
    )


def _agreeing(case: Case, space: Space, points: Floats, outcomes: Sequence[Outcome], seed: int) -> int:
    """Count, of a few samples, those for which a search of the whole grid finds the same best value."""
    chosen = np.random.default_rng(seed).permutation(len(points))[:_CHECKED]
    agree = 0
    for i in chosen.tolist():
        whole, sampled = searched(*space.settings(case, points[i].tolist())), outcomes[i].goal
        if whole is None or sampled is None:
            agree += whole is None and sampled is None
        else:
            agree += abs(whole - sampled) <= _AGREES * abs(whole)
    return agree
