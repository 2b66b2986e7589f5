"""Fits efficiencies in pooled levels: all rows, each system, each backend on a system."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from planner.calibrate.design import Block, evaluate
from planner.posterior.fields import FIELDS, OPERATORS, from_scale, slope, to_scale, values_of
from planner.schema.calibration import Group
from planner.schema.efficiency import Efficiencies
from planner.schema.priors import Level, Priors
from planner.table import Floats

_MOST_ROUNDS = 25
_LOST = 5.0  # logarithm of an error that stands for a row the model cannot run


class Parameter(NamedTuple):
    """What one level adds to a field for the rows it holds, and how far it is expected to move it."""

    system: str | None
    backend: str | None
    field: int
    deviation: float
    rows: np.ndarray


class Fitted(NamedTuple):
    """Offsets by parameter, with standard errors."""

    parameters: tuple[Parameter, ...]
    offsets: Floats
    errors: Floats

    def groups(self) -> tuple[Group, ...]:
        """Return the offsets by system and backend."""
        found: dict[tuple[str | None, str | None], dict[str, float]] = {}
        for parameter, offset in zip(self.parameters, self.offsets.tolist(), strict=True):
            found.setdefault((parameter.system, parameter.backend), {})[FIELDS[parameter.field]] = round(offset, 6)
        return tuple(Group(system=s, backend=b, offsets=offsets) for (s, b), offsets in found.items())


class Target(NamedTuple):
    """What is fitted to: rows by block, their systems and backends, times [s], and their weights; shape (C,).

    A time that was not measured is NaN.
    """

    blocks: Sequence[Block]
    systems: Sequence[str]
    backends: Sequence[str]
    ttft: Floats
    tpot: Floats
    weights: Floats
    priors: Priors


def fit(target: Target, textbook: Efficiencies, on_stage: Callable[[str], None]) -> Fitted:
    """Return the offsets of least robust squares.

    Residuals are logarithms of modelled over measured times; their slopes come from SymPy (``design.evaluate``). Each
    offset is drawn to zero with the deviation of its level, so that a level with little data stays at the one above.
    """
    parameters = _parameters(target)
    problem = _Problem(target, textbook, parameters, on_stage)
    found = least_squares(
        problem.residuals, np.zeros(len(parameters)), jac=problem.jacobian, loss=problem.loss,  # type: ignore[arg-type]
        method="trf",
        max_nfev=_MOST_ROUNDS, xtol=1e-5, ftol=1e-4, gtol=1e-8,
    )  # fmt: skip
    curvature = problem.jacobian(found.x)
    spread = np.linalg.inv(curvature.T @ curvature)
    return Fitted(parameters, found.x, np.sqrt(np.diag(spread)))


def modelled(
    blocks: Sequence[Block], textbook: Efficiencies, fitted: Fitted | None, count: int
) -> tuple[Floats, Floats]:
    """Return modelled TTFT and TPOT [s] of all rows, shape (count,); NaN where nothing can run."""
    places = _places(textbook, fitted.parameters if fitted else (), fitted.offsets if fitted else np.zeros(0), count)
    ttft, tpot = np.full((2, count), np.nan)
    for block in blocks:
        found, _, _ = evaluate(block, textbook, from_scale(places[:, block.rows]), gradient=False)
        ttft[block.rows], tpot[block.rows] = found.ttft, found.tpot
    return ttft, tpot


def _places(textbook: Efficiencies, parameters: Sequence[Parameter], offsets: Floats, count: int) -> Floats:
    """Where the fields of each row lie on the scale they are fitted on, shape (fields, count)."""
    places = np.repeat(to_scale(values_of(textbook))[:, None], count, axis=1)
    for parameter, offset in zip(parameters, offsets, strict=True):
        places[parameter.field, parameter.rows] += offset
    return places


def _parameters(target: Target) -> tuple[Parameter, ...]:
    """One per field and group of rows that has any weight; it holds for rows without weight as well."""
    systems, backends = np.array(target.systems), np.array(target.backends)
    used = target.weights > 0
    groups: list[tuple[str, str | None, str | None, np.ndarray]] = [("all", None, None, np.ones(len(used), dtype=bool))]
    groups += [("system", s, None, systems == s) for s in sorted(set(systems[used]))]
    pairs = sorted(set(zip(systems[used].tolist(), backends[used].tolist(), strict=True)))
    groups += [("system_backend", s, b, (systems == s) & (backends == b)) for s, b in pairs]
    return tuple(
        Parameter(s, b, i, _deviation(getattr(target.priors.groups, level), field), np.nonzero(rows)[0])
        for level, s, b, rows in groups
        for i, field in enumerate(FIELDS)
    )


def _deviation(level: Level, field: str) -> float:
    return level.fields.get(field, level.operators if field in OPERATORS else level.others)


class _Problem:
    """Residuals and their slopes, computed together and kept for the last point asked for."""

    def __init__(
        self, target: Target, textbook: Efficiencies, parameters: tuple[Parameter, ...], on_stage: Callable[[str], None]
    ) -> None:
        self.target, self.textbook, self.parameters, self.on_stage = target, textbook, parameters, on_stage
        self.used = np.nonzero(target.weights > 0)[0]
        place = np.full(len(target.weights), -1)
        place[self.used] = np.arange(len(self.used))
        self.members = [place[p.rows][place[p.rows] >= 0] for p in parameters]
        priors, root = target.priors, np.sqrt(target.weights[self.used])
        self.scales = (root * priors.ttft_weight / priors.error.ttft, root / priors.error.tpot)
        self.deviations = np.array([p.deviation for p in parameters])
        self.starts: dict[int, Floats] = {}
        self.last: tuple[bytes, Floats, Floats] | None = None
        self.rounds = 0

    def residuals(self, offsets: Floats) -> Floats:
        """Scaled logarithms of modelled over measured times, then offsets in deviations of their level."""
        return self._at(offsets)[0]

    def jacobian(self, offsets: Floats) -> Floats:
        """Slopes of the residuals by the offsets."""
        return self._at(offsets)[1]

    def loss(self, squares: Floats) -> Floats:
        """Soft L1 for rows, squares for offsets; value, first and second derivative by the squares."""
        found = np.stack([squares, np.ones_like(squares), np.zeros_like(squares)])
        rows = 2 * len(self.used)
        root = np.sqrt(1 + squares[:rows])
        found[:, :rows] = [2 * (root - 1), 1 / root, -0.5 / root**3]
        return found

    def _at(self, offsets: Floats) -> tuple[Floats, Floats]:
        if self.last is None or self.last[0] != offsets.tobytes():
            self.rounds += 1
            self.on_stage(f"fitting efficiencies, round {self.rounds}")
            self.last = (offsets.tobytes(), *self._compute(offsets))
        return self.last[1], self.last[2]

    def _compute(self, offsets: Floats) -> tuple[Floats, Floats]:
        target, used = self.target, self.used
        places = _places(self.textbook, self.parameters, offsets, len(target.weights))
        times, by_field = np.full((2, len(target.weights)), np.nan), np.zeros((2, len(FIELDS), len(target.weights)))
        for number, block in enumerate(target.blocks):
            values = from_scale(places[:, block.rows])
            found, first, each = evaluate(block, self.textbook, values, self.starts.get(number))
            if np.isfinite(found.running).all():
                self.starts[number] = found.running
            times[:, block.rows] = found.ttft, found.tpot
            by_field[:, :, block.rows] = np.array([first, each]) * slope(values)
        rows = []
        jacobian = np.zeros((2 * len(used) + len(offsets), len(offsets)))
        for part, (measured, scale) in enumerate(zip((target.ttft, target.tpot), self.scales, strict=True)):
            known = np.isfinite(measured[used])
            error = np.log(times[part, used] / np.where(known, measured[used], 1.0))
            rows.append(np.where(known, np.nan_to_num(error, nan=_LOST, posinf=_LOST, neginf=-_LOST), 0.0) * scale)
            steep = np.nan_to_num(by_field[part][:, used] * scale, nan=0.0, posinf=0.0, neginf=0.0) * known
            for column, (parameter, members) in enumerate(zip(self.parameters, self.members, strict=True)):
                jacobian[part * len(used) + members, column] = steep[parameter.field, members]
        last = 2 * len(used) + np.arange(len(offsets))
        jacobian[last, np.arange(len(offsets))] = 1 / self.deviations
        return np.concatenate([*rows, offsets / self.deviations]), jacobian
