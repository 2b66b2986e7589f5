"""`planner infeasible`: why a scenario has no plan, and the least that would have to change."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, print_json, progress, reported

if TYPE_CHECKING:
    from planner.catalog import AnyCase
    from planner.yaml_io import Document

_SETTING = "Change a field, like 'workloads.chat.slo.tpot=30 ms'. May be repeated."


def infeasible(
    scenario: Annotated[
        Path, typer.Argument(help="A scenario file, or the name of a shipped scenario.", show_default=False)
    ],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SETTING)] = None,
    json_output: JsonOption = False,
) -> None:
    """Say which requirements of a scenario cannot hold together, and the least change that would give it a plan.

    Every change was solved again. Times are exact to four digits, lengths to two.

    Exit codes: 0 explained, or nothing is missing, 2 bad input.
    """
    from planner import yaml_io
    from planner.catalog import find_scenario, load_scenario
    from planner.studies.infeasible import infeasible as study

    with reported():
        overrides = list(settings or ())
        case = load_scenario(scenario, overrides)
        document = yaml_io.load(find_scenario(scenario))

        def reload(more: Sequence[str]) -> "AnyCase":
            return load_scenario(scenario, [*overrides, *more])

        with progress() as on_stage:
            found = study(case, reload, lambda path: _place(document, overrides, path), on_stage)
    if json_output:
        print_json(found.as_data())
    else:
        typer.echo(found.text, nl=False)


def _place(document: "Document", overrides: Sequence[str], path: tuple[str | int, ...]) -> str:
    """Return where a field was set: in the file, or on the command line; "" where it was left to its default."""
    name = ".".join(map(str, path))
    given = [key for key in (override.partition("=")[0] for override in overrides) if f"{name}.".startswith(f"{key}.")]
    if given:
        return f"--set {given[-1]}"
    if path not in document.positions:
        return ""
    file, line, _ = document.positions[path]
    return f"{file}:{line}"
