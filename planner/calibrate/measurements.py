"""Reads measured serving rows: prediction rows with what was measured."""

import math
from collections.abc import Mapping
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
_SOURCE = "source"
_OF_ROLE = {"prefill": "ttft_ms", "decode": "tpot_ms"}
_LEAST_MS, _MOST_MS = 1e-3, 1e8


class Measurements(NamedTuple):
    """Rows with their mean TTFT and TPOT [s], shape (C,), NaN where one was not measured.

    Flags are True where a row may mislead. ``sources``: who measured, '' where the file does not say.
    """

    rows: list[Row]
    ttft: Floats
    tpot: Floats
    maybe_speculative: np.ndarray
    anomalous: np.ndarray
    sources: np.ndarray

    def take(self, which: np.ndarray) -> "Measurements":
        """Return some of the rows, by index."""
        rows = [self.rows[i] for i in which]
        return Measurements(rows, *(column[which] for column in self[1:]))


def read_measurements(path: Path) -> Measurements:
    """Read a CSV file of measured rows: the columns of prediction rows, ttft_ms, tpot_ms, optional flags and source.

    One of the two times may be empty, and is where a replica has no such time.

    Raises:
        InputError: the file cannot be read, or every value that is missing or no value.
    """
    text = yaml_io.read_text(path)
    lines = list(cells.lines(text, str(path), (*REQUIRED, *_MEASURED), (*OPTIONAL, *_FLAGS, _SOURCE)))
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
                values.append(_flag(raw.get(name)) if name in _FLAGS else _time(raw, name))
            except BadValueError as error:
                problems.append(Problem(str(path), line, 1, name, str(error)))
    if problems:
        raise InputError(sorted(problems, key=lambda problem: problem.line))
    ttft, tpot = (np.array(columns[name]) / MILLISECONDS_PER_SECOND for name in _MEASURED)
    speculative, anomalous = (np.array(columns[name], dtype=bool) for name in _FLAGS)
    sources = np.array([str(raw.get(_SOURCE) or "") for _, raw in lines])
    return Measurements(rows, ttft, tpot, speculative, anomalous, sources)


def _time(raw: Mapping[Any, Any], name: str) -> float:
    """Read a time; it may be missing where the other one is given, and must where the role has none."""
    given = {column for column in _MEASURED if str(raw.get(column) or "").strip()}
    role = str(raw.get("role") or "").strip()
    if name in given and _OF_ROLE.get(role, name) != name:
        msg = f"must be empty: a replica that only does {role} has no such time"
        raise BadValueError(msg)
    if name not in given and given:
        return math.nan
    return cells.number(raw.get(name), least=_LEAST_MS, most=_MOST_MS)


def _flag(value: Any) -> bool:
    text = str(value or "False").strip().lower()
    if text not in ("true", "false"):
        msg = f"must be True or False (got {as_written(value)})"
        raise BadValueError(msg)
    return text == "true"
