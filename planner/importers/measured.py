"""What a benchmark of a running server says, whatever tool wrote it."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from planner.constants import MILLISECONDS_PER_SECOND

FIXED = "fixed"
_EQUAL = 0.02  # lengths this close to their mean are one length: tokenizers add and drop a token or two
_IDLE, _CROWDED = 0.7, 1.1  # requests in flight over clients, beyond which something else than the clients set the load


class Tail(NamedTuple):
    """Percentiles over requests [ms]; none where the file has none."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class Measured(NamedTuple):
    """One run of a benchmark. Times are means over completed requests [ms]; lengths are their mean tokens.

    ``tpot_ms`` leaves the first token out: (latency − TTFT) / (tokens − 1), averaged over requests. ``failed`` is none
    where the file does not count them. ``open_loop`` says why the run is no closed loop of clients, and is empty where
    it is one; then ``concurrency`` is its clients, 0 where the file does not say. ``acceptance`` holds the chance of
    each draft token to be accepted after those before it, ``speculative`` whether drafts were made (none: unknown).
    ``length_spread`` is as prediction rows have it, empty where the file does not say. ``facts`` are columns of
    prediction rows that the file states; ``doubts`` say why the figures may be off.
    """

    source: str
    run: str
    concurrency: int
    isl: float
    osl: float
    ttft_ms: float
    tpot_ms: float
    completed: int
    duration_s: float
    length_spread: str = ""
    ttft_tail: Tail = Tail()
    tpot_tail: Tail = Tail()
    failed: int | None = None
    model: str = ""
    facts: Mapping[str, str | int] = {}
    open_loop: str = ""
    speculative: bool | None = None
    acceptance: tuple[float, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def in_flight(self) -> float:
        """Mean requests in flight, by Little's law: rate of completion times latency."""
        latency_ms = self.ttft_ms + self.tpot_ms * (self.osl - 1)
        return self.completed * latency_ms / MILLISECONDS_PER_SECOND / self.duration_s if self.duration_s else math.nan


def length_spread(*columns: Sequence[float]) -> str:
    """Return how lengths spread, from the lengths of every request: ``fixed``, or the uniform spread as wide.

    A uniform distribution of half-width √3·σ has the standard deviation σ of the lengths; the widest column counts.
    """
    widths = [_half_width(lengths) for lengths in columns if lengths]
    return spread_text(max(widths, default=0.0))


def spread_text(half_width: float) -> str:
    """Return the spread of lengths that lie within a share of their mean on both sides."""
    if half_width <= _EQUAL:
        return FIXED
    return f"uniform[{max(1 - half_width, 0.001):.4g},{1 + half_width:.4g}]"


def half_width(mean: float, deviation: float) -> float:
    """Return half the width of a uniform distribution, over its mean, from its standard deviation."""
    return math.sqrt(3) * deviation / mean if mean > 0 else 0.0


def _half_width(lengths: Sequence[float]) -> float:
    mean = statistics.fmean(lengths)
    if max(lengths) - mean <= _EQUAL * mean and mean - min(lengths) <= _EQUAL * mean:
        return 0.0
    return half_width(mean, statistics.pstdev(lengths))


def doubts(run: Measured) -> tuple[str, ...]:
    """Return why the figures of a run may not be those of a steady closed loop."""
    found = list(run.doubts)
    if run.failed:
        found.append(f"{run.failed} of {run.failed + run.completed} requests failed, and the load was smaller for it")
    if run.concurrency:
        if run.completed + (run.failed or 0) < run.concurrency:
            found.append(f"{run.completed} requests cannot keep {run.concurrency} clients busy")
        elif run.in_flight < _IDLE * run.concurrency:
            found.append(f"only {run.in_flight:.1f} of {run.concurrency} clients had a request under way on average")
        elif run.in_flight > _CROWDED * run.concurrency:
            found.append(f"{run.in_flight:.1f} requests under way are more than {run.concurrency} clients can have")
    return tuple(found)
