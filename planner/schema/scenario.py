"""A planning question: models, devices, load, limits and goals."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    StrictStr,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from planner import units
from planner.errors import as_written
from planner.schema.base import (
    MOST,
    Chance,
    Count,
    Fraction,
    Name,
    NonNegative,
    OneOrMore,
    Positive,
    Schema,
    Seconds,
    SecondsOrZero,
    ShareBelowOne,
    Tokens,
    parse_quantity,
)
from planner.schema.calibration import SHIPPED
from planner.schema.engine import Role
from planner.schema.fleet import InventoryItem, Limits, PoolLink
from planner.schema.objective import Goals
from planner.schema.precision import KvPrecision, Precision
from planner.schema.search import Search


class SpeculativeDecoding(Schema):
    """Draft tokens that the model verifies several at a time."""

    acceptance: Annotated[tuple[Fraction, ...], Field(min_length=1), OneOrMore()] = Field(
        description="chance that the first, second, … draft is accepted, given that those before it were"
    )
    draft_time: Seconds | None = Field(
        None, description="time of one draft token of a separate model; default: the model's own draft module (MTP)"
    )


class SparseAttention(Schema):
    """Native sparse attention (arXiv 2502.11089) in place of full attention; numbers of tokens, and of blocks."""

    kind: Literal["nsa"]
    block: Count = Field(32, description="tokens compressed into one")
    stride: Annotated[Count, Field(ge=2)] = Field(16, description="tokens from one compressed block to the next")
    selected_block: Count = Field(64, description="tokens of a block that is selected whole")
    selected: Count = Field(16, description="selected blocks")
    window: Count = Field(512, description="latest tokens, always read")

    @model_validator(mode="after")
    def _blocks_cover(self) -> "SparseAttention":
        if self.stride > self.block:
            msg = f"stride must be at most block, {self.block}, or tokens between blocks are lost (got {self.stride})"
            raise ValueError(msg)
        return self


class ServedModel(Schema):
    """A model to serve."""

    architecture: Name = Field(description="a shipped name, or the path of a Hugging Face config.json")
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="weight precisions you accept; default: the checkpoint's own, nothing lower"
    )
    max_model_len: Tokens | None = Field(
        None, description="longest request the engine must accept; default: the architecture's own limit"
    )
    speculative: SpeculativeDecoding | None = Field(
        None, description="drafts the plan may use; how many per step is chosen"
    )
    attention_kernel: Literal["standard", "flash1", "flash2"] = Field(
        "flash2",
        description="standard: scores pass through device memory; flash1: they stay on chip, a core takes whole heads; "
        "flash2: the tokens of a head are spread over cores, too",
    )
    sparse_attention: SparseAttention | None = Field(
        None, description="a sparse form of the model's full attention, if it was trained with one"
    )


class Scheduler(Schema):
    """When requests join and leave a batch, and what cache they are given."""

    policy: Literal["iteration", "request"] = Field(
        "iteration",
        description="iteration: at every step; request: a batch starts together and runs until its longest member ends",
    )
    reserve: Literal["paged", "longest"] | None = Field(
        None,
        description="paged: cache by blocks, as a request grows; longest: room for max_model_len when it starts; "
        "default: longest with policy request, else paged",
    )

    @property
    def reserves_longest(self) -> bool:
        """Whether a request's cache is reserved whole when it starts."""
        return (self.reserve or ("longest" if self.policy == "request" else "paged")) == "longest"


class EngineChoice(Schema):
    """The serving engine, which decides which configurations are legal and how batches are captured."""

    name: Name
    version: Annotated[StrictStr, Field(min_length=1)] | None = Field(None, description="default: the newest known")
    scheduler: Scheduler = Field(default_factory=Scheduler)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: object) -> object:
        if isinstance(raw, str):
            msg = f"write it like '{{name: {raw}}}'"
            raise ValueError(msg)
        return raw


def _mean_only(value: object) -> object:
    if isinstance(value, dict):
        msg = "percentile limits are not in this version, which predicts means; write a mean like '1 s'"
        raise ValueError(msg)
    return value


MeanSeconds = Annotated[Seconds, BeforeValidator(_mean_only)]


class Slo(Schema):
    """Latency limits: on means, and on the longest usual gap between two tokens."""

    ttft: MeanSeconds | None = Field(None, description="mean time to first token")
    tpot: MeanSeconds | None = Field(None, description="mean time per output token after the first")
    itl: MeanSeconds | None = Field(
        None, description="gap between two tokens while the last chunk of a prompt shares the step"
    )


class ExpertLoadProfile(Schema):
    """How uneven the experts of a mixture are visited; a hot share of 0 is the uniform profile."""

    hot_share: ShareBelowOne
    hot_load: Annotated[Positive, Field(ge=1)] = Field(
        description="tokens of a hot expert over the mean of all experts"
    )

    @model_validator(mode="after")
    def _adds_up(self) -> "ExpertLoadProfile":
        if self.hot_share * self.hot_load > 1:
            msg = f"hot_share × hot_load must be at most 1, all of the load (got {self.hot_share * self.hot_load:g})"
            raise ValueError(msg)
        return self


_DEMAND_FORMS = "write 'max', a rate like '12 /s', or '{concurrency: 256}'"


class Demand(Schema):
    """How much load: the most that fits, a rate [request/s], or a number of requests in flight."""

    kind: Literal["max", "rate", "concurrency"]
    value: float = 0.0

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, raw: object) -> object:
        if raw == "max":
            return {"kind": "max"}
        if isinstance(raw, Mapping):
            count = raw.get("concurrency")
            if set(raw) != {"concurrency"} or type(count) is not int or not 1 <= count <= MOST:
                msg = f"is not a load; {_DEMAND_FORMS}"
                raise ValueError(msg)
            return {"kind": "concurrency", "value": float(count)}
        try:
            rate = parse_quantity(raw, units.REQUESTS_PER_SECOND)
        except ValueError as error:
            msg = f"{error}; or {_DEMAND_FORMS}"
            raise ValueError(msg) from None
        if rate <= 0:
            msg = f"must be more than zero; {_DEMAND_FORMS}"
            raise ValueError(msg)
        return {"kind": "rate", "value": rate}

    @model_serializer
    def _write(self) -> Any:
        if self.kind == "concurrency":
            return {"concurrency": int(self.value)}
        return "max" if self.kind == "max" else units.format_quantity(self.value, units.REQUESTS_PER_SECOND)


_DEMAND_SCHEMA = {
    "description": "the load: 'max', a rate, or a number of requests in flight",
    "anyOf": [
        {"const": "max"},
        {"type": "string", "examples": ["12 /s"], "unit": "request/s"},
        {
            "type": "object",
            "properties": {"concurrency": {"type": "integer", "minimum": 1, "maximum": MOST}},
            "required": ["concurrency"],
            "additionalProperties": False,
        },
    ],
}


class Workload(Schema):
    """A stream of requests to one model: Poisson arrivals, every request of the mean lengths.

    How outputs spread decides one thing: how long the batches of a request-level scheduler run.
    """

    model: Name
    preset: Name | None = Field(None, description="lengths and limits of a usual use, where they are not given here")
    requests: Annotated[Demand, WithJsonSchema(_DEMAND_SCHEMA)]
    input_tokens: Tokens = Field(description="prompt length (ISL)")
    output_tokens: Tokens = Field(description="generated length (OSL), at least 2")
    output_range: tuple[Tokens, Tokens] | None = Field(
        None,
        description="least and most generated tokens, every number between equally likely; their mean is output_tokens",
    )
    expert_load: ExpertLoadProfile | None = Field(None, description="default: the calibration's")
    slo: Slo = Field(default_factory=Slo)


_SOLVERS = "(highs|cbc|cp-sat|pulp:.+)"


def _a_solver(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(_SOLVERS, value):
        msg = f"must be highs, cbc, cp-sat, or pulp:NAME, a solver that PuLP finds (got {as_written(value)})"
        raise ValueError(msg)
    return value


class SolverOptions(Schema):
    """Which solver, and when it may stop; whether a solver of PuLP's is there is found out when it is needed."""

    name: Annotated[
        Name, BeforeValidator(_a_solver), WithJsonSchema({"type": "string", "pattern": f"^{_SOLVERS}$"})
    ] = "highs"
    time_limit: SecondsOrZero = 60.0
    relative_gap: Annotated[NonNegative, Field(lt=1)] = 0.0


class Running(Schema):
    """Replicas that run today, as their launch command has them."""

    workload: Name | None = Field(None, description="default: the only one")
    inventory: Name
    engine: Name | None = Field(None, description="default: the only one that runs there")
    role: Role = "mixed"
    replicas: Count
    tp: Count = 1
    pp: Count = 1
    attention_dp: Count = 1
    ep: Count = 1
    context_parallel: Count = 1
    weight_precision: Precision | None = Field(None, description="default: the checkpoint's own")
    kv_precision: KvPrecision = "bf16"
    speculative_tokens: int = Field(0, ge=0, le=MOST, strict=True)
    max_num_seqs: Count | None = Field(None, description="default: any that suits the load")
    max_num_batched_tokens: Count | None = Field(None, description="default: any of the grid")


class Scenario(Schema):
    """A planning question, complete: everything that decides the plan is here or in a named specification."""

    called = "a scenario"

    schema_version: Literal[1]
    name: Name
    description: str = ""
    models: Annotated[dict[str, ServedModel], Field(min_length=1)]
    inventory: Annotated[dict[str, InventoryItem], Field(min_length=1)]
    links: tuple[PoolLink, ...] = Field((), description="limits of KV-cache transfers between inventories")
    engine: Annotated[tuple[EngineChoice, ...], Field(min_length=1), OneOrMore()]
    workloads: Annotated[dict[str, Workload], Field(min_length=1)]
    objective: Goals
    limits: Limits = Field(default_factory=Limits)
    confidence: Chance | None = Field(
        None,
        description="share of deployments that are to be no slower than planned; default: the expected time of what is "
        "near to something measured, 0.8 for anything else; without a fitted calibration there are only expected times",
    )
    calibration: Annotated[tuple[Name, ...], Field(min_length=1), OneOrMore()] = Field(
        SHIPPED,
        description="efficiencies and measured runs: shipped names, or paths; of several, the one counts that measured "
        "a device, or else its engine, or else the first",
    )
    search: Search = Field(default_factory=Search)
    solver: SolverOptions = Field(default_factory=SolverOptions)
    baseline: tuple[Running, ...] = Field((), description="what runs today, to compare the plan with")


class TableWorkload(Workload):
    """A load of which only the number of requests matters, and for goals in tokens the length of their outputs."""

    model: Name | None = None  # type: ignore[assignment]
    input_tokens: Tokens | None = None  # type: ignore[assignment]
    output_tokens: Tokens | None = None  # type: ignore[assignment]
    slo: Slo = Field(default_factory=Slo, description="not checked: a table has rates, no latencies")


class TableInventoryItem(InventoryItem):
    """Devices that the columns of a table stand on."""

    hardware: Name | None = Field(None, description="decides what a node is; default: replicas fit side by side")  # type: ignore[assignment]


def _file_or_rows(value: object) -> object:
    rows = isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(row, Mapping) for row in value)
    if not rows and not (isinstance(value, str) and value):
        msg = f"must be the path of a CSV file, or a list of its rows (got {as_written(value)})"
        raise ValueError(msg)
    return value


_LISTED = {
    "type": "object",
    "properties": {
        "role": {"enum": ["mixed", "prefill", "decode"]},
        "devices_per_replica": {"type": "integer", "minimum": 1},
        "requests_per_s_per_replica": {"type": "number", "exclusiveMinimum": 0},
        "rate_matching_factor": {"type": "number", "exclusiveMinimum": 0},
        "label": {"type": "string"},
        "hardware": {"type": "string"},
    },
    "required": ["role", "devices_per_replica", "requests_per_s_per_replica"],
}
_TABLE_SCHEMA = {
    "description": "a table of columns: the path of a CSV file, from the scenario's folder, or its rows",
    "anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "minItems": 1, "items": _LISTED}],
}


class TableScenario(Scenario):
    """A planning question over a table of columns with their rates, measured or of another model."""

    columns: Annotated[str | tuple[dict[str, Any], ...], BeforeValidator(_file_or_rows), WithJsonSchema(_TABLE_SCHEMA)]
    models: dict[str, ServedModel] = Field(default_factory=dict)
    engine: Annotated[tuple[EngineChoice, ...], OneOrMore()] = ()
    inventory: Annotated[dict[str, TableInventoryItem], Field(min_length=1)]  # type: ignore[assignment]
    workloads: Annotated[dict[str, TableWorkload], Field(min_length=1, json_schema_extra={"maxProperties": 1})]  # type: ignore[assignment]
