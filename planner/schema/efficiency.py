"""Efficiencies: the share of a datasheet rate that software reaches, and the times no datasheet gives."""

from typing import Literal

from pydantic import Field

from planner.schema.base import (
    Count,
    Fraction,
    Name,
    NonNegative,
    Positive,
    Schema,
    SecondsOrZero,
    Share,
    ShareBelowOne,
    Source,
    Sourced,
)


class Compute(Schema):
    """Share of the dense matrix rate reached, per kind of product (model flops utilisation)."""

    gemm_bf16: Sourced[Fraction]
    gemm_fp8: Sourced[Fraction]
    gemm_int8: Sourced[Fraction]
    gemm_fp4: Sourced[Fraction]
    attention: Sourced[Fraction]
    experts: Sourced[Fraction]
    vector: Sourced[Fraction] = Field(description="of the rate of element-wise work")
    tile_rows: Sourced[Count] = Field(description="rows of the tile that large products are cut into")
    least_tile_rows: Sourced[Count] = Field(description="rows of the smallest tile")
    sparse_head_tile: Sourced[Count] = Field(description="query heads that kernels over selected tokens pad to")
    overlap_chunks: Sourced[Count] = Field(description="pieces of a product that overlaps with its all-reduce")


class Bandwidth(Schema):
    """Share of a datasheet bandwidth reached, per kind of traffic."""

    weights: Sourced[Fraction]
    experts: Sourced[Fraction]
    kv_cache: Sourced[Fraction]
    int4_weights: Sourced[Fraction] = Field(description="factor on weights in int4")
    fp8_weights: Sourced[Fraction] = Field(description="factor on weights in fp8")
    fp4_weights: Sourced[Fraction] = Field(description="factor on weights in fp4")
    link: Sourced[Fraction]


class Latency(Schema):
    """Times that do not shrink with faster hardware."""

    attention_layer: Sourced[SecondsOrZero] = Field(description="floor of one attention layer in a graph")
    mla_layer: Sourced[SecondsOrZero] = Field(description="floor of one latent-attention layer")
    token_selection: Sourced[SecondsOrZero] = Field(description="floor of selecting tokens in sparse attention")
    gated_delta_layer: Sourced[SecondsOrZero] = Field(description="floor of one linear-attention layer")
    dense_ffn_layer: Sourced[SecondsOrZero] = Field(description="floor of one dense feed-forward layer")
    moe_ffn_layer: Sourced[SecondsOrZero] = Field(description="floor of one mixture-of-experts layer")
    quantise: Sourced[SecondsOrZero] = Field(
        description="floor of narrowing the activations of one product in less than 16 bit"
    )
    eager_layer: Sourced[SecondsOrZero] = Field(description="launch floor of one layer outside a graph")
    collective: Sourced[SecondsOrZero] = Field(description="software part of one round of a collective over 4 devices")
    far_message: Sourced[SecondsOrZero] = Field(
        description="least time of a message between scale-up domains on top of the software's"
    )
    exchange: Sourced[SecondsOrZero] = Field(description="sending tokens to their experts, or back")
    draft: Sourced[SecondsOrZero] = Field(
        description="launching one pass of a draft module and sampling from it, on top of its layers"
    )


class Host(Schema):
    """Time the host adds to the device's."""

    step: Sourced[SecondsOrZero] = Field(description="per step; hidden where the engine schedules ahead")
    exposed: Sourced[Share] = Field(description="share of it that shows although the engine schedules ahead")
    sequence: Sourced[SecondsOrZero] = Field(description="per running sequence and step")
    request: Sourced[SecondsOrZero] = Field(description="per request, before its first token")
    prompt_token: Sourced[SecondsOrZero] = Field(description="per prompt token, before the first token")


class Scheduling(Schema):
    """How the load spreads over what is provisioned."""

    occupancy_sigmas: Sourced[NonNegative] = Field(
        description="standard deviations of running requests that the limits leave above their mean"
    )
    prefill_load_limit: Sourced[Fraction] = Field(
        description="most of its time a replica may spend on prompts: closer to 1 a mean wait says little"
    )
    link_load_limit: Sourced[ShareBelowOne] = Field(
        description="most of its time the links of a rank may be busy moving caches between prefill and decode"
    )
    prompt_interference: Sourced[Positive] = Field(
        description="share of what a prompt adds to a step that the requests decoding wait for"
    )
    closed_loop_burst: Sourced[Fraction] = Field(
        description="clients of a closed loop that start together: share of a full burst's wait, averaged over a run"
    )
    closed_loop_waves: Sourced[Fraction] = Field(
        description="clients that are answered together and come back together: share of that wait when saturated"
    )
    equal_burst: Sourced[Fraction] = Field(description="closed_loop_burst where all requests have one length")
    wave: Sourced[Fraction] = Field(description="clients in waves: share of a wave's wait before the first token")
    turn: Sourced[NonNegative] = Field(
        description="clients beyond those in the batch, each waiting for a turn, where all requests have one length"
    )
    burst_growth: Sourced[Fraction] = Field(description="exponent of clients in the wait of a burst")
    hot_expert_share: Sourced[ShareBelowOne] = Field(description="share of experts that are hot; 0 is uniform")
    hot_expert_load: Sourced[Positive] = Field(description="tokens of a hot expert over the mean of all experts")


class Scale(Schema):
    """Measured over modelled times, where nothing finer explains the difference."""

    step: Sourced[Positive] = Field(description="time of a step")
    ttft: Sourced[Positive] = Field(description="TTFT, beyond what its steps explain")


class Efficiencies(Schema):
    """A named set of efficiencies with its provenance."""

    called = "a calibration"

    name: Name
    basis: Literal["textbook", "fitted"]
    description: Name
    compute: Compute
    bandwidth: Bandwidth
    latency: Latency
    host: Host
    scheduling: Scheduling
    scale: Scale
    sources: dict[str, Source]
