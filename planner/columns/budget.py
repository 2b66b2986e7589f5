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
    """Yield what steps hold beside operators: launch floors, what overlaps save, launches, drafts, the host."""

    def part(step: str, layer: str, name: str, seconds: float, bound: str) -> Part:
        used = {bound: max(seconds, 0.0) * MILLISECONDS_PER_SECOND}
        return Part(step, layer, name, seconds * MILLISECONDS_PER_SECOND, seconds / mean, used, bound)

    bounds = {"drafts": "drafts", "launches": "latency", "host": "host", "measured": "calibration"}
    for step in _steps(values):
        weight = values[_name(step, "weight")]
        for name, value in values.items():
            key = name.split(_SEPARATOR)
            if key[0] == step and len(key) == 3:
                times = weight * (1.0 if key[1] == "overhead" else values[_name(step, key[1], "layers")])
                if key[1] == "overhead":
                    yield part(step, "", key[2], times * value, bounds[key[2]])
                elif key[2] == "floor":
                    yield part(step, key[1], "launch floor", times * value, "latency")
                elif key[2] == "saved":
                    yield part(step, key[1], "saved by overlaps", -times * value, "overlap")
    yield part("prompt", "", "waits for its decodes", values["remainder"], "latency")


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
