"""What commands share: errors become messages and exit codes, tables and JSON are printed alike."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from planner.errors import InputError, PlannerError
from planner.text import aligned

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
FolderOption = Annotated[
    Path | None, typer.Option(help="Where relative paths in the scenario start; default: beside the plan.")
]
PlotOption = Annotated[Path | None, typer.Option(help="Draw pictures into this folder, as PNG and SVG.")]


@contextmanager
def reported() -> Iterator[None]:
    """Print errors that a user can act on, without a traceback, and end with their exit code."""
    try:
        yield
    except InputError as error:
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
        raise typer.Exit(error.exit_code) from None
    except PlannerError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


def print_json(data: Any) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headers."""
    for line in aligned(headers, rows, headers):
        typer.echo(line)


def check_out(out: Path, source: Path, called: str) -> None:
    """Find out before long work that its result has no place to go, or would overwrite what it was made from."""
    from planner import yaml_io

    yaml_io.check_writable(out)
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError.single(str(out), f"is {called} itself; give the result another name")


def write_rows(out: Path, rows: Sequence[Mapping[str, Any]], head: Sequence[str]) -> None:
    """Write rows that have the same keys as .parquet, or as CSV whatever the file is called."""
    from planner import yaml_io

    if out.suffix == ".parquet":
        from planner.exporters import parquet

        yaml_io.write_bytes(out, parquet.rows_file(rows))
        return
    from planner.exporters import csv

    yaml_io.write_text(out, csv.rows_file(rows, head))


def show(found: "Answer", *, as_json: bool) -> None:
    """Print an answer for people, or as JSON for programs."""
    if as_json:
        print_json(found.as_data())
    else:
        typer.echo(found.text, nl=False)


class Answer(Protocol):
    """What a study finds."""

    @property
    def text(self) -> str:
        """It for people."""

    def as_data(self) -> dict[str, Any]:
        """Return it as JSON data."""


@contextmanager
def counted_progress() -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """Show stages and a bar of what is done on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield (lambda stage: None), (lambda done, total: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield (
            lambda stage: bar.update(task, description=stage),
            lambda done, total: bar.update(task, completed=done, total=total),
        )


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show the stage of long work on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update
