"""A plan with what people need around it: why, why not, and how it was checked."""

from typing import NamedTuple

from planner.plan import Plan
from planner.table import Rejection


class Limit(NamedTuple):
    """A requirement beside what the plan makes of it, in the unit shown.

    ``held``: share of such deployments that are expected to hold it, where a calibration tells.
    """

    deployment: str
    name: str
    predicted: float
    limit: float
    unit: str
    held: float | None = None


class Report(NamedTuple):
    """The result of a solve.

    ``asked`` is the load in words ("" for as much as fits); ``limits`` puts predictions beside what was asked;
    ``rejected`` counts configurations by the first rule they break, or by the latency limits they miss; ``notes`` are
    warnings.
    """

    plan: Plan
    asked: str
    limits: tuple[Limit, ...]
    rejected: tuple[Rejection, ...]
    notes: tuple[str, ...]
