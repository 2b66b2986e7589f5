"""A transformer, read from the field names of a Hugging Face ``config.json`` as they stand."""

from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from planner.schema.base import Count, Name, Schema
from planner.schema.precision import Precision


class ModelType(Schema):
    """What a Hugging Face ``model_type`` means for cost, and the keys that do not change it."""

    attention: Literal["gqa"]
    ffn: Literal["dense", "moe"]
    qk_norm: bool = Field(description="RMS normalisation of each query and key head")
    source: Name
    required: tuple[Name, ...]
    without_cost: dict[str, tuple[Any, ...]] = Field(
        description="keys that decide nothing here while they have one of the listed values; [] is any value"
    )


class TransformerConfig(BaseModel):
    """The keys of ``config.json`` that costs are made of."""

    called: ClassVar[str] = "a config.json"
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    model_type: str
    num_hidden_layers: Count
    hidden_size: Count
    intermediate_size: Count
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count | None = None
    vocab_size: Count
    max_position_embeddings: Count
    tie_word_embeddings: bool = False
    torch_dtype: str | None = None
    num_experts: Count | None = None
    num_experts_per_tok: Count | None = None
    moe_intermediate_size: Count | None = None

    @field_validator("num_key_value_heads")
    @classmethod
    def _shares_out(cls, heads: int, info: ValidationInfo) -> int:
        queries = info.data.get("num_attention_heads")
        if queries and queries % heads:
            msg = f"must divide num_attention_heads, {queries} (got {heads})"
            raise ValueError(msg)
        return heads

    @field_validator("num_experts_per_tok")
    @classmethod
    def _has_enough(cls, chosen: int | None, info: ValidationInfo) -> int | None:
        experts = info.data.get("num_experts")
        if chosen and experts and chosen > experts:
            msg = f"must be at most num_experts, {experts} (got {chosen})"
            raise ValueError(msg)
        return chosen


class Architecture(NamedTuple):
    """A transformer as the cost model sees it."""

    name: str
    attention: Literal["gqa"]
    ffn: Literal["dense", "moe"]
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool
    qk_norm: bool
    precision: Precision
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
