"""`planner import`: results of benchmarks become measurement rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, check_out, print_json, reported
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.importers import Measured
    from planner.importers.rows import Imported

_RESULTS = "Files as vllm bench serve, SGLang, AIPerf, GuideLLM or AISBench write them."
_DEPLOYMENT = "A YAML file that says what they do not: system, precision, tp … (docs/how-to/import-measurements.md)."
_FORMAT = "vllm, sglang, aiperf, guidellm or aisbench; default: what the file holds tells."


def import_(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help=_RESULTS, show_default=False)],
    deployment: Annotated[Path | None, typer.Option(help=_DEPLOYMENT)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A field of the deployment, like 'tp=2'. May be repeated."),
    ] = None,
    format: Annotated[str | None, typer.Option("--format", help=_FORMAT)] = None,
    prefix: Annotated[str, typer.Option("--id", help="Start of the rows' ids; default: the file's name.")] = "",
    out: Annotated[Path | None, typer.Option(help="Write the rows to this CSV file.")] = None,
    append: Annotated[Path | None, typer.Option(help="Add the rows to this CSV file, under its columns.")] = None,
    skip_open_loop: Annotated[
        bool, typer.Option("--skip-open-loop", help="Leave out runs without a fixed number of clients, and say which.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Turn results of benchmarks into measurement rows, which `planner predict` reads.

    Without --out and --append the rows are printed. Exit codes: 0 rows, 2 bad input; then nothing is written.
    """
    from planner import yaml_io
    from planner.importers.csv_file import appended, csv_text, existing_rows
    from planner.importers.deployment import load_deployment
    from planner.importers.rows import measurement_rows

    with reported():
        if out is not None and append is not None:
            raise InputError.single("", "--out and --append exclude each other: a new file, or more rows in one")
        for result in results:
            for place in filter(None, (out, append)):
                check_out(place, result, "a result of a benchmark")
        facts, document = load_deployment(deployment, settings or ())
        before = existing_rows(append) if append is not None and append.exists() else None
        imported = measurement_rows(_read(results, format), facts, document, prefix, before.ids if before else ())
        _check_left_out(imported, skip=skip_open_loop)
        text = csv_text(imported.rows)
        target = out or append
        if target is not None:
            yaml_io.write_text(target, appended(target, before, imported.rows) if before else text)
    for note in (*(f"left out: {problem}" for problem in imported.left_out), *imported.notes):
        typer.echo(f"note: {note}", err=True)
    if json_output:
        print_json(list(imported.rows))
    elif target is None:
        typer.echo(text, nl=False)
    else:
        count = f"{len(imported.rows)} row{'' if len(imported.rows) == 1 else 's'}"
        typer.echo(f"{target}: {count} {'added' if before else 'written'}")


def _read(results: Sequence[Path], format: str | None) -> "list[Measured]":
    """Read every file, and report the faults of all of them at once."""
    from planner.importers import read_benchmark

    runs: list[Measured] = []
    errors: list[InputError] = []
    for result in results:
        try:
            runs += read_benchmark(result, format)
        except InputError as error:
            errors.append(error)
    if errors:
        raise InputError(problem for error in errors for problem in error.problems)
    return runs


def _check_left_out(imported: "Imported", *, skip: bool) -> None:
    """Refuse runs that are no closed loop, unless they may be left out and others are there."""
    if imported.left_out and not (skip and imported.rows):
        raise InputError(imported.left_out)
