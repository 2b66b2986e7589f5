"""Where the average step of one configuration goes, from the parts that the cost model names."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from planner.columns.evaluate import Axes, structure_of, symbol_values
from planner.columns.mesh import whole_load
from planner.columns.setting import Setting
from planner.constants import MILLISECONDS_PER_SECOND
from planner.costs.compile import compiled
from planner.explanation import Part, Roofline, RooflinePoint

_SEPARATOR = "__"  # of the names in planner/costs/budget.py
_RESOURCES = {
    "compute": "compute", "vector": "vector", "hbm": "hbm_bandwidth", "link": "link_bandwidth", "latency": "latency",
}  # fmt: skip

# What people call an overhead, and what it counts as.
_OVERHEADS = {
    "drafts": ("drafts", "drafts"),
    "launches": ("launches beyond the work", "latency"),
    "host": ("host", "host"),
    "measured": ("measured over modelled", "calibration"),
}
_OF_LAYERS = {"floor": ("launch floor", "latency"), "saved": ("saved by overlaps", "overlap")}


class Budget(NamedTuple):
    """The average step of a stage [s], the share of steps of each kind, and its parts, the largest first."""

    seconds: float
    steps: dict[str, float]
    parts: tuple[Part, ...]
    roofline: Roofline


def budget(setting: Setting, axes: Axes) -> Budget:
    """Return the parts of the average step of one configuration; ``axes`` as for ``figures``, of one value each."""
    kernel = compiled(*structure_of(setting), f"budget_{setting.role}")
    with np.errstate(all="ignore"):
        found = kernel(**symbol_values(setting, whole_load(axes)))
    values = {name: float(np.ravel(value)[0]) for name, value in found.items()}
    mean = values["mean_step"]
    operators = list(_operators(values))
    parts = [
        *(_part(key, fields, mean) for key, fields in operators),
        *_overheads(values, mean),
    ]
    kept = sorted((part for part in parts if abs(part.ms) > 0), key=lambda part: -abs(part.ms))
    steps = {step: values[f"{step}{_SEPARATOR}weight"] for step in _steps(values)}
    return Budget(mean, steps, tuple(kept), _roofline(setting, operators, values, mean))


def _steps(values: Mapping[str, float]) -> list[str]:
    return [name.removesuffix(f"{_SEPARATOR}weight") for name in values if name.endswith(f"{_SEPARATOR}weight")]


def _operators(values: Mapping[str, float]) -> Iterator[tuple[tuple[str, str, str], dict[str, float]]]:
    """Yield (step, layer, operator) with the fields of all such operators in the average step; rates stay rates."""
    grouped: dict[tuple[str, str, str], dict[str, float]] = {}
    for name, value in values.items():
        key = name.split(_SEPARATOR)
        if len(key) == 4:
            grouped.setdefault((key[0], key[1], key[2]), {})[key[3]] = value
    for (step, layer, operator), fields in grouped.items():
        if fields["seconds"]:
            times = values[_name(step, "weight")] * values[_name(step, layer, "layers")]
            rates = {name: fields[name] for name in ("peak", "bandwidth")}
            yield (step, layer, operator), {name: times * value for name, value in fields.items()} | rates


def _name(*parts: str) -> str:
    return _SEPARATOR.join(parts)


def _part(key: tuple[str, str, str], fields: Mapping[str, float], mean: float) -> Part:
    alone = {name: fields[field] * MILLISECONDS_PER_SECOND for field, name in _RESOURCES.items()}
    seconds = fields["seconds"]
    return Part(
        *key, seconds * MILLISECONDS_PER_SECOND, seconds / mean, alone, max(alone, key=lambda name: alone[name])
    )


def _overheads(values: Mapping[str, float], mean: float) -> Iterator[Part]:
    """Yield what steps hold beside operators: of layers, of steps as a whole, and what prompts wait for."""

    def part(step: str, layer: str, kind: tuple[str, str], seconds: float) -> Part:
        name, bound = kind
        used = {bound: max(seconds, 0.0) * MILLISECONDS_PER_SECOND}
        return Part(step, layer, name, seconds * MILLISECONDS_PER_SECOND, seconds / mean, used, bound)

    for step in _steps(values):
        weight = values[_name(step, "weight")]
        for name, value in values.items():
            first, *rest = name.split(_SEPARATOR)
            if first != step or len(rest) != 2:  # step, and a layer or "overhead" with a field
                continue
            layer, field = rest
            if layer == "overhead":
                yield part(step, "", _OVERHEADS[field], weight * value)
            elif field in _OF_LAYERS:
                sign = -1 if field == "saved" else 1
                times = weight * values[_name(step, layer, "layers")]
                yield part(step, layer, _OF_LAYERS[field], sign * times * value)
    yield part("prompt", "", ("wait for its decodes", "latency"), values["remainder"])


def _roofline(
    setting: Setting,
    operators: list[tuple[tuple[str, str, str], dict[str, float]]],
    values: Mapping[str, float],
    mean: float,
) -> Roofline:
    points = [
        RooflinePoint(
            *key,
            share=f["seconds"] / mean,
            flop_per_byte=f["flops"] / f["bytes"],
            reached_flop_per_s=f["flops"] / f["seconds"],
            compute_roof_flop_per_s=f["peak"],
            memory_roof_byte_per_s=f["bandwidth"],
        )
        for key, f in operators
        if f["flops"] and f["bytes"]
    ]
    rates = {str(name): rate.value for name, rate in setting.hardware.peak_flops.items()}
    return Roofline(tuple(points), rates, setting.hardware.memory.bandwidth.value)
