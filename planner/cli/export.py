"""`planner export`: a plan in the files of those who deploy or read it."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import JsonOption, check_out, print_json, progress, reported
from planner.errors import InputError

_OUT = "The folder or file to write. Without it text is printed, and a workbook stands beside the plan."
_EXISTS = "is there already; name another place, or --force replaces it"
_ALTERNATIVES = "Plans next to the best that a capacity workbook shows; each takes another search."


def export(
    plan: Annotated[Path, typer.Argument(help="A plan file, as `planner solve --out` writes it.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="What to write; an unknown name lists them all.")],
    out: Annotated[
        Path | None,
        typer.Option(help=_OUT),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where relative paths in the scenario start; default: beside the plan."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file, or a folder that holds files.")] = False,
    alternatives: Annotated[int, typer.Option(min=0, help=_ALTERNATIVES)] = 3,
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
        if out is not None and out.is_file() and not force:
            check_out(out, plan, "the plan")
            raise InputError.single(str(out), _EXISTS)
        with progress() as on_stage:
            files = handed_over(read_plan(plan), to, folder or plan.parent, str(plan), alternatives, on_stage)
        (name, content), *others = files.items()
        if out is None and not others and isinstance(content, str):
            typer.echo(content, nl=False)
            return
        if out is None and others:
            raise InputError.single("", f"{to} is {len(files)} files; name a folder for them", "--out")
        out = out or plan.with_suffix(Path(name).suffix)
        if others:
            _check_folder(out, plan, files)
            write_folder(out, files, force=force)
        else:
            check_out(out, plan, "the plan")
            if out.exists() and not force:
                raise InputError.single(str(out), _EXISTS)
            write_file(out, content)
    if json_output:
        print_json({"out": str(out), "files": sorted(files)})
    else:
        typer.echo(f"{out}: {len(files)} files written" if others else f"{out}: written")


def _check_folder(out: Path, plan: Path, files: Collection[str]) -> None:
    """Refuse to replace a folder that holds the plan, unless the new one does, too."""
    source, folder = plan.resolve(), out.resolve()
    if folder in source.parents and source.relative_to(folder).as_posix() not in files:
        raise InputError.single(str(out), "holds the plan itself; name another folder")
