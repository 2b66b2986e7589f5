"""What a serving engine allows and how it schedules."""

from typing import Literal

from pydantic import Field

from planner.schema.base import Bytes, Count, Fraction, Name, Positive, Schema, Source, Sourced
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

FusionName = Literal[
    "fused_norm_all_reduce",
    "fused_norm_quantisation",
    "fused_moe_all_reduce",
    "mla_prolog",
    "matmul_all_reduce_overlap",
    "dispatch_combine_fusion",
    "dual_batch_overlap",
    "shared_expert_overlap",
    "weight_prefetch",
]


Role = Literal["mixed", "prefill", "decode"]
PrefillPolicy = Literal["mixed_chunked", "separate_chunked", "separate_whole", "mixed_whole"]

# What conditions compare; planner.columns.conditions says how each is found.
Quantity = Literal[
    "tp", "pp", "ep", "attention_dp", "context_parallel", "redundant_experts", "devices",
    "group", "expert_tp", "kv_copies",
    "heads", "kv_heads", "heads_per_kv_head", "linear_key_heads", "linear_value_heads",
    "layers", "vocabulary", "padded_vocabulary", "hidden", "ffn_width", "expert_width", "expert_width_per_rank",
    "experts", "placed_experts", "draft_layers", "positions",
    "block_size", "max_model_len", "max_num_seqs", "seqs_per_rank", "max_num_batched_tokens",
    "speculative_tokens", "verified_per_tp_rank", "devices_per_node",
]  # fmt: skip

Feature = Literal[
    "dense",
    "mixture",
    "latent_attention",
    "sparse_attention",
    "window_attention",
    "linear_attention",
    "several_nodes",
    "own_drafts",
]


class Applies(Schema):
    """What every restriction says about itself: where it was read, and the versions it holds for."""

    since: Name | None = Field(None, description="first version it holds for; null where no older one was read")
    until: Name | None = Field(None, description="first version it no longer holds for")
    source: tuple[Name, ...] = Field(min_length=1)
    note: str | None = None


class Rule(Applies):
    """One documented restriction that ``planner.columns.engine_rules`` knows how to check by its name."""

    rule: RuleName


class Conditions(Schema):
    """What a configuration is like: every field that is given must hold, and of several items in it every one.

    A list of roles, policies, formats, models or devices holds where the configuration has one of them.
    """

    roles: tuple[Role, ...] = Field((), description="what the replica does")
    policies: tuple[PrefillPolicy, ...] = ()
    weights: tuple[Precision, ...] = ()
    kv_cache: tuple[KvPrecision, ...] = ()
    features: tuple[Feature, ...] = Field((), description="what the model has, or where the replica stands")
    without: tuple[Feature, ...] = Field((), description="what it must not have")
    models: tuple[Name, ...] = Field((), description="beginnings of architecture names")
    hardware: tuple[Name, ...] = Field((), description="beginnings of device names")
    vendors: tuple[Name, ...] = ()
    one_of: dict[Quantity, tuple[int, ...]] = Field({})
    divides: dict[Quantity, Quantity | int] = Field({}, description="the first divides the second")
    multiple_of: dict[Quantity, Quantity | int] = Field({})
    at_least: dict[Quantity, Quantity | int] = Field({})
    at_most: dict[Quantity, Quantity | int] = Field({})
    above: dict[Quantity, Quantity | int] = Field({})


class Restriction(Applies):
    """One documented restriction written out as data: where ``when`` holds, so must ``needs``, and not ``forbids``."""

    name: Name
    says: Name = Field(description="what it demands, in words")
    when: Conditions = Field(default_factory=Conditions)
    needs: Conditions | None = None
    forbids: Conditions | None = Field(None, description="null with null needs: what 'when' describes is refused")


class ActivationLimit(Schema):
    """Most bytes that the activations of a step may take with a tensor-parallel degree."""

    tp: Count
    size: Bytes


class Fusion(Sourced[bool]):
    """A fusion or overlap the engine has; its value says whether it is on by default."""

    since: Name | None = Field(
        None, description="first version known to have it with this default; null where no older one was read"
    )
    condition: str | None = Field(None, description="where it takes effect once it is on; what follows of it is priced")
    steps: Literal["all", "decodes", "prompts"] = Field("all", description="decodes: captured steps of decodes alone")
    least_tokens: Count | None = Field(None, description="fewest tokens of a step")
    most_tokens: Count | None = Field(None, description="most tokens of a step")
    most_activations: tuple[ActivationLimit, ...] = Field(
        (), description="by tp; where given, another tp does not have it"
    )
    attention_dp: Literal["any", "with", "without"] = "any"
    roles: tuple[Role, ...] = ("mixed", "prefill", "decode")
    weights: tuple[Precision, ...] | None = Field(None, description="formats of the weights it works on")


class Scheduling(Schema):
    """How steps are put together, and whether the host works while the device does."""

    prefill: Sourced[Literal["mixed", "separate"]] = Field(
        description="mixed: prompt chunks share steps with decodes; separate: decodes wait while prompts run"
    )
    chunked_prefill: Sourced[bool] = Field(description="whether long prompts are cut by default")
    policies: Sourced[tuple[PrefillPolicy, ...]] = Field(
        description="ways to run prompts it can be asked for, its default first: mixed with decodes in a step or in "
        "steps of their own (separate), cut (chunked) or not (whole)"
    )
    default_token_budget: Sourced[Count] = Field(
        description="most tokens of one step of a server; where prefill is separate, of one prefill step"
    )
    default_max_seqs: Sourced[Count] = Field(description="most requests running at once in a server")
    host_overlap: Sourced[bool] = Field(description="whether the next step is prepared while the device works")
    host_overlap_since: Name | None = Field(
        None, description="first version that does so by default; older ones are synchronous; null where none is known"
    )


class Memory(Schema):
    """What an engine takes of each device besides weights, KV cache and activations."""

    runtime: Sourced[Bytes] = Field(description="device context, libraries, and what the allocator loses")
    graphs: Sourced[Bytes] | None = Field(None, description="per captured batch size; null where none is known")
    communication: Sourced[Bytes] = Field(description="per communicator of two devices or more")
    latent_context: Sourced[Count] | None = Field(
        None, description="tokens of context whose latent it expands at a time for later chunks of a prompt"
    )
    workspace: Sourced[Bytes] | None = Field(
        None, description="scratch space of attention, whatever the batch; null where it is sized by the batch"
    )


class Disaggregation(Schema):
    """How the KV cache gets from prefill to decode replicas with the default connector."""

    connector: Name
    push: Sourced[Literal["layerwise", "whole"]] = Field(
        description="layerwise: layers move while later ones are computed; whole: all after the prompt's last chunk"
    )
    tp_ratio: Sourced[Literal["equal", "decode_multiple", "prefill_multiple", "any"]] = Field(
        description="equal: tp of prefill and decode are the same; decode_multiple: that of decode is a whole multiple "
        "of that of prefill, once included; prefill_multiple: the other way round; any: one is a multiple of the other"
    )
    first_token: Sourced[Literal["prefill", "decode"]] = Field(
        description="side whose first token reaches the client: prefill's own, or the one decode sends with its second"
    )


class Engine(Schema):
    """One serving engine, for the versions its facts were read from."""

    called = "an engine"

    name: Name
    description: Name
    versions: tuple[Name, ...] = Field(min_length=1)
    vendors: tuple[Name, ...] = Field(min_length=1, description="vendors of the devices it runs on")
    block_size: Sourced[Count] = Field(description="tokens per KV cache block, by default")
    block_sizes: Sourced[tuple[Count, ...]] = Field(description="sizes it accepts, the default first")
    memory_fraction: Sourced[Fraction] = Field(description="share of device memory it takes by default")
    memory_fraction_of: Sourced[Literal["total", "static", "free"]] = Field(
        description="total: of the device, for all it allocates; static: of the device, for weights and KV cache "
        "alone; free: of what weights, activations and runtime leave, for the KV cache alone"
    )
    graph_capture_sizes: Sourced[tuple[Count, ...]] = Field(
        description="batch sizes with a captured graph; a decode batch is padded to the next, and runs "
        "unpadded beyond the last"
    )
    whole_graphs_since: Sourced[Name] | None = Field(
        None,
        description="first version that captures whole decode steps by default; older ones launch attention from the "
        "host between captured parts, layer by layer; null where no such version is known",
    )
    weight_precisions: Sourced[tuple[Precision, ...]]
    kv_precisions: Sourced[tuple[KvPrecision, ...]]
    rules: tuple[Rule, ...] = Field(description="restrictions that are checked by code of their name")
    restrictions: tuple[Restriction, ...] = Field((), description="restrictions that are data alone")
    context_parallel: Sourced[tuple[Count, ...]] = Field(
        description="ways to split the KV cache of a request over the ranks of a tp group in decode, without further "
        "devices; (1,) where it cannot"
    )
    attention_dp: Sourced[Literal["none", "experts", "any"]] = Field(
        description="whether attention may be data parallel inside one replica: with experts only, or with any model"
    )
    redundant_experts: Sourced[bool] = Field(description="whether experts that are often chosen may be held twice")
    disaggregation: Disaggregation | None = Field(None, description="null where it cannot")
    scheduling: Scheduling
    expert_exchange: Sourced[Literal["all_gather", "all_to_all"]] = Field(
        description="how tokens reach experts by default when attention is data parallel"
    )
    dispatch_bytes: Sourced[dict[Precision, Positive]] = Field(
        description="bytes per activation value sent to experts, by the experts' precision; results return in bf16"
    )
    memory: Memory
    fusions: dict[FusionName, Fusion] = Field(description="those it has; another name is one it lacks")
    sources: dict[str, Source]
