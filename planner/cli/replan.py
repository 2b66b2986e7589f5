"""`planner replan`: whether to change a plan that runs, to what, and in which steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, check_out, print_json, progress, reported
from planner.cli.migrate import (
    BANDWIDTH,
    DRAIN,
    START,
    BandwidthOption,
    DrainOption,
    StartOption,
    moves_data,
    print_moves,
    timing_of,
)
from planner.errors import EXIT_INFEASIBLE, EXIT_NO_PLAN, EXIT_PLAN, InputError

if TYPE_CHECKING:
    from planner.studies.replanning.decision import Decision
    from planner.studies.replanning.observed import Observed

_OBSERVED = (
    "A CSV file (requests_per_s, input_tokens, output_tokens), or a snapshot of the metrics of vLLM or SGLang, or an "
    "earlier and a later one."
)
_OVER = "Time between two snapshots, or since the counters of one began, like '10 min'."


def replan(
    current: Annotated[Path, typer.Option(help="The plan file of what runs.", show_default=False)],
    observed: Annotated[list[Path] | None, typer.Option(help=_OBSERVED)] = None,
    over: Annotated[str | None, typer.Option(help=_OVER)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What else has changed, like 'inventory.h100.nodes=3'."),
    ] = None,
    schedule: Annotated[Path | None, typer.Option(help="A YAML file of what is wanted by the time of day.")] = None,
    at: Annotated[str | None, typer.Option(metavar="HH:MM", help="The time of day for it. Default: now.")] = None,
    least_gain: Annotated[float, typer.Option(min=0, help="Gain below which nothing changes.")] = 0.05,
    horizon: Annotated[
        str, typer.Option(help="How long the load is expected to last; a change must pay by then.")
    ] = "4 h",
    headroom: Annotated[float, typer.Option(min=0, help="Share planned on top of observed rates.")] = 0.1,
    drain_time: DrainOption = DRAIN,
    start_time: StartOption = START,
    load_bandwidth: BandwidthOption = BANDWIDTH,
    out: Annotated[Path | None, typer.Option(help="Write the new plan to this file.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Say whether a plan that runs should change for the load that is observed, to what, and in which steps.

    Exit codes: 0 an answer, 2 bad input, 3 proven that no plan holds, 4 stopped without one.
    """
    from planner import units, yaml_io
    from planner.exporters.json_file import plan_text, read_plan
    from planner.schema.base import parse_quantity
    from planner.studies.replanning.decision import Policy, decide
    from planner.studies.replanning.observed import read_observed

    with reported():
        if out is not None:
            check_out(out, current, "the current plan")
        plan = read_plan(current)
        spans = {}
        for option, text in (("--over", over), ("--horizon", horizon)):
            try:
                spans[option] = None if text is None else parse_quantity(text, units.SECONDS)
            except ValueError as error:
                raise InputError.single(option, str(error)) from None
        workloads = list(plan.scenario.resolved["workloads"])
        seen = read_observed(observed, spans["--over"], workloads) if observed else []
        period, changes = _wanted(schedule, at)
        policy = Policy(least_gain, spans["--horizon"] or 0.0, headroom)
        timing = timing_of(drain_time, start_time, load_bandwidth)
        with progress() as on_stage:
            on_stage("planning anew")
            found = decide(plan, seen, [*changes, *(settings or [])], policy, timing, current.parent)
        if out is not None:
            yaml_io.write_text(out, plan_text(found.report.plan))
    if json_output:
        print_json(_data(found, seen, period))
    else:
        _print(found, seen, period)
    none = EXIT_INFEASIBLE if found.report.plan.termination.reason == "infeasible" else EXIT_NO_PLAN
    raise typer.Exit(none if found.verdict == "nothing holds" else EXIT_PLAN)


def _wanted(schedule: Path | None, at: str | None) -> tuple[str, list[str]]:
    """Return the name of the period that holds now, and the changes it asks for."""
    import datetime

    from planner.studies.replanning.schedule import period_at, read_schedule

    if schedule is None:
        if at is not None:
            raise InputError.single("--at", "says a time, but there is no --schedule to look it up in")
        return "", []
    found = period_at(read_schedule(schedule), at or datetime.datetime.now().astimezone().strftime("%H:%M"))
    return (found.name, list(found.set)) if found else ("", [])


def _data(found: "Decision", seen: "list[Observed]", period: str) -> dict[str, Any]:
    from planner.plan import as_data

    return {
        "verdict": found.verdict,
        "reason": found.reason,
        "gain": found.gain,
        "payback_s": found.payback,
        "period": period,
        "observed": [one._asdict() for one in seen],
        "compared": as_data(found.report.plan.baseline),
        "plan": as_data(found.report.plan),
        "migration": moves_data(found.moves) if found.moves else None,
    }


def _print(found: "Decision", seen: "list[Observed]", period: str) -> None:
    from planner.exporters.text import headline

    for one in seen:
        lengths = f"{one.input_tokens:.4g} tokens in, {one.output_tokens:.4g} out"
        typer.echo(f"observed  {one.workload}: {one.requests_per_s:.4g} request/s of {lengths}")
    if period:
        typer.echo(f"period    {period}")
    typer.echo(f"{found.verdict}: {found.reason}")
    if found.verdict == "nothing holds":
        return
    typer.echo(f"best now  {headline(found.report.plan)}")
    for metric in found.report.plan.baseline:
        if metric.gain:
            typer.echo(f"  {metric.metric:<9} {metric.baseline:.4g} → {metric.plan:.4g} {metric.unit}")
    if found.payback is not None:
        typer.echo(f"pays for itself in {found.payback / 60:.3g} min")
    if found.verdict in ("change", "must change") and found.moves is not None:
        for one in seen:
            floor = found.moves.migration.needs[one.workload]
            if floor < one.requests_per_s:
                typer.echo(f"note: while it changes, {one.workload} gets the {floor:.4g} /s that both plans carry")
        print_moves(found.moves)
