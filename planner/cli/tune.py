"""`planner tune`: the closed loop of trials."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.cli.common import JsonOption, check_out, print_json, progress, reported
from planner.errors import EXIT_NO_PLAN, InputError

if TYPE_CHECKING:
    from planner.studies.tuning.log import Trial
    from planner.studies.tuning.session import Session

_SCENARIO = "A scenario file, or the name of a shipped scenario."
_ADAPTER = (
    "Run trials through a shipped adapter (vllm, sglang, aiperf, aisbench, fake) or a YAML file. May be repeated."
)
_ADAPTER_SET = "Change a field of the adapter, like 'launch.ready_timeout=10 min'. May be repeated."
_LOG = "The log of trials; what is there already is gone on from. Default: NAME.trials.yaml."
_RESULT = "The result file of the trial that was asked for."
_FAILED = "Why the trial that was asked for failed, like 'no_start: out of memory' or 'no_answer: hung'."


def tune(
    scenario: Annotated[Path, typer.Argument(help=_SCENARIO, show_default=False)],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the scenario.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help=_LOG, show_default=False)] = None,
    adapter: Annotated[list[str] | None, typer.Option(help=_ADAPTER)] = None,
    adapter_settings: Annotated[
        list[str] | None, typer.Option("--adapter-set", metavar="KEY=VALUE", help=_ADAPTER_SET)
    ] = None,
    model: Annotated[str | None, typer.Option(help="What the engine calls the model, or its folder.")] = None,
    result: Annotated[Path | None, typer.Option(help=_RESULT)] = None,
    failed: Annotated[str | None, typer.Option(metavar="HOW: WHY", help=_FAILED)] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Most trials (default 20).")] = None,
    epsilon: Annotated[
        float | None, typer.Option(min=1e-6, max=1, help="Stop below this expected regret, relative (default 0.02).")
    ] = None,
    launch_time: Annotated[
        str | None, typer.Option(help="From launch to the first answer, like '5 min' (the default).")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Requests of a trial, per client (default 5).")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the samples of what is believed (default 0).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan over what trials taught to this file.")] = None,
    rows: Annotated[Path | None, typer.Option(help="Write what was measured as rows for `planner calibrate`.")] = None,
    json_output: JsonOption = False,
) -> None:
    """Find the best deployment by as few trials as possible: each is the one that promises most per hour.

    With --adapter trials are run here. Without, the next one is printed, to be run anywhere; --result reads what it
    measured, and the next is printed. Exit codes: 0 a recommendation or the next trial, 2 bad input, 4 nothing that was
    tried can be recommended.
    """
    from planner import yaml_io
    from planner.exporters.json_file import plan_text
    from planner.studies.tuning.session import Session

    with reported():
        for place in filter(None, (out, rows)):
            check_out(place, scenario, "the scenario")
        options = {"trials": trials, "epsilon": epsilon, "launch_time": launch_time, "rounds": rounds, "seed": seed}
        with progress() as on_stage:
            on_stage("pricing candidates")
            session = Session(scenario, settings or [], log, {k: v for k, v in options.items() if v is not None})

            def on_trial(trial: "Trial") -> None:
                on_stage(f"trial {trial.number}: {trial.candidate.label}")
                if trial.status != "asked" and not json_output:
                    _print_trial(trial, session.log.unit)

            if result is not None or failed is not None:
                on_trial(session.record(result, failed))
            if adapter:
                session.run(adapter, adapter_settings or [], model, on_trial)
        session.ask()
        report = session.plan()
        if rows is not None:
            yaml_io.write_text(rows, session.rows())
        if out is not None:
            if report is None:
                message = "there is no plan: no candidate likely holds all limits, or the goal is a latency"
                raise InputError.single(str(out), message)
            yaml_io.write_text(out, plan_text(report.plan))
        summary = session.summary(report)
    if json_output:
        print_json(summary)
    else:
        _print_end(session, summary)
    raise typer.Exit(0 if summary["next"] or summary["recommended"] else EXIT_NO_PLAN)


def _print_trial(trial: "Trial", unit: str) -> None:
    typer.echo(f"trial {trial.number}: {trial.candidate.label}")
    e = trial.expected
    times = ", ".join(
        f"{name.upper()} {getattr(e, f'{name}_ms'):.4g} ms ({getattr(e, f'{name}_ms_p10'):.4g} to "
        f"{getattr(e, f'{name}_ms_p90'):.4g})"
        for name in ("ttft", "tpot")
    )
    typer.echo(f"  expected  {times}; within all limits with a chance of {e.within_limits:.0%}; {e.worth:.4g} {unit}")
    if trial.status == "asked":
        return
    if trial.measured is not None:
        m = trial.measured
        worth = f"{m.worth:.4g} {unit}" if m.worth else "misses a limit"
        typer.echo(f"  measured  TTFT {m.ttft_ms:.4g} ms, TPOT {m.tpot_ms:.4g} ms: {worth}")
    else:
        typer.echo(f"  {trial.status.replace('_', ' '):<9} {trial.reason}")
    if trial.changed is not None:
        c = trial.changed
        kept = c.recommended_before == c.recommended
        what = f"{c.recommended} stays recommended" if kept else f"{c.recommended} is recommended now"
        typer.echo(f"  changed   {what}; expected regret {_percent(c.regret_before)} → {_percent(c.regret)}")


def _percent(share: float) -> str:
    return f"{share:.1%}" if share < 10 else "unknown"


def _print_end(session: "Session", summary: dict[str, Any]) -> None:
    best = summary["recommended"]
    if best is None:
        typer.echo("nothing can be recommended: no candidate is expected to hold all limits")
    else:
        known = f"measured in trial {best['measured_in_trial']}" if best["measured_in_trial"] else "not measured"
        typer.echo(f"recommended  {best['label']}: {best['worth']:.4g} {summary['unit']} expected ({known})")
    if summary["plan"]:
        typer.echo(f"plan         {summary['plan']}")
    waiting = session.log.asked
    if waiting is None:
        typer.echo(f"stopped      {summary['stopped']}")
        return
    typer.echo("\nnext trial, to be run by you; then give its result with --result FILE")
    _print_trial(waiting, summary["unit"])
    c, load = waiting.candidate.configuration, session.requests(waiting)
    typer.echo(
        f"  start     {c.engine} with tp {c.tp}, pp {c.pp}, attention_dp {c.attention_dp}, ep {c.ep}, weights in "
        f"{c.weight_precision}, KV cache in {c.kv_precision}, max_num_seqs {c.max_num_seqs}, max_num_batched_tokens "
        f"{c.max_num_batched_tokens}"
    )
    typer.echo(
        f"  load      {waiting.clients} clients, {load['requests']} requests of {load['isl']} tokens in and "
        f"{load['osl']} out, no prefix cache"
    )
