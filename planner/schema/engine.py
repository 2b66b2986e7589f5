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


class Rule(Schema):
    """One documented restriction; ``planner.columns.legality`` knows how to check it by its name."""

    rule: RuleName
    source: tuple[Name, ...] = Field(min_length=1)
    note: str | None = None


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
    roles: tuple[Literal["mixed", "prefill", "decode"], ...] = ("mixed", "prefill", "decode")
    weights: tuple[Precision, ...] | None = Field(None, description="formats of the weights it works on")


class Scheduling(Schema):
    """How steps are put together, and whether the host works while the device does."""

    prefill: Sourced[Literal["mixed", "separate"]] = Field(
        description="mixed: prompt chunks share steps with decodes; separate: decodes wait while prompts run"
    )
    chunked_prefill: Sourced[bool] = Field(description="whether long prompts are cut by default")
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


class Engine(Schema):
    """One serving engine, for the versions its facts were read from."""

    called = "an engine"

    name: Name
    description: Name
    versions: tuple[Name, ...] = Field(min_length=1)
    vendors: tuple[Name, ...] = Field(min_length=1, description="vendors of the devices it runs on")
    block_size: Sourced[Count] = Field(description="tokens per KV cache block")
    memory_fraction: Sourced[Fraction] = Field(description="share of device memory it takes by default")
    memory_fraction_of: Sourced[Literal["total", "static", "free"]] = Field(
        description="total: of the device, for all it allocates; static: of the device, for weights and KV cache "
        "alone; free: of what weights, activations and runtime leave, for the KV cache alone"
    )
    graph_capture_sizes: Sourced[tuple[Count, ...]] = Field(
        description="batch sizes with a captured graph; a decode batch is padded to the next, and runs "
        "unpadded beyond the last"
    )
    weight_precisions: Sourced[tuple[Precision, ...]]
    kv_precisions: Sourced[tuple[KvPrecision, ...]]
    rules: tuple[Rule, ...]
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
