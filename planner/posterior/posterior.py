"""What a calibration says about a deployment: its efficiencies, what is left unexplained, and how sure that is."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.posterior.fields import FIELDS, from_scale, to_scale, values_of, with_fields
from planner.posterior.joint import Joint
from planner.posterior.measured import LATENCIES, Measured
from planner.posterior.place import Place
from planner.posterior.replica import Replica
from planner.recent import Recent
from planner.schema.calibration import Basis, Calibration, Group, Interval
from planner.schema.efficiency import Efficiencies
from planner.table import Floats, Ints

_MOST_REPLICAS = 256  # that are remembered; each holds a few curves
Loaded = Efficiencies | Calibration


class Beliefs(NamedTuple):
    """Factors on modelled times, shape (C,) each: expected, and the tenth and ninetieth percentile; and their basis."""

    ttft: Floats
    ttft_p10: Floats
    ttft_p90: Floats
    tpot: Floats
    tpot_p10: Floats
    tpot_p90: Floats
    basis: list[Basis]


class Posterior:
    """Efficiencies of any system and backend, and beliefs about any deployment; without a calibration, none."""

    def __init__(self, textbook: Efficiencies, calibration: Calibration | None = None) -> None:
        self.textbook = textbook
        self.calibration = calibration
        self._efficiencies: dict[tuple[str, str], Efficiencies] = {}

    @classmethod
    def of(cls, loaded: Loaded | Sequence[Loaded]) -> "Posterior":
        """Return what a loaded calibration says, or of several the nearest to each deployment.

        The last few are remembered, since their rows take a while to read.
        """
        if not isinstance(loaded, Efficiencies | Calibration):
            return _Nearest([cls.of(each) for each in loaded]) if len(loaded) > 1 else cls.of(loaded[0])
        if isinstance(loaded, Calibration):
            return _RECENT.of(id(loaded), lambda: cls(loaded.textbook, loaded))
        return _RECENT.of(id(loaded), lambda: cls(loaded))

    def efficiencies(self, system: str, backend: str) -> Efficiencies:
        """Return the efficiencies of a backend on a system, as far as either was measured."""
        if self.calibration is None:
            return self.textbook
        key = (system, backend)
        if key not in self._efficiencies:
            groups = [g for g in self.calibration.groups if g.system in (None, system) and g.backend in (None, backend)]
            self._efficiencies[key] = moved(self.textbook, groups)
        return self._efficiencies[key]

    def beliefs(self, places: Sequence[Place]) -> Beliefs | None:
        """Return what is believed of deployments; None without a calibration, which has no intervals."""
        if self.measured is None or not places:
            return None
        supports = [self.measured.support(place) for place in places]
        expected = {name: self.measured.expected(name, places) for name in LATENCIES}
        spreads = {name: self.measured.spread(name, places) for name in LATENCIES}
        intervals = [support.interval for support in supports]
        return _beliefs(expected, spreads, intervals, [support.basis for support in supports])

    def joint(self, places: Sequence[Place]) -> Joint | None:
        """Return what is believed of residuals of deployments together; None without a calibration."""
        if self.measured is None:
            return None
        return self.measured.together(places)

    def unlike(self, places: Sequence[Place]) -> Beliefs | None:
        """Return what is believed of deployments of a kind that was not measured; None without a calibration.

        Their efficiencies are all that is known of them, however close the measured ones are.
        """
        if self.measured is None or not places:
            return None
        expected = {name: np.zeros(len(places)) for name in LATENCIES}
        spreads = {name: self.measured.spread(name, places, alone=True) for name in LATENCIES}
        return _beliefs(expected, spreads, [self.measured.intervals.none] * len(places), ["none"] * len(places))

    def replica(self, place: Place, role: str, confidence: float | None) -> Replica | None:
        """Return factors on the times of replicas that share a place but for degrees and requests running.

        ``confidence``: the share of deployments that are to be no slower; None for the expected time of what is near
        to something measured, and a share of 0.8 of others. None is returned without a calibration.
        """
        return None if self.measured is None else _replica(self.measured, place, role, confidence)

    def nearness(self, system: str, backend: str) -> int:
        """Return 2 where a system was measured, 1 where a backend was, else 0."""
        if self.measured is None:
            return 0
        return 2 if system in self.measured.systems else int(backend in self.measured.backends)

    @functools.cached_property
    def measured(self) -> Measured | None:
        """The rows of a calibration; of one with other efficiencies they are the same, and are not read again."""
        found = self.calibration
        if found is None:
            return None
        parts = (found.rows, found.ttft, found.tpot, found.intervals)
        return _READ.of(tuple(map(id, parts)), lambda: (parts, Measured(found)))[1]


class _Nearest(Posterior):
    """Several calibrations: the one that measured a system counts, or else its backend, or else the first."""

    def __init__(self, parts: Sequence[Posterior]) -> None:
        super().__init__(parts[0].textbook, parts[0].calibration)
        self.parts = parts

    def efficiencies(self, system: str, backend: str) -> Efficiencies:
        return self._of(system, backend).efficiencies(system, backend)

    def beliefs(self, places: Sequence[Place]) -> Beliefs | None:
        mine = [self._of(place.system, place.backend) for place in places]
        order: list[int] = []
        found = []
        for part in self.parts:
            at = [i for i, other in enumerate(mine) if other is part]
            beliefs = part.beliefs([places[i] for i in at])
            if at and beliefs is None:
                return None
            order += at
            found += [beliefs] if beliefs else []
        return _ordered(found, np.argsort(order)) if found else None

    def joint(self, places: Sequence[Place]) -> Joint | None:
        mine = [self._of(place.system, place.backend) for place in places]
        mean, covariance = np.zeros((2, len(places))), np.zeros((2, len(places), len(places)))
        for part in self.parts:  # calibrations know nothing of each other
            at = [i for i, other in enumerate(mine) if other is part]
            found = part.joint([places[i] for i in at]) if at else None
            if at and found is None:
                return None
            if found is not None:
                mean[:, at] = found.mean
                covariance[np.ix_((0, 1), at, at)] = found.covariance
        return Joint(mean, covariance)

    def replica(self, place: Place, role: str, confidence: float | None) -> Replica | None:
        return self._of(place.system, place.backend).replica(place, role, confidence)

    def _of(self, system: str, backend: str) -> Posterior:
        return max(self.parts, key=lambda part: part.nearness(system, backend))


@functools.lru_cache(maxsize=_MOST_REPLICAS)
def _replica(measured: Measured, place: Place, role: str, confidence: float | None) -> Replica:
    """Return a replica's factors, remembered with the measured rows: they do not depend on any efficiency."""
    return Replica(measured, place, role, confidence)


def _ordered(parts: Sequence[Beliefs], order: Ints) -> Beliefs:
    """Return the beliefs of parts one after the other, in an order."""
    factors = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in Beliefs._fields[:-1]}
    bases = [basis for part in parts for basis in part.basis]
    return Beliefs(**factors, basis=[bases[i] for i in order.tolist()])


# By identity: a posterior holds on to what it was made from, so an identity that is listed here stays taken.
_RECENT: Recent[Posterior] = Recent(4)
_READ: Recent[tuple[object, Measured]] = Recent(4)  # with what the numbers of the key stand for


def _beliefs(
    expected: Mapping[str, Floats], spreads: Mapping[str, Floats], intervals: Sequence[Interval], bases: list[Basis]
) -> Beliefs:
    """Return factors of logarithms that are expected and spread so."""
    found: dict[str, Floats] = {}
    for name in LATENCIES:
        quantiles = [getattr(interval, name) for interval in intervals]
        low, high = (np.array([getattr(q, side) for q in quantiles]) for side in ("p10", "p90"))
        found[name] = np.exp(expected[name])
        found[f"{name}_p10"] = np.exp(expected[name] + low * spreads[name])
        found[f"{name}_p90"] = np.exp(expected[name] + high * spreads[name])
    return Beliefs(**found, basis=bases)


def moved(textbook: Efficiencies, groups: Sequence[Group]) -> Efficiencies:
    """Return efficiencies moved by the offsets of groups."""
    places = dict(zip(FIELDS, to_scale(values_of(textbook)), strict=True))
    changed = {field for group in groups for field in group.offsets}
    for group in groups:
        for field, offset in group.offsets.items():
            places[field] += offset
    values = from_scale(np.array(list(places.values())))
    found = {field: float(value) for field, value in zip(FIELDS, values, strict=True) if field in changed}
    return with_fields(textbook, found).model_copy(update={"basis": "fitted"})
