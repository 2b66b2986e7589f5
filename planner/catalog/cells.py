"""Reads CSV files: named columns, and cells that are checked one by one, each fault with its line and column name."""

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.errors import InputError, Problem, as_written, did_you_mean

_MOST = 10**9


class BadValueError(ValueError):
    """A cell that cannot be read; the message says what would be right."""


def lines(
    written: str, path: str, wanted: Sequence[str], optional: Sequence[str]
) -> Iterator[tuple[int, Mapping[str | None, Any]]]:
    """Yield (line, mapping of column names to cells) of the text of a CSV file; other columns are there, too.

    Raises:
        InputError: every column that is missing or there twice; what is no CSV.
    """
    reader = _reader(written)
    named = columns(written)
    problems = [
        Problem(path, 1, 1, name, f"this column is missing; {did_you_mean(name, named)}")
        for name in wanted
        if name not in named
    ]
    if len(problems) == len(wanted):
        raise InputError.single(path, f"no row of column names; expected {','.join(wanted)}", line=1, column=1)
    known = (*wanted, *optional)
    problems += [Problem(path, 1, 1, name, "this column is there twice") for name in known if named.count(name) > 1]
    if problems:
        raise InputError(problems)
    return _numbered(reader, path)


def columns(written: str) -> tuple[str, ...]:
    """Return the column names of the text of a CSV file, none where it is empty."""
    return tuple(_reader(written).fieldnames or ())


def _reader(written: str) -> "csv.DictReader[str]":
    reader = csv.DictReader(io.StringIO(written.removeprefix("\ufeff"), newline=""))  # which spreadsheets put first
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    return reader


def _numbered(reader: "csv.DictReader[str]", path: str) -> Iterator[tuple[int, Mapping[str | None, Any]]]:
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError.single(path, f"not valid CSV: {error}", line=reader.line_num + 1, column=1) from None


def text(value: Any) -> str:
    """Return a cell's text, which must not be empty."""
    written = str("" if value is None else value).strip()
    if not written:
        msg = "is empty"
        raise BadValueError(msg)
    return written


def number(value: Any, least: float = 1.0, most: float = _MOST) -> float:
    """Return a number of at least ``least`` and at most ``most``."""
    written = text(value)
    try:
        found = float(written)
    except ValueError:
        found = math.nan
    if not least <= found <= most:
        limit = f"at most {most:.16g}" if found > most else f"at least {least:g}"
        msg = f"must be a number of {limit} (got {as_written(value)})"
        raise BadValueError(msg)
    return found


def count(value: Any) -> int:
    """Return a whole number of at least 1."""
    found = number(value)
    if found != int(found):
        msg = f"must be a whole number (got {as_written(value)})"
        raise BadValueError(msg)
    return int(found)
