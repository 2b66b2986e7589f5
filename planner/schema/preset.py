"""What a typical use of a model asks for: lengths, latency limits and goals."""

from typing import Literal

from pydantic import Field

from planner.schema.base import Name, Schema, Seconds, ShareBelowOne, Source, Sourced, Tokens
from planner.schema.objective import Goal, Goals

LoadKind = Literal["max", "rate", "concurrency"]


class Limit(Sourced[Seconds]):
    """A latency limit [s]; plans keep it on the mean, whatever its publisher holds to it."""

    holds_for: Literal["mean", "p90", "p95", "p99"] = Field(description="what the publisher's limit is on")


class PresetSlo(Schema):
    """Latency limits of a use; a limit left out does not matter to it."""

    ttft: Limit | None = Field(None, description="time to first token")
    tpot: Limit | None = Field(None, description="time per output token after the first")
    itl: Limit | None = Field(None, description="gap between two tokens while a prompt shares the step")


class Objectives(Schema):
    """Goals by the kind of load: what there is to gain differs between them."""

    rate: Goals = Field(description="requests per second are given: what carries them")
    max: Goals = Field(description="as much as fits is asked for, so the first goal is to serve it")
    concurrency: Goals = Field(description="requests in flight are given, so nothing can be maximised")


class Preset(Schema):
    """One use of a model; a workload takes from it what it does not say itself."""

    called = "a preset"

    name: Name
    description: Name
    input_tokens: Sourced[Tokens] = Field(description="prompt length (ISL)")
    output_tokens: Sourced[Tokens] = Field(description="generated length (OSL)")
    slo: PresetSlo = Field(default_factory=PresetSlo)
    objective: Objectives
    prefix: Sourced[ShareBelowOne] | None = Field(
        None,
        description="share of the prompt tokens that requests before it have in common with it; null where unknown",
    )
    notes: tuple[Name, ...] = Field((), description="what to know before relying on it")
    sources: dict[Name, Source]

    def goals(self, kind: LoadKind) -> tuple[Goal, ...]:
        """Return the goals for a kind of load, in order of importance."""
        goals: tuple[Goal, ...] = getattr(self.objective, kind)
        return goals
