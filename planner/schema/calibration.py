"""A calibration: what measurements say about efficiencies, and what they leave unexplained."""

from statistics import NormalDist
from typing import Literal

from pydantic import Field

from planner.schema.base import Name, Positive, Schema, Source
from planner.schema.efficiency import Efficiencies

LEVELS = (
    "system+backend",
    "model",
    "model+backend",
    "model+system+backend",
    "model+system+backend+precision",
    "deployment",
)
SHIPPED = ("silicon", "ascend")  # what counts where nothing else is named
MEDIAN = 0.5  # confidence in expected times
LOADS = ("concurrency", "isl", "osl")
Basis = Literal["deployment", "system+backend", "system", "none"]


class Group(Schema):
    """Efficiencies of some systems and backends: what is added on the scale each is fitted on.

    That scale is log-odds for shares, the logarithm for times and factors (planner/posterior/fields.py).
    """

    system: Name | None = Field(None, description="all systems where left out")
    backend: Name | None = Field(None, description="all backends where left out")
    offsets: dict[Name, float]


class ProcessKernel(Schema):
    """Standard deviations of the logarithm of measured over modelled times, by level."""

    constant: dict[Name, Positive]
    smooth: dict[Name, Positive] = Field(description="of the part that changes with the load")
    noise: Positive = Field(description="of one measurement")
    lengths: dict[Name, Positive] = Field(description="doublings of a load over which the smooth part changes")


class Quantiles(Schema):
    """Held-out residuals in standard deviations of the process: what a tenth lie below, what a tenth lie above.

    ``rows``: how many they were taken from.
    """

    p10: float
    p90: float
    rows: int

    @property
    def width(self) -> float:
        """How much wider residuals are than a normal distribution of the process's deviation."""
        return (self.p90 - self.p10) / (2 * NormalDist().inv_cdf(0.9))


class Interval(Schema):
    """Quantiles of both latencies, and how far choices by prediction fell short of it."""

    ttft: Quantiles
    tpot: Quantiles
    optimism: float = Field(
        description="mean logarithm of expected over measured throughput of the deployments that predictions pick"
    )


class Intervals(Schema):
    """By what was measured of a deployment. ``new_model``: the system and backend were, but not the model on them."""

    deployment: Interval
    system_backend: Interval
    new_model: Interval
    system: Interval
    none: Interval
    beyond: Positive = Field(description="standard deviation added per doubling of a load beyond what was measured")


class Calibration(Schema):
    """A fitted calibration; ``textbook`` are the efficiencies it starts from.

    ``rows`` is CSV text: one measured deployment and load per line, the logarithms of measured over modelled TTFT and
    TPOT, and the weights of the process's mean.
    """

    called = "a calibration"

    name: Name
    basis: Literal["fitted"]
    description: Name
    textbook: Efficiencies
    groups: tuple[Group, ...]
    ttft: ProcessKernel
    tpot: ProcessKernel
    intervals: Intervals
    report: dict[str, object] = Field(description="errors, fitted and held out, and what the rows were")
    sources: dict[str, Source]
    rows: str
