"""`planner pareto`: every plan that nothing beats in two or three metrics at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.common import JsonOption, check_out, progress, reported, show, write_rows

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
    time_limit: Annotated[float, typer.Option(min=0, help="Seconds to stop after, with the plans found.")] = 300.0,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SETTING)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the plans to this .csv or .parquet file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw pareto.png and pareto.svg into this folder.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Find every plan that no other is at least as good as in all metrics: the exact frontier.

    The objective of the scenario is left aside. Latencies are the worst mean of any deployment in use. Cut off by
    --most or --time-limit, it says where plans may be missing. Exit codes: 0 shown, 2 bad input.
    """
    from planner.catalog import find_scenario, load_scenario
    from planner.studies.pareto import pareto as study

    with reported():
        case = load_scenario(scenario, settings or ())
        if out is not None:
            check_out(out, find_scenario(scenario), "the scenario")
        with progress() as on_stage:
            frontier = study(case, [x, y] if z is None else [x, y, z], most, on_stage, time_limit)
        if out is not None:
            write_rows(out, frontier.rows(), [*frontier.metrics, "supported", "knee", "plan"])
        if plot is not None:
            _drawn(frontier, plot)
    show(frontier, as_json=json_output)


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
