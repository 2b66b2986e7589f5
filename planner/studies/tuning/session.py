"""One question with its log: what a command does to it, and where it stands."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from planner import yaml_io
from planner.catalog import Case, find_scenario, load_scenario
from planner.catalog.validate import validate
from planner.decode import record_of, resolved_scenario
from planner.errors import InputError
from planner.exporters.text import headline
from planner.importers import read_benchmark
from planner.importers.csv_file import csv_text
from planner.report import Report
from planner.studies.tuning.believed import believed_plan, measured_rows, milliseconds
from planner.studies.tuning.log import FAILED, Log, Options, Trial, read_log, write_log
from planner.studies.tuning.loop import standing, tuner_of
from planner.studies.tuning.run import adapted, next_trial, tune, with_failure, with_measured
from planner.trials import load_adapter
from planner.yaml_io import Document

OnTrial = Callable[[Trial], None]


class Session:
    """A scenario, its loop and the log of its trials, which lies in a file."""

    def __init__(self, scenario: Path, settings: Sequence[str], log: Path | None, options: Mapping[str, Any]) -> None:
        """Load a scenario and what was tried for it.

        Args:
            scenario: a file, or the name of a shipped one.
            settings: changes of its fields.
            log: where the log lies, or will.
            options: fields of ``Options`` that differ from those of the log, or from their defaults.

        Raises:
            InputError: every fault of the scenario, the log or the options.
        """
        file = find_scenario(scenario)
        case = load_scenario(scenario, settings)
        if not isinstance(case, Case):
            raise InputError.single(str(scenario), "lists rates of replicas: there is nothing to learn from trials")
        self.case, self.folder = case, file.parent
        self.path = log or Path(f"{case.scenario.name}.trials.yaml")
        yaml_io.check_writable(self.path)
        digest = record_of(case.scenario.name, resolved_scenario(case)).sha256
        known = read_log(self.path, digest) if self.path.exists() else None
        before = known.options.model_dump(mode="json") if known else {}
        chosen = validate(Document("options", {**before, **options}, {}), Options)
        self.tuner = tuner_of(case, chosen)
        unit = self.tuner.candidates.outcomes.unit
        new = Log(schema_version=1, scenario=case.scenario.name, digest=digest, options=chosen, unit=unit)
        self.log = known.model_copy(update={"options": chosen}) if known else new

    def save(self, log: Log) -> None:
        """Write the log, and go on from it."""
        self.log = log
        write_log(self.path, log)

    def ask(self) -> Trial | None:
        """Return the next trial, logged as asked for; None where the loop has ended."""
        trial = next_trial(self.tuner, self.log)
        self.save(self.log if trial is None else self.log.with_trial(trial))
        return trial

    def record(self, result: Path | None, failed: str | None) -> Trial:
        """Take the result of the trial that waits for one, or how and why it failed.

        Raises:
            InputError: no trial waits, or this is no result of one.
        """
        waiting = self.log.asked
        if waiting is None:
            raise InputError.single(str(self.path), "no trial waits for a result; run `planner tune` without --result")
        if (result is None) == (failed is None):
            raise InputError.single("", "give either --result or --failed")
        if failed is not None:
            how, _, why = (part.strip() for part in failed.partition(":"))
            status = next((known for known in FAILED if known == how), None)
            if status is None:
                raise InputError.single("--failed", f"must start with one of {', '.join(FAILED)} (got '{how}')")
            self.save(with_failure(self.tuner, self.log, waiting, status, why or "no reason was given"))
        elif result is not None:
            runs = read_benchmark(result)
            if len(runs) != 1:
                raise InputError.single(str(result), f"holds {len(runs)} runs; give the file of one")
            self.save(with_measured(self.tuner, self.log, waiting, runs[0], None))
        return next(trial for trial in self.log.trials if trial.number == waiting.number)

    def run(self, names: Sequence[str], settings: Sequence[str], model: str | None, on_trial: OnTrial) -> None:
        """Run trials through an adapter until another is not worth it; each has a folder beside the log.

        Raises:
            InputError: every fault of the adapter.
        """
        adapter = load_adapter(names, settings)
        folder = self.path.parent / self.path.name.removesuffix(".yaml")
        run = adapted(self.case, adapter, self.log.options, folder, self.folder, model)
        self.save(tune(self.tuner, self.log, run, self.save, on_trial))

    def plan(self) -> Report | None:
        """Return the plan over what trials taught; see ``believed_plan``."""
        return believed_plan(self.case, self.tuner, standing(self.tuner, self.log.trials), self.folder)

    def rows(self) -> str:
        """Return what was measured as CSV text for ``planner calibrate``."""
        return csv_text(measured_rows(self.case, self.log))

    def requests(self, trial: Trial) -> dict[str, int]:
        """Return the load of a trial: requests in all, and their tokens."""
        load = self.tuner.candidates.workload
        requests = self.log.options.requests(trial.clients)
        return {"requests": requests, "isl": int(load.input_tokens), "osl": int(load.output_tokens)}

    def summary(self, report: Report | None) -> dict[str, Any]:
        """Return where the loop stands, for people and programs."""
        now = standing(self.tuner, self.log.trials)
        waiting = self.log.asked
        worth = float(now.prospects.worth[now.prospects.recommended])
        return {
            "scenario": self.log.scenario,
            "unit": self.log.unit,
            "trials": [trial.model_dump(mode="json") for trial in self.log.trials],
            "stopped": "" if waiting else now.stop,
            "recommended": self._recommended(worth) if worth > 0 else None,
            "expected_regret": now.prospects.relative_regret if worth > 0 else None,
            "next": {**waiting.model_dump(mode="json"), **self.requests(waiting)} if waiting else None,
            "plan": headline(report.plan) if report else None,
        }

    def _recommended(self, worth: float) -> dict[str, Any]:
        now = standing(self.tuner, self.log.trials)
        index = now.prospects.recommended
        candidate = self.tuner.candidates.every[index]
        measured = next((t for t in self.log.trials if t.measured and t.candidate == candidate), None)
        ttft, tpot = milliseconds(self.tuner, now, index)
        return {
            "label": candidate.label,
            "configuration": candidate.configuration._asdict(),
            "clients": candidate.clients,
            "worth": worth,
            "ttft_ms": ttft,
            "tpot_ms": tpot,
            "measured_in_trial": measured.number if measured else None,
        }
