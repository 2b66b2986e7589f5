"""What a calibration is unsure of as a space to draw from: independent standard normals, and what each stands for."""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple, cast

import numpy as np

from planner.catalog import Case
from planner.columns.resample import Tables, walked
from planner.columns.setting import Setting, settings
from planner.errors import InputError
from planner.posterior import Place, Replica
from planner.posterior.drawn import Division, Drawn, mixing
from planner.posterior.measured import LATENCIES
from planner.table import FORMAT_NAMES, ColumnTable, Floats

_END = 2.5  # standard deviations up to which each number is varied when the grid is walked
_LEAST = 1e-4  # chance that a draw is kept away from 0 and 1
_AXES = ("weight_precision", "tp", "pp", "attention_dp", "ep")
Group = tuple[str, str, str, str]  # workload, inventory, engine and its version: what divisions share


class Own(NamedTuple):
    """A division of a group's model, and the requests it runs where it is fastest."""

    group: Group
    division: Division
    running: float


class Draws(NamedTuple):
    """Normals that times are drawn from: of every group and of every division, first of TTFT, then of TPOT.

    ``mixing``: by latency, how normals make what groups share and what divisions have, in widths, shape (K, K).
    """

    names: tuple[str, ...]
    groups: tuple[Group, ...]
    own: tuple[Own, ...]
    mixing: Mapping[str, Floats]

    @property
    def ends(self) -> list[tuple[float, float]]:
        """The same for all."""
        return [(-_END, _END)] * len(self.names)

    @property
    def neutral(self) -> tuple[float, ...]:
        """Every number 0: as planned."""
        return (0.0,) * len(self.names)

    def points(self, chances: Floats) -> Floats:
        """Return the normals that lie at chances between 0 and 1."""
        inside = np.clip(chances, _LEAST, 1 - _LEAST)
        found: Floats = np.vectorize(NormalDist().inv_cdf, otypes=[np.float64])(inside)
        return found

    def settings(self, case: Case, point: Sequence[float]) -> tuple[Case, list[Setting]]:
        """Return the case, and settings whose times are off by what a point draws; at 0, those it is planned with."""
        if not any(point):
            return case, settings(case)
        off = self.off(point)
        return case, [s if s.believed is None else s._replace(believed=self.drawn(s, off)) for s in settings(case)]

    def off(self, point: Sequence[float]) -> dict[str, Floats]:
        """Return by latency what a point draws for groups, then divisions, in widths, shape (K,)."""
        parts = np.split(np.array(point, dtype=np.float64), len(LATENCIES))
        return {name: self.mixing[name] @ part for name, part in zip(LATENCIES, parts, strict=True)}

    def drawn(self, setting: Setting, off: Mapping[str, Floats]) -> Drawn:
        """Return the replicas of a setting that a calibration knows, as far off as ``off`` says."""
        group, first = _group(setting), len(self.groups)
        pairs = list(zip(*(off[name].tolist() for name in LATENCIES), strict=True))
        mine = {own.division: pairs[first + i] for i, own in enumerate(self.own) if own.group == group}
        return Drawn(cast(Replica, setting.believed), mine, pairs[self.groups.index(group)])


def draws(case: Case) -> Draws:
    """Return what the calibrations of a case are unsure of.

    Raises:
        InputError: none of them was fitted, so nothing is known of how far off it is.
    """
    known = [setting for setting in settings(case) if setting.believed is not None]
    if not known:
        message = "the calibration says nothing of how far off it is; a fitted one does, like silicon"
        raise InputError.single("--over calibration", message, "calibration")
    groups = tuple(dict.fromkeys(_group(setting) for setting in known))
    own = _divisions(known, walked(known))
    places = {_group(s): s.believed for s in known if s.believed is not None}
    return Draws(_names(groups, own), groups, own, {name: _mixing(name, places, own) for name in LATENCIES})


def _group(setting: Setting) -> Group:
    return (setting.workload_name, setting.inventory, setting.engine.name, setting.engine_version)


def _divisions(known: Sequence[Setting], tables: Tables) -> tuple[Own, ...]:
    """Return every division that meets all limits in some role, the fastest per device of all first."""
    found: dict[tuple[Group, Division], tuple[float, float]] = {}
    for setting, table in zip(known, tables, strict=True):
        pace = table.figures["rate"] / table.figures["devices"]
        for column in np.argsort(pace, kind="stable").tolist():
            worth = float(pace[column]) if setting.role == "mixed" else 0.0
            running = float(table.axes["mean_running"][column] * table.axes["attention_dp"][column])
            key = (_group(setting), _division(table, column))
            if worth >= found.get(key, (0.0, 0.0))[0]:
                found[key] = (worth, max(running, 1.0))
    ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
    return tuple(Own(group, division, running) for (group, division), (_, running) in ordered)


def _division(table: ColumnTable, column: int) -> Division:
    precision, tp, pp, dp, ep = (int(table.axes[axis][column]) for axis in _AXES)
    return precision, tp, pp, dp, ep


def _mixing(latency: str, replicas: Mapping[Group, Replica], own: Sequence[Own]) -> Floats:
    """Return the mixing of all groups and divisions; calibrations know nothing of each other."""
    groups = list(replicas)
    of_row = [*groups, *(each.group for each in own)]
    found = np.zeros((len(of_row), len(of_row)))
    for measured in dict.fromkeys(replica.measured for replica in replicas.values()):
        rows = [row for row, group in enumerate(of_row) if replicas[group].measured is measured]
        shared = [_shared(group, replicas[group], own) for group in groups if replicas[group].measured is measured]
        mine = [_place(replicas[each.group], each) for each in own if replicas[each.group].measured is measured]
        found[np.ix_(rows, rows)] = mixing(measured, latency, shared, mine)
    return found


def _shared(group: Group, replica: Replica, own: Sequence[Own]) -> Place:
    """Return the load at which what a group shares is drawn: that of its fastest division."""
    return next((_place(replica, each) for each in own if each.group == group), replica.place)


def _place(replica: Replica, own: Own) -> Place:
    precision, *degrees = own.division
    return replica.at(FORMAT_NAMES[precision], degrees, own.running)


def _names(groups: Sequence[Group], own: Sequence[Own]) -> tuple[str, ...]:
    """Name what each normal stands for, as shortly as tells them apart."""
    workloads, engines = ({group[i] for group in groups} for i in (0, 2))

    def where(group: Group) -> str:
        workload, inventory, engine, _ = group
        return (
            f"on {inventory}"
            + (f" under {engine}" if len(engines) > 1 else "")
            + (f" for {workload}" if len(workloads) > 1 else "")
        )

    def label(division: Division) -> str:
        precision, *degrees = division
        shown = [f"{n}{d}" for n, d in zip(("tp", "pp", "dp", "ep"), degrees, strict=True) if d > 1 or n == "tp"]
        return " ".join([*shown, FORMAT_NAMES[precision]])

    rows = [f"all {where(group)}" for group in groups] + [f"{label(o.division)} {where(o.group)}" for o in own]
    return tuple(f"{latency} of {row}" for latency in LATENCIES for row in rows)
