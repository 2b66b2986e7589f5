"""Reads measured serving rows: prediction rows with what was measured."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from planner import yaml_io
from planner.catalog import cells
from planner.catalog.cells import BadValueError
from planner.catalog.rows import OPTIONAL, REQUIRED, Row, lone_rows
from planner.constants import MILLISECONDS_PER_SECOND
from planner.errors import InputError, Problem, as_written
from planner.table import Floats

_MEASURED = ("ttft_ms", "tpot_ms")
_FLAGS = ("maybe_speculative", "anomalous")
_LEAST_MS, _MOST_MS = 1e-3, 1e8


class Measurements(NamedTuple):
    """Rows with their mean TTFT and TPOT [s], shape (C,); flags, True where a row may mislead."""

    rows: list[Row]
    ttft: Floats
    tpot: Floats
    maybe_speculative: np.ndarray
    anomalous: np.ndarray

    def take(self, which: np.ndarray) -> "Measurements":
        """Return some of the rows, by index."""
        rows = [self.rows[i] for i in which]
        return Measurements(rows, *(column[which] for column in self[1:]))


def read_measurements(path: Path) -> Measurements:
    """Read a CSV file of measured rows: the columns of prediction rows, ttft_ms, tpot_ms, and optional flags.

    Raises:
        InputError: the file cannot be read, or every value that is missing or no value.
    """
    text = yaml_io.read_text(path)
    lines = list(cells.lines(text, str(path), (*REQUIRED, *_MEASURED), (*OPTIONAL, *_FLAGS)))
    if not lines:
        raise InputError.single(str(path), "holds no rows; a calibration needs measurements", line=1, column=1)
    problems: list[Problem] = []
    rows: list[Row] = []
    try:
        rows = lone_rows(lines, str(path))
    except InputError as error:
        problems += error.problems
    columns: dict[str, list[Any]] = {name: [] for name in (*_MEASURED, *_FLAGS)}
    for line, raw in lines:
        for name, values in columns.items():
            try:
                values.append(_flag(raw.get(name)) if name in _FLAGS else _time(raw.get(name)))
            except BadValueError as error:
                problems.append(Problem(str(path), line, 1, name, str(error)))
    if problems:
        raise InputError(sorted(problems, key=lambda problem: problem.line))
    ttft, tpot = (np.array(columns[name]) / MILLISECONDS_PER_SECOND for name in _MEASURED)
    return Measurements(rows, ttft, tpot, *(np.array(columns[name], dtype=bool) for name in _FLAGS))


def _time(value: Any) -> float:
    return cells.number(value, least=_LEAST_MS, most=_MOST_MS)


def _flag(value: Any) -> bool:
    text = str(value or "False").strip().lower()
    if text not in ("true", "false"):
        msg = f"must be True or False (got {as_written(value)})"
        raise BadValueError(msg)
    return text == "true"
