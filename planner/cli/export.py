"""`planner export`: a plan in the files of those who deploy or read it."""

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import JsonOption, check_out, print_json, reported
from planner.errors import InputError


def export(
    plan: Annotated[Path, typer.Argument(help="A plan file, as `planner solve --out` writes it.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="What to write; an unknown name lists them all.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to write, or the file where there is one; text is printed without it."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where relative paths in the scenario start; default: beside the plan."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that holds files.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Write a plan as launch files of an engine, for Kubernetes, or for a reader.

    The plan's figures are recomputed first, and launch files are read back. Exit codes: 0 written, 2 bad input; then
    nothing is written.
    """
    from planner.exporters.json_file import read_plan
    from planner.handover import export as handed_over
    from planner.output import write_file, write_folder

    with reported():
        files = handed_over(read_plan(plan), to, folder or plan.parent, str(plan))
        single = next(iter(files.values())) if len(files) == 1 else None
        if out is not None and len(files) == 1:
            check_out(out, plan, "the plan")
        if out is None and not isinstance(single, str):
            what = "a file; name it" if len(files) == 1 else f"{len(files)} files; name a folder for them"
            raise InputError.single("", f"{to} is {what}", "--out")
        if out is None:
            typer.echo(single, nl=False)
            return
        if len(files) == 1:
            write_file(out, next(iter(files.values())))
        else:
            write_folder(out, files, force=force)
    if json_output:
        print_json({"out": str(out), "files": sorted(files)})
    else:
        typer.echo(f"{out}: written" if len(files) == 1 else f"{out}: {len(files)} files written")
