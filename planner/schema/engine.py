"""What a serving engine allows and how it schedules."""

from typing import Literal

from pydantic import Field

from planner.schema.base import Count, Fraction, Name, Schema, Source, Sourced
from planner.schema.precision import KvPrecision, Precision

RuleName = Literal[
    "kv_heads_split_or_copy",
    "heads_divide_by_tp",
    "widths_divide_by_tp",
    "experts_divide_by_ep",
    "ep_is_one_or_all",
    "stage_has_a_layer",
    "budget_covers_sequences",
    "longest_request_fits",
]


class Rule(Schema):
    """One documented restriction; ``planner.columns.legality`` knows how to check it by its name."""

    rule: RuleName
    source: tuple[Name, ...] = Field(min_length=1)
    note: str | None = None


class Engine(Schema):
    """One serving engine, for the versions its facts were read from."""

    called = "an engine"

    name: Name
    description: Name
    versions: tuple[Name, ...] = Field(min_length=1)
    vendors: tuple[Name, ...] = Field(min_length=1, description="vendors of the devices it runs on")
    block_size: Sourced[Count] = Field(description="tokens per KV cache block")
    memory_fraction: Sourced[Fraction] = Field(description="share of device memory it takes by default")
    graph_capture_sizes: Sourced[tuple[Count, ...]] = Field(
        description="batch sizes with a captured graph; a decode batch is padded to the next, and runs "
        "unpadded beyond the last"
    )
    weight_precisions: Sourced[tuple[Precision, ...]]
    kv_precisions: Sourced[tuple[KvPrecision, ...]]
    rules: tuple[Rule, ...]
    sources: dict[str, Source]
