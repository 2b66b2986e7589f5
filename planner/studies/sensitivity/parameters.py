"""What is varied: numbers of a case by name, each over a range of factors."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from planner.catalog import Case
from planner.errors import InputError, Problem, did_you_mean
from planner.schema.base import Sourced
from planner.schema.calibration import Calibration
from planner.studies.resolve import Place, with_values

USUAL = (0.8, 1.25)  # factors of a parameter whose range nobody declared
_RANGE = re.compile(r"([^=]+)=([0-9.eE+-]+)\.\.([0-9.eE+-]+)")
_EFFICIENCIES = (
    "compute.gemm_bf16", "compute.attention", "bandwidth.weights", "bandwidth.kv_cache", "bandwidth.link",
    "latency.collective", "host.step",
)  # fmt: skip


class Parameter(NamedTuple):
    """A number of a case: its place, its value there, and the factors it is varied by.

    ``whole``: a number of tokens or of devices. ``several``: a list of numbers, all changed alike.
    """

    name: str
    place: Place
    base: Any
    low: float
    high: float
    whole: bool = False
    most: float = math.inf

    def value(self, factor: float) -> Any:
        """Return the value at a factor; lists are changed entry by entry."""
        if isinstance(self.base, tuple):
            return tuple(min(entry * factor, self.most) for entry in self.base)
        value = min(self.base * factor, self.most)
        return float(max(1, round(value))) if self.whole else value


def varied(case: Case, parameters: Sequence[Parameter], factors: Sequence[float]) -> Case:
    """Return a case with every parameter at its factor."""
    return with_values(case, {p.place: p.value(float(f)) for p, f in zip(parameters, factors, strict=True)})


def declared(case: Case, ranges: Sequence[str]) -> tuple[Parameter, ...]:
    """Return the parameters of ranges like ``hardware.h100.memory.bandwidth=0.8..1.2``, factors of the value there.

    Raises:
        InputError: every range that cannot be read, or names no number of the case.
    """
    problems, found = [], []
    for text in ranges:
        try:
            found.append(_declared(case, text))
        except ValueError as error:
            problems.append(Problem(f"--vary {text}", 0, 0, "", str(error)))
    if problems:
        raise InputError(problems)
    return tuple(found)


def _declared(case: Case, text: str) -> Parameter:
    match = _RANGE.fullmatch(text)
    if match is None:
        msg = "write it like 'hardware.h100.memory.bandwidth=0.8..1.2', factors of the value in the scenario"
        raise ValueError(msg)
    low, high = float(match[2]), float(match[3])
    if not 0 < low < high:
        msg = f"factors go up, from more than 0 (got {low:g}..{high:g})"
        raise ValueError(msg)
    return _parameter(case, match[1], low, high)


def usual(case: Case) -> tuple[Parameter, ...]:
    """Return what matters to most plans, each over the usual range: loads, lengths, prices, devices, efficiencies."""
    return tuple(_parameter(case, name, *USUAL) for name in _usual_names(case))


def _usual_names(case: Case) -> Iterator[str]:
    for name, workload in case.scenario.workloads.items():
        if workload.requests.kind == "rate":
            yield f"workloads.{name}.requests"
        yield f"workloads.{name}.input_tokens"
        if not workload.output_range:
            yield f"workloads.{name}.output_tokens"
    for name, model in case.scenario.models.items():
        if model.speculative:
            yield f"models.{name}.speculative.acceptance"
    priced = [name for name, item in case.scenario.inventory.items() if item.price]
    yield from (f"inventory.{name}.price" for name in priced if len(priced) > 1)
    for name in case.hardware:
        yield f"hardware.{name}.memory.bandwidth"
        yield f"hardware.{name}.peak_flops.bf16"
    yield from (f"calibration.{name}" for name in _EFFICIENCIES)


def _parameter(case: Case, name: str, low: float, high: float) -> Parameter:
    place: list[str | int] = []
    whole: Any = case
    parts = name.split(".")
    if parts[0] in type(case.scenario).model_fields and parts[0] != "calibration":
        place, whole = ["scenario"], case.scenario
    for part in parts:
        whole = _inside(whole, part, name)
        place.append(part)
        if part == "calibration" and isinstance(whole, Calibration):
            whole = whole.textbook
            place.append("textbook")
    for field in ("value",):
        if isinstance(whole, Sourced) or (isinstance(whole, BaseModel) and field in type(whole).model_fields):
            whole = getattr(whole, field)
            place.append(field)
    base = _number(whole, name)
    share = (parts[0] == "calibration" and parts[1] in ("compute", "bandwidth")) or parts[-1] == "acceptance"
    counted = parts[-1] in ("input_tokens", "output_tokens", "max_model_len")
    return Parameter(name, tuple(place), base, low, high, counted, 1.0 if share else math.inf)


def _inside(whole: Any, part: str, name: str) -> Any:
    names: Sequence[str] = ()
    if isinstance(whole, BaseModel):
        names = tuple(type(whole).model_fields)
    elif isinstance(whole, Mapping):
        names = tuple(map(str, whole))
    elif hasattr(whole, "_fields"):
        names = ("workloads", "inventory", "models", "limits", "hardware", "calibration")
    if part not in names:
        msg = f"there is no '{part}' in '{name}'; {did_you_mean(part, names)}"
        raise ValueError(msg)
    return whole[part] if isinstance(whole, Mapping) else getattr(whole, part)


def _number(value: Any, name: str) -> Any:
    entries = value if isinstance(value, tuple) else (value,)
    if not entries or not all(isinstance(entry, float) for entry in entries) or not all(e > 0 for e in entries):
        msg = f"'{name}' is no number that a factor could change"
        raise ValueError(msg)
    return value
