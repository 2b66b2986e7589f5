"""A frontier as an answer, for people and programs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from planner.text import Readable, aligned, figure
from planner.units import METRIC_UNITS

_SHOWN = 30  # plans that are all printed


class Point(NamedTuple):
    """A plan of the frontier: its metrics in the order asked for [SI units], and what it deploys.

    ``supported``: some weighting of the metrics makes it best; others lie inside the convex hull of the frontier.
    """

    values: tuple[float, ...]
    plan: str
    supported: bool = True
    knee: bool = False


class _Frontier(NamedTuple):
    scenario: str
    metrics: tuple[str, ...]
    points: tuple[Point, ...]
    gap: str = ""


class Frontier(Readable, _Frontier):
    """Every plan that no other is at least as good as in all metrics, by the first one.

    ``gap``: where plans may be missing, empty unless the search was cut off; the plans found are exact all the same.
    """

    @property
    def complete(self) -> bool:
        """Whether every plan of the frontier was found."""
        return not self.gap

    def lines(self) -> Iterator[str]:
        """It for people."""
        return _lines(self)

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data."""
        units = {metric: METRIC_UNITS[metric] for metric in self.metrics}
        return {
            "scenario": self.scenario,
            "units": units,
            "complete": self.complete,
            "gap": self.gap,
            "points": self.rows(),
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return one mapping per plan."""
        return [
            {**dict(zip(self.metrics, p.values, strict=True)), "supported": p.supported, "knee": p.knee, "plan": p.plan}
            for p in self.points
        ]


def _lines(frontier: Frontier) -> Iterator[str]:
    points = frontier.points
    yield f"{frontier.scenario}: {len(points)} plan{'s' * (len(points) != 1)} that nothing beats"
    shown = points if len(points) <= _SHOWN else [p for p in points if p.supported or p.knee]
    if shown:
        headers = [f"{metric} [{METRIC_UNITS[metric]}]" for metric in frontier.metrics]
        rows = [[*map(figure, p.values), _remark(p), p.plan] for p in shown]
        yield from aligned([*headers, "", "plan"], rows, ("", "plan"))
    if len(shown) < len(points):
        yield f"{len(points) - len(shown)} inside the convex hull are left out here"
    if frontier.gap:
        yield f"note: {frontier.gap}"


def _remark(point: Point) -> str:
    return "knee" if point.knee else "" if point.supported else "inside"
