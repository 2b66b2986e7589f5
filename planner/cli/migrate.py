"""`planner migrate`: the steps from one plan to another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, progress, reported
from planner.errors import EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_PLAN, InputError

if TYPE_CHECKING:
    from planner.studies.replanning.moves import Moves, Timing

_NEEDS = "Load that must be served at any time, like 'chat=12 /s'. May be repeated. Default: the demand of the plan."
DrainOption = Annotated[str, typer.Option(help="Until a replica that takes no more requests is empty.")]
StartOption = Annotated[str, typer.Option(help="From starting an engine to its first answer, without its weights.")]
BandwidthOption = Annotated[str, typer.Option(help="At which every device reads its weights.")]
DRAIN, START, BANDWIDTH = "1 min", "1 min", "1 GB/s"


def migrate(
    before: Annotated[Path, typer.Argument(help="The plan file of what runs.", show_default=False)],
    after: Annotated[Path, typer.Argument(help="The plan file of what shall run.", show_default=False)],
    needs: Annotated[list[str] | None, typer.Option(metavar="WORKLOAD=RATE", help=_NEEDS)] = None,
    drain_time: DrainOption = DRAIN,
    start_time: StartOption = START,
    load_bandwidth: BandwidthOption = BANDWIDTH,
    json_output: JsonOption = False,
) -> None:
    """Find the shortest order of steps from one plan to another that never serves less than is needed.

    Exit codes: 0 an order, 2 bad input, 3 proven that there is none, 4 stopped without one.
    """
    from planner.exporters.json_file import read_plan
    from planner.studies.replanning.moves import moves

    with reported():
        old, new = read_plan(before), read_plan(after)
        asked = _needs(needs or [], [d.workload for d in (*old.deployments, *new.deployments)])
        with progress() as on_stage:
            on_stage("ordering steps")
            timing = timing_of(drain_time, start_time, load_bandwidth)
            found = moves(old, new, asked or _demands(new.scenario.resolved), timing, before.parent)
    if json_output:
        print_json(moves_data(found))
    else:
        print_moves(found)
    codes = {"optimal": EXIT_PLAN, "infeasible": EXIT_INFEASIBLE, "stopped": EXIT_NO_PLAN}
    raise typer.Exit(codes[found.order.reason])


def timing_of(drain: str, start: str, bandwidth: str) -> "Timing":
    """Return how long steps take, from quantities with their units."""
    from planner import units
    from planner.schema.base import parse_quantity
    from planner.studies.replanning.moves import Timing

    asked = (("--drain-time", drain, units.SECONDS), ("--start-time", start, units.SECONDS),
             ("--load-bandwidth", bandwidth, units.BYTES_PER_SECOND))  # fmt: skip
    values = []
    for option, text, dimension in asked:
        try:
            values.append(parse_quantity(text, dimension))
        except ValueError as error:
            raise InputError.single(option, str(error)) from None
        if values[-1] <= 0:
            raise InputError.single(option, f"must be more than zero (got '{text}')")
    return Timing(*values)


def _needs(texts: list[str], workloads: list[str]) -> dict[str, float]:
    from planner import units
    from planner.errors import did_you_mean
    from planner.schema.base import parse_quantity

    found = {}
    for text in texts:
        name, equals, rate = text.partition("=")
        if not equals:
            raise InputError.single(f"--needs {text}", "write it like 'chat=12 /s'")
        if name not in workloads:
            raise InputError.single(f"--needs {text}", f"no plan serves '{name}'; {did_you_mean(name, workloads)}")
        try:
            found[name] = parse_quantity(rate, units.REQUESTS_PER_SECOND)
        except ValueError as error:
            raise InputError.single(f"--needs {text}", str(error)) from None
    return found


def _demands(resolved: dict[str, Any]) -> dict[str, float]:
    """Return the rates that a plan's scenario asks for; a workload of "as much as fits" asks for none."""
    from planner import units
    from planner.schema.base import parse_quantity

    asked = {name: workload["requests"] for name, workload in resolved["workloads"].items()}
    rates = {name: rate for name, rate in asked.items() if isinstance(rate, str) and rate != "max"}
    return {name: parse_quantity(rate, units.REQUESTS_PER_SECOND) for name, rate in rates.items()}


def moves_data(found: "Moves") -> dict[str, Any]:
    """Return a migration as plain data; of one without an order, with what conflicts and what would be enough."""
    why: dict[str, Any] = {}
    if found.order.reason == "infeasible":
        from planner.studies.infeasible import infeasible_migration

        data = infeasible_migration(found.migration).as_data()
        why = {name: data[name] for name in ("conflicts", "relaxations", "notes")}
    return {
        "result": found.order.reason,
        "seconds": found.seconds,
        "device_hours": found.device_hours,
        "needs_requests_per_s": dict(found.migration.needs),
        "missing": list(found.lacking),
        "steps": [step._asdict() for step in found.steps],
        **why,
    }


def print_moves(found: "Moves") -> None:
    """Print a migration for people."""
    if found.order.reason == "infeasible":
        from planner.studies.infeasible import infeasible_migration, reasons

        typer.echo("no order of steps keeps serving what is needed")
        for line in found.lacking:
            typer.echo(f"with {line} there would be one")
        typer.echo("\n".join(reasons(infeasible_migration(found.migration))))
        return
    if found.order.reason == "stopped":
        typer.echo("no order was found in time")
        return
    if not found.steps:
        typer.echo("nothing has to be moved")
        return
    rows = []
    for step in found.steps:
        served = ", ".join(f"{name} {rate:.4g} /s" for name, rate in step.capacity.items())
        what = f"{step.action} {step.replicas} × {step.what}"
        rows.append([f"{step.begins:.0f} s", f"{step.ends:.0f} s", what, step.where, served])
    print_table(("begins", "ends", "step", "where", "then serves"), rows)
    floor = ", ".join(f"{name} {rate:.4g} /s" for name, rate in found.migration.needs.items()) or "nothing"
    typer.echo(f"never less than: {floor}; {found.seconds:.0f} s in all, the shortest order there is")
    typer.echo(f"costs {found.device_hours:.3g} device-hours that do not serve")
