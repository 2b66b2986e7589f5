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
    Schema,
    Seconds,
    SecondsOrZero,
    Tokens,
    UsdPerHour,
    as_list,
    parse_quantity,
)
from planner.schema.precision import KvPrecision, Precision

_MOST_DEVICES = 100_000


class ServedModel(Schema):
    """A model to serve."""

    architecture: Name = Field(description="a shipped name, or the path of a Hugging Face config.json")
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1), OneOrMore()] | None = Field(
        None, description="weight precisions you accept; default: the checkpoint's own, nothing lower"
    )
    max_model_len: Tokens | None = Field(
        None, description="longest request the engine must accept; default: the architecture's own limit"
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


class EngineChoice(Schema):
    """The serving engine, which decides which configurations are legal and how batches are captured."""

    name: Name
    version: Annotated[StrictStr, Field(min_length=1)] | None = Field(None, description="default: the newest known")

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
    """Latency limits on means."""

    ttft: MeanSeconds | None = Field(None, description="time to first token")
    tpot: MeanSeconds | None = Field(None, description="time per output token after the first")


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
    """A stream of requests to one model: Poisson arrivals, every request of the mean lengths."""

    model: Name
    requests: Annotated[Demand, WithJsonSchema(_DEMAND_SCHEMA)]
    input_tokens: Tokens = Field(description="prompt length (ISL)")
    output_tokens: Tokens = Field(description="generated length (OSL), at least 2")
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


class Search(Schema):
    """Restrictions of the published grid; a variable left out is searched over its default values."""

    roles: Annotated[tuple[Literal["mixed"], ...], Field(min_length=1), OneOrMore()] | None = None
    tp: Counts | None = None
    pp: Counts | None = None
    ep: Counts | None = None
    mean_running: Counts | None = Field(None, description="requests decoding on average in a replica")
    max_num_seqs: Counts | None = None
    max_num_batched_tokens: Counts | None = None
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
