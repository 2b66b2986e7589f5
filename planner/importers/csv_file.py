"""Measurement rows as CSV: a new file, or more rows in one.

Columns are those of prediction rows (planner/catalog/rows.py) and the measured ``ttft_ms`` and ``tpot_ms`` behind them.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planner import yaml_io
from planner.catalog import cells
from planner.errors import InputError, Problem

COLUMNS = (
    "id", "model", "system", "backend", "backend_version", "precision", "devices", "tp", "pp", "attention_dp", "moe_tp",
    "ep", "concurrency", "isl", "osl", "length_spread", "maybe_speculative", "anomalous", "ttft_ms", "tpot_ms",
)  # fmt: skip
# Written only where a row has them: what the server was started with beyond its defaults.
OPTIONAL = ("kv_precision", "speculative_acceptance", "expert_exchange", "max_num_seqs", "max_num_batched_tokens")


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, *, header: bool = True) -> str:
    """Write rows as CSV: the fixed columns, then those optional ones that any row has, or the ``columns`` given."""
    chosen = columns or (*COLUMNS, *(name for name in OPTIONAL if any(name in row for row in rows)))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if header:
        writer.writerow(chosen)
    writer.writerows([row.get(name, "") for name in chosen] for row in rows)
    return stream.getvalue()


class Existing(NamedTuple):
    """A file that rows are added to: its text, its columns and the ids in it."""

    text: str
    columns: tuple[str, ...]
    ids: frozenset[str]


def existing_rows(path: Path) -> Existing:
    """Read the file that rows are to be added to.

    Raises:
        InputError: it cannot be read, or lacks a column that every row has.
    """
    text = yaml_io.read_text(path)
    ids = frozenset(str(row.get("id")) for _, row in cells.lines(text, str(path), COLUMNS, ()))
    names = next(csv.reader(io.StringIO(text.removeprefix("\ufeff"))), [])
    return Existing(text, tuple(name.strip() for name in names), ids)


def appended(path: Path, before: Existing, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a file with rows added under its own columns.

    Raises:
        InputError: a row has a value that the file has no column for.
    """
    lost = [name for name in OPTIONAL if name not in before.columns and any(row.get(name) for row in rows)]
    if lost:
        raise InputError(
            Problem(str(path), 1, 1, name, "this column is missing, and rows to be added have it; write to a new file")
            for name in lost
        )
    ended = before.text if before.text.endswith("\n") else before.text + "\n"
    return ended + csv_text(rows, before.columns, header=False)
