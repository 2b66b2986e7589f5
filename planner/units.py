"""Quantities are text with a unit at every border ("3.35 TB/s") and SI numbers inside.

GB = 10⁹ byte, GiB = 2³⁰ byte. A bare number is an error, because 80 "GB" read as GiB changes
feasibility by 7 %.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

from planner.constants import SECONDS_PER_HOUR, SECONDS_PER_MINUTE
from planner.errors import as_written

_WHOLE = 2**53
_EVERYDAY = 1e9  # bare numbers up to here are likely meant in an everyday unit
_NUMBER = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_BYTE = {f"{p}B": f for p, f in (_DECIMAL | _BINARY).items()} | {"byte": 1.0, "bytes": 1.0}
_FLOP = {f"{p}{w}": f for w in ("FLOP", "OP") for p, f in _DECIMAL.items()} | {"flop": 1.0}
_TIME = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "min": SECONDS_PER_MINUTE, "h": SECONDS_PER_HOUR,
}  # fmt: skip
_PER_TIME = {"s": 1.0, "min": 1 / SECONDS_PER_MINUTE, "h": 1 / SECONDS_PER_HOUR}


class Dimension(NamedTuple):
    """A kind of quantity: its base unit, an example, the units it may be written in, and those it is written in.

    ``meant`` are the units a bare number may stand for, where that is not the unit of the example alone.
    """

    name: str
    unit: str
    example: str
    factors: Mapping[str, float]
    written: tuple[str, ...]
    meant: tuple[str, ...] = ()


def _per_second(units: Mapping[str, float]) -> dict[str, float]:
    return {f"{unit}/s": factor for unit, factor in units.items()}


BYTES = Dimension("size", "byte", "80 GiB", _BYTE, ("byte", "kB", "MB", "GB", "KiB", "MiB", "GiB"))
BYTES_PER_SECOND = Dimension("bandwidth", "byte/s", "3.35 TB/s", _per_second(_BYTE), ("byte/s", "GB/s", "TB/s"))
FLOP_PER_SECOND = Dimension(
    "compute rate", "flop/s", "989.4 TFLOP/s", _per_second(_FLOP), ("flop/s", "GFLOP/s", "TFLOP/s")
)
SECONDS = Dimension("time", "s", "40 ms", _TIME, ("s", "ms", "us"), meant=("s", "ms"))
WATTS = Dimension("power", "W", "700 W", {"W": 1.0, "kW": 1e3, "MW": 1e6}, ("W", "kW"))
USD_PER_HOUR = Dimension("price", "USD/h", "2.50 USD/h", {"USD/h": 1.0, "$/h": 1.0}, ("USD/h",))
REQUESTS_PER_SECOND = Dimension(
    "request rate",
    "request/s",
    "12 /s",
    {f"{word}/{per}": factor for word in ("", "request", "requests") for per, factor in _PER_TIME.items()},
    ("request/s",),
)
TOKENS = Dimension("token count", "token", "3000 token", {"token": 1.0, "tokens": 1.0}, ("token",))

METRIC_UNITS = {
    "requests": "request/s", "tokens": "token/s", "devices": "device", "cost": "USD/h", "power": "W",
    "ttft": "s", "tpot": "s", "weighted": "1", "load": "of the demand's unit",
    "replicas": "replica",
}  # fmt: skip
DIMENSIONS = (
    BYTES,
    BYTES_PER_SECOND,
    FLOP_PER_SECOND,
    SECONDS,
    WATTS,
    USD_PER_HOUR,
    REQUESTS_PER_SECOND,
    TOKENS,
)


def parse_quantity(value: object, dimension: Dimension) -> float:
    """Return a written quantity in the base unit of its dimension.

    Raises:
        ValueError: not text with a number and a unit of this dimension; the message says what to write.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        msg = f"needs a unit: write it like {_completed(value, dimension)} (got the bare number {as_written(value)})"
        raise ValueError(msg)
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    factor = dimension.factors.get(match.group(2).replace(" ", "")) if match else None
    if match is None or factor is None:
        msg = f"{as_written(value)} is not a {dimension.name} in {dimension.unit}; write it like '{dimension.example}'"
        raise ValueError(msg)
    number = float(match.group(1).replace("_", "")) * factor
    if not math.isfinite(number):
        msg = f"{value!r} is too large"
        raise ValueError(msg)
    return number


def _completed(number: float, dimension: Dimension) -> str:
    """Return what a bare number may have been meant as."""
    if not 0 < number <= _EVERYDAY:
        return f"'{dimension.example}'"
    meant = dimension.meant or (dimension.example.split(" ", 1)[1],)
    return " or ".join(f"'{as_written(number)} {unit}'" for unit in meant)


def format_quantity(value: float, dimension: Dimension) -> str:
    """Write a quantity in the unit that makes it shortest; parsing gives back exactly the same number."""
    texts = [f"{_number(value / dimension.factors[unit])} {unit}" for unit in dimension.written]
    exact = [text for text in texts if parse_quantity(text, dimension) == value]
    return min(exact or [f"{value!r} {dimension.unit}"], key=lambda text: (text.startswith("0."), len(text)))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < _WHOLE else repr(value)
