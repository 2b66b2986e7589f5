"""Efficiencies first, then a process of what they leave: the two steps that every calibration and every fold takes."""

from collections.abc import Callable, Sequence

import numpy as np

from planner.calibrate.data import Rows
from planner.calibrate.fit import Fitted, fit, modelled
from planner.calibrate.kernel import fit_kernel
from planner.posterior.measured import inputs_of, kernel_of, known_keys
from planner.posterior.process import UNKNOWN, Kernel, Process, condition, mean
from planner.schema.efficiency import Efficiencies
from planner.table import Floats

LATENCIES = ("ttft", "tpot")
_MOST_KERNEL_ROWS = 900  # rows a kernel is fitted on: likelihood takes their number cubed


def conditioned(
    rows: Rows,
    textbook: Efficiencies,
    weights: Floats,
    kernels: Sequence[Kernel] | None,
    on_stage: Callable[[str], None],
) -> tuple[Fitted, list[Process]]:
    """Return efficiencies fitted to the rows with any weight, and the processes of TTFT and TPOT.

    ``kernels``: those to use; fitted where not given.
    """
    fitted = fit(rows.target(weights), textbook, on_stage)
    used = np.nonzero(weights > 0)[0]
    inputs = inputs_of([rows.places[i] for i in used], known_keys([rows.places[i] for i in used]))
    processes = []
    for part, left in enumerate(_left(rows, textbook, fitted)):
        residuals = left[used]
        precision = np.where(np.isfinite(rows.times[part][used]), weights[used], UNKNOWN)
        if kernels is None:
            on_stage(f"how {LATENCIES[part].upper()} varies from deployment to deployment")
            some = np.arange(0, len(used), -(-len(used) // _MOST_KERNEL_ROWS))
            start = kernel_of(getattr(rows.priors.kernels, LATENCIES[part]))
            kernel = fit_kernel(inputs.take(some), residuals[some], precision[some], start)
        else:
            kernel = kernels[part]
        processes.append(condition(kernel, inputs, residuals, precision))
    return fitted, processes


def _left(rows: Rows, textbook: Efficiencies, fitted: Fitted) -> list[Floats]:
    """Return logarithms of measured over modelled TTFT and TPOT, cut where a row is far off."""
    times = modelled(rows.blocks, textbook, fitted, len(rows.places))
    found = []
    for name, measured, time in zip(LATENCIES, rows.times, times, strict=True):
        most = getattr(rows.priors.most, name)
        found.append(np.clip(np.nan_to_num(np.log(measured / time)), -most, most))
    return found


def errors(rows: Rows, textbook: Efficiencies, fitted: Fitted, processes: Sequence[Process]) -> Floats:
    """Return logarithms of measured over expected times of all rows, shape (2, C): TTFT and TPOT."""
    used = np.nonzero(rows.weights > 0)[0]
    inputs = inputs_of(rows.places, known_keys([rows.places[i] for i in used]))
    times = modelled(rows.blocks, textbook, fitted, len(rows.places))
    parts = zip(processes, rows.times, times, strict=True)
    return np.array([np.log(measured / time) - mean(process, inputs) for process, measured, time in parts])
