"""`planner compare`: what was measured of a plan, beside what it predicted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, print_json, print_table, progress, reported
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.comparison.compare import Compared, Comparison
    from planner.plan import Plan

_RESULTS = "Files as vllm bench serve, SGLang, AIPerf, GuideLLM or AISBench write them."
_OF = "What was measured: a deployment, a pair or a workload of the plan; default: as the file is called."
_REPLICAS = "Replicas that took the load; default: one of a deployment, all of a workload or a pair."


def compare(
    plan: Annotated[Path, typer.Argument(help="A plan file, as `planner solve --out` writes it.", show_default=False)],
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help=_RESULTS, show_default=False)],
    of: Annotated[str | None, typer.Option("--of", help=_OF)] = None,
    replicas: Annotated[int | None, typer.Option(min=1, help=_REPLICAS)] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where relative paths in the scenario start; default: beside the plan."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Hold benchmark results against a plan: how far off, which term would explain it, and how to calibrate.

    The prediction is for the load and the lengths that were measured. Exit codes: 0 compared, 2 bad input.
    """
    from planner import pipeline
    from planner.catalog import TableCase
    from planner.comparison.compare import Asked
    from planner.comparison.compare import compare as compared
    from planner.exporters.json_file import read_plan
    from planner.importers import read_benchmark

    with reported():
        content = read_plan(plan)
        case, changed = pipeline.case_of(content, folder or plan.parent)
        if isinstance(case, TableCase) or not content.deployments:
            raise InputError.single(str(plan), "predicts no latencies: a table of rates, or no plan at all")
        if changed:
            raise InputError.single(str(plan), "; ".join(changed))
        asked = []
        for result in results:
            name = of or _named(content, result)
            alone = any(d.name == name for d in content.deployments)
            asked += [Asked(run, name, replicas or int(alone)) for run in read_benchmark(result)]
        with progress() as on_stage:
            on_stage("looking for causes")
            found = compared(content, case, asked, str(plan))
    if json_output:
        print_json(_data(found))
    else:
        _print(found)


def _named(plan: "Plan", result: Path) -> str:
    """Return what a result is of, by the name of its file or folder, or the only thing that serves requests."""
    from planner.comparison.operating import names
    from planner.launch.servers import slug

    known = names(plan)
    called = [name for name in known if slug(name) in (result.stem, result.parent.name)]
    if called:
        return called[0]
    if len(known) == 2:
        return known[0]
    message = f"does not say what it is of; name one with --of: {', '.join(known)}"
    raise InputError.single(str(result), message)


def _data(found: "Comparison") -> dict[str, Any]:
    return {
        "runs": [
            {**run._asdict(), "rows": [{**row._asdict(), "off": row.off, "inside": row.inside} for row in run.rows]}
            for run in found.runs
        ],
        "causes": [cause._asdict() for cause in found.causes],
        "commands": list(found.commands),
    }


def _print(found: "Comparison") -> None:
    for run in found.runs:
        _print_run(run)
    if found.causes:
        typer.echo("each alone would explain")
        rows = [
            (
                c.kind,
                f"{c.explained:.0%}",
                f"{c.field} {c.before:.3g} → {c.after:.3g}",
                _percent(c.ttft),
                _percent(c.tpot),
            )
            for c in found.causes
        ]
        print_table(("term", "of the misfit", "if this were", "TTFT", "TPOT"), rows)
        typer.echo("")
    for command in found.commands:
        typer.echo(f"  {command}" if command != found.commands[0] else f"to calibrate:\n  {command}")
    if not found.commands:
        typer.echo(
            "to calibrate, measure one replica of a deployment with a fixed number of clients (docs/how-to/launch.md)"
        )


def _percent(logarithm: float) -> str:
    import math

    return f"{math.expm1(logarithm):+.1%}"


def _print_run(run: "Compared") -> None:
    typer.echo(f"{run.name}: {run.load} ({run.source})")
    rows = []
    for row in run.rows:
        interval = "" if row.p10 is None or row.p90 is None else f"{row.p10:.4g} to {row.p90:.4g} ms"
        verdict = {None: "", True: "inside", False: "outside"}[row.inside]
        rows.append(
            (
                row.metric.upper(),
                f"{row.predicted:.4g} ms",
                interval,
                f"{row.measured:.4g} ms",
                f"{row.off:+.1%}",
                verdict,
            )
        )
    print_table(("", "predicted", "four fifths", "measured", "off", "interval"), rows)
    for note in run.notes:
        typer.echo(f"note: {note}")
    typer.echo("")
