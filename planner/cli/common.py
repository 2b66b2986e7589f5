"""What commands share: errors become messages and exit codes, tables and JSON are printed alike."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from planner.errors import InputError, PlannerError
from planner.text import aligned

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


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
