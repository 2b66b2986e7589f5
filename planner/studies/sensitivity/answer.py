"""What a study of sensitivity says, for people and programs."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from planner.studies.sensitivity.flips import Flip, Swing
from planner.studies.sensitivity.indices import Index, Method, index_lines
from planner.studies.sensitivity.parameters import Parameter
from planner.studies.sensitivity.robustness import Robustness
from planner.studies.sensitivity.worth import Worth
from planner.text import Readable, aligned, figure
from planner.units import METRIC_UNITS

_SHOWN = 8  # plans of a map, in words


class Map(NamedTuple):
    """The best plan over two parameters: factors of each, and numbers of plans, shape (second, first)."""

    parameters: tuple[str, str]
    first: tuple[float, ...]
    second: tuple[float, ...]
    plan: tuple[tuple[int, ...], ...]
    plans: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """How much of it is whose, for people, the plan as it stands first."""
        places = [number for row in self.plan for number in row]
        shares = {i: places.count(i) / len(places) for i in range(len(self.plans))}
        first, *rest = shares
        order = [first, *sorted(rest, key=lambda i: -shares[i])]
        rows = [[f"{shares[i]:.1%}", self.plans[i]] for i in order[:_SHOWN]]
        yield f"over {self.parameters[0]} and {self.parameters[1]}, {len(places)} places"
        yield from aligned(["share", "best"], rows, ("best",))
        if order[_SHOWN:]:
            yield f"{sum(shares[i] for i in order[_SHOWN:]):.1%}  {len(order) - _SHOWN} others"


class _Sensitivity(NamedTuple):
    scenario: str
    plan: str
    metric: str
    goal: float
    parameters: tuple[Parameter, ...]
    swings: tuple[Swing, ...]
    flips: tuple[Flip, ...]
    worths: tuple[Worth, ...]
    method: Method
    robustness: Robustness | None = None
    indices: tuple[Index, ...] = ()
    samples: tuple[Mapping[str, Any], ...] = ()
    map: Map | None = None
    notes: tuple[str, ...] = ()


class Sensitivity(Readable, _Sensitivity):
    """What would change a plan; ``indices`` are of what the plan carries."""

    def lines(self) -> Iterator[str]:
        """It for people."""
        return _lines(self)

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
            "indices": [index.as_data() for index in self.indices],
            "map": self.map._asdict() if self.map else None,
            "notes": list(self.notes),
        }


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
    if found.map is not None:
        yield from ("", *found.map.lines())
    if found.robustness is not None:
        yield ""
        yield f"everything at once, {found.robustness.samples} samples ({found.method})"
        yield from found.robustness.lines()
        measured = index_lines("of what it carries", found.indices, found.method)
        yield from ("", *measured) if measured else ()
    yield from (f"note: {note}" for note in found.notes)


def _size(swing: Swing, goal: float) -> float:
    """Return how far the goal swings; no plan is as far as it gets."""
    ends = [goal if value is None else value for value in (swing.at_low, swing.at_high)]
    return float("inf") if None in (swing.at_low, swing.at_high) else max(ends) - min(ends)
