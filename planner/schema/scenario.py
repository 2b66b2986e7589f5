"""A planning question: models, devices, load, limits and goals."""

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
from planner.schema.base import (
    MOST,
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
    UsdPerHour,
    as_list,
    parse_quantity,
)
from planner.schema.precision import KvPrecision, Precision

_MOST_DEVICES = 100_000


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


DeviceCount = Annotated[int, Field(ge=1, le=_MOST_DEVICES, strict=True)]


class InventoryItem(Schema):
    """Devices of one kind that the plan may use."""

    hardware: Name = Field(description="a shipped name, or the path of a specification of yours")
    nodes: DeviceCount | None = Field(None, description="whole nodes, as the specification defines a node")
    devices: DeviceCount | None = Field(
        None, description="devices instead of nodes; the last node may be partly filled"
    )
    price: UsdPerHour | None = Field(None, description="of one device")
    reserved_devices: int = Field(
        0, ge=0, le=MOST, strict=True, description="kept out of the plan, taken from the last nodes"
    )

    @model_validator(mode="after")
    def _one_size(self) -> "InventoryItem":
        if (self.nodes is None) == (self.devices is None):
            msg = "give either 'nodes' or 'devices'"
            raise ValueError(msg)
        return self


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
    scheduler: Scheduler = Scheduler()

    @model_validator(mode="before")
    @classmethod
    def _one_engine(cls, raw: object) -> object:
        if isinstance(raw, list):
            msg = "a choice of engines is not in this version; write one, like '{name: vllm}'"
            raise ValueError(msg)
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
    requests: Annotated[Demand, WithJsonSchema(_DEMAND_SCHEMA)]
    input_tokens: Tokens = Field(description="prompt length (ISL)")
    output_tokens: Tokens = Field(description="generated length (OSL), at least 2")
    output_range: tuple[Tokens, Tokens] | None = Field(
        None,
        description="least and most generated tokens, every number between equally likely; their mean is output_tokens",
    )
    expert_load: ExpertLoadProfile | None = Field(None, description="default: the calibration's")
    slo: Slo = Slo()


class Goal(Schema):
    """One thing to make as large or as small as possible."""

    maximize: Literal["requests", "tokens"] | None = None
    minimize: Literal["devices", "cost", "power"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _known_form(cls, raw: object) -> object:
        if isinstance(raw, Mapping) and "weighted" in raw:
            msg = "weighted objectives are not in this version; write a list of goals in order of importance"
            raise ValueError(msg)
        return raw

    @model_validator(mode="after")
    def _one_sense(self) -> "Goal":
        if (self.maximize is None) == (self.minimize is None):
            msg = "give one of 'maximize' and 'minimize', like '{maximize: requests}'"
            raise ValueError(msg)
        return self

    @property
    def metric(self) -> str:
        """What is optimised."""
        return str(self.maximize or self.minimize)

    @property
    def sense(self) -> Literal["maximize", "minimize"]:
        """Which way."""
        return "maximize" if self.maximize else "minimize"


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


class Search(Schema):
    """Restrictions of the published grid; a variable left out is searched over its default values."""

    roles: Annotated[tuple[Literal["mixed"], ...], Field(min_length=1), OneOrMore()] | None = None
    tp: Counts | None = None
    pp: Counts | None = None
    ep: Counts | None = None
    mean_running: Counts | None = Field(None, description="requests decoding on average in a replica")
    max_num_seqs: Counts | None = None
    max_num_batched_tokens: Counts | None = None
    speculative_tokens: CountsOrNone | None = Field(None, description="drafts per request and step; 0 is none")
    kv_precisions: Annotated[tuple[KvPrecision, ...], Field(min_length=1), OneOrMore()] | None = None


class SolverOptions(Schema):
    """Which solver, and when it may stop."""

    name: Literal["highs"] = "highs"
    time_limit: SecondsOrZero = 60.0
    relative_gap: Annotated[NonNegative, Field(lt=1)] = 0.0


class Scenario(Schema):
    """A planning question, complete: everything that decides the plan is here or in a named specification."""

    called = "a scenario"

    schema_version: Literal[1]
    name: Name
    description: str = ""
    models: Annotated[dict[str, ServedModel], Field(min_length=1)]
    inventory: Annotated[dict[str, InventoryItem], Field(min_length=1)]
    engine: EngineChoice
    workloads: Annotated[dict[str, Workload], Field(min_length=1)]
    objective: Annotated[tuple[Goal, ...], Field(min_length=1), OneOrMore()]
    confidence: Fraction = 0.5
    calibration: Name = Field("textbook", description="the set of efficiencies: a shipped name, or a path")
    search: Search = Search()
    solver: SolverOptions = SolverOptions()
