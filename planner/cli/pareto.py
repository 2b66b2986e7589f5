"""`planner pareto`: every plan that nothing beats in two or three metrics at once."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, check_out, print_json, progress, reported

if TYPE_CHECKING:
    from planner.studies.pareto import Frontier

_SETTING = "Change a field, like 'workloads.chat.slo.tpot=30 ms'. May be repeated."
_METRIC = "requests, tokens, devices, cost, power, ttft or tpot."


def pareto(
    scenario: Annotated[
        Path, typer.Argument(help="A scenario file, or the name of a shipped scenario.", show_default=False)
    ],
    x: Annotated[str, typer.Option(help=_METRIC)] = "cost",
    y: Annotated[str, typer.Option(help=_METRIC)] = "ttft",
    z: Annotated[str | None, typer.Option(help=f"A third one: {_METRIC}")] = None,
    most: Annotated[int, typer.Option(min=1, help="Plans to stop after.")] = 500,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SETTING)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the plans as CSV to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw pareto.png and pareto.svg into this folder.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Find every plan that no other is at least as good as in all metrics: the exact frontier.

    The objective of the scenario is left aside. Latencies are the worst mean of any deployment in use.
    """
    from planner import yaml_io
    from planner.catalog import find_scenario, load_scenario
    from planner.studies.pareto import pareto as study

    with reported():
        case = load_scenario(scenario, settings or ())
        if out is not None:
            check_out(out, find_scenario(scenario), "the scenario")
        with progress() as on_stage:
            frontier = study(case, [x, y] if z is None else [x, y, z], most, on_stage)
        if out is not None:
            yaml_io.write_text(out, _csv(frontier))
        if plot is not None:
            _drawn(frontier, plot)
    if json_output:
        print_json(frontier.as_data())
    else:
        typer.echo(frontier.text, nl=False)


def _csv(frontier: "Frontier") -> str:
    text = io.StringIO()
    rows = frontier.rows()
    writer = csv.DictWriter(text, [*frontier.metrics, "supported", "knee", "plan"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _drawn(frontier: "Frontier", folder: Path) -> None:
    from planner.exporters.plots.pareto import pareto_picture
    from planner.milp.model import sense_of
    from planner.units import METRIC_UNITS

    points = frontier.points
    pareto_picture(
        folder,
        f"{frontier.scenario}: plans that nothing beats",
        [f"{metric} [{METRIC_UNITS[metric]}]" for metric in frontier.metrics],
        [point.values for point in points],
        supported=[point.supported for point in points],
        more=sense_of(frontier.metrics[0]) == "maximize",
        knee=next((i for i, point in enumerate(points) if point.knee), None),
    )
