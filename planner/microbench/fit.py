"""Fits efficiencies to microbenchmarks, in the form the cost model has: a smooth roofline and a floor.

t = ((flop / (rate·share))³ + (byte / (bandwidth·share))³)^⅓ + floor, as planner/costs/devices/roofline.py combines
matrix work and memory traffic; collectives are latency per round and byte over links. Least squares of log time, so
that short and long ones weigh alike; parameters are fitted as logarithms, a share at most 1.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares

from planner.errors import InputError
from planner.microbench import cases as c
from planner.microbench import families, work
from planner.microbench.families import Family, Places
from planner.microbench.results import Fitted, Microbenchmark, Row
from planner.schema.hardware import Hardware
from planner.table import Floats

_LEAST_SHARE, _LEAST_SECONDS, _MOST_SECONDS = 1e-7, 1e-9, 10.0
_FLAT = 1e-6  # of all times together, that one parameter moves
_UNSURE = 1.0  # a standard error of a factor e says that the rows do not determine a value
GROUPS = ("compute", "bandwidth", "latency")


_UNITS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


class _Solution(NamedTuple):
    values: Floats
    errors: tuple[float | None, ...]  # standard error of each logarithm


def fit(result: Microbenchmark, hardware: Hardware) -> Microbenchmark:
    """Return the microbenchmark with what its rows say of the efficiencies of ``hardware``, its data sheet.

    Raises:
        InputError: no kind of operation has rows enough to be fitted.
    """
    notes: list[str] = []
    fitted: dict[str, Fitted] = {}
    for family in (
        families.gemm(result.rows, hardware, notes),
        families.attention(result.rows, hardware),
        families.links(result.rows, hardware),
    ):
        if family is None:
            continue
        if len(family.rows) <= len(family.names):
            kinds = "/".join(dict.fromkeys(row.operation for row in family.rows))
            notes.append(f"{kinds}: {len(family.rows)} rows cannot say {len(family.names)} efficiencies")
            continue
        fitted |= _fitted(family, notes)
    if not fitted:
        raise InputError.single("rows", "too few rows to fit anything; measure longer")
    grouped: dict[str, dict[str, Fitted]] = {}
    for name, value in fitted.items():
        group, _, field = name.partition(".")
        if group in GROUPS:
            grouped.setdefault(group, {})[field] = value
    observed = {name: value for name, value in fitted.items() if name.partition(".")[0] not in GROUPS}
    changes = {
        "hardware": hardware.name,
        "efficiencies": grouped,
        "observed": observed | _observed(result.rows, hardware),
        "notes": tuple(notes),
    }
    return result.model_copy(update=changes)


def _fitted(family: Family, notes: list[str]) -> Mapping[str, Fitted]:
    """Fit a family to all its rows, and test it on every other shape."""
    everything = np.arange(len(family.rows))
    solution = _solve(family, everything)
    held_out = _held_out(family)
    found = {}
    for name, value, error, share in zip(family.names, solution.values, solution.errors, family.shares, strict=True):
        if error is None:
            notes.append(f"{name}: these rows do not determine it")
        count = (
            sum(row.dtype == name[13:] for row in family.rows) if "gemm_" in name and "." in name else len(family.rows)
        )
        found[name] = Fitted(
            value=_written(float(value), share=share),
            standard_error=None if error is None else _written(float(value) * error, share=share),
            held_out_error=held_out,
            rows=count,
        )
    return found


def _solve(family: Family, chosen: Places) -> _Solution:
    """Return the values that fit the chosen rows best, and the standard errors of their logarithms."""
    observed = np.log([family.rows[index].seconds for index in chosen])
    shares = np.array(family.shares)
    low = np.log(np.where(shares, _LEAST_SHARE, _LEAST_SECONDS))
    high = np.log(np.where(shares, 1.0, _MOST_SECONDS))
    start = np.clip(np.log(family.start), low + 1e-6, high - 1e-6)

    def residuals(logarithms: Floats) -> Floats:
        return np.asarray(np.log(family.seconds(np.exp(logarithms), chosen)) - observed)

    found = least_squares(residuals, start, bounds=(low, high))
    free = max(len(chosen) - len(start), 1)
    variance = float(found.fun @ found.fun) / free
    slopes = np.asarray(found.jac, dtype=np.float64)
    spread = np.sqrt(variance * np.diag(np.linalg.pinv(slopes.T @ slopes)))
    flat = np.linalg.norm(slopes, axis=0) < _FLAT
    unsure = (spread > _UNSURE) | flat | (found.active_mask != 0)
    return _Solution(
        np.exp(found.x), tuple(None if no else float(error) for no, error in zip(unsure, spread, strict=True))
    )


def _held_out(family: Family) -> float | None:
    """Return the median relative error of every other shape, predicted by a fit to the rest; none with too few rows."""
    order = sorted(range(len(family.rows)), key=lambda i: _place(family.rows[i]))
    kept, left = np.array(order[::2]), np.array(order[1::2])
    if len(kept) <= len(family.names):
        return None
    predicted = family.seconds(_solve(family, kept).values, left)
    measured = np.array([family.rows[index].seconds for index in left])
    return float(f"{np.median(np.abs(predicted / measured - 1)):.3g}")


def _place(row: Row) -> tuple[str, str, tuple[int, ...]]:
    return row.operation, row.dtype, tuple(row.shape.values())


def _observed(rows: Sequence[Row], hardware: Hardware) -> dict[str, Fitted]:
    """Return what needs no fit: best shares of bandwidths, and times of launches."""
    found: dict[str, Fitted] = {}
    rates = dict.fromkeys((c.READ, c.COPY), hardware.memory.bandwidth.value)
    rates |= dict.fromkeys((c.TO_DEVICE, c.TO_HOST), hardware.host.link.value) if hardware.host else {}
    for operation, rate in rates.items():
        shares = [work.moved(row) / row.seconds / rate for row in rows if row.operation == operation]
        if shares:
            found[operation] = Fitted(value=_written(max(shares), share=True), rows=len(shares))
    for operation in (c.EAGER, c.GRAPH):
        times = [row.seconds for row in rows if row.operation == operation]
        if times:
            found[operation] = Fitted(value=_written(min(times), share=False), rows=len(times))
    return found


def _written(value: float, *, share: bool) -> float | str:
    """Return a share as a number, a time with its unit, both with four digits."""
    if share:
        return float(f"{value:.4g}")
    unit, size = next(((unit, size) for unit, size in _UNITS if value >= size), _UNITS[-1])
    return f"{value / size:.4g} {unit}"
