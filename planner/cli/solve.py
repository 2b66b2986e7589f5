"""`planner solve`: from a scenario to a proven plan."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from planner.cli.common import JsonOption, check_out, progress, reported
from planner.errors import EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_PLAN

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
            check_out(out, find_scenario(scenario), "the scenario")
        with progress() as on_stage:
            report = pipeline.solve(case, on_stage)
        text = plan_text(report.plan)
        if out is not None:
            yaml_io.write_text(out, text)
        if json_output:
            typer.echo(text, nl=False)
        else:
            typer.echo(report_text(report), nl=False)
            if report.plan.termination.reason == "infeasible":
                typer.echo(f"next: `{_asking_why(scenario, settings or ())}` says what conflicts and what would do")
    if report.plan.deployments:
        raise typer.Exit(EXIT_PLAN)
    infeasible = report.plan.termination.reason == "infeasible"
    raise typer.Exit(EXIT_INFEASIBLE if infeasible else EXIT_NO_PLAN)


def _asking_why(scenario: Path, settings: Sequence[str]) -> str:
    changed = [part for setting in settings for part in ("--set", setting)]
    return shlex.join(["planner", "infeasible", str(scenario), *changed])
