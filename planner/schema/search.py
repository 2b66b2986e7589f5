"""Restrictions of the published grid."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from planner.schema.base import MOST, Count, OneOrMore, Schema, as_list
from planner.schema.engine import PrefillPolicy, Role
from planner.schema.precision import KvPrecision


def _sorted_set(value: object) -> list[object]:
    items = as_list(value)
    if all(type(item) is int for item in items):
        return [*sorted({item for item in items if isinstance(item, int)})]
    return items


Counts = Annotated[tuple[Count, ...], Field(min_length=1), BeforeValidator(_sorted_set), OneOrMore()]
CountsOrNone = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MOST, strict=True)], ...],
    Field(min_length=1),
    BeforeValidator(_sorted_set),
    OneOrMore(),
]
Percents = Annotated[
    tuple[Annotated[int, Field(ge=1, le=99, strict=True)], ...],
    Field(min_length=1),
    BeforeValidator(_sorted_set),
    OneOrMore(),
]


class Search(Schema):
    """Restrictions of the published grid; a variable left out is searched over its default values."""

    roles: Annotated[tuple[Role, ...], Field(min_length=1), OneOrMore()] | None = None
    tp: Counts | None = None
    pp: Counts | None = None
    attention_dp: Counts | None = Field(None, description="attention ranks that serve different requests")
    ep: Counts | None = None
    context_parallel: Counts | None = Field(None, description="devices that share a request's cache while decoding")
    redundant_experts: CountsOrNone | None = Field(None, description="copies of hot experts per layer")
    block_size: Counts | None = Field(None, description="tokens of a KV cache block")
    prefill_policies: Annotated[tuple[PrefillPolicy, ...], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="whether prompts share steps with decodes, and whether they are cut"
    )
    overlaps: Literal["default", "any"] | None = Field(
        None, description="default: fusions and overlaps as the engine sets them; any: those it leaves off, too"
    )
    mean_running: Counts | None = Field(None, description="requests decoding on average in a replica")
    prefill_utilisation: Percents | None = Field(
        None, description="share of its time that a prefill replica works, in percent"
    )
    max_num_seqs: Counts | None = None
    max_num_batched_tokens: Counts | None = None
    speculative_tokens: CountsOrNone | None = Field(None, description="drafts per request and step; 0 is none")
    kv_precisions: Annotated[tuple[KvPrecision, ...], Field(min_length=1), OneOrMore()] | None = None
