"""What the capacity workbook needs of a case: pools with prices, loads, and where figures are from."""

from collections.abc import Iterator, Mapping
from typing import Any

from planner.catalog import AnyCase, TableCase
from planner.columns.legality import limits
from planner.constants import MILLISECONDS_PER_SECOND
from planner.decode import stocks
from planner.listed import listed_problem
from planner.workbook.facts import CapacityFacts, LoadFacts, PoolFacts, SourcedFigure


def capacity_of(case: AnyCase) -> CapacityFacts:
    """Return what the workbook needs of a case, as values; without what studies find."""
    room = listed_problem(case).stocks if isinstance(case, TableCase) else stocks(case)
    pools = {}
    for name, item in case.scenario.inventory.items():
        hardware = case.hardware.get(name)
        power = None if hardware is None or hardware.power is None else hardware.power.value
        stock = room[name]
        known = None if hardware is None else hardware.name
        pools[name] = PoolFacts(known, stock.devices, stock.devices_per_node, item.price, power)
    loads = {
        name: LoadFacts(
            kind="in_flight" if workload.requests.kind == "concurrency" else workload.requests.kind,
            asked=None if workload.requests.kind == "max" else workload.requests.value,
            input_tokens=workload.input_tokens,
            output_tokens=workload.output_tokens,
            limits_ms={metric: s * MILLISECONDS_PER_SECOND for metric, s in limits(workload).items()},
        )
        for name, workload in case.scenario.workloads.items()
    }
    return CapacityFacts(pools, loads, tuple(_figures(case)))


def _figures(case: AnyCase) -> Iterator[SourcedFigure]:
    """Yield the figures of devices with their sources, and what the calibrations are."""
    for hardware in {h.name: h for h in case.hardware.values()}.values():
        data = hardware.model_dump(mode="json")
        yield from _sourced(hardware.name, "", data, data.get("sources") or {})
    if isinstance(case, TableCase):
        return
    for calibration in case.calibration:
        yield SourcedFigure(calibration.name, "basis", calibration.basis, "", "", calibration.description)


def _sourced(name: str, place: str, data: Any, sources: Mapping[str, Any]) -> Iterator[SourcedFigure]:
    if isinstance(data, list):
        data = dict(enumerate(data))
    if not isinstance(data, dict):
        return
    if "value" in data and "source" in data:
        named = [sources[key] for key in data["source"] if key in sources]
        yield SourcedFigure(
            name,
            place,
            str(data["value"]),
            "; ".join(source["title"] for source in named),
            "; ".join(source["url"] for source in named if source.get("url")),
            data.get("note") or "",
        )
        return
    for key, part in data.items():
        if key != "sources":
            yield from _sourced(name, f"{place}.{key}" if place else str(key), part, sources)
