"""Reads prediction rows: one deployment under a closed loop of clients per line of a CSV file."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from planner import yaml_io
from planner.catalog import cells
from planner.catalog.cells import BadValueError
from planner.errors import InputError, Problem, as_written

_TEXT = ("id", "model", "system", "backend", "precision")
_COUNTS = ("tp", "pp", "attention_dp", "moe_tp", "ep", "isl", "osl")
_EXCHANGES = ("", "all_gather", "all_to_all")
_LIMITS = ("max_num_seqs", "max_num_batched_tokens")
OPTIONAL = ("backend_version", "length_spread", "kv_precision", "speculative_acceptance", "expert_exchange", *_LIMITS)
REQUIRED = (*_TEXT, *_COUNTS, "concurrency")
_MOST = 10**9  # tokens of a length


class Row(NamedTuple):
    """One deployment and its load. Lengths in token, ``length_factor`` of the nominal ones; names as written.

    ``concurrency``: clients, each with one request outstanding. ``kv_precision`` is empty where the row does not say;
    ``lockstep``: whether all requests have the same length. ``acceptance``: chance of each draft token to be accepted
    after those before it, none without speculation. Limits are 0, and ``expert_exchange`` is
    empty, where the row leaves them to the engine.
    """

    id: str
    model: str
    system: str
    backend: str
    backend_version: str
    precision: str
    tp: int
    pp: int
    attention_dp: int
    moe_tp: int
    ep: int
    concurrency: int
    isl: int
    osl: int
    length_factor: float
    lockstep: bool = False
    kv_precision: str = ""
    acceptance: tuple[float, ...] = ()
    expert_exchange: str = ""
    max_num_seqs: int = 0
    max_num_batched_tokens: int = 0


def read_rows(path: Path) -> list[Row]:
    """Read a CSV file of prediction rows.

    Raises:
        InputError: the file cannot be read, or every column that is missing and every value that is not a value.
    """
    return rows_from_data(cells.lines(yaml_io.read_text(path), str(path), REQUIRED, OPTIONAL), str(path))


def rows_from_data(data: Iterable[tuple[int, Mapping[Any, Any]]], origin: str = "rows") -> list[Row]:
    """Read rows given as (line, mapping of columns to values).

    Raises:
        InputError: every value that is missing or cannot be read, and every id that is used twice.
    """
    rows: list[Row] = []
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for line, raw in data:
        values: dict[str, Any] = {}
        if None in raw:
            problems.append(Problem(origin, line, 1, "", "has more cells than there are columns"))
        for name, read in _READERS.items():
            try:
                values[name] = read(raw.get(name), name)
            except BadValueError as error:
                problems.append(Problem(origin, line, 1, name, str(error)))
        identity = str(values.get("id", ""))
        if identity in lines:
            problems.append(Problem(origin, line, 1, "id", f"'{identity}' stands in line {lines[identity]} already"))
        lines.setdefault(identity, line)
        if len(values) == len(_READERS):
            values["length_factor"], values["lockstep"] = values.pop("length_spread")
            values["acceptance"] = values.pop("speculative_acceptance")
            rows.append(Row(**values))
    if problems:
        raise InputError(problems)
    return rows


def _text(value: Any, name: str) -> str:
    return str(value or "").strip() if name in OPTIONAL else cells.text(value or "")


def _count(value: Any, name: str) -> int:
    return cells.count(value)


def _limit(value: Any, name: str) -> int:
    return _count(value, name) if str(value or "").strip() else 0


def _lengths(value: Any, name: str) -> tuple[float, bool]:
    """Return the mean of the lengths over the nominal ones, and whether all are equal."""
    text = str(value or "fixed").strip()
    if text == "fixed":
        return 1.0, True
    inside = text.removeprefix("uniform[").removesuffix("]").split(",")
    try:
        low, high = (float(part) for part in inside)
    except ValueError:
        low = high = math.nan
    if not (text.startswith("uniform[") and text.endswith("]") and 0 < low <= high <= _MOST):
        msg = f"must be 'fixed' or like 'uniform[0.8,1.0]' (got {as_written(value)})"
        raise BadValueError(msg)
    return (low + high) / 2, low == high


def read_acceptance(text: str) -> tuple[float, ...]:
    """Read shares of drafts accepted, like '0.8,0.6'.

    Raises:
        InputError: not such shares.
    """
    try:
        return _acceptance(text, "speculative_acceptance")
    except BadValueError as error:
        raise InputError.single("speculative_acceptance", str(error)) from None


def _exchange(value: Any, name: str) -> str:
    text = str(value or "").strip()
    if text not in _EXCHANGES:
        msg = f"must be all_gather or all_to_all, or empty for the engine's default (got {as_written(value)})"
        raise BadValueError(msg)
    return text


def _acceptance(value: Any, name: str) -> tuple[float, ...]:
    text = str(value or "").strip()
    try:
        shares = tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        shares = (math.nan,)
    if not all(0 < share <= 1 for share in shares):
        msg = f"must be shares of drafts accepted, like '0.8,0.6' (got {as_written(value)})"
        raise BadValueError(msg)
    return shares


_READERS: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys((*_TEXT, "backend_version", "kv_precision"), _text),
    "expert_exchange": _exchange,
    **dict.fromkeys(_COUNTS, _count),
    "concurrency": _count,
    **dict.fromkeys(_LIMITS, _limit),
    "length_spread": _lengths,
    "speculative_acceptance": _acceptance,
}
