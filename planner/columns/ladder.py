"""What to improve first: the ladder of bottlenecks of one configuration, and what each parameter gives alone."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.columns.evaluate import Axes
from planner.columns.levers import CAPACITY, Reach, faster, reach
from planner.columns.pricing import figures_of
from planner.columns.setting import Setting
from planner.columns.values import multiplies_in
from planner.explanation import Lever, Rung
from planner.schema.precision import FORMATS
from planner.table import FORMAT_NAMES, RESOURCES

ALONE = 1.1  # how much better a lever alone is taken to be
_MOST = 4.0  # times better, up to which the first lever is followed
_TRIED = (1.25, 1.5, 2.0, 3.0, _MOST)
_HALVINGS = 6  # of the span in which something else starts to stop the load
_NOTHING = 5e-4  # relative change that counts as none
_RUNGS = 3
_FAR = 10.0  # times better, beyond which a rung is out of reach
_TIMES = ("latency", "host")  # better is shorter


class _Point(NamedTuple):
    """A configuration: its figures as it is run, and how much its shape could carry."""

    figures: dict[str, float]
    reach: Reach


class Ladder(NamedTuple):
    """Rungs from the lowest, levers alone with the best first, and the first one as far as it goes."""

    rungs: tuple[Rung, ...]
    levers: tuple[Lever, ...]
    first: Lever | None
    stops: Reach


def ladder(setting: Setting, axes: Axes) -> Ladder:
    """Return what better hardware gives a configuration, ``axes`` with one value each, max_num_seqs among them.

    A rung makes every resource that takes longest so much better that the next one takes as long: each alone needs
    time in proportion to 1/parameter, so the value at which the next takes over is exact.
    """
    here = _point(setting, axes)
    alone = [_lever(setting, axes, here, name, {name: ALONE}) for name in (*RESOURCES, CAPACITY)]
    useful = [lever for lever in alone if any(abs(x or 0.0) > _NOTHING for x in (lever.ttft, lever.tpot, lever.load))]
    ordered = sorted(useful, key=lambda lever: (-(lever.load or 0.0), lever.tpot or 0.0, lever.ttft or 0.0))
    able = [lever.resource for lever in useful if lever.resource != CAPACITY]
    first = _followed(setting, axes, here, ordered[0].resource) if ordered else None
    return Ladder(_rungs(setting, axes, here, able), tuple(ordered), first, here.reach)


def _point(setting: Setting, axes: Axes) -> _Point:
    found = figures_of(setting, axes)
    return _Point({name: float(np.ravel(value)[0]) for name, value in found.items()}, reach(setting, axes))


def _rungs(setting: Setting, axes: Axes, here: _Point, able: Sequence[str]) -> tuple[Rung, ...]:
    seconds = {name: here.figures[f"{name}_seconds"] for name in able}
    order = sorted(seconds, key=lambda name: -seconds[name])
    found = []
    for place in range(1, min(len(order), _RUNGS + 1)):
        binding, after = order[:place], order[place]
        if seconds[after] <= 0:
            break
        factors = {name: seconds[name] / seconds[after] for name in binding}
        if max(factors.values()) > _FAR:
            break
        there = _point(faster(setting, factors), axes)
        levers = tuple(_between(setting, axes, here, there, name, factors[name]) for name in binding)
        found.append(Rung(tuple(binding), after, levers))
    return tuple(found)


def _lever(setting: Setting, axes: Axes, here: _Point, name: str, factors: Mapping[str, float]) -> Lever:
    return _between(setting, axes, here, _point(faster(setting, factors), axes), name, factors[name])


def _followed(setting: Setting, axes: Axes, here: _Point, name: str) -> Lever:
    """Return the lever at the factor where something else starts to stop the load, or at the most that is tried."""

    def at(factor: float) -> Lever:
        return _lever(setting, axes, here, name, {name: factor})

    stopped = tuple(obstacle.name for obstacle in here.reach.stops[:1])
    below = 1.0
    for above in _TRIED:
        lever = at(above)
        if lever.then[:1] != stopped:
            break
        below = above
    else:
        return lever
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(below * above))
        trial = at(middle)
        if trial.then[:1] == stopped:
            below = middle
        else:
            above, lever = middle, trial
    return lever


def _between(setting: Setting, axes: Axes, here: _Point, there: _Point, name: str, factor: float) -> Lever:
    label, unit, value = _parameter(setting, axes, name)

    def change(figure: str) -> float | None:
        before = here.figures[figure]
        return there.figures[figure] / before - 1 if before else None

    return Lever(
        resource=name,
        parameter=label,
        unit=unit,
        value=value,
        changed_to=value / factor if name in _TIMES else value * factor,
        factor=factor,
        ttft=change("ttft"),
        tpot=change("tpot"),
        load=there.reach.rate / here.reach.rate - 1 if here.reach.rate else None,
        then=tuple(obstacle.name for obstacle in there.reach.stops),
    )


def _parameter(setting: Setting, axes: Axes, name: str) -> tuple[str, str, float]:
    """Return name, unit and value of the parameter that stands for a resource: where it has several, the first one."""
    hardware, reached = setting.hardware, setting.efficiencies
    weights = next(name for name in FORMATS if name == FORMAT_NAMES[int(axes["weight_precision"][0])])
    parts = setting.architecture.formats.get(weights)
    stored = weights if parts is None else (parts.experts if setting.architecture.num_experts else parts.ffn)
    multiplied = multiplies_in(hardware, stored) or "bf16"
    matrix = "matrix rate (bf16)" if multiplied == "bf16" else f"matrix rates (shown: {multiplied})"
    return {
        "compute": (matrix, "flop/s", hardware.peak_flops[multiplied].value),
        "vector": ("element-wise rate", "flop/s", hardware.engines.vector_flops.value),
        "hbm_bandwidth": ("memory bandwidth", "byte/s", hardware.memory.bandwidth.value),
        "link_bandwidth": ("link bandwidth", "byte/s", hardware.scale_up[0].bandwidth.value),
        "latency": ("launch and link latency (of a launch)", "s", reached.latency.eager_layer.value),
        "host": ("host time (of a step)", "s", reached.host.step.value),
        CAPACITY: ("memory capacity", "byte", hardware.memory.capacity.value),
    }[name]
