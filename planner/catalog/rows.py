"""Reads prediction rows: one deployment under a closed loop of clients per line of a CSV file.

A deployment is a replica that does both phases, or pools of replicas that prefill and that decode.
"""

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
_EXCHANGES = ("all_gather", "all_to_all")
# What a word column may say besides nothing, and what nothing stands for.
_CHOICES = {
    "expert_exchange": (_EXCHANGES, "the engine's default"),
    "role": (("mixed", "prefill", "decode"), "mixed"),
    "drafter": (("own", "eagle"), "the model's own module"),
    "expert_load": (("even",), "the calibration's"),
}
_LIMITS = ("max_num_seqs", "max_num_batched_tokens", "redundant_experts")
OPTIONAL = (
    "backend_version", "length_spread", "kv_precision", "speculative_acceptance", "overlaps", *_CHOICES, *_LIMITS,
)  # fmt: skip
REQUIRED = (*_TEXT, *_COUNTS, "concurrency")
SIDES = ("prefill", "decode")
# Columns of a pool, each after the name of its side, and those that may be left out or empty.
_POOL = ("replicas", "tp", "attention_dp", "moe_tp", "ep")
_POOL_OPTIONAL = ("pp", "system", "expert_exchange", *_LIMITS)
_DEGREES = ("tp", "pp", "attention_dp", "moe_tp", "ep")
_MOST = 10**9  # tokens of a length


class Row(NamedTuple):
    """One deployment and its load. Lengths in token, ``length_factor`` of the nominal ones; names as written.

    ``concurrency``: clients, each with one request outstanding. ``kv_precision`` is empty where the row does not say;
    ``lockstep``: whether all requests have the same length. ``acceptance``: chance of each draft token to be accepted
    after those before it, none without speculation, of the ``drafter``: own, or eagle. Limits are 0, and
    ``expert_exchange`` is empty, where the row leaves them to the engine. ``role`` is empty or mixed where prompts and
    decodes share the replica. ``overlaps``: those the engine leaves off and the run turned on. ``expert_load``: even
    where every expert was given as many tokens, empty where the row does not say.
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
    role: str = ""
    overlaps: tuple[str, ...] = ()
    expert_load: str = ""
    redundant_experts: int = 0
    drafter: str = ""


class PooledRow(NamedTuple):
    """Replicas that only prefill and replicas that only decode, as many of each, under one load.

    ``prefill`` and ``decode``: one replica of each pool, under the load of all.
    """

    id: str
    prefill: Row
    prefill_replicas: int
    decode: Row
    decode_replicas: int


AnyRow = Row | PooledRow


def read_rows(path: Path) -> list[AnyRow]:
    """Read a CSV file of prediction rows.

    Raises:
        InputError: the file cannot be read, or every column that is missing and every value that is not a value.
    """
    text = yaml_io.read_text(path)
    named = cells.columns(text)
    pooled = any(name in named for name in _pool_columns(_POOL))
    # Where a file has columns of pools, those of a lone replica are wanted only if it has any of them as well.
    lone = not pooled or any(name in named for name in _DEGREES)
    wanted = [name for name in REQUIRED if lone or name not in _DEGREES] + [*_pool_columns(_POOL)] * pooled
    return rows_from_data(cells.lines(text, str(path), wanted, (*OPTIONAL, *_pool_columns(_POOL_OPTIONAL))), str(path))


def _pool_columns(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for side in SIDES for name in names)


def lone_rows(data: Iterable[tuple[int, Mapping[Any, Any]]], origin: str = "rows") -> list[Row]:
    """Read rows of replicas that do both phases, as ``rows_from_data`` does.

    Raises:
        InputError: as there, and every row of pools.
    """
    given = list(data)
    rows = rows_from_data(given, origin)
    message = "has pools of prefill and decode replicas; here a row is a replica that does both"
    pools = [Problem(origin, line, 1, "", message) for (line, _), row in zip(given, rows, strict=True)
             if isinstance(row, PooledRow)]  # fmt: skip
    if pools:
        raise InputError(pools)
    return [row for row in rows if isinstance(row, Row)]


def rows_from_data(data: Iterable[tuple[int, Mapping[Any, Any]]], origin: str = "rows") -> list[AnyRow]:
    """Read rows given as (line, mapping of columns to values).

    Raises:
        InputError: every value that is missing or cannot be read, and every id that is used twice.
    """
    rows: list[AnyRow] = []
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for line, raw in data:
        faults: dict[str, str] = {}
        if None in raw:
            faults[""] = "has more cells than there are columns"
        found = _pooled(raw, faults) if _has_pools(raw) else _lone(raw, faults)
        identity = str(raw.get("id") or "").strip()
        if identity and identity in lines:
            faults["id"] = f"'{identity}' stands in line {lines[identity]} already"
        lines.setdefault(identity, line)
        problems += [Problem(origin, line, 1, name, message) for name, message in faults.items()]
        if found is not None:
            rows.append(found)
    if problems:
        raise InputError(problems)
    return rows


def _has_pools(raw: Mapping[Any, Any]) -> bool:
    names = _pool_columns(_POOL)
    lone = any(name in raw for name in _DEGREES)
    return any(str(raw.get(name) or "").strip() or (name in raw and not lone) for name in names)


def _lone(raw: Mapping[Any, Any], faults: dict[str, str], side: str = "") -> Row | None:
    """Return the replica of a row, or of a side of it; what cannot be read goes to ``faults`` by column."""
    values: dict[str, Any] = {}
    for name, read in _READERS.items():
        column = f"{side}_{name}" if side and name in (*_POOL, *_POOL_OPTIONAL) else name
        given = raw.get(column)
        if side and name in ("pp", "system") and not str(given or "").strip():
            column, given = name, raw.get("system") if name == "system" else 1
        try:
            values[name] = read(given, name)
        except BadValueError as error:
            faults[column] = str(error)
    if len(values) < len(_READERS):
        return None
    values["length_factor"], values["lockstep"] = values.pop("length_spread")
    values["acceptance"] = values.pop("speculative_acceptance")
    return Row(**values)


def _pooled(raw: Mapping[Any, Any], faults: dict[str, str]) -> PooledRow | None:
    """Return the pools of a row; what cannot be read, or says something of another replica, goes to ``faults``."""
    for name in (*_DEGREES, *_LIMITS, "expert_exchange"):
        if str(raw.get(name) or "").strip():
            faults[name] = f"must be empty where a row has pools; prefill_{name} and decode_{name} say it of each"
    if str(raw.get("role") or "").strip():
        faults["role"] = "must be empty where a row has pools, which have both roles"
    prefill, decode = (_lone(raw, faults, side) for side in SIDES)
    replicas: list[int] = []
    for side in SIDES:
        try:
            replicas.append(cells.count(raw.get(f"{side}_replicas")))
        except BadValueError as error:
            faults[f"{side}_replicas"] = str(error)
    if prefill is None or decode is None or len(replicas) < len(SIDES):
        return None
    return PooledRow(prefill.id, prefill, replicas[0], decode, replicas[1])


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


def _choice(value: Any, name: str) -> str:
    text = str(value or "").strip()
    words, default = _CHOICES[name]
    if text and text not in words:
        msg = f"must be {' or '.join(words)}, or empty for {default} (got {as_written(value)})"
        raise BadValueError(msg)
    return text


def _names(value: Any, name: str) -> tuple[str, ...]:
    return tuple(sorted({part.strip() for part in str(value or "").split(",") if part.strip()}))


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
    **dict.fromkeys(_CHOICES, _choice),
    "overlaps": _names,
    **dict.fromkeys(_COUNTS, _count),
    "concurrency": _count,
    **dict.fromkeys(_LIMITS, _limit),
    "length_spread": _lengths,
    "speculative_acceptance": _acceptance,
}
