"""`planner calibrate --microbench`: what the device it runs on reaches of its data sheet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, check_out, print_json, print_table, progress, reported
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.microbench.results import Microbenchmark

_HARDWARE = "The data sheet to compare with: a shipped device, or the path of a specification. Without, only times."
_ROWS = "Fit the rows of this file instead of measuring; needs no PyTorch."


def microbench(
    device: Annotated[str | None, typer.Option(help="cuda (also ROCm), npu or cpu; default: what is there.")] = None,
    hardware: Annotated[str | None, typer.Option(help=_HARDWARE)] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Time it may take.")] = 600.0,
    rows: Annotated[Path | None, typer.Option(help=_ROWS)] = None,
    out: Annotated[Path | None, typer.Option(help="Write rows and efficiencies to this YAML file.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Time matrix products, attention, memory, launches, collectives and the host link of this device, and fit them.

    Exit codes: 0 done, 2 bad input, PyTorch is missing or sees no such device.
    """
    from planner import yaml_io
    from planner.catalog import load_hardware
    from planner.microbench import results

    with reported():
        if rows is not None and hardware is None:
            raise InputError.single("--rows", "needs --hardware: rows that are measured can only be fitted")
        if out is not None:
            check_out(out, rows or Path(), "the file of rows")
        sheet = load_hardware(hardware).value if hardware is not None else None
        if rows is not None:
            found = results.read(rows)
        else:
            from planner.microbench.measure import measure

            with progress() as on_stage:
                found = measure(device, seconds, on_stage)
        if sheet is not None:
            from planner.microbench.fit import fit

            found = fit(found, sheet)
        if out is not None:
            yaml_io.write_text(out, results.text(found))
    if json_output:
        print_json(found.model_dump(mode="json"))
    elif out is None:
        typer.echo(results.text(found), nl=False)
    else:
        typer.echo(f"{out}: {len(found.rows)} rows of {found.device}")
        _print(found)


def _print(found: "Microbenchmark") -> None:
    """Show what was fitted, and what was not measured."""
    named = {
        f"{group}.{name}": value for group, members in found.efficiencies.items() for name, value in members.items()
    }
    if named or found.observed:
        listed = [
            [
                name,
                *(("" if part is None else str(part)) for part in (v.value, v.standard_error, v.held_out_error)),
                str(v.rows),
            ]
            for name, v in (named | found.observed).items()
        ]
        print_table(["efficiency", "value", "standard error", "held-out error", "rows"], listed)
    for note in (*found.notes, *(f"not measured: {reason}" for reason in found.skipped)):
        typer.echo(f"note: {note}", err=True)
