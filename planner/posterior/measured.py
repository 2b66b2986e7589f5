"""The measured rows of a calibration, and what they say about others."""

import csv
import io
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.posterior.joint import Joint, of_spreads
from planner.posterior.place import COLUMNS, Place
from planner.posterior.process import UNKNOWN, Inputs, Kernel, MeanAlike, Process, Spread, SpreadAlike, mean, mean_alike
from planner.recent import Recent
from planner.schema.calibration import LEVELS, LOADS, MEDIAN, Basis, Calibration, Interval, ProcessKernel, Quantiles
from planner.table import Floats, Ints

LATENCIES = ("ttft", "tpot")
NUMBERS = (*LOADS, "weight", "ttft", "tpot", "alpha_ttft", "alpha_tpot")
STEP = 0.5  # doublings from one point of a curve to the next
CLIENTS = 2.0 ** np.arange(0.0, 14.0 + STEP, STEP)  # at which curves are worked out
_MOST_CURVES = 4096  # that are remembered, of half a kilobyte each
_TENTH = NormalDist().inv_cdf(0.9)


class Support(NamedTuple):
    """How far a deployment is from what was measured.

    ``basis``: the nearest thing measured; none where nothing was, or where ``outside`` names what lies a doubling or
    more beyond all measured runs. ``doublings``: how far beyond in all. ``interval``: of held-out errors there.
    """

    basis: Basis
    interval: Interval
    outside: tuple[str, ...]
    doublings: float


class Measured:
    """The measured rows of a calibration as processes of TTFT and TPOT."""

    def __init__(self, calibration: Calibration) -> None:
        self.intervals = calibration.intervals
        table = list(csv.DictReader(io.StringIO(calibration.rows)))
        places = [place_of(row) for row in table]
        self.known = known_keys(places)
        self.systems = frozenset(place.system for place in places)
        self.backends = frozenset(place.backend for place in places)
        loads = np.array([place.load for place in places])
        self.least, self.most = loads.min(axis=0), loads.max(axis=0)
        self.devices, self.stages = max(p.devices for p in places), max(p.pp for p in places)
        rows = inputs_of(places, self.known)
        self.processes = {
            name: Process(
                kernel_of(kernel),
                rows,
                np.array([float(row[f"alpha_{name}"]) for row in table]),
                np.array([float(row["weight"]) if row[name] else UNKNOWN for row in table]),
            )
            for name, kernel in (("ttft", calibration.ttft), ("tpot", calibration.tpot))
        }
        self._known_alike: dict[Hashable, MeanAlike | SpreadAlike] = {}
        self._curves: Recent[Floats] = Recent(_MOST_CURVES)
        self._spreads = {name: Spread(process) for name, process in self.processes.items()}

    def expected(self, latency: str, places: Sequence[Place]) -> Floats:
        """Return expected logarithms of measured over modelled times at places."""
        return mean(self.processes[latency], inputs_of(places, self.known))

    def spread(self, latency: str, places: Sequence[Place], *, alone: bool = False) -> Floats:
        """Return standard deviations of these logarithms; what lies beyond all measured loads is less sure.

        ``alone``: places have nothing in common with what was measured, whatever their names.
        """
        beyond = np.array([self.support(place).doublings for place in places]) * self.intervals.beyond
        known: Sequence[dict[str, int]] = [{} for _ in self.known] if alone else self.known
        return np.hypot(self._spreads[latency].deviation(inputs_of(places, known)), beyond)

    def by_clients(self, latency: str, place: Place) -> Floats:
        """Return expected logarithms at a place and ``CLIENTS``, beyond measured loads or not.

        They are remembered, and what they are made of, too: of the places that a plan searches, nothing measured tells
        most apart.
        """
        return self._alike((latency, "mean"), place, lambda keys: mean_alike(self.processes[latency], keys))

    def spread_by_clients(self, latency: str, place: Place) -> Floats:
        """Return the standard deviations of the same; they take longer."""
        return self._alike((latency, "spread"), place, self._spreads[latency].alike)

    def beyond_by_clients(self, place: Place) -> tuple[NDArray[np.bool_], Floats]:
        """Return where the load of a place lies a doubling or more beyond measured ones at ``CLIENTS``; and doublings.

        Its own number of clients does not count, nor do its degrees; shape (CLIENTS,) each.
        """
        at = _loads(place)
        far = np.maximum(np.maximum(at - self.most[:, None], self.least[:, None] - at), 0.0)
        return (far >= 1).any(axis=0), far.sum(axis=0)

    def together(self, places: Sequence[Place]) -> Joint:
        """Return what is left of both latencies at places, with a part of each place's own."""
        return of_spreads([self._spreads[name] for name in LATENCIES], inputs_of(places, self.known))

    def joint(self, latency: str, places: Sequence[Place]) -> Floats:
        """Return the covariance of what is left of a latency at places, without noise, shape (C, C)."""
        return self._spreads[latency].joint(inputs_of(places, self.known))

    def support(self, place: Place, *, apart: bool = False) -> Support:
        """Return how far a place is from what was measured.

        ``apart``: it prefills or decodes only. No such run was measured; what was of runs that do both, is as near as
        another deployment.
        """
        basis, interval = self.nearest(place, apart=apart)
        outside, doublings = self._beyond(place)
        return Support("none" if outside else basis, interval, outside, doublings)

    def named(self, place: Place) -> tuple[str, ...]:
        """Return the keys of a place that something measured has, too."""
        return tuple(key if key in known else "" for key, known in zip(place.keys, self.known, strict=True))

    def alike(self, place: Place) -> Hashable:
        """Return what of its precision and degrees tells a place from others of one system, backend and model."""
        return self.named(place), *self.wider(place)

    @property
    def fewest(self) -> float:
        """The fewest clients that were measured."""
        return float(2 ** self.least[0])

    def _alike(self, what: Hashable, place: Place, made: Callable[[Ints], MeanAlike | SpreadAlike]) -> Floats:
        """Return what rows with the keys of a place have, at its lengths and ``CLIENTS``."""
        key = (what, self.named(place))
        if key not in self._known_alike:
            self._known_alike[key] = made(inputs_of([place], self.known).keys[:, 0])
        return self._curves.of((*key, place.isl, place.osl), lambda: self._known_alike[key].at(_loads(place)))

    def nearest(self, place: Place, *, apart: bool) -> tuple[Basis, Interval]:
        """Return the nearest thing that was measured, whatever the load, and the interval of errors there."""
        pair, _, _, here, _, deployment = place.keys
        if deployment in self.known[-1] and not apart:
            return "deployment", self.intervals.deployment
        if pair in self.known[0]:
            known = here in self.known[3]
            return "system+backend", self.intervals.system_backend if known else self.intervals.new_model
        if place.system in self.systems:
            return "system", self.intervals.system
        return "none", self.intervals.none

    def _beyond(self, place: Place) -> tuple[tuple[str, ...], float]:
        """Return what no measured run comes near, in words, and how many doublings that is in all."""
        outside, doublings = [], 0.0
        loads = (place.concurrency, place.isl, place.osl)
        for name, value, at, least, most in zip(LOADS, loads, place.load, self.least, self.most, strict=True):
            far = max(at - most, least - at, 0.0)
            if far >= 1:
                outside.append(f"{name} {value:.0f}: measured from {2**least:.0f} to {2**most:.0f}")
            doublings += far
        sizes = (("devices", place.devices, self.devices), ("pp", place.pp, self.stages))
        for (name, size, most), far in zip(sizes, self.wider(place), strict=True):
            if far:
                outside.append(f"{name} {size}: measured up to {most}")
                doublings += far
        return tuple(outside), doublings

    def wider(self, place: Place) -> tuple[float, float]:
        """Return the doublings by which devices and stages exceed all that was measured."""
        return max(0.0, math.log2(place.devices / self.devices)), max(0.0, math.log2(place.pp / self.stages))


def _loads(place: Place) -> Floats:
    """Return loads at ``CLIENTS`` with a place's lengths, in doublings, shape (axes, CLIENTS)."""
    _, *lengths = place.load
    return np.stack([np.log2(CLIENTS), *(np.full(len(CLIENTS), length) for length in lengths)])


def quantile(quantiles: Quantiles, share: float) -> float:
    """Return the deviations below which a share of residuals lies: two halves of normals through the tenths."""
    edge = quantiles.p90 if share > MEDIAN else -quantiles.p10
    return edge * NormalDist().inv_cdf(share) / _TENTH


def place_of(row: Mapping[str, str]) -> Place:
    """Return the place of a line of a calibration's rows."""
    tp, pp, dp, ep = (int(row[name]) for name in COLUMNS[4:])
    concurrency, isl, osl = (float(row[name]) for name in LOADS)
    return Place(row["system"], row["backend"], row["model"], row["precision"], tp, pp, dp, ep, concurrency, isl, osl)


def known_keys(places: Sequence[Place]) -> list[dict[str, int]]:
    """Return numbers of the values of each level, in the order of their names."""
    keys = [place.keys for place in places]
    return [{key: i for i, key in enumerate(sorted({k[level] for k in keys}))} for level in range(len(LEVELS))]


def inputs_of(places: Sequence[Place], known: Sequence[dict[str, int]]) -> Inputs:
    """Return rows of a process; values of a level that were not measured get negative numbers."""
    keys = []
    for table, level in zip(known, zip(*(place.keys for place in places), strict=True), strict=True):
        new = {key: -1 - i for i, key in enumerate(dict.fromkeys(level)) if key not in table}
        keys.append([table[key] if key in table else new[key] for key in level])
    return Inputs(np.array(keys, dtype=np.int64), np.array([place.load for place in places]).T)


def kernel_of(written: ProcessKernel) -> Kernel:
    """Return a kernel as arrays, levels and loads in their order."""
    return Kernel(
        np.array([written.constant[level] for level in LEVELS]),
        np.array([written.smooth[level] for level in LEVELS]),
        written.noise,
        np.array([written.lengths[load] for load in LOADS]),
    )
