"""`planner alternatives`: the best plans next to the best one."""

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import FolderOption, JsonOption, print_json, progress, reported
from planner.errors import InputError

_WITHIN = "How much worse than the best the first goal may be, like 5%."
_DISTINCT = "What tells plans apart: shape, how the model is split, or settings, the engine's as well."


def alternatives(
    source: Annotated[
        Path, typer.Argument(help="A plan file, or a scenario by path or shipped name.", show_default=False)
    ],
    count: Annotated[int, typer.Option(min=1, help="How many plans, the best among them.")] = 5,
    within: Annotated[str | None, typer.Option(help=_WITHIN, show_default=False)] = None,
    distinct: Annotated[str, typer.Option(help=_DISTINCT)] = "shape",
    folder: FolderOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show the best plans in order, each proven to be the next best, and what each trades.

    Exit codes: 0 shown, 2 bad input.
    """
    from planner.explain.words import alternatives_blocks
    from planner.exporters.blocks import as_text
    from planner.plan import as_data
    from planner.studies.alternatives import IGNORED
    from planner.studies.alternatives import alternatives as found_beside
    from planner.studies.resolve import solved_question

    with reported():
        if distinct not in IGNORED:
            raise InputError.single("--distinct", f"must be one of {', '.join(IGNORED)} (got '{distinct}')")
        distance = None if within is None else _share(within)
        case, best = solved_question(source, folder)
        with progress() as on_stage:
            found = found_beside(case, best, count, distance, distinct, on_stage)
    if json_output:
        print_json(as_data(found))
    else:
        typer.echo(as_text(alternatives_blocks(found)), nl=False)


def _share(text: str) -> float:
    """Return a share written like 5% or 0.05.

    Raises:
        InputError: it is not one.
    """
    number, percent = text.strip().removesuffix("%").strip(), text.strip().endswith("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError.single("--within", f"must be a share like 5% or 0.05 (got '{text}')")
    return share
