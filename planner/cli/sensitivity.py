"""`planner sensitivity`: what would change a plan, and by how much."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, check_out, print_json, reported
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.studies.sensitivity import Sensitivity

_SETTING = "Change a field, like 'workloads.chat.slo.tpot=30 ms'. May be repeated."
_VARY = "A number and its range in factors, like 'hardware.h100.memory.bandwidth=0.8..1.2'. May be repeated."


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
    vary: Annotated[list[str] | None, typer.Option(metavar="NUMBER=LOW..HIGH", help=_VARY)] = None,
    samples: Annotated[int, typer.Option(min=0, help="Solves with everything varied at once, at most.")] = 0,
    method: Annotated[Methods, typer.Option(help="Sobol indices or Morris screening of the samples.")] = Methods.sobol,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples.")] = 1,
    over: Annotated[
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
    """Say what would change the best plan: one number at a time, one more of each resource, and everything at once."""
    from planner.catalog import find_scenario, load_scenario
    from planner.studies.sensitivity import Backend
    from planner.studies.sensitivity import sensitivity as run

    with reported():
        case = load_scenario(scenario, settings or ())
        for file in (out, study):
            if file is not None:
                check_out(file, find_scenario(scenario), "the scenario")
        if backend is Backends.dask and scheduler is None:
            raise InputError.single("--backend dask", "needs the address of a --scheduler, like tcp://10.0.0.1:8786")
        if out is not None and not samples:
            raise InputError.single("--out", "a table of samples needs --samples")
        with _progress() as (on_stage, on_done):
            found = run(
                case,
                vary or (),
                samples,
                method.value,
                seed,
                over,
                study,
                Backend(backend.value, workers, scheduler),
                on_stage,
                on_done,
            )
        if out is not None:
            _write(found, out)
        if plot is not None:
            _drawn(found, plot)
    if json_output:
        print_json(found.as_data())
    else:
        typer.echo(found.text, nl=False)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[int, int], None]]]:
    """Show stages and a bar on a terminal, nothing in a pipe."""
    import sys

    if not sys.stderr.isatty():
        yield (lambda stage: None), (lambda done, total: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield (
            lambda stage: bar.update(task, description=stage),
            lambda done, total: bar.update(task, completed=done, total=total),
        )


def _write(found: "Sensitivity", out: Path) -> None:
    from planner import yaml_io

    rows = [dict(row) for row in found.samples]
    if out.suffix == ".parquet":
        _write_parquet(rows, out)
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    yaml_io.write_text(out, text.getvalue())


def _write_parquet(rows: list[dict[str, Any]], out: Path) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        message = "Parquet needs pyarrow: pip install 'llm-deployment-planner[parquet]', or write a .csv file"
        raise InputError.single(str(out), message) from None
    partial = out.with_name(f".{out.name}.part")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), partial)
    partial.replace(out)


def _drawn(found: "Sensitivity", folder: Path) -> None:
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
