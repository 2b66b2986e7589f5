"""Times of a replica that does one thing only, with a batch that is given: no queue, and nothing comes in between.

The expressions are those of replicas that only decode or only prefill; here their batch stays as it is, as measurements
of single steps and of decode pools have it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from planner.columns.closed_loop import Latencies
from planner.columns.evaluate import structure_of, symbol_values
from planner.columns.setting import Setting
from planner.costs.compile import compiled
from planner.table import Floats


class Fixed(NamedTuple):
    """Rows of one structure and role, one value of every symbol per row, shape (C,); ``batch``: requests."""

    structure: tuple[tuple[str, ...], tuple[str, ...], str]
    role: str
    values: dict[str, Floats]
    batch: Floats

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.batch)


def fixed_of(setting: Setting, axes: Mapping[str, Floats], batch: Floats) -> Fixed:
    """Return the rows of one setting, whose role is decode or prefill.

    Args:
        setting: what stays fixed.
        axes: as for ``figures`` without mean_running, arrays of shape (C,).
        batch: requests that decode at once over the whole replica, or prompts that it works through; shape (C,).
    """
    full = {**axes, "mean_running": batch, "batch_varies": np.zeros(1), "prefill_utilisation": np.full(1, 100.0)}
    values = symbol_values(setting, full)
    whole = {name: np.broadcast_to(np.asarray(v, dtype=float), batch.shape) for name, v in values.items()}
    return Fixed(structure_of(setting), setting.role, whole, batch)


def fixed_latencies(
    fixed: Fixed, values: Mapping[str, Floats], wrt: Sequence[str] = ()
) -> tuple[Latencies, Floats, Floats]:
    """Return times, and their derivatives by symbols, shape (len(wrt), C) for TTFT and TPOT each.

    Decoding, TPOT is the step over the tokens that a request gains by it. Prefilling, TTFT is the time in which the
    replica works through the whole batch, all ranks at full steps. The other of the two is NaN.

    Args:
        fixed: the rows.
        values: of every symbol, those of the rows or others.
        wrt: the symbols.
    """
    figure, name = ("decode_seconds", "bounds") if fixed.role == "decode" else ("rate", "prefill")
    kernel: Any = compiled(*fixed.structure, name, tuple(wrt))
    with np.errstate(all="ignore"):  # a queue that is always full has no waiting time
        found = kernel(**values)
    figures, slopes = found if wrt else (found, {})
    shape = (len(wrt), fixed.rows)
    seconds = np.broadcast_to(figures[figure], fixed.batch.shape)
    slope = np.broadcast_to(slopes[figure], shape) if wrt else np.zeros(shape)
    unknown, flat = np.full(fixed.rows, np.nan), np.zeros(shape)
    if fixed.role == "decode":
        return Latencies(unknown, seconds, fixed.batch, fixed.batch), flat, slope
    return Latencies(fixed.batch / seconds, unknown, fixed.batch, fixed.batch), -fixed.batch / seconds**2 * slope, flat
