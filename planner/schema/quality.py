"""What is known of the quality that a lower precision costs."""

from typing import Literal

from pydantic import Field

from planner.schema.base import Name, Schema, Source, Sourced
from planner.schema.precision import Precision


class QualityNote(Sourced[Name]):
    """One sentence with a figure; recovery is the score of the lower precision over that of the higher."""

    part: Literal["weights", "kv_cache"]
    precision: Precision = Field(description="what the part is stored in")
    against: Precision = Field(description="the precision it was compared with")
    models: Name = Field(description="models, and their sizes, that it was seen on")


class QualityNotes(Schema):
    """Notes on every precision below that of a checkpoint; they inform, and limit nothing."""

    called = "a file of quality notes"

    name: Name
    description: Name
    notes: tuple[QualityNote, ...] = Field(min_length=1)
    sources: dict[Name, Source]
