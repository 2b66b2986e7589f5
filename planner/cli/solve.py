"""`planner solve`: from a scenario to a proven plan."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import JsonOption, reported
from planner.errors import EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_PLAN, InputError

_SETTING = "Change a field, like 'workloads.chat.slo.tpot=30 ms'. May be repeated."


def solve(
    scenario: Annotated[
        Path, typer.Argument(help="A scenario file, or the name of a shipped scenario.", show_default=False)
    ],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SETTING)] = None,
    time_limit: Annotated[float | None, typer.Option(min=0, help="Seconds the search may take.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan as JSON to this file.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Find the best deployment for a scenario, and prove it.

    Exit codes: 0 a plan, 2 bad input, 3 proven infeasible, 4 stopped without a plan.
    """
    from planner import pipeline, yaml_io
    from planner.catalog import find_scenario, load_scenario
    from planner.exporters.json_file import plan_text
    from planner.exporters.text import report_text

    with reported():
        overrides = list(settings or ())
        if time_limit is not None:
            overrides.append(f"solver.time_limit={time_limit} s")
        case = load_scenario(scenario, overrides)
        if out is not None:
            _check_out(out, find_scenario(scenario))
        with _progress() as on_stage:
            report = pipeline.solve(case, on_stage)
        text = plan_text(report.plan)
        if out is not None:
            yaml_io.write_text(out, text)
        if json_output:
            typer.echo(text, nl=False)
        else:
            typer.echo(report_text(report), nl=False)
    if report.plan.deployments:
        raise typer.Exit(EXIT_PLAN)
    infeasible = report.plan.termination.reason == "infeasible"
    raise typer.Exit(EXIT_INFEASIBLE if infeasible else EXIT_NO_PLAN)


def _check_out(out: Path, scenario: Path) -> None:
    """Find out before a long search that the plan has no place to go."""
    from planner import yaml_io

    yaml_io.check_writable(out)
    if out.exists() and out.samefile(scenario):
        raise InputError.single(str(out), "is the scenario itself; give the plan another name")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show the stage on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda stage: None
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield status.update
