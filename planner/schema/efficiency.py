"""Efficiencies: the share of a datasheet rate that software reaches, and the times no datasheet gives."""

from typing import Literal

from pydantic import Field

from planner.schema.base import Fraction, Name, NonNegative, Positive, Schema, SecondsOrZero, Source, Sourced


class Compute(Schema):
    """Share of the dense matrix rate reached, per kind of product (model flops utilisation)."""

    gemm_bf16: Sourced[Fraction]
    gemm_fp8: Sourced[Fraction]
    gemm_int8: Sourced[Fraction]
    gemm_fp4: Sourced[Fraction]
    attention: Sourced[Fraction]
    experts: Sourced[Fraction]


class Bandwidth(Schema):
    """Share of a datasheet bandwidth reached, per kind of traffic."""

    weights: Sourced[Fraction]
    experts: Sourced[Fraction]
    kv_cache: Sourced[Fraction]
    int4_weights: Sourced[Fraction] = Field(description="factor on weights in int4")
    fp4_weights: Sourced[Fraction] = Field(description="factor on weights in fp4")
    link: Sourced[Fraction]


class Latency(Schema):
    """Times that do not shrink with faster hardware."""

    attention_layer: Sourced[SecondsOrZero] = Field(description="floor of one attention layer in a graph")
    dense_ffn_layer: Sourced[SecondsOrZero] = Field(description="floor of one dense feed-forward layer")
    moe_ffn_layer: Sourced[SecondsOrZero] = Field(description="floor of one mixture-of-experts layer")
    eager_layer: Sourced[SecondsOrZero] = Field(description="launch floor of one layer outside a graph")
    collective: Sourced[SecondsOrZero] = Field(description="software part of one all-reduce over 4 devices")


class Host(Schema):
    """Time the host adds to the device's."""

    step: Sourced[SecondsOrZero]
    sequence: Sourced[SecondsOrZero] = Field(description="per running sequence and step")
    request: Sourced[SecondsOrZero] = Field(description="per request, before its first token")
    prompt_token: Sourced[SecondsOrZero] = Field(description="per prompt token, before the first token")


class Scheduling(Schema):
    """How the load spreads over what is provisioned."""

    memory_fraction: Sourced[Fraction] = Field(
        description="share of device memory left for weights, activations and KV cache"
    )
    occupancy_sigmas: Sourced[NonNegative] = Field(
        description="standard deviations of running requests that the limits leave above their mean"
    )
    prefill_load_limit: Sourced[Fraction] = Field(
        description="most of its time a replica may spend on prompts: closer to 1 a mean wait says little"
    )
    expert_imbalance: Sourced[Positive] = Field(description="hottest rank over mean with expert parallelism")
    expert_token_exponent: Sourced[Fraction] = Field(description="tokens^x independent draws of experts")


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
    sources: dict[str, Source]
