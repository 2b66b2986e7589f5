"""The log of trials: a YAML file that a person can read and an interrupted run goes on from."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from planner import yaml_io
from planner.catalog.validate import validate
from planner.errors import InputError
from planner.schema.base import Count, Fraction, Name, NonNegative, Schema, Seconds, SecondsOrZero
from planner.studies.tuning.candidates import Candidate
from planner.table import Configuration

FailedStatus = Literal["no_start", "no_answer", "unreadable", "implausible"]
Status = Literal["asked", "measured"] | FailedStatus
FAILED: tuple[FailedStatus, ...] = get_args(FailedStatus)


class Options(Schema):
    """When to stop, and what a trial takes."""

    trials: Count = Field(20, description="most trials")
    epsilon: Fraction = Field(0.02, description="stop where the expected regret is below this share of the worth")
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)] = 0
    launch_time: SecondsOrZero = Field(300.0, description="from the launch command to the first answer")
    rounds: Count = Field(5, description="requests of a trial, per client")
    least_requests: Count = 50

    def requests(self, clients: int) -> int:
        """Return the requests of a trial."""
        return max(self.least_requests, self.rounds * clients)


class Expected(Schema):
    """What was expected of a trial; times are means [ms] with their tenth and ninetieth percentile."""

    ttft_ms: float
    ttft_ms_p10: float
    ttft_ms_p90: float
    tpot_ms: float
    tpot_ms_p10: float
    tpot_ms_p90: float
    worth: float
    within_limits: float = Field(description="chance")
    gain_per_hour: float = Field(description="expected improvement over the best measured worth, per hour of trial")
    hours: float


class MeasuredTrial(Schema):
    """What a trial measured; means [ms]."""

    ttft_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    tpot_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    worth: NonNegative
    source: str = ""


class Changed(Schema):
    """What a trial changed: the recommendation, its expected worth, and the expected regret over it."""

    recommended_before: str
    recommended: str
    worth_before: float
    worth: float
    regret_before: float
    regret: float


class Trial(Schema):
    """One trial; ``reason`` says why it measured nothing that counts, and what follows."""

    number: Count
    status: Status
    configuration: dict[Name, Any]
    clients: Count
    expected: Expected
    measured: MeasuredTrial | None = None
    reason: str = ""
    took: Seconds | None = None
    changed: Changed | None = None

    @property
    def candidate(self) -> Candidate:
        """Return what was tried."""
        fields: dict[str, Any] = dict(self.configuration)
        fields["overlaps"] = tuple(fields["overlaps"])
        return Candidate(Configuration(**fields), self.clients)


class Log(Schema):
    """All trials of one scenario; ``digest`` tells whether it is still the same question."""

    called = "a log of trials"

    schema_version: Literal[1]
    scenario: Name
    digest: Name
    options: Options
    unit: str = Field(description="of worth")
    trials: tuple[Trial, ...] = ()

    def with_trial(self, trial: Trial) -> "Log":
        """Return the log with a trial added, or replaced where its number is there."""
        kept = [known for known in self.trials if known.number != trial.number]
        return self.model_copy(update={"trials": tuple(sorted([*kept, trial], key=lambda known: known.number))})

    @property
    def asked(self) -> Trial | None:
        """Return the trial that waits for its result."""
        return next((trial for trial in self.trials if trial.status == "asked"), None)


def read_log(path: Path, digest: str) -> Log:
    """Read the log of a question.

    Raises:
        InputError: every fault of the file; it belongs to another question.
    """
    log = validate(yaml_io.load(path), Log)
    if log.digest != digest:
        message = (
            "holds the trials of another question: the scenario, or a specification that it names, has changed; "
            "give the log another name (--log), or move the file away"
        )
        raise InputError.single(str(path), message, "digest")
    for trial in log.trials:
        if set(trial.configuration) != set(Configuration._fields):
            odd = sorted(set(trial.configuration) ^ set(Configuration._fields))
            message = f"trial {trial.number}: its configuration lacks, or should not have, {', '.join(odd)}"
            raise InputError.single(str(path), message, "trials")
    return log


def write_log(path: Path, log: Log) -> None:
    """Write the log: the whole file or nothing."""
    yaml_io.write_text(path, yaml_io.dump(log.model_dump(mode="json", exclude_none=True)))


def written(configuration: Configuration) -> dict[str, Any]:
    """Return a configuration as plain data."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in configuration._asdict().items()}
