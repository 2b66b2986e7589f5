"""What a plan should make as large or as small as possible."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.schema.base import OneOrMore, Positive, Schema

Larger = Literal["requests", "tokens"]
Smaller = Literal["devices", "cost", "power", "ttft", "tpot"]
Metric = Literal["requests", "tokens", "devices", "cost", "power", "ttft", "tpot"]


class Goal(Schema):
    """One goal: a metric, or several with weights.

    Of a weighted goal each metric is divided by its own best value, found by optimising it alone; then those to
    minimise count with their weight, those to maximise with its negative.
    """

    maximize: Larger | None = None
    minimize: Smaller | None = None
    weighted: Annotated[dict[Metric, Positive], Field(min_length=1)] | None = Field(
        None, description="weight of each metric over its own best value, like {cost: 0.7, ttft: 0.3}"
    )

    @model_validator(mode="after")
    def _one_sense(self) -> "Goal":
        if sum(part is not None for part in (self.maximize, self.minimize, self.weighted)) != 1:
            msg = "give one of 'maximize', 'minimize' and 'weighted', like '{maximize: requests}'"
            raise ValueError(msg)
        return self

    @property
    def metric(self) -> str:
        """What is optimised; "weighted" for several metrics."""
        return str(self.maximize or self.minimize or "weighted")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric it reads."""
        return tuple(self.weighted) if self.weighted else (self.metric,)

    @property
    def sense(self) -> Literal["maximize", "minimize"]:
        """Which way."""
        return "maximize" if self.maximize else "minimize"


Goals = Annotated[tuple[Goal, ...], Field(min_length=1), OneOrMore()]
