"""Where a shipped architecture comes from."""

from planner.schema.base import Name, Schema


class PublishedParameters(Schema):
    """Parameter counts as the publisher states them."""

    total: float
    active: float | None = None
    non_embedding: float | None = None


class About(Schema):
    """Where a shipped architecture comes from."""

    huggingface_id: Name
    source: Name
    read_from: Name
    licence: Name
    published_parameters: PublishedParameters
    published_parameters_source: Name
