"""Plans of a frontier beside each other: which beat others, which some weighting makes best, and the knee."""

from collections.abc import Iterator, Sequence

import numpy as np

from planner.milp.model import INFINITY, Milp, Objective, Row, Variable, sense_of
from planner.solvers import solver as solver_named
from planner.studies.pareto.frontier import Point
from planner.table import Floats

_SAME = 1e-8  # relative difference of metrics that rounding may make
_AHEAD = 1e-7  # of a range, by which rounding may put a plan behind others that it is level with
_BELOW = 0.02  # of a range, by which a knee lies below the plane at least
_SUPPORT_TIME = 10.0  # seconds for a linear program of a few weights


def _signed(points: Sequence[Point], metrics: Sequence[str]) -> Floats:
    """Return the metrics of points so that less is better, shape (points, metrics)."""
    signs = np.array([1.0 if sense_of(metric) == "minimize" else -1.0 for metric in metrics])
    values = np.array([point.values for point in points], dtype=np.float64).reshape(len(points), len(metrics))
    return np.asarray(values * signs)


def undominated(points: Sequence[Point], metrics: Sequence[str]) -> list[Point]:
    """Return the points that no other matches or beats in everything, each once."""
    scores = _signed(points, metrics)
    slack = _SAME * np.abs(scores)
    kept: list[int] = []
    for i in range(len(points)):
        better = (scores <= scores[i] + slack[i]).all(axis=1)
        strictly = (scores < scores[i] - slack[i]).any(axis=1)
        twin = any(np.all(np.abs(scores[k] - scores[i]) <= slack[i]) for k in kept)
        if not (better & strictly).any() and not twin:
            kept.append(i)
    return [points[i] for i in kept]


def marked(points: Sequence[Point], metrics: Sequence[str]) -> Iterator[Point]:
    """Yield points with what is supported by a weighting, and the knee marked."""
    scores = _signed(points, metrics)
    span = np.ptp(scores, axis=0) if len(points) else np.zeros(len(metrics))
    scaled = (scores - scores.min(axis=0)) / np.where(span > 0, span, 1.0) if len(points) else scores
    knee = _knee(scaled)
    for i, point in enumerate(points):
        yield point._replace(supported=_supported(scaled, i), knee=i == knee)


def _knee(scaled: Floats) -> int | None:
    """Return the plan farthest below the plane through the best of each metric alone (Das, Struct. Optim. 18, 1999).

    None where none is below it. Scores run from 0, the best, to 1.
    """
    if len(scaled) <= scaled.shape[1]:
        return None
    ends = scaled[[int(np.lexsort((scaled.sum(axis=1), scaled[:, k]))[0]) for k in range(scaled.shape[1])]]
    try:
        normal = np.linalg.solve(ends, np.ones(len(ends)))
    except np.linalg.LinAlgError:
        return None
    below = 1.0 - scaled @ normal
    return int(np.argmax(below)) if below.max() > _BELOW else None


def _supported(scaled: Floats, point: int) -> bool:
    """Tell whether some weights make a plan best: whether it can be ahead of every other by a margin of 0."""
    count = scaled.shape[1]
    weights = [Variable(f"w{k}", 0.0, 1.0, integer=False, meaning="weight of a metric") for k in range(count)]
    margin = Variable("margin", -1.0, 1.0, integer=False, meaning="how far ahead of the closest other")
    ahead = [
        Row(f"ahead[{j}]", "ahead", {**dict(enumerate((other - scaled[point]).tolist())), count: -1.0}, 0.0, INFINITY,
            "1", "no other is better by these weights")
        for j, other in enumerate(scaled) if j != point
    ]  # fmt: skip
    whole = Row("whole", "whole", dict.fromkeys(range(count), 1.0), 1.0, 1.0, "1", "weights add up to 1")
    goal = Objective("margin", "maximize", np.array([0.0] * count + [1.0]), "1")
    result = solver_named("highs", small=True).solve(
        Milp((*weights, margin), (*ahead, whole), (goal,)), _SUPPORT_TIME, 0.0
    )
    return result.value is not None and result.value > -_AHEAD
