"""What is wanted when: changes of the scenario by the time of day, like low latency by day and low cost by night."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from planner import yaml_io
from planner.catalog.validate import validate
from planner.errors import InputError
from planner.schema.base import Name, Schema

_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_DAY = 24 * 60


def minutes(text: str) -> int:
    """Return a time of day in minutes since midnight.

    Raises:
        ValueError: it is not like 08:30.
    """
    if not _TIME.fullmatch(text):
        msg = f"must be a time of day like '08:30', in quotes (got '{text}')"
        raise ValueError(msg)
    hours, rest = text.split(":")
    return int(hours) * 60 + int(rest)


def _is_time(text: str) -> str:
    minutes(text)
    return text


TimeOfDay = Annotated[Name, AfterValidator(_is_time)]


class Period(Schema):
    """A part of the day; one that ends before it begins goes over midnight."""

    name: Name
    begins: TimeOfDay
    ends: TimeOfDay
    set: tuple[Name, ...] = Field(description="changes of the scenario, like 'objective={minimize: cost}'")

    def holds(self, at: int) -> bool:
        """Tell whether a time of day [min] is in it."""
        begins, ends = minutes(self.begins), minutes(self.ends)
        return begins <= at < ends if begins < ends else at >= begins or at < ends


class Schedule(Schema):
    """Periods of the day; where none holds, the scenario is as it stands."""

    called = "a schedule"

    periods: tuple[Period, ...]


def read_schedule(path: Path) -> Schedule:
    """Read a schedule.

    Raises:
        InputError: every fault; periods that overlap.
    """
    document = yaml_io.load(path)
    schedule = validate(document, Schedule)
    for number, period in enumerate(schedule.periods):
        for earlier in schedule.periods[:number]:
            if any(period.holds(at) and earlier.holds(at) for at in range(_DAY)):
                message = f"'{period.name}' overlaps '{earlier.name}'"
                raise InputError([document.problem(("periods", number), message)])
    return schedule


def period_at(schedule: Schedule, at: str) -> Period | None:
    """Return the period of a time of day.

    Raises:
        InputError: that is none.
    """
    try:
        moment = minutes(at)
    except ValueError as error:
        raise InputError.single("--at", str(error)) from None
    return next((period for period in schedule.periods if period.holds(moment)), None)
