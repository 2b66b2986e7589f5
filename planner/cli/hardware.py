"""`planner hardware list|show`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, reported

if TYPE_CHECKING:
    from planner.schema.hardware import Hardware

hardware_app = typer.Typer(help="Devices and nodes, every value with its source.", no_args_is_help=True)

_HEADERS = ["name", "status", "vendor", "memory", "bandwidth", "bf16", "fp8", "scale-up", "description"]


@hardware_app.command("list")
def list_hardware(json_output: JsonOption = False) -> None:
    """List the shipped hardware; scale-up rates are of one device, one direction, by size of the group."""
    from planner.catalog import hardware_names, load_hardware

    with reported():
        specs = [load_hardware(name).value for name in hardware_names()]
    if json_output:
        fields = ("name", "vendor", "status", "description")
        print_json([{field: getattr(spec, field) for field in fields} for spec in specs])
        return
    rows = [
        [
            spec.name,
            spec.status,
            spec.vendor,
            f"{spec.memory.capacity.value / 2**30:.1f} GiB",
            f"{spec.memory.bandwidth.value / 1e12:.2f} TB/s",
            _teraflops(spec, "bf16"),
            _teraflops(spec, "fp8"),
            _scale_up(spec),
            spec.description,
        ]
        for spec in specs
    ]
    print_table(_HEADERS, rows)


def _teraflops(spec: "Hardware", precision: Any) -> str:
    rate = spec.peak_flops.get(precision)
    return f"{rate.value / 1e12:.0f} TFLOP/s" if rate else "-"


def _scale_up(spec: "Hardware") -> str:
    """Return the rate of one device in the largest group of each level, and in the smallest where it differs."""
    import numpy as np

    from planner.columns.topology import group_bandwidth

    sizes: list[int] = []
    for level in spec.scale_up:
        smallest = sizes[-1] + 1 if sizes else 2
        sizes += [smallest] * (level.topology == "full-mesh") + [level.devices.value]
    rates = group_bandwidth(spec, np.array(sizes, dtype=float)) / 1e9
    return ", ".join(f"{rate:.0f} GB/s to {size}" for size, rate in zip(sizes, rates, strict=True))


@hardware_app.command("show")
def show_hardware(
    name: Annotated[str, typer.Argument(help="A shipped name, or the path of a specification.")],
    json_output: JsonOption = False,
) -> None:
    """Show every value of a device with its unit and source."""
    from planner.catalog import load_hardware

    with reported():
        spec = load_hardware(name).value
    if json_output:
        print_json(spec.model_dump(mode="json", exclude_none=True))
        return
    typer.echo(f"{spec.description} ({spec.vendor}, {spec.status})\n")
    print_table(["value of " + spec.name, "", "source", "note"], list(_rows(spec.model_dump(mode="json"), spec)))
    typer.echo()
    sources = [[key, s.title, s.url or "", s.accessed] for key, s in spec.sources.items()]
    print_table(["source", "title", "place", "read"], sources)


def _rows(data: Any, spec: Any, above: str = "") -> Iterator[list[str]]:
    """Yield place, value, sources and notes of every sourced value, and the plain ones above the top level."""
    from planner.schema.base import Sourced

    if isinstance(spec, tuple):
        items: Any = enumerate(spec)
    else:
        items = spec.items() if isinstance(spec, dict) else [(n, getattr(spec, n)) for n in type(spec).model_fields]
    for name, value in items:
        place = f"{above}.{name}" if above else str(name)
        if isinstance(value, Sourced):
            note = "; ".join(filter(None, [value.note, *(f"also: {a}" for a in value.alternatives)]))
            yield [place, str(data[name]["value"]), ", ".join(value.source), note]
        elif isinstance(value, dict | tuple) or hasattr(type(value), "model_fields"):
            if name != "sources":
                yield from _rows(data[name], value, place)
        elif above and isinstance(value, str):
            yield [place, value, "", ""]
