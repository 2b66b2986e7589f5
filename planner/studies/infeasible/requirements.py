"""What a scenario asks for, one requirement at a time: how each is set aside, loosened, and written."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from planner import units
from planner.catalog import AnyCase, Case
from planner.columns.legality import limits
from planner.columns.values import multiplies
from planner.errors import as_written
from planner.schema.calibration import MEDIAN
from planner.schema.fleet import InventoryItem
from planner.schema.precision import FORMATS
from planner.schema.scenario import Demand, Workload
from planner.schema.search import Search
from planner.studies.resolve import Place, with_values

_DIGITS = 4  # of a value that is proposed
_LENGTH_DIGITS = 2  # every length is priced anew
_CONFIDENCE_DIGITS = 2
_SUREST = 0.99  # confidence that is looked for
_MANY = 10_000  # devices of an inventory that is set aside
_LEAST_OUTPUT = 2.0


class Change(NamedTuple):
    """A requirement with another value: in words, as settings of the scenario, and in memory; ``value`` as written."""

    value: str
    words: str
    settings: tuple[str, ...]
    values: Mapping[Place, Any]


class Knob(NamedTuple):
    """A requirement's value as a number.

    ``looser``: 1 where more asks for less, -1 where less does. ``digits``: significant ones of a proposal, which is
    ``whole`` or not. ``nothing``: below it counts as 0. ``change``: the scenario at a value.
    """

    asked: float
    looser: int
    change: Callable[[float], Change]
    least: float = 0.0
    most: float = math.inf
    whole: bool = False
    digits: int = _DIGITS
    nothing: float = 0.0


class Requirement(NamedTuple):
    """Something that a scenario asks for; ``path`` is its field.

    ``aside``: the case without it. ``loosened``: a number to change, or changes to try in their order. ``binds``:
    whether it may be part of a conflict; lengths of requests are facts, and can be changed all the same.
    ``leaves_out``: whether it goes with a whole workload. ``wish``: whether it is about what is reached rather than
    the means to reach it.
    """

    path: tuple[str | int, ...]
    words: str
    aside: Callable[[Any], Any]
    loosened: Knob | tuple[Change, ...]
    binds: bool = True
    leaves_out: bool = False
    wish: bool = False


def requirements(case: AnyCase) -> list[Requirement]:
    """Return what a case asks for, what people would rather keep last."""
    found = [*_limits(case), *_links(case), *_loads(case)]
    if isinstance(case, Case):
        found = [*_latencies(case), *_confidence(case), *found, *_lengths(case), *_models(case), *_search(case)]
    names = list(case.scenario.workloads)
    return [*found, *_inventory(case), *(_served(case, name) for name in names if len(names) > 1)]


def _text(value: float, dimension: units.Dimension, shown: str) -> str:
    """Write a value in the unit that the one asked for is shown in."""
    unit = shown.partition(" ")[2]
    return f"{value / dimension.factors[unit]:.12g} {unit}"


def _quantity(path: Place, value: float, dimension: units.Dimension, shown: str, words: Callable[[str], str]) -> Change:
    name, text = ".".join(map(str, path[1:])), _text(value, dimension, shown)
    return Change(text, words(text), (f"{name}={text}",), {path: units.parse_quantity(text, dimension)})


def _number(
    path: tuple[str, ...], asked: float, dimension: units.Dimension, looser: int, phrase: str, **more: Any
) -> tuple[Knob, str]:
    """Return a knob over a quantity of the scenario, and the requirement in words; ``phrase`` has a place for it."""
    shown = units.format_quantity(asked, dimension)

    def change(value: float) -> Change:
        return _quantity(
            ("scenario", *path), value, dimension, shown, lambda text: f"{phrase.format(text)} instead of {shown}"
        )

    return Knob(asked, looser, change, **more), phrase.format(shown)


def _without(path: tuple[str | int, ...], value: Any = None) -> Callable[[AnyCase], AnyCase]:
    return lambda case: with_values(case, {("scenario", *path): value})


def _latencies(case: Case) -> Iterator[Requirement]:
    for name, workload in case.scenario.workloads.items():
        for figure, limit in limits(workload).items():
            path = ("workloads", name, "slo", figure)
            knob, words = _number(path, limit, units.SECONDS, 1, f"{figure.upper()} of {name} at most {{}}")
            yield Requirement(path, words, _without(path), knob, wish=True)


def _confidence(case: Case) -> Iterator[Requirement]:
    """That latencies are planned for more surely than as expected; without a stated confidence, nobody asked for it."""
    asked = case.scenario.confidence
    if asked is None or asked <= MEDIAN:
        return

    def change(value: float) -> Change:
        words = f"limits held by {value:.0%} of such deployments instead of {asked:.0%}"
        return Change(f"{value:.0%}", words, (f"confidence={value:.12g}",), {("scenario", "confidence"): value})

    knob = Knob(asked, -1, change, least=MEDIAN, most=max(asked, _SUREST), digits=_CONFIDENCE_DIGITS)
    words = f"limits held by {asked:.0%} of such deployments"
    yield Requirement(("confidence",), words, _without(("confidence",), MEDIAN), knob, wish=True)


def _limits(case: AnyCase) -> Iterator[Requirement]:
    for metric, dimension in (("cost", units.USD_PER_HOUR), ("power", units.WATTS)):
        limit = getattr(case.scenario.limits, metric)
        if limit is not None:
            path = ("limits", metric)
            knob, words = _number(path, limit, dimension, 1, f"{metric} of the plan at most {{}}")
            yield Requirement(path, words, _without(path), knob, wish=True)
    most = case.scenario.limits.devices
    if most is not None:
        yield Requirement(
            ("limits", "devices"),
            f"at most {most} devices in all",
            _without(("limits", "devices")),
            _count(("limits", "devices"), most, 1, lambda n: f"at most {n} devices in all instead of {most}", least=1),
            wish=True,
        )


def _count(path: tuple[str, ...], asked: int, looser: int, words: Callable[[int], str], **more: Any) -> Knob:
    def change(value: float) -> Change:
        count = int(value)
        return Change(f"{count}", words(count), (f"{'.'.join(path)}={count}",), {("scenario", *path): count})

    return Knob(float(asked), looser, change, whole=True, digits=9, **more)


def _links(case: AnyCase) -> Iterator[Requirement]:
    links = case.scenario.links
    for i, link in enumerate(links):
        a, b = link.between
        shown = units.format_quantity(link.bandwidth, units.BYTES_PER_SECOND)

        def change(value: float, i: int = i, a: str = a, b: str = b, shown: str = shown) -> Change:
            text = _text(value, units.BYTES_PER_SECOND, shown)
            faster = links[i].model_copy(update={"bandwidth": units.parse_quantity(text, units.BYTES_PER_SECOND)})
            written = [other.model_dump(mode="json") for other in (*links[:i], faster, *links[i + 1 :])]
            words = f"caches between {a} and {b} at {text} instead of {shown}"
            return Change(text, words, (f"links={json.dumps(written)}",), {("scenario", "links", i): faster})

        yield Requirement(
            ("links", i, "bandwidth"),
            f"caches between {a} and {b} at no more than {shown}",
            _without(("links", i, "bandwidth"), math.inf),
            Knob(link.bandwidth, 1, change),
        )


def _loads(case: AnyCase) -> Iterator[Requirement]:
    for name, workload in case.scenario.workloads.items():
        path, asked = ("workloads", name, "requests"), workload.requests
        anything = _without(path, Demand.model_construct(kind="max", value=0.0))
        if asked.kind == "rate":
            shown = units.format_quantity(asked.value, units.REQUESTS_PER_SECOND)
            knob = Knob(asked.value, -1, _rate(name, shown))
            yield Requirement(path, f"{shown} of {name}", anything, knob, wish=True)
        elif asked.kind == "concurrency":
            count = int(asked.value)
            knob = Knob(count, -1, _in_flight(name, count), least=1, whole=True, digits=9)
            yield Requirement(path, f"{count} requests of {name} in flight", anything, knob, wish=True)


def _rate(name: str, shown: str) -> Callable[[float], Change]:
    def change(value: float) -> Change:
        text = _text(value, units.REQUESTS_PER_SECOND, shown)
        demand = Demand.model_construct(kind="rate", value=units.parse_quantity(text, units.REQUESTS_PER_SECOND))
        setting = f"workloads.{name}.requests={text}"
        return Change(
            text,
            f"{text} of {name} instead of {shown}",
            (setting,),
            {("scenario", "workloads", name, "requests"): demand},
        )

    return change


def _in_flight(name: str, asked: int) -> Callable[[float], Change]:
    def change(value: float) -> Change:
        demand = Demand.model_construct(kind="concurrency", value=float(value))
        setting = f"workloads.{name}.requests={{concurrency: {int(value)}}}"
        words = f"{int(value)} requests of {name} in flight instead of {asked}"
        return Change(f"{int(value)}", words, (setting,), {("scenario", "workloads", name, "requests"): demand})

    return change


def _served(case: AnyCase, name: str) -> Requirement:
    """That a workload is served at all."""
    path = ("scenario", "workloads")

    def aside(case: AnyCase) -> AnyCase:
        return with_values(case, {path: {n: w for n, w in case.scenario.workloads.items() if n != name}})

    others = {n: w for n, w in case.scenario.workloads.items() if n != name}
    written = {n: w.model_dump(mode="json", exclude_none=True, exclude_unset=True) for n, w in others.items()}
    change = Change("", f"no {name}", (f"workloads={json.dumps(written)}",), {path: others})
    return Requirement(("workloads", name), f"{name} is served", aside, (change,), leaves_out=True)


def _lengths(case: Case) -> Iterator[Requirement]:
    for name, workload in case.scenario.workloads.items():
        for field, called, least in (
            ("input_tokens", "prompts", 1.0),
            ("output_tokens", "outputs", _LEAST_OUTPUT),
        ):
            if field == "output_tokens" and workload.output_range:
                continue  # its mean is output_tokens: two fields would have to change together
            path = ("workloads", name, field)
            more = {"least": least, "whole": True, "digits": _LENGTH_DIGITS}
            asked: float = getattr(workload, field)
            knob, words = _number(path, asked, units.TOKENS, -1, f"{called} of {name} of {{}}", **more)
            yield Requirement(path, words, _without(path, least), knob, binds=False)


def _models(case: Case) -> Iterator[Requirement]:
    for name, model in case.scenario.models.items():
        served = [w for w in case.scenario.workloads.values() if w.model == name]
        if not served:
            continue
        path = ("models", name, "max_model_len")
        longest = float(model.max_model_len or case.architectures[name].max_position_embeddings)
        least = max(map(_longest, served))
        phrase = f"{name} accepts requests of up to {{}}"
        knob, words = _number(path, longest, units.TOKENS, -1, phrase, least=least, whole=True, digits=_LENGTH_DIGITS)
        if longest > least:
            yield Requirement(path, words, _without(path, least), knob)
        yield from _formats(case, name)


def _longest(workload: Workload) -> float:
    """Return the longest request of a workload [token]."""
    return workload.input_tokens + (workload.output_range or (0.0, workload.output_tokens))[1]


def _formats(case: Case, name: str) -> Iterator[Requirement]:
    """That weights keep the formats a scenario accepts, of those that its engines serve on its devices."""
    architecture = case.architectures[name]
    accepted = tuple(case.scenario.models[name].precisions or (architecture.precision,))
    able = {
        precision
        for hardware, use in itertools.product(case.hardware.values(), case.engines)
        for precision in use.engine.weight_precisions.value
        if hardware.vendor in use.engine.vendors and multiplies(hardware, architecture, precision)
    }
    more = tuple(p for p in FORMATS if p in able and p not in accepted)
    if not more:
        return
    path = ("models", name, "precisions")

    def change(precision: str) -> Change:
        wider = (*accepted, precision)
        words = f"{name} with weights in {precision}, too"
        return Change(precision, words, (f"{'.'.join(path)}={json.dumps(list(wider))}",), {("scenario", *path): wider})

    words = f"{name} with weights in {' or '.join(accepted)} only"
    yield Requirement(path, words, _without(path, (*accepted, *more)), tuple(map(change, more)))


def _search(case: Case) -> Iterator[Requirement]:
    for field in Search.model_fields:
        value = getattr(case.scenario.search, field)
        if value is not None:
            path = ("search", field)
            shown = as_written(value)
            words = f"{field} searched over its usual values instead of {shown}"
            change = Change("", words, (f"search.{field}=null",), {("scenario", *path): None})
            yield Requirement(path, f"{field} searched over {shown} only", _without(path), (change,))


def _inventory(case: AnyCase) -> Iterator[Requirement]:
    for name, item in case.scenario.inventory.items():
        if item.reserved_devices:
            yield _reserved(name, item.reserved_devices)
        yield _size(case, name, item)


def _reserved(name: str, kept: int) -> Requirement:
    path = ("inventory", name, "reserved_devices")
    knob = _count(path, kept, -1, lambda n: f"{n} devices of {name} reserved instead of {kept}")
    return Requirement(path, f"{kept} devices of {name} reserved", _without(path, 0), knob)


def _size(case: AnyCase, name: str, item: InventoryItem) -> Requirement:
    unit, each = _unit(case, name, item)
    path, asked = ("inventory", name, unit), getattr(item, unit)
    most = max(asked, _MANY // each)

    def shown(count: int) -> str:
        kind = item.hardware or "devices"
        return (
            f"{count} {kind}"
            if unit == "devices"
            else f"{count} {unit[: None if count > 1 else -1]} ({count * each} {kind})"
        )

    knob = _count(path, asked, 1, lambda n: f"{name}: {shown(n)} instead of {shown(asked)}", most=most)
    return Requirement(path, f"{name}: {shown(asked)}", _without(path, most), knob)


def _unit(case: AnyCase, name: str, item: InventoryItem) -> tuple[str, int]:
    """Return in what an inventory is counted, and the devices of one."""
    if item.devices is not None:
        return "devices", 1
    hardware = case.hardware[name]
    node = hardware.devices_per_node.value
    return ("nodes", node) if item.nodes is not None else ("domains", max(hardware.domain, node))
