"""`planner hardware list|show`."""

from typing import Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, reported

hardware_app = typer.Typer(help="Devices and nodes, every value with its source.", no_args_is_help=True)


@hardware_app.command("list")
def list_hardware(json_output: JsonOption = False) -> None:
    """List the shipped hardware."""
    from planner.catalog import hardware_names, load_hardware

    with reported():
        specs = [load_hardware(name).value for name in hardware_names()]
    if json_output:
        print_json([{"name": s.name, "vendor": s.vendor, "description": s.description} for s in specs])
        return
    rows = [
        [
            s.name,
            f"{s.memory.capacity.value / 2**30:.1f} GiB",
            f"{s.memory.bandwidth.value / 1e12:.2f} TB/s",
            f"{s.peak_flops['bf16'].value / 1e12:.0f} TFLOP/s" if "bf16" in s.peak_flops else "-",
            str(s.devices_per_node.value),
            f"{s.scale_up.bandwidth.value / 1e9:.0f} GB/s",
            s.description,
        ]
        for s in specs
    ]
    print_table(["name", "memory", "bandwidth", "bf16", "per node", "scale-up", "description"], rows)


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
    data = spec.model_dump(mode="json")
    rows = list(_rows(data, spec))
    print_table(["value of " + spec.name, "", "source", "note"], rows)
    typer.echo()
    sources = [[key, s.title, s.url or "", s.accessed] for key, s in spec.sources.items()]
    print_table(["source", "title", "place", "read"], sources)


def _rows(data: Any, spec: Any, above: str = "") -> list[list[str]]:
    from planner.schema.base import Sourced

    rows: list[list[str]] = []
    items = spec.items() if isinstance(spec, dict) else [(n, getattr(spec, n)) for n in type(spec).model_fields]
    for name, value in items:
        place = f"{above}.{name}" if above else str(name)
        if isinstance(value, Sourced):
            note = "; ".join(filter(None, [value.note, *(f"also: {a}" for a in value.alternatives)]))
            rows.append([place, str(data[name]["value"]), ", ".join(value.source), note])
        elif name != "sources" and (isinstance(value, dict) or hasattr(type(value), "model_fields")):
            rows += _rows(data[name], value, place)
    return rows
