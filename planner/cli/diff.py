"""`planner diff`: what differs between two plans."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, print_json, reported

if TYPE_CHECKING:
    from planner.explain.difference import Change

_NUMBERS_ONLY = 1e-9  # relative; below it two numbers were computed in another order


def diff(
    before: Annotated[Path, typer.Argument(help="A plan file.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="Another one.", show_default=False)],
    json_output: JsonOption = False,
) -> None:
    """Show what differs between two plans: what was asked, what is deployed, and what it reaches.

    Exit codes: 0 whether they differ or not, 2 not a plan file.
    """
    from planner.explain.difference import difference
    from planner.exporters.json_file import read_plan
    from planner.plan import as_data

    with reported():
        found = difference(read_plan(before), read_plan(after))
    if json_output:
        print_json({"same": found.same, **as_data(found)})
        return
    if found.same:
        typer.echo("the plans are the same")
        return
    _section("asked", found.question)
    _section("reached", found.reached)
    for name, changes in found.changed.items():
        _section(name, changes)
    for title, labels in (("no longer", found.removed), ("new", found.added)):
        for label in labels:
            typer.echo(f"{title}: {label}")


def _section(title: str, changes: "tuple[Change, ...]") -> None:
    shown = [c for c in changes if c.change is None or abs(c.change) > _NUMBERS_ONLY]
    if not shown:
        return
    typer.echo(title)
    for c in shown:
        relative = "" if c.change is None else f" ({c.change:+.1%})"
        typer.echo(f"  {c.field}: {_written(c.before)} → {_written(c.after)}{relative}")


def _written(value: object) -> str:
    if value is None:
        return "nothing"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
