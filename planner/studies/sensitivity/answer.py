"""What a study of sensitivity says, for people and programs."""

import html
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from planner.studies.sensitivity.flips import Flip, Swing
from planner.studies.sensitivity.indices import Index
from planner.studies.sensitivity.parameters import Parameter
from planner.studies.sensitivity.worth import Worth
from planner.text import aligned, figure
from planner.units import METRIC_UNITS


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


class Map(NamedTuple):
    """The best plan over two parameters: factors of each, and numbers of plans, shape (second, first)."""

    parameters: tuple[str, str]
    first: tuple[float, ...]
    second: tuple[float, ...]
    plan: tuple[tuple[int, ...], ...]
    plans: tuple[str, ...]


class Sensitivity(NamedTuple):
    """What would change a plan; ``indices`` are of what the plan carries."""

    scenario: str
    plan: str
    metric: str
    goal: float
    parameters: tuple[Parameter, ...]
    swings: tuple[Swing, ...]
    flips: tuple[Flip, ...]
    worths: tuple[Worth, ...]
    method: str
    robustness: Robustness | None = None
    indices: tuple[Index, ...] = ()
    samples: tuple[Mapping[str, Any], ...] = ()
    map: Map | None = None
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """It for people."""
        return "\n".join(_lines(self)) + "\n"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data, without single samples."""
        return {
            "scenario": self.scenario,
            "plan": self.plan,
            "goal": {"metric": self.metric, "unit": METRIC_UNITS[self.metric], "value": self.goal},
            "parameters": [{"name": p.name, "low": p.low, "high": p.high} for p in self.parameters],
            "swings": [s._asdict() for s in self.swings],
            "flips": [f._asdict() for f in self.flips],
            "worths": [w._asdict() for w in self.worths],
            "method": self.method,
            "robustness": self.robustness._asdict() if self.robustness else None,
            "indices": [{"parameter": i.parameter, **i.measures, **_halves(i)} for i in self.indices],
            "map": self.map._asdict() if self.map else None,
            "notes": list(self.notes),
        }


def _halves(index: Index) -> dict[str, float]:
    return {f"{name}_half_width": value for name, value in index.half_widths.items()}


def _lines(found: Sensitivity) -> Iterator[str]:
    unit = METRIC_UNITS[found.metric]
    yield f"{found.scenario}: {figure(found.goal)} {unit} with {found.plan}"
    yield ""
    yield f"{found.metric} [{unit}] with one number at its ends, and where the plan stops being best"
    stops: dict[str, list[Flip]] = {}
    for flip in found.flips:
        stops.setdefault(flip.parameter, []).append(flip)
    rows = [
        [
            s.parameter,
            f"{s.low:g} … {s.high:g}",
            "none" if s.at_low is None else figure(s.at_low),
            "none" if s.at_high is None else figure(s.at_high),
            "; ".join(f"× {f.flips:.4g}: {f.to}" for f in stops.get(s.parameter, [])),
        ]
        for s in sorted(found.swings, key=lambda s: -_size(s, found.goal))
    ]
    yield from aligned(["number", "factors", "low", "high", "flips at"], rows, ("number", "flips at"))
    if found.worths:
        yield ""
        yield "one more"
        rows = [
            [w.more, w.resource, "no plan" if w.exact is None else f"{w.exact:+.4g}",
             "" if w.dual is None else f"{w.dual:+.4g}"]
            for w in found.worths
        ]  # fmt: skip
        headers = ["resource", "field", f"exact [{unit}]", "LP dual"]
        yield from aligned(headers, rows, headers[:2])
    if found.robustness is not None:
        yield from _robust(found, found.robustness)
    yield from (f"note: {note}" for note in found.notes)


def _size(swing: Swing, goal: float) -> float:
    """Return how far the goal swings; no plan is as far as it gets."""
    ends = [goal if value is None else value for value in (swing.at_low, swing.at_high)]
    return float("inf") if None in (swing.at_low, swing.at_high) else max(ends) - min(ends)


def _robust(found: Sensitivity, r: Robustness) -> Iterator[str]:
    yield ""
    yield f"everything at once, {r.samples} samples ({found.method})"
    yield f"  stays best           {r.keeps:.1%}"
    yield f"  holds load and limits {r.holds:.1%}"
    carries = " … ".join(map(figure, (r.carries_p10, r.carries_p50, r.carries_p90)))
    yield f"  carries              {carries} (p10, p50, p90)"
    yield f"  lost by staying      {r.loses:.2%} on average where it holds"
    yield f"  solved again         {r.agree} of {r.checked} over the whole grid with the same best"
    measures = [index for index in found.indices if index.measures]
    if measures:
        names = list(measures[0].measures)
        by = names[-1] if found.method == "sobol" else names[0]
        ordered = sorted(measures, key=lambda index: -index.measures[by])
        yield ""
        headers = ["of what it carries", *names]
        yield from aligned(headers, [[i.parameter, *(_measure(i, n) for n in names)] for i in ordered], headers[:1])


def _measure(index: Index, name: str) -> str:
    half = f" ± {index.half_widths[name]:.3f}" if name in index.half_widths else ""
    return f"{index.measures[name]:.3f}{half}"
