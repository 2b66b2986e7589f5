"""Runs trials one after the other, each logged before it starts and after it ends."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from planner.catalog import Case
from planner.catalog.specs import is_path
from planner.constants import MILLISECONDS_PER_SECOND
from planner.importers import Measured
from planner.studies.tuning.candidates import Candidate
from planner.studies.tuning.judgement import impossible, unfit
from planner.studies.tuning.log import FailedStatus, Log, MeasuredTrial, Options, Trial
from planner.studies.tuning.loop import Tuner, asked, finished, standing
from planner.table import Configuration
from planner.trials import Adapter, Outcome, missing_values, run_trial
from planner.trials.runner import ADDED

RunTrial = Callable[[Trial], Outcome]
Save = Callable[[Log], None]


def tune(tuner: Tuner, log: Log, run: RunTrial, save: Save, on_trial: Callable[[Trial], None]) -> Log:
    """Run trials until another is not worth it.

    Args:
        tuner: the loop.
        log: trials so far; one that was asked for and not finished is run again.
        run: runs one trial.
        save: is given the log whenever it has changed.
        on_trial: is told of every trial when it starts and when it has ended.

    Returns:
        The log with all trials.
    """
    while (trial := next_trial(tuner, log)) is not None:
        log = log.with_trial(trial)
        save(log)
        on_trial(trial)
        log = with_outcome(tuner, log, trial, run(trial))
        save(log)
        on_trial(next(t for t in log.trials if t.number == trial.number))
    return log


def next_trial(tuner: Tuner, log: Log) -> Trial | None:
    """Return the trial that waits for its result, else the next to run; None where the loop has ended."""
    if log.asked is not None:
        return log.asked
    now = standing(tuner, log.trials)
    return asked(tuner, now, len(log.trials) + 1) if now.next is not None else None


def with_outcome(tuner: Tuner, log: Log, trial: Trial, outcome: Outcome) -> Log:
    """Return the log with how a trial ended."""
    if outcome.run is None:
        return with_failure(tuner, log, trial, outcome.failure or "unreadable", outcome.reason, outcome.seconds)
    return with_measured(tuner, log, trial, outcome.run, outcome.seconds)


def with_measured(tuner: Tuner, log: Log, trial: Trial, run: Measured, seconds: float | None) -> Log:
    """Return the log with what a trial measured, or with why that says nothing."""
    candidates = tuner.candidates
    index = candidates.place_of(trial.candidate)
    if index is None:
        reason = "this is no candidate any more: the planner has changed since it was asked for"
        return with_failure(tuner, log, trial, "unreadable", reason, seconds)
    wrong = unfit(candidates, index, run)
    if wrong:
        return with_failure(tuner, log, trial, "unreadable", wrong, seconds)
    ttft, tpot = (milliseconds / MILLISECONDS_PER_SECOND for milliseconds in (run.ttft_ms, run.tpot_ms))
    wrong = impossible(candidates, index, ttft, tpot)
    if wrong:
        return with_failure(tuner, log, trial, "implausible", wrong, seconds)
    measured = MeasuredTrial(
        ttft_ms=run.ttft_ms, tpot_ms=run.tpot_ms, worth=candidates.outcomes.of(index, ttft, tpot), source=run.source
    )
    return finished(
        tuner, log, trial.model_copy(update={"status": "measured", "measured": measured, "took": _rounded(seconds)})
    )


def with_failure(
    tuner: Tuner, log: Log, trial: Trial, status: FailedStatus, reason: str, seconds: float | None = None
) -> Log:
    """Return the log with a trial that failed: what would fail with it is not tried again."""
    return finished(
        tuner, log, trial.model_copy(update={"status": status, "reason": reason, "took": _rounded(seconds)})
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else max(round(seconds, 1), 0.1)


def adapted(case: Case, adapter: Adapter, options: Options, folder: Path, named: Path, model: str | None) -> RunTrial:
    """Return what runs trials through an adapter, each in a folder of its own below ``folder``.

    Args:
        case: names model and devices.
        adapter: the commands.
        options: how many requests a trial has.
        folder: keeps logs and results.
        named: the folder that relative paths of the scenario start from.
        model: what the engine calls the model; the architecture's name where None.

    Raises:
        InputError: the adapter has places that no value stands for.
    """

    def run(trial: Trial) -> Outcome:
        values = values_of(case, trial.candidate, options, named, model)
        return run_trial(adapter, values, folder / f"trial-{trial.number}")

    some = next(iter(case.scenario.inventory))
    missing_values(adapter, [*Configuration._fields, *_named(case, some, named, model), *_COUNTED, *ADDED])
    return run


_COUNTED = (
    "clients", "requests", "isl", "osl", "devices", "group", "group_num_seqs", "group_batched_tokens", "moe_tp",
    "quantised_to", "python",
)  # fmt: skip


def values_of(case: Case, candidate: Candidate, options: Options, named: Path, model: str | None) -> Mapping[str, Any]:
    """Return what stands in the places of an adapter for one trial.

    ``group...`` is of all attention ranks together; ``quantised_to`` is the format that the engine makes of the
    checkpoint's weights, empty where it takes them as they are.
    """
    c, workload = candidate.configuration, next(iter(case.scenario.workloads.values()))
    stored = case.architectures[workload.model].precision
    return {
        **c._asdict(),
        **_named(case, c.inventory, named, model),
        "clients": candidate.clients,
        "requests": options.requests(candidate.clients),
        "isl": int(workload.input_tokens),
        "osl": int(workload.output_tokens),
        "devices": c.devices,
        "group": c.tp * c.attention_dp,
        "group_num_seqs": c.max_num_seqs * c.attention_dp,
        "group_batched_tokens": c.max_num_batched_tokens * c.attention_dp,
        "quantised_to": "" if c.weight_precision == stored else c.weight_precision,
        "moe_tp": c.moe_tp,
        "python": sys.executable,
    }


def _named(case: Case, inventory: str, named: Path, model: str | None) -> dict[str, Any]:
    """Return the names of model and devices; paths as they can be found from anywhere."""
    workload = next(iter(case.scenario.workloads))
    system, architecture = case.scenario.inventory[inventory].hardware, case.model(workload).architecture
    return {
        "model": model or _findable(architecture, named),
        "system": _findable(system, named),
        "max_model_len": case.max_model_len(workload),
    }


def _findable(name: str, folder: Path) -> str:
    return str((folder / Path(name).expanduser()).resolve()) if is_path(name) else name
