"""What each symbol of the cost model is worth: elasticities of a replica's rate and latencies.

The derivatives are those of the symbolic costs, at the configuration as it is: its load, degrees and limits stay.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.columns.dual import duals, split
from planner.columns.evaluate import Axes, structure_of, symbol_values
from planner.columns.mesh import whole_load
from planner.columns.setting import Setting
from planner.costs.compile import compiled, meanings
from planner.table import Floats

METRICS = {
    "mixed": ("rate", "ttft", "tpot", "itl"), "prefill": ("rate", "ttft"), "decode": ("rate", "ttft", "tpot", "itl"),
}  # fmt: skip
ORIGINS = ("hardware", "efficiency", "workload")
WIDE = 0.05  # relative change that crosses the steps of most staircases
_AGREE, _SMALL = 0.1, 0.01  # relative and absolute distance up to which a slope counts as that of the wide change


class Slopes(NamedTuple):
    """Elasticities by symbol, for C configurations.

    ``symbols``: S names. ``values`` (S, C): of the symbols. ``within`` (S, C) by metric: the derivative
    d ln(metric)/d ln(symbol); rounding to tiles, and padding to captured graphs, do not move. ``across`` (S, C): over
    ±5 %, with tiles and padding as they come. ``smooth`` (S, C): whether the two agree.
    """

    symbols: tuple[str, ...]
    values: Floats
    within: dict[str, Floats]
    across: dict[str, Floats]
    smooth: dict[str, NDArray[np.bool_]]


def elasticities(setting: Setting, axes: Axes) -> Slopes:
    """Return the elasticities of configurations by every symbol of hardware, efficiency and workload.

    Args:
        setting: what stays fixed.
        axes: as for ``figures``, arrays of shape (C,) each.
    """
    structure, metrics = structure_of(setting), METRICS[setting.role]
    values = whole_values(setting, axes)
    symbols = tuple(name for name in differentiable() if name in values)
    with np.errstate(all="ignore"):  # what makes no sense comes out as NaN
        kernel = compiled(*structure, setting.role)
        found, slopes = split(kernel(**duals(values, symbols)), len(symbols))
        within = {name: _elasticity(slopes[name], _stacked(values, symbols), found[name]) for name in metrics}
    up, down = (perturbed(setting, values, symbols, 1 + sign * WIDE) for sign in (1, -1))
    with np.errstate(all="ignore"):
        across = {name: np.log(up[name] / down[name]) / np.log((1 + WIDE) / (1 - WIDE)) for name in metrics}
    smooth = {name: np.abs(within[name] - across[name]) <= _AGREE * np.abs(across[name]) + _SMALL for name in metrics}
    return Slopes(symbols, _stacked(values, symbols), within, across, smooth)


def _elasticity(slope: Floats, values: Floats, metric: Floats) -> Floats:
    """Return slope · value / metric; a rate without end, where there is nothing of its kind, moves nothing."""
    found: Floats = np.where(slope == 0, 0.0, slope * values) / metric
    return found


def differentiable() -> tuple[str, ...]:
    """Return the symbols of hardware, efficiency and workload by which slopes mean something."""
    return tuple(name for name, entry in meanings().items() if entry.origin in ORIGINS and entry.smooth)


def whole_values(setting: Setting, axes: Axes) -> dict[str, Floats]:
    """Return a value of every symbol for every configuration, shape (C,) each."""
    count = len(axes["tp"])
    values = symbol_values(setting, whole_load(axes))
    return {name: np.broadcast_to(np.asarray(value, dtype=float), (count,)) for name, value in values.items()}


def perturbed(
    setting: Setting, values: dict[str, Floats], symbols: tuple[str, ...], factor: float
) -> dict[str, Floats]:
    """Return the figures with one symbol at a time multiplied by a factor, shape (S, C) each."""
    kernel = compiled(*structure_of(setting), setting.role)
    count = len(next(iter(values.values())))
    shape = (len(symbols), count)
    changed = {}
    for name, value in values.items():
        whole = np.broadcast_to(value, shape)
        if name in symbols:
            whole = whole.copy()
            whole[symbols.index(name)] *= factor
        changed[name] = whole.ravel()
    with np.errstate(all="ignore"):
        found = kernel(**changed)
    return {name: np.broadcast_to(value, (len(symbols) * count,)).reshape(shape) for name, value in found.items()}


def _stacked(values: dict[str, Floats], symbols: tuple[str, ...]) -> Floats:
    return np.stack([values[name] for name in symbols])
