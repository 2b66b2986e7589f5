"""Where a shipped architecture comes from."""

from typing import Any, Literal

from pydantic import Field

from planner.schema.base import Fraction, Name, Schema
from planner.schema.precision import Precision


class PublishedParameters(Schema):
    """Parameter counts as the publisher states them."""

    total: float
    active: float | None = None
    non_embedding: float | None = None


class CheckpointFormat(Schema):
    """How a published checkpoint of one precision stores its parts, where not all in that precision, or in blocks."""

    attention: Precision
    ffn: Precision
    experts: Precision
    blocks: bool = Field(False, description="weights have a scale per block, not one per matrix")
    source: Name


class About(Schema):
    """Where a shipped architecture comes from."""

    huggingface_id: Name
    also: dict[Name, dict[str, Any]] = Field({}, description="other ids of this architecture, and keys that differ")
    source: Name
    read_from: Name
    licence: Name
    published_parameters: PublishedParameters
    published_parameters_read: Literal["document", "memory"] = Field(
        description="whether the document was read for these counts, or they are quoted from memory of it"
    )
    published_parameters_source: Name
    counting: Name = Field(description="what the published counts include that ours leave out, and the reverse")
    active_without_embedding: bool = Field(False, description="the input embedding is left out of the active count")
    total_rounding: Fraction = Field(0.01, description="relative tolerance of the total: 1 %, or as it is rounded")
    active_rounding: Fraction = Field(0.01, description="relative tolerance of the active count, likewise")
    remote_code: bool = Field(False, description="its tokenizer or configuration takes code of its repository")
    formats: dict[Precision, CheckpointFormat] = Field(
        {}, description="checkpoints that are not all in one precision, or in blocks"
    )
