"""From measured rows to a calibration: efficiencies by level, what they leave unexplained, and how sure that is."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from planner.calibrate.conditioning import LATENCIES, conditioned, errors
from planner.calibrate.data import Rows, prepared
from planner.calibrate.fit import Fitted
from planner.calibrate.folds import BY_SOURCE, SPLITS
from planner.calibrate.held_out import Held, figures, held_out, intervals
from planner.calibrate.measurements import Measurements
from planner.posterior import COLUMNS, NUMBERS
from planner.posterior.fields import FIELDS, from_scale, to_scale, values_of
from planner.posterior.process import Kernel, Process, mean
from planner.schema.base import Source
from planner.schema.calibration import LEVELS, LOADS, Calibration, ProcessKernel
from planner.schema.efficiency import Efficiencies
from planner.schema.priors import Priors
from planner.table import Floats

_STRANGE = 4.0  # standard deviations of a row that looks wrong


def calibrate(
    measured: Measurements,
    textbook: Efficiencies,
    priors: Priors,
    name: str,
    source: Source,
    on_stage: Callable[[str], None],
) -> tuple[Calibration, dict[str, Any]]:
    """Return the calibration of measured rows, and a report with what does not belong into a file.

    Raises:
        InputError: no row is left that the model can express and that is not flagged.
    """
    on_stage("reading specifications")
    rows = prepared(measured, textbook, priors)
    fitted, processes = conditioned(rows, textbook, rows.weights, None, on_stage)
    kernels = [process.kernel for process in processes]
    held = {split.name: held_out(rows, textbook, kernels, split, on_stage) for split in SPLITS}
    if len(set(rows.measured.sources.tolist())) > 1:
        held[BY_SOURCE.name] = held_out(rows, textbook, None, BY_SOURCE, on_stage)
    inside = errors(rows, textbook, fitted, processes)
    report = {
        "rows": {"measured": len(rows.places) + len(rows.refused), "fitted": int((rows.weights > 0).sum()),
                 "refused": len(rows.refused)},
        "fitted": figures(inside, rows.core),
        "held_out": {name: figures(found.error, rows.core) for name, found in held.items()},
    }  # fmt: skip
    calibration = Calibration(
        name=name, basis="fitted", description="Fitted to measured serving runs; see `report` for its errors.",
        textbook=textbook, groups=fitted.groups(), ttft=_written(kernels[0]), tpot=_written(kernels[1]),
        intervals=intervals(held, rows), report=report,
        sources={"measurements": source}, rows=_table(rows, processes, inside),
    )  # fmt: skip
    return calibration, report | _details(rows, fitted, textbook, held)


def _written(kernel: Kernel) -> ProcessKernel:
    def named(names: Sequence[str], values: Floats) -> dict[str, float]:
        return {name: float(f"{value:.6g}") for name, value in zip(names, values, strict=True)}

    return ProcessKernel(
        constant=named(LEVELS, kernel.constant), smooth=named(LEVELS, kernel.smooth), noise=kernel.noise,
        lengths=named(LOADS, kernel.lengths),
    )  # fmt: skip


def _table(rows: Rows, processes: Sequence[Process], inside: Floats) -> str:
    """Return the rows of the process as CSV, sorted by what they are."""
    used = np.nonzero(rows.weights > 0)[0]
    residuals = [part[used] + mean(process, process.rows) for part, process in zip(inside, processes, strict=True)]
    lines = []
    for number, i in enumerate(used.tolist()):
        place = rows.places[i]
        names = [str(getattr(place, name)) for name in COLUMNS]
        loads = [f"{getattr(place, name):.10g}" for name in LOADS]
        alphas = [f"{process.alpha[number]:.9g}" for process in processes]
        lines.append(
            [*names, *loads, f"{rows.weights[i]:g}", *map(_known, (part[number] for part in residuals)), *alphas]
        )
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((*COLUMNS, *NUMBERS))
    writer.writerows(sorted(lines))
    return stream.getvalue()


def _known(residual: float) -> str:
    """Write a residual; nothing where there is none because nothing was measured."""
    return f"{residual:.6g}" if np.isfinite(residual) else ""


def _details(rows: Rows, fitted: Fitted, textbook: Efficiencies, held: dict[str, Held]) -> dict[str, Any]:
    """Return what a reader of the report wants beyond figures: rows that look wrong or cannot be, and parameters."""
    known = held[SPLITS[0].name].standard
    strange = []
    for i in np.nonzero(np.nanmax(np.abs(np.nan_to_num(known)), axis=0) > _STRANGE)[0].tolist():
        worst = {name: round(float(part[i]), 1) for name, part in zip(LATENCIES, known, strict=True)}
        strange.append({"id": rows.measured.rows[i].id, **worst})
    impossible = [
        {"id": rows.measured.rows[i].id, "datasheet_share": round(float(rows.datasheet[i]), 3)}
        for i in np.nonzero(rows.datasheet > 1)[0].tolist()
    ]
    return {
        "strange": strange, "impossible": impossible, "refused_rows": rows.refused,
        "parameters": _parameters(fitted, textbook),
    }  # fmt: skip


def _parameters(fitted: Fitted, textbook: Efficiencies) -> list[dict[str, Any]]:
    values = values_of(textbook)
    places = to_scale(values)
    found = []
    for p, offset, error in zip(fitted.parameters, fitted.offsets, fitted.errors, strict=True):
        if p.system is None:
            moved = from_scale(places + offset * (np.arange(len(FIELDS)) == p.field))[p.field]
            found.append({"efficiency": FIELDS[p.field], "textbook": float(values[p.field]), "fitted": float(moved),
                          "standard_error": float(error), "prior_deviation": p.deviation})  # fmt: skip
    return found
