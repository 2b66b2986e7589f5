"""What better hardware would give one configuration: at its load, and in the most load within the same limits."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from planner.columns.evaluate import Axes
from planner.columns.grid import encode, searched_values, sequence_limits
from planner.columns.legality import limits, rules
from planner.columns.mesh import Context, first_broken, values_of
from planner.columns.setting import Setting
from planner.constants import MILLISECONDS_PER_SECOND
from planner.explanation import Obstacle
from planner.schema.base import Sourced
from planner.table import Floats
from planner.text import figure

M = TypeVar("M", bound=BaseModel)
CAPACITY = "memory_capacity"
_MOST_RUNNING = 1024  # requests decoding in an attention rank: as many as max_num_seqs allows


class Reach(NamedTuple):
    """The most requests/s of a configuration's shape within all limits, 0 at no load, and what the next load breaks."""

    rate: float
    stops: tuple[Obstacle, ...]


def faster(setting: Setting, factors: Mapping[str, float]) -> Setting:
    """Return a setting whose device is better by factors: rates and capacity so many times larger, times shorter.

    Factors by resource, as in ``table.RESOURCES``, and for ``memory_capacity``.
    """
    hardware, efficiencies = setting.hardware, setting.efficiencies
    change = {name: lambda value, factor=factor: value * factor for name, factor in factors.items()}
    shorter = {name: lambda value, factor=factor: value / factor for name, factor in factors.items()}
    if "compute" in factors:
        rates = {name: _scaled(rate, change["compute"]) for name, rate in hardware.peak_flops.items()}
        hardware = hardware.model_copy(update={"peak_flops": rates})
    if "vector" in factors:
        engines = _fields(hardware.engines, ("vector_flops", "hand_off"), change["vector"])
        hardware = hardware.model_copy(update={"engines": engines})
    memory = hardware.memory
    for resource, field in (("hbm_bandwidth", "bandwidth"), (CAPACITY, "capacity")):
        memory = _fields(memory, (field,), change[resource]) if resource in factors else memory
    hardware = hardware.model_copy(update={"memory": memory})
    for resource, field, by in (("link_bandwidth", "bandwidth", change), ("latency", "latency", shorter)):
        if resource in factors:
            levels = tuple(_fields(level, (field,), by[resource]) for level in hardware.scale_up)
            out = _fields(hardware.scale_out, (field,), by[resource])
            hardware = hardware.model_copy(update={"scale_up": levels, "scale_out": out})
    if "latency" in factors:
        every = tuple(type(efficiencies.latency).model_fields)
        efficiencies = efficiencies.model_copy(
            update={"latency": _fields(efficiencies.latency, every, shorter["latency"])}
        )
    if "host" in factors:
        host = _fields(efficiencies.host, ("step", "sequence", "request", "prompt_token"), shorter["host"])
        efficiencies = efficiencies.model_copy(update={"host": host})
    return setting._replace(hardware=hardware, efficiencies=efficiencies)


def _fields(part: M, names: tuple[str, ...], change: Callable[[float], float]) -> M:
    found = {name: getattr(part, name) for name in names}
    return part.model_copy(update={name: _scaled(one, change) for name, one in found.items() if one is not None})


def _scaled(one: Sourced[float], change: Callable[[float], float]) -> Sourced[float]:
    return one.model_copy(update={"value": change(one.value)})


def reach(setting: Setting, axes: Axes) -> Reach:
    """Return the most load of a shape, and what stops it.

    Every whole number of running requests is tried, or every percent of utilisation where a replica only prefills; the
    limit on sequences follows from the load, as in the search.
    """
    name = "prefill_utilisation" if setting.role == "prefill" else "mean_running"
    most = 100 if setting.role == "prefill" else _MOST_RUNNING
    loads = np.arange(1, most, dtype=np.float64)
    values = _at(setting, axes, {name: loads})
    fine = _fine(setting, values, len(loads))
    if not fine.any():
        return Reach(0.0, tuple(_broken(setting, values, 0)))
    rates = np.where(fine, np.broadcast_to(values["rate"], fine.shape), -np.inf)
    best = int(rates.argmax())
    later = np.nonzero(~fine[best:])[0]
    stops = _broken(setting, values, best + int(later[0])) if len(later) else []
    return Reach(float(rates[best]), tuple(stops))


def next_load(setting: Setting, axes: Axes) -> tuple[Obstacle, ...]:
    """Return what the next larger load of the grid would break; nothing where there is none, or it breaks nothing."""
    name = "prefill_utilisation" if setting.role == "prefill" else "mean_running"
    searched = sorted(encode(name, value) for value in searched_values(setting)[name])
    larger = [value for value in searched if value > float(axes[name][0])]
    if not larger:
        return ()
    return tuple(_broken(setting, _at(setting, axes, {name: np.array(larger[:1])}), 0))


def _at(setting: Setting, axes: Axes, loads: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the figures of a configuration at other loads, max_num_seqs following from each."""
    count = len(next(iter(loads.values())))
    every = {axis: np.broadcast_to(value, (count,)) for axis, value in axes.items() if axis != "max_num_seqs"}
    budgets = np.array(
        [encode("max_num_batched_tokens", v) for v in searched_values(setting)["max_num_batched_tokens"]]
    )
    allowed = np.array(sequence_limits(setting.search), dtype=np.float64)
    return values_of(Context(setting, allowed, budgets, within_limits=False), {**every, **loads})


def _fine(setting: Setting, values: Mapping[str, Floats], count: int) -> NDArray[np.bool_]:
    """Tell which configurations break no rule and meet every latency limit, shape (count,)."""
    reason, _ = first_broken(setting, values, rules(setting))
    fine = np.broadcast_to(reason == 0, (count,)).copy()
    for name, limit in limits(setting.workload).items():
        fine &= np.broadcast_to(values[name] <= limit, (count,))
    return fine


def _broken(setting: Setting, values: Mapping[str, Floats], place: int) -> list[Obstacle]:
    """Return the first rule that a configuration breaks, and every latency limit it misses."""
    at = {name: float(np.ravel(value)[place if np.size(value) > 1 else 0]) for name, value in values.items()}
    arrays = {name: np.array(value) for name, value in at.items()}
    found = []
    with np.errstate(all="ignore"):
        rule = next((rule for rule in rules(setting) if bool(np.any(rule.broken(setting, arrays)))), None)
    if rule is not None:
        found.append(Obstacle(rule.name, rule.meaning, rule.detail(setting, at)))
    for name, limit in limits(setting.workload).items():
        if not at[name] <= limit:
            reached, asked = (f"{figure(x * MILLISECONDS_PER_SECOND)} ms" for x in (at[name], limit))
            found.append(Obstacle(name, f"misses the {name.upper()} limit", f"{reached} of {asked}"))
    return found
