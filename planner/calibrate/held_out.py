"""Errors of rows that were left out, and the intervals that follow from them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from planner.calibrate.conditioning import LATENCIES, conditioned
from planner.calibrate.data import Rows
from planner.calibrate.fit import Fitted, modelled
from planner.calibrate.folds import SPLITS, Split, folds
from planner.calibrate.picks import optimism
from planner.posterior.measured import inputs_of, known_keys
from planner.posterior.process import Kernel, Spread, mean
from planner.schema.calibration import Interval, Intervals, Quantiles
from planner.schema.efficiency import Efficiencies
from planner.table import Floats

_FEWEST = 20  # held-out rows that tell quantiles
_NORMAL = 1.2815515655446004  # a tenth of a normal distribution lies beyond
_WIDER = 1.5  # of quantiles at a distance that nothing was held out for, per step away


class Held(NamedTuple):
    """Rows left out in turn: logarithms of measured over expected times, shape (2, C), in standard deviations too.

    ``groups``: number of the part each was left out with, −1 and NaN where a row was never left out. ``fits``: what was
    fitted without each part.
    """

    error: Floats
    standard: Floats
    groups: np.ndarray
    fits: tuple[Fitted, ...]


def held_out(
    rows: Rows, textbook: Efficiencies, kernels: Sequence[Kernel] | None, split: Split, on_stage: Callable[[str], None]
) -> Held:
    """Leave rows out in turn: the rest is fitted anew, with the kernels given, or kernels of its own."""
    error, standard = np.full((2, 2, len(rows.places)), np.nan)
    groups = np.full(len(rows.places), -1)
    used = rows.weights > 0
    fits = []
    for number, out in enumerate(folds(split, rows.places, rows.measured.sources.tolist(), used)):
        weights = np.where(out, 0.0, rows.weights)
        fitted, processes = conditioned(
            rows, textbook, weights, kernels, lambda stage: on_stage(f"{split.name}: {stage}")
        )
        fits.append(fitted)
        times = modelled(rows.blocks, textbook, fitted, len(rows.places))
        kept, left = np.nonzero(weights > 0)[0], np.nonzero(out)[0]
        groups[left] = number
        inputs = inputs_of([rows.places[i] for i in left], known_keys([rows.places[i] for i in kept]))
        for part, (process, measured) in enumerate(zip(processes, rows.times, strict=True)):
            error[part, left] = np.log(measured[left] / times[part][left]) - mean(process, inputs)
            standard[part, left] = error[part, left] / Spread(process).deviation(inputs)
    return Held(error, standard, groups, tuple(fits))


def figures(error: Floats, core: np.ndarray) -> dict[str, Any]:
    """Return errors in percent over core rows: of predicted times over measured ones."""
    found: dict[str, Any] = {}
    for name, part in zip(LATENCIES, error, strict=True):
        size = 100 * np.abs(np.expm1(-part[core & np.isfinite(part)]))
        found["rows"] = len(size)
        if len(size):
            found |= {f"{name}_median": round(float(np.median(size)), 2), f"{name}_mean": round(float(size.mean()), 2)}
    return found


def intervals(held: dict[str, Held], rows: Rows) -> Intervals:
    """Return quantiles and optimism by distance.

    Where too few rows were left out, quantiles are wider than at the distance before, and optimism is no less.
    """
    core, most = rows.core, 0.0
    found: dict[str, Interval] = {}
    before = dict.fromkeys(LATENCIES, (-_NORMAL, _NORMAL))
    for split in SPLITS:
        parts: dict[str, Quantiles] = {}
        for name, part in zip(LATENCIES, held[split.name].standard, strict=True):
            values = part[core & np.isfinite(part)]
            if len(values) >= _FEWEST:
                p10, p90 = (float(q) for q in np.quantile(values, [0.1, 0.9]))
            else:
                p10, p90 = (_WIDER * q for q in before[name])
            before[name] = (min(p10, -0.1), max(p90, 0.1))
            low, high = before[name]
            parts[name] = Quantiles(p10=round(low, 4), p90=round(high, 4), rows=len(values))
        most = optimism(rows.places, rows.times, held[split.name].error, core) or most
        found[split.interval] = Interval(**parts, optimism=round(most, 4))
    return Intervals(**found, beyond=rows.priors.beyond)
