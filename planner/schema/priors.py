"""Priors of a calibration: how far efficiencies may move from where they start, and what errors weigh."""

from pydantic import Field

from planner.schema.base import Name, Positive, Schema, Share
from planner.schema.calibration import ProcessKernel


class Latencies(Schema):
    """One positive number for each latency, of logarithms of measured over modelled times."""

    ttft: Positive
    tpot: Positive


class Kernels(Schema):
    """Where the search for the kernel of each latency's process starts."""

    ttft: ProcessKernel
    tpot: ProcessKernel


class Level(Schema):
    """Standard deviations of what a level adds to an efficiency, on the scale each is fitted on.

    That is log-odds for shares, logarithms for the others (planner/posterior/fields.py). ``operators`` are those that
    single operators tell; ``fields`` are named one by one and go before both.
    """

    operators: Positive
    others: Positive
    fields: dict[Name, Positive] = Field({})


class Groups(Schema):
    """The levels, from all rows down to a backend on a system."""

    all: Level
    system: Level
    system_backend: Level


class Priors(Schema):
    """Everything a calibration takes for granted besides the efficiencies it starts from."""

    called = "a set of priors"

    groups: Groups
    error: Latencies = Field(description="where the robust loss turns from squares to lines")
    ttft_weight: Positive = Field(description="of TTFT, beside TPOT's 1")
    most: Latencies = Field(description="residuals are cut here: one row must not bend its neighbours")
    maybe_speculative: Share = Field(description="weight of a row that may hide speculation")
    beyond: Positive = Field(description="standard deviation per doubling of a load beyond all measured ones")
    kernels: Kernels
    repeat: Latencies = Field(description="standard deviation of the logarithm of a run that is measured again")
