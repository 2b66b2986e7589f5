"""How likely a plan stays best and keeps its limits, over what its calibration is unsure of."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from planner.catalog import Case
from planner.columns.believed import place_of
from planner.columns.legality import limits
from planner.columns.setting import setting_of
from planner.constants import MILLISECONDS_PER_SECOND
from planner.plan import Deployment, Plan
from planner.posterior import Place, Replica
from planner.posterior.measured import LATENCIES
from planner.studies.sensitivity.draws import Draws
from planner.studies.sensitivity.indices import Index, Method, index_lines, indices, points_for
from planner.studies.sensitivity.robustness import Robustness, robustness, rows_of
from planner.studies.sensitivity.sampler import Outcome
from planner.studies.sensitivity.sweep import Result
from planner.table import FORMAT_NAMES, Floats
from planner.text import Readable, aligned, figure
from planner.units import METRIC_UNITS

_OTHERS = 5  # plans named that are best instead
_MATTERS = 0.01  # an index below this is not worth a line
_SCREENED = (0.05, 0.95)  # chances between which Morris' trajectories run: at 0 and 1 normals have no end
HINDSIGHT = (
    "in every draw each plan is run as hard as the limits allow there, as if that were known; `chances` of `planner "
    "solve` compares other divisions as hard as they would be planned now, and no pairs"
)
NO_CHANCES = "trajectories of Morris are no draws: shares of them are no chances; --method sobol gives these"
APART = "limits of prefill and decode apart are not looked at one by one: what they share is not drawn"


class Kept(NamedTuple):
    """The chance that a deployment keeps a limit at its planned load, and what it is expected to reach [s]."""

    deployment: str
    latency: str
    limit: float
    expected: float
    chance: float


class _Likely(NamedTuple):
    scenario: str
    plan: str
    metric: str
    goal: float
    method: Method
    robustness: Robustness
    kept: tuple[Kept, ...]
    instead: tuple[tuple[str, float], ...]
    carries: tuple[Index, ...]
    loses: tuple[Index, ...]
    samples: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


class Likely(Readable, _Likely):
    """What is likely of a plan: ``instead`` are other best plans with their shares; indices of two outcomes."""

    def lines(self) -> Iterator[str]:
        """It for people."""
        unit, r = METRIC_UNITS[self.metric], self.robustness
        yield f"{self.scenario}: {figure(self.goal)} {unit} with {self.plan}"
        yield ""
        yield f"over what the calibration is unsure of, {r.samples} draws ({self.method})"
        yield from r.lines()
        for kept in self.kept:
            expected, limit = (figure(s * MILLISECONDS_PER_SECOND) for s in (kept.expected, kept.limit))
            name = f"keeps {kept.latency.upper()}"
            yield f"  {name:21} {kept.chance:.1%} of {kept.deployment}, expected {expected} of {limit} ms"
        if self.instead:
            rows = [[f"{share:.1%}", plan] for plan, share in self.instead]
            yield from ("", *aligned(["share", "best instead"], rows, ["best instead"]))
        yield from _table("of what it carries", self.carries, self.method)
        yield from _table("of what is lost by staying", self.loses, self.method)
        yield from (f"note: {note}" for note in self.notes)

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data, without single samples."""
        return {
            "scenario": self.scenario,
            "plan": self.plan,
            "goal": {"metric": self.metric, "unit": METRIC_UNITS[self.metric], "value": self.goal},
            "method": self.method,
            "robustness": self.robustness._asdict(),
            "kept": [kept._asdict() for kept in self.kept],
            "instead": [{"plan": plan, "share": share} for plan, share in self.instead],
            "indices": {name: [index.as_data() for index in getattr(self, name)] for name in ("carries", "loses")},
            "notes": list(self.notes),
        }


def _table(title: str, found: Sequence[Index], method: Method) -> Iterator[str]:
    """Yield the indices that matter, the largest first."""
    lines = index_lines(title, found, method, _MATTERS)
    yield from ("", *lines) if lines else ()


def likely_of(
    case: Case,
    draws: Draws,
    plan: Plan,
    base: tuple[str, float],
    run: Callable[[Floats], list[Result]],
    samples: int,
    method: Method,
    seed: int,
) -> Likely:
    """Say how likely a plan stays best and keeps its limits.

    Args:
        case: a scenario with everything it names.
        draws: what its calibrations are unsure of.
        plan: its best plan.
        base: that plan's shape in words and its first goal.
        run: solves points.
        samples: draws, at most.
        method: how they are chosen and read.
        seed: of the draws.
    """
    bounds = [(0.0, 1.0) if method == "sobol" else _SCREENED] * len(draws.names)
    chances = points_for(method, draws.names, bounds, samples, seed)
    points = draws.points(chances)
    outcomes = [Outcome(**outcome) for outcome in run(points)]
    found = robustness(case, draws, points, outcomes, seed)
    others = Counter(outcome.plan for outcome in outcomes if not outcome.keeps)
    carries, loses = (
        indices(method, draws.names, bounds, chances, np.array(output), seed)
        for output in ([o.carries for o in outcomes], [1.0 if o.loses is None else o.loses for o in outcomes])
    )
    mixed = all(d.role == "mixed" for d in plan.deployments if isinstance(d, Deployment))
    return Likely(
        scenario=case.scenario.name,
        plan=base[0],
        metric=case.scenario.objective[0].metric,
        goal=base[1],
        method=method,
        robustness=found,
        kept=tuple(_kept(case, draws, plan, points)),
        instead=tuple((name, count / len(outcomes)) for name, count in others.most_common(_OTHERS)),
        carries=carries,
        loses=loses,
        samples=rows_of(draws.names, points, outcomes),
        notes=(*found.notes, HINDSIGHT, *(() if method == "sobol" else (NO_CHANCES,)), *(() if mixed else (APART,))),
    )


def _kept(case: Case, draws: Draws, plan: Plan, points: Floats) -> Iterator[Kept]:
    """Yield the chance of each limit of the plan's deployments that work alone, at the load they are planned for."""
    for d in plan.deployments:
        if not isinstance(d, Deployment) or d.role != "mixed":
            continue
        c = d.configuration()
        setting = setting_of(case, c)
        if setting.believed is None:
            continue
        division = (FORMAT_NAMES.index(c.weight_precision), c.tp, c.pp, c.attention_dp, c.ep)
        off = np.array([draws.drawn(setting, draws.off(point)).logarithms(division) for point in points.tolist()])
        for latency, limit in limits(setting.workload).items():
            median = getattr(d.predicted, f"{latency}_ms_p50", None)
            if latency in LATENCIES and median is not None:
                expected = median / MILLISECONDS_PER_SECOND
                room = math.log(limit / expected) - off[:, LATENCIES.index(latency)]
                own = _repeated(setting.believed, latency, place_of(setting.believed, c))
                chance = float(np.mean([NormalDist().cdf(each / own) for each in room.tolist()]))
                yield Kept(d.name, latency, limit, expected, chance)


def _repeated(replica: Replica, latency: str, place: Place) -> float:
    """Return how far a deployment is from others like it, whenever it is measured: a deviation of logarithms."""
    width = getattr(replica.support(place).interval, latency).width
    return float(replica.measured.processes[latency].kernel.noise * width)
