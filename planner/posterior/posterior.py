"""What a calibration says about a deployment: its efficiencies, what is left unexplained, and how sure that is."""

import csv
import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.posterior.fields import FIELDS, from_scale, to_scale, values_of, with_fields
from planner.posterior.process import Inputs, Kernel, Process, deviation, mean
from planner.schema.calibration import LEVELS, LOADS, Basis, Calibration, Group, Interval, ProcessKernel
from planner.schema.efficiency import Efficiencies
from planner.table import Floats

COLUMNS = ("system", "backend", "model", "precision", "tp", "pp", "attention_dp", "ep")
NUMBERS = (*LOADS, "weight", "ttft", "tpot", "alpha_ttft", "alpha_tpot")
_CHUNK = 2000  # rows whose covariance with all measured ones is held at once


class Place(NamedTuple):
    """One deployment under one load: names as shipped, degrees, clients, and mean lengths [token]."""

    system: str
    backend: str
    model: str
    precision: str
    tp: int
    pp: int
    attention_dp: int
    ep: int
    concurrency: float
    isl: float
    osl: float

    @property
    def keys(self) -> tuple[str, ...]:
        """What a row has in common with others, by level."""
        pair = f"{self.system} {self.backend}"
        degrees = f"tp{self.tp} pp{self.pp} dp{self.attention_dp} ep{self.ep}"
        here = f"{self.model} {pair}"
        return (
            pair, self.model, f"{self.model} {self.backend}", here, f"{here} {self.precision}",
            f"{here} {self.precision} {degrees}",
        )  # fmt: skip

    @property
    def load(self) -> tuple[float, ...]:
        """Clients and lengths in doublings."""
        return tuple(float(np.log2(max(value, 1.0))) for value in (self.concurrency, self.isl, self.osl))

    @property
    def devices(self) -> int:
        """Devices of a replica."""
        return self.tp * self.pp * self.attention_dp


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
    def of(cls, loaded: Efficiencies | Calibration) -> "Posterior":
        """Return what a loaded calibration says."""
        return cls(loaded.textbook, loaded) if isinstance(loaded, Calibration) else cls(loaded)

    def efficiencies(self, system: str, backend: str) -> Efficiencies:
        """Return the efficiencies of a backend on a system, as far as either was measured."""
        if self.calibration is None:
            return self.textbook
        key = (system, backend)
        if key not in self._efficiencies:
            groups = [g for g in self.calibration.groups if g.system in (None, system) and g.backend in (None, backend)]
            self._efficiencies[key] = _moved(self.textbook, groups)
        return self._efficiencies[key]

    def beliefs(self, places: Sequence[Place]) -> Beliefs | None:
        """Return what is believed of deployments; None without a calibration, which has no intervals."""
        return self._measured.beliefs(places) if self._measured is not None and places else None

    @functools.cached_property
    def _measured(self) -> "_Measured | None":
        return _Measured(self.calibration) if self.calibration else None


class _Measured:
    """The measured rows of a calibration, and what they say about others."""

    def __init__(self, calibration: Calibration) -> None:
        self.intervals = calibration.intervals
        table = list(csv.DictReader(io.StringIO(calibration.rows)))
        places = [place_of(row) for row in table]
        self.known = known_keys(places)
        self.systems = frozenset(place.system for place in places)
        loads = np.array([place.load for place in places])
        self.least, self.most = loads.min(axis=0), loads.max(axis=0)
        self.devices, self.stages = max(p.devices for p in places), max(p.pp for p in places)
        rows, weight = inputs_of(places, self.known), np.array([float(row["weight"]) for row in table])
        self.processes = [
            Process(kernel_of(kernel), rows, np.array([float(row[f"alpha_{name}"]) for row in table]), weight)
            for name, kernel in (("ttft", calibration.ttft), ("tpot", calibration.tpot))
        ]

    def means(self, places: Sequence[Place]) -> list[Floats]:
        """Return expected residuals of TTFT and of TPOT."""
        inputs = inputs_of(places, self.known)
        return [np.concatenate([mean(process, part) for part in _parts(inputs)]) for process in self.processes]

    def basis(self, place: Place) -> tuple[Basis, bool]:
        """Return the nearest thing measured, and whether the model was measured there."""
        pair, _, _, here, _, deployment = place.keys
        if deployment in self.known[-1]:
            return "deployment", True
        if pair in self.known[0]:
            return "system+backend", here in self.known[3]
        return ("system", False) if place.system in self.systems else ("none", False)

    def beliefs(self, places: Sequence[Place]) -> Beliefs:
        """Return factors, their quantiles and bases."""
        inputs, beyond = inputs_of(places, self.known), self._beyond(places)
        bases = [self.basis(place) for place in places]
        intervals = [self._interval(*basis) for basis in bases]
        found: dict[str, Floats] = {}
        for process, name, centre in zip(self.processes, ("ttft", "tpot"), self.means(places), strict=True):
            inside = np.concatenate([deviation(process, part) for part in _parts(inputs)])
            spread = np.hypot(inside, beyond)
            quantiles = [getattr(interval, name) for interval in intervals]
            low, high = (np.array([getattr(q, side) for q in quantiles]) for side in ("p10", "p90"))
            found[name] = np.exp(centre)
            found[f"{name}_p10"], found[f"{name}_p90"] = np.exp(centre + low * spread), np.exp(centre + high * spread)
        return Beliefs(**found, basis=[basis for basis, _ in bases])

    def _interval(self, basis: Basis, known_model: bool) -> Interval:
        if basis == "system+backend":
            return self.intervals.system_backend if known_model else self.intervals.new_model
        found: Interval = getattr(self.intervals, basis)
        return found

    def _beyond(self, places: Sequence[Place]) -> Floats:
        """Standard deviation for loads and sizes that nothing measured comes near, by doublings."""
        far = []
        for place in places:
            load = np.array(place.load)
            outside = np.maximum(0.0, np.maximum(load - self.most, self.least - load)).sum()
            wider = max(0.0, np.log2(place.devices / self.devices)) + max(0.0, np.log2(place.pp / self.stages))
            far.append(float(outside + wider))
        return self.intervals.beyond * np.array(far)


def _moved(textbook: Efficiencies, groups: Sequence[Group]) -> Efficiencies:
    """Return efficiencies moved by the offsets of groups."""
    places = dict(zip(FIELDS, to_scale(values_of(textbook)), strict=True))
    changed = {field for group in groups for field in group.offsets}
    for group in groups:
        for field, offset in group.offsets.items():
            places[field] += offset
    values = from_scale(np.array(list(places.values())))
    found = {field: float(value) for field, value in zip(FIELDS, values, strict=True) if field in changed}
    return with_fields(textbook, found).model_copy(update={"basis": "fitted"})


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
    """Return rows of a process; a value of a level that was not measured shares it with nothing."""
    keys = [[table.get(key, -1 - i) for i, key in enumerate(level)] for table, level in zip(
        known, zip(*(place.keys for place in places), strict=True), strict=True
    )]  # fmt: skip
    return Inputs(np.array(keys, dtype=np.int64), np.array([place.load for place in places]).T)


def kernel_of(written: ProcessKernel) -> Kernel:
    """Return a kernel as arrays, levels and loads in their order."""
    return Kernel(
        np.array([written.constant[level] for level in LEVELS]),
        np.array([written.smooth[level] for level in LEVELS]),
        written.noise,
        np.array([written.lengths[load] for load in LOADS]),
    )


def _parts(inputs: Inputs) -> Iterator[Inputs]:
    for start in range(0, inputs.load.shape[1], _CHUNK):
        yield inputs.take(np.arange(start, min(start + _CHUNK, inputs.load.shape[1])))
