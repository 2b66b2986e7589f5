"""A transformer as costs see it, and the keys of a Hugging Face ``config.json`` that it is read from."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from planner.schema.base import MOST, Count, Name, Schema
from planner.schema.precision import Precision

AttentionKind = Literal["gqa", "sliding", "mla", "sparse_mla", "gated_delta", "nsa"]
FfnKind = Literal["dense", "moe"]
QkNorm = Literal["none", "head", "full"]


class WeightFormats(NamedTuple):
    """How a checkpoint stores its parts; ``ffn`` is dense layers and shared experts, what is left out is bf16."""

    attention: Precision
    ffn: Precision
    experts: Precision


class Architecture(NamedTuple):
    """A transformer as the cost model sees it; a width or number is 0 where the transformer has no such thing."""

    name: str
    attention_layers: Mapping[AttentionKind, int]  # how many of each kind; they sum to num_hidden_layers
    ffn_layers: Mapping[FfnKind, int]
    num_hidden_layers: int
    hidden_size: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool
    formats: Mapping[Precision, WeightFormats]  # of every precision the model may be asked for
    precision: Precision = "bf16"  # of the checkpoint itself
    block_scaled: tuple[Precision, ...] = ()  # checkpoints of these have a scale per block of weights
    learned_positions: int = 0  # rows of a table of positions; rotary ones need none
    # gqa, sliding, mla and sparse_mla layers
    num_attention_heads: int = 0
    num_key_value_heads: int = 0  # says nothing about the cache of mla and sparse_mla
    head_dim: int = 0
    qk_norm: bool = False
    qk_norm_joint: bool = False  # over the whole width of queries and of keys, not over each head
    qk_norm_width: int = 0  # parameters of the query and key normalisation of a layer
    attention_output_gate: bool = False  # as many gate columns as query columns
    attention_bias_width: int = 0  # biases and sinks of a layer's attention
    sliding_window: int = 0  # token
    # mla and sparse_mla layers
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    index_n_heads: int = 0
    index_head_dim: int = 0
    index_topk: int = 0
    # nsa layers
    nsa_block: int = 0
    nsa_stride: int = 0
    nsa_selected_block: int = 0
    nsa_selected: int = 0
    nsa_window: int = 0
    # gated_delta layers
    linear_num_key_heads: int = 0
    linear_num_value_heads: int = 0
    linear_key_head_dim: int = 0
    linear_value_head_dim: int = 0
    linear_conv_kernel_dim: int = 0
    # dense layers
    intermediate_size: int = 0
    ffn_matrices: int = 3  # 3 with a gate, 2 without
    ffn_biases: bool = False
    # moe layers
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    shared_expert_size: int = 0  # of all shared experts together
    shared_expert_gate: bool = False
    router_bias: bool = False
    expert_biases: bool = False
    num_expert_groups: int = 1  # every token takes as many experts from each group
    # every layer
    norms_per_layer: int = 2  # across the hidden size; those inside the attention are not among them
    norm_vectors: int = 1  # 1 in RMSNorm, 2 (weight and bias) in LayerNorm
    num_nextn_predict_layers: int = 0  # multi-token prediction, in no count


class ModelType(Schema):
    """What a Hugging Face ``model_type`` means for cost, and the keys that do not change it."""

    called: ClassVar[str] = "a model type"

    source: Name
    text_config: tuple[Name, ...] = Field((), description="the language model's model types, where it is nested")
    attention: AttentionKind = Field("gqa", description="kind of the layers, or of those with full attention")
    layer_types: dict[str, AttentionKind] = Field({}, description="what the entries of the key layer_types mean")
    between: AttentionKind | None = Field(None, description="kind of the layers between every n-th with full attention")
    ffn: FfnKind = "dense"
    qk_norm: QkNorm = Field("none", description="over each head, or over the whole width of queries and of keys")
    attention_biases: Literal["none", "query_key_value", "all"] = "none"
    attention_sinks: bool = False
    attention_output_gate: bool = False
    learned_positions_extra: int | None = Field(None, description="rows that the position table has on top")
    ffn_matrices: Literal[2, 3] = 3
    ffn_biases: bool = False
    norms_per_layer: int = 2
    norm_vectors: Literal[1, 2] = 1
    shared_expert_gate: bool = False
    router_bias: bool = False
    expert_biases: bool = False
    required: tuple[Name, ...] = ()
    optional: tuple[Name, ...] = ()
    rename: dict[str, Name] = Field({}, description="keys that this type writes another way")
    same: dict[str, Name] = Field({}, description="keys that must have the value of another one")
    defaults: dict[str, Any] = Field({}, description="values of absent keys; text names a key of the same value")
    defaults_source: Name | None = None
    without_cost: dict[str, tuple[Any, ...]] = Field(
        {}, description="keys that decide nothing here while they have one of the listed values; [] is any value"
    )


class TransformerConfig(BaseModel):
    """The keys of ``config.json`` that costs are made of, absent ones filled in."""

    called: ClassVar[str] = "a config.json"
    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    model_type: str
    num_hidden_layers: Count
    hidden_size: Count
    vocab_size: Count
    max_position_embeddings: Count
    num_attention_heads: Count
    tie_word_embeddings: bool = False
    num_key_value_heads: Count | None = None
    head_dim: Count | None = None
    layer_types: tuple[str, ...] | None = None
    full_attention_interval: Count | None = None
    sliding_window: Count | None = None
    q_lora_rank: Count | None = None
    kv_lora_rank: Count | None = None
    qk_nope_head_dim: Count | None = None
    qk_rope_head_dim: Count | None = None
    v_head_dim: Count | None = None
    index_n_heads: Count | None = None
    index_head_dim: Count | None = None
    index_topk: Count | None = None
    linear_num_key_heads: Count | None = None
    linear_num_value_heads: Count | None = None
    linear_key_head_dim: Count | None = None
    linear_value_head_dim: Count | None = None
    linear_conv_kernel_dim: Count | None = None
    intermediate_size: Count | None = None
    first_k_dense_replace: int = Field(0, ge=0, le=MOST, strict=True)
    mlp_only_layers: tuple[int, ...] = ()
    num_experts: Count | None = None
    num_experts_per_tok: Count | None = None
    moe_intermediate_size: Count | None = None
    n_shared_experts: int = Field(0, ge=0, le=MOST, strict=True)
    shared_expert_intermediate_size: int = Field(0, ge=0, le=MOST, strict=True)
    num_expert_groups: Count = 1
    num_nextn_predict_layers: int = Field(0, ge=0, le=MOST, strict=True)

    @field_validator("num_key_value_heads")
    @classmethod
    def _shares_out(cls, heads: int | None, info: ValidationInfo) -> int | None:
        queries = info.data.get("num_attention_heads")
        if heads and queries and queries % heads:
            msg = f"must divide num_attention_heads, {queries} (got {heads})"
            raise ValueError(msg)
        return heads

    @field_validator("layer_types")
    @classmethod
    def _names_every_layer(cls, kinds: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        layers = info.data.get("num_hidden_layers")
        if kinds is not None and layers and len(kinds) != layers:
            msg = f"must name {layers} layers, as num_hidden_layers says (got {len(kinds)})"
            raise ValueError(msg)
        return kinds

    @field_validator("num_experts_per_tok")
    @classmethod
    def _has_enough(cls, chosen: int | None, info: ValidationInfo) -> int | None:
        experts = info.data.get("num_experts")
        if chosen and experts and chosen > experts:
            msg = f"must be at most num_experts, {experts} (got {chosen})"
            raise ValueError(msg)
        return chosen
