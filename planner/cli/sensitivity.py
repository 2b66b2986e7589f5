"""`planner sensitivity`: what would change a plan, and by how much."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, check_out, counted_progress, reported, show, write_rows
from planner.errors import InputError, Problem

if TYPE_CHECKING:
    from planner.studies.sensitivity import Likely, Sensitivity

_SETTING = "Change a field, like 'workloads.chat.slo.tpot=30 ms'. May be repeated."
_VARY = "A number and its range in factors, like 'hardware.h100.memory.bandwidth=0.8..1.2'. May be repeated."
_OVER = "Ranges that you declare, or what the calibration is unsure of: then chances are given."
_SAMPLES = "Solves with everything varied at once, at most; over a calibration 4096 unless given."


class Over(StrEnum):
    """What is varied."""

    ranges = "ranges"
    calibration = "calibration"


class Methods(StrEnum):
    """How samples are chosen and read."""

    sobol = "sobol"
    morris = "morris"


class Backends(StrEnum):
    """Who solves samples."""

    loky = "loky"
    dask = "dask"


def sensitivity(
    scenario: Annotated[
        Path, typer.Argument(help="A scenario file, or the name of a shipped scenario.", show_default=False)
    ],
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=_SETTING)] = None,
    over: Annotated[Over, typer.Option(help=_OVER)] = Over.ranges,
    vary: Annotated[list[str] | None, typer.Option(metavar="NUMBER=LOW..HIGH", help=_VARY)] = None,
    samples: Annotated[int, typer.Option(min=0, help=_SAMPLES, show_default=False)] = 0,
    method: Annotated[Methods, typer.Option(help="Sobol indices or Morris screening of the samples.")] = Methods.sobol,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 1,
    axes: Annotated[
        tuple[str, str] | None, typer.Option("--map", help="Two of the numbers, for a map of the best plan.")
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="Keep solved samples in this file, and go on from it after an interruption.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that solve; 0 is one per core.")] = 0,
    backend: Annotated[Backends, typer.Option(help="Processes of this machine, or a Dask cluster.")] = Backends.loky,
    scheduler: Annotated[str | None, typer.Option(help="Address of the Dask scheduler.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write samples as a table to this .csv or .parquet file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw tornado and flip_map into this folder.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Say what would change the best plan: one number at a time, one more of each resource, and everything at once.

    With --over calibration: how likely the plan stays best and keeps its limits, and which unknown matters. Exit codes:
    0 shown, 2 bad input, or a scenario without a plan.
    """
    from planner.catalog import find_scenario, load_scenario
    from planner.studies.sensitivity import LIKELY_SAMPLES, Backend
    from planner.studies.sensitivity import likely as run_likely
    from planner.studies.sensitivity import sensitivity as run

    with reported():
        case = load_scenario(scenario, settings or ())
        for file in (out, study):
            if file is not None:
                check_out(file, find_scenario(scenario), "the scenario")
        if backend is Backends.dask and scheduler is None:
            raise InputError.single("--backend dask", "needs the address of a --scheduler, like tcp://10.0.0.1:8786")
        likely = over is Over.calibration
        _check(likely, out, samples, {"--vary": vary, "--map": axes, "--plot": plot})
        who = Backend(backend.value, workers, scheduler)
        found: Sensitivity | Likely
        with counted_progress() as told:
            if likely:
                found = run_likely(case, samples or LIKELY_SAMPLES, method.value, seed, study, who, *told)
            else:
                found = run(case, vary or (), samples, method.value, seed, axes, study, who, *told)
                _draw(found, plot)
        if out is not None:
            write_rows(out, found.samples, list(found.samples[0]))
    show(found, as_json=json_output)


def _check(likely: bool, out: Path | None, samples: int, of_ranges: Mapping[str, Any]) -> None:
    """Refuse options that have nothing to work on."""
    if out is not None and not samples and not likely:
        raise InputError.single("--out", "a table of samples needs --samples")
    asked = [option for option, value in of_ranges.items() if value]
    if likely and asked:
        message = "is of ranges that are declared; a calibration says itself what it is unsure of"
        raise InputError(Problem(option, 0, 0, "", message) for option in asked)


def _draw(found: "Sensitivity", folder: Path | None) -> None:
    if folder is None:
        return
    from planner.exporters.plots.sensitivity import map_picture, tornado_picture
    from planner.units import METRIC_UNITS

    flips = {(flip.parameter, flip.flips > 1) for flip in found.flips}
    tornado_picture(
        folder,
        f"{found.scenario}: one number at a time",
        f"{found.metric} [{METRIC_UNITS[found.metric]}]",
        found.goal,
        [swing.parameter for swing in found.swings],
        [(swing.at_low, swing.at_high) for swing in found.swings],
        [(swing.low, swing.high) for swing in found.swings],
        [((swing.parameter, False) in flips, (swing.parameter, True) in flips) for swing in found.swings],
    )
    if found.map is not None:
        map_picture(
            folder,
            f"{found.scenario}: which plan is best",
            found.map.parameters,
            (found.map.first, found.map.second),
            found.map.plan,
            found.map.plans,
        )
