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
from planner.schema.scenario import Demand
from planner.studies.resolve import Place, with_values

USUAL = (0.8, 1.25)  # factors of a parameter whose range nobody declared
_RANGE = re.compile(r"([^=]+)=([0-9.eE+-]+)\.\.([0-9.eE+-]+)")
_EFFICIENCIES = (
    "compute.gemm_bf16", "compute.attention", "bandwidth.weights", "bandwidth.kv_cache", "bandwidth.link",
    "latency.collective", "host.step",
)  # fmt: skip


class Parameter(NamedTuple):
    """A number of a case: where it stands, its values there, and the factors it is varied by.

    An efficiency stands in every calibration that the case names; a list of numbers changes entry by entry. ``whole``:
    a number of tokens; ``most``: the largest value it may have.
    """

    name: str
    places: tuple[Place, ...]
    bases: tuple[Any, ...]
    low: float
    high: float
    whole: bool = False
    most: float = math.inf

    @property
    def value(self) -> float | None:
        """The number as things stand; None of lists, and where it stands in several places."""
        single = len(self.bases) == 1 and not isinstance(self.bases[0], tuple)
        return float(self.bases[0]) if single else None

    def at(self, factor: float) -> dict[Place, Any]:
        """Return the value in each of its places at a factor."""
        return {place: self._changed(base, factor) for place, base in zip(self.places, self.bases, strict=True)}

    def _changed(self, base: Any, factor: float) -> Any:
        if isinstance(base, tuple):
            return tuple(min(entry * factor, self.most) for entry in base)
        value = min(base * factor, self.most)
        return float(max(1, round(value))) if self.whole else value


def varied(case: Case, parameters: Sequence[Parameter], factors: Sequence[float]) -> Case:
    """Return a case with every parameter at its factor."""
    values: dict[Place, Any] = {}
    for parameter, factor in zip(parameters, factors, strict=True):
        values |= parameter.at(float(factor))
    return with_values(case, values)


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
    parts = name.split(".")
    found = [_found(whole, above, rest, name) for whole, above, rest in _roots(case, parts)]
    share = (parts[0] == "calibration" and parts[1] in ("compute", "bandwidth")) or parts[-1] == "acceptance"
    counted = parts[-1] in ("input_tokens", "output_tokens", "max_model_len")
    most = 1.0 if share else math.inf
    return Parameter(name, tuple(p for p, _ in found), tuple(v for _, v in found), low, high, counted, most)


def _roots(case: Case, parts: Sequence[str]) -> Iterator[tuple[Any, Place, Sequence[str]]]:
    """Yield where a name starts: every calibration for one of an efficiency, else the scenario or its hardware."""
    if parts[0] == "calibration":
        for i, known in enumerate(case.calibration):
            fitted = isinstance(known, Calibration)
            whole: Any = known.textbook if isinstance(known, Calibration) else known
            yield whole, ("calibration", i, *(["textbook"] if fitted else [])), parts[1:]
    elif parts[0] == "hardware":
        yield case.hardware, ("hardware",), parts[1:]
    else:
        yield case.scenario, ("scenario",), parts


def _found(whole: Any, place: Place, parts: Sequence[str], name: str) -> tuple[Place, Any]:
    """Return where a number stands and what it is."""
    for part in parts:
        whole = _inside(whole, part, name)
        place = (*place, part)
    if isinstance(whole, Sourced | Demand):
        whole, place = whole.value, (*place, "value")
    return place, _number(whole, name)


def _inside(whole: Any, part: str, name: str) -> Any:
    names: Sequence[str] = ()
    if isinstance(whole, BaseModel):
        names = tuple(type(whole).model_fields)
    elif isinstance(whole, Mapping):
        names = tuple(map(str, whole))
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
