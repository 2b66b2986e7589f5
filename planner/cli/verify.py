"""`planner verify`: recompute every claim of a plan."""

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import JsonOption, print_json, reported
from planner.errors import EXIT_FAILED, InputError


def verify(
    plan: Annotated[Path, typer.Argument(help="A plan file, as `planner solve --out` writes it.")],
    folder: Annotated[
        Path | None,
        typer.Option(help="Where relative paths in the scenario start; default: beside the plan."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Check a plan without any solver: legality, memory, predictions, limits, inventory, objective and bound.

    Exit codes: 0 accepted, 1 refused, 2 not a plan file.
    """
    from planner import pipeline
    from planner.exporters.json_file import read_plan

    with reported():
        content = read_plan(plan)
        try:
            verdict = pipeline.verify_plan(content, folder or plan.parent)
        except InputError as error:
            if folder is None:
                typer.echo(
                    "hint: paths in the scenario are looked for beside the plan; --folder names another place", err=True
                )
            raise error from None
    notes = [] if verdict.optimum_proven else [pipeline.OPTIMUM_NOT_RECOMPUTED]
    if json_output:
        print_json({"accepted": not verdict.reasons, "reasons": list(verdict.reasons), "notes": notes})
    elif verdict.reasons:
        for reason in verdict.reasons:
            typer.echo(f"refused: {reason}")
    else:
        proof = "and the optimum proven again" if verdict.optimum_proven else f"but {notes[0]}"
        typer.echo(f"{plan}: accepted; every figure and limit was recomputed, {proof}")
    raise typer.Exit(EXIT_FAILED if verdict.reasons else 0)
