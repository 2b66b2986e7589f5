"""The answer: deployments with their predicted figures, totals, and how good it provably is.

Field names and units are the interface of the plan file; times in it are milliseconds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from planner.constants import MILLISECONDS_PER_SECOND
from planner.table import RESOURCES, ColumnTable, Configuration

PLAN_SCHEMA_VERSION = 1


class EngineVersion(NamedTuple):
    """The engine a deployment runs."""

    name: str
    version: str


class Latencies(NamedTuple):
    """Mean latencies at the deployment's full rate [ms]; ``basis`` says how trustworthy they are.

    ``itl_ms``: the gap between two tokens while the last chunk of a prompt shares the step.
    """

    ttft_ms: float
    tpot_ms: float
    itl_ms: float
    basis: str


class MemoryBytes(NamedTuple):
    """The fullest device's memory [byte]; the parts add up to the capacity."""

    weights: float
    kv_cache: float
    activations: float
    graphs: float
    communication: float
    runtime: float
    reserve: float
    capacity: float


class Attention(NamedTuple):
    """How the model attends: its kernel, its layers by kind, and their kernels' share of the average step."""

    kernel: str
    layers: dict[str, int]
    time_share: float


class Deployment(NamedTuple):
    """Replicas of one configuration.

    ``batch_efficiency``: share of a batch's steps in which a request still generates. ``cache_use``: share of the KV
    cache held by requests that holds tokens. ``preemption``: none, recompute or swap, whichever takes less time.
    ``bound_by`` names the resource that takes most of a step, and ``bound_by_engine`` what the device calls it.
    """

    name: str
    model: str
    role: str
    pair: str | None
    inventory: str
    hardware: str
    engine: EngineVersion
    tp: int
    pp: int
    attention_dp: int
    ep: int
    moe_tp: int
    weight_precision: str
    kv_precision: str
    max_num_seqs: int
    max_num_batched_tokens: int
    mean_running: int
    kv_fraction: float
    block_size: int
    max_model_len: int
    memory_fraction: float
    speculative_tokens: int
    devices_per_replica: int
    replicas: int
    devices: int
    requests_per_s: float
    requests_in_flight: float
    predicted: Latencies
    memory_bytes: MemoryBytes
    attention: Attention
    batch_efficiency: float
    cache_use: float
    preemption: str
    bound_by: str
    bound_by_engine: str
    time_share: dict[str, float]

    def configuration(self) -> Configuration:
        """Return what identifies the column."""
        return Configuration(
            inventory=self.inventory,
            role=self.role,
            weight_precision=self.weight_precision,
            kv_precision=self.kv_precision,
            tp=self.tp,
            pp=self.pp,
            ep=self.ep,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            mean_running=self.mean_running,
            speculative_tokens=self.speculative_tokens,
            attention_dp=self.attention_dp,
        )


class Totals(NamedTuple):
    """Sums over deployments; cost is None where a price is unknown.

    ``power_w``: rated power of the used devices, None where it is not published.
    """

    devices: int
    idle_devices: dict[str, int]
    cost_usd_per_h: float | None
    power_w: float | None


class Predicted(NamedTuple):
    """Worst latencies over deployments [ms] and summed rates."""

    ttft_ms: float | None
    tpot_ms: float | None
    requests_per_s: float
    output_tokens_per_s: float


class ObjectiveValue(NamedTuple):
    """One goal's value; the first goal also has a proven bound."""

    sense: str
    metric: str
    unit: str
    value: float | None
    bound: float | None
    relative_gap: float | None
    bound_kind: str | None


class PlanTermination(NamedTuple):
    """How the search ended, in a word and in a sentence."""

    reason: Literal["optimal", "within_gap", "infeasible", "stopped"]
    limit: str | None
    detail: str


class ScenarioRecord(NamedTuple):
    """The question, complete: with the digest of ``resolved``, defaults filled in, files by name and digest."""

    name: str
    sha256: str
    resolved: dict[str, Any]


class Statistics(NamedTuple):
    """Sizes of the search, and its time."""

    configurations: int
    legal: int
    meeting_slo: int
    columns: int
    rejected: dict[str, int]
    solver: str
    wall_s: float


class Plan(NamedTuple):
    """The content of a plan file. ``shortfall`` says, where nothing fits, what could be reached instead."""

    schema_version: int
    planner_version: str
    scenario: ScenarioRecord
    termination: PlanTermination
    objective: ObjectiveValue
    later_objectives: tuple[ObjectiveValue, ...]
    deployments: tuple[Deployment, ...]
    totals: Totals
    predicted: Predicted
    shortfall: tuple[str, ...]
    statistics: Statistics


class PlanContext(NamedTuple):
    """What deployments carry beyond their column."""

    model: str
    workload: str
    engine: EngineVersion
    hardware: Mapping[str, str]
    engines: Mapping[str, Mapping[str, str]]
    attention_kernel: str
    attention_layers: Mapping[str, int]
    block_size: int
    memory_fraction: float
    max_model_len: int
    basis: str
    output_tokens: float
    idle_before: Mapping[str, int]


def deployments(table: ColumnTable, replicas: Sequence[int], context: PlanContext) -> tuple[Deployment, ...]:
    """Return one deployment per column with replicas, in the order of the columns."""
    chosen = [i for i, count in enumerate(replicas) if count]
    numbers = {i: number for number, i in enumerate(chosen, start=1)}
    return tuple(_deployment(table, i, replicas[i], numbers[i], context) for i in chosen)


def _deployment(table: ColumnTable, i: int, replicas: int, number: int, context: PlanContext) -> Deployment:
    c, f = table.configuration(i), {name: float(values[i]) for name, values in table.figures.items()}
    left = f["capacity_bytes"] - f["weights_bytes"] - f["activations_bytes"]
    reserve = left - f["kv_cache_bytes"] - f["graphs_bytes"] - f["communication_bytes"] - f["runtime_bytes"]
    share = time_share(f)
    bound = max(share, key=lambda name: share[name])
    return Deployment(
        name=f"{context.workload}-{c.role}-{number}",
        model=context.model,
        role=c.role,
        pair=None,
        inventory=c.inventory,
        hardware=context.hardware[c.inventory],
        engine=context.engine,
        tp=c.tp,
        pp=c.pp,
        attention_dp=c.attention_dp,
        ep=c.ep,
        moe_tp=c.moe_tp,
        weight_precision=c.weight_precision,
        kv_precision=c.kv_precision,
        max_num_seqs=c.max_num_seqs,
        max_num_batched_tokens=c.max_num_batched_tokens,
        mean_running=c.mean_running,
        kv_fraction=f["kv_cache_bytes"] / left,
        block_size=context.block_size,
        max_model_len=context.max_model_len,
        memory_fraction=context.memory_fraction,
        speculative_tokens=c.speculative_tokens,
        devices_per_replica=c.devices,
        replicas=replicas,
        devices=replicas * c.devices,
        requests_per_s=replicas * f["rate"],
        requests_in_flight=replicas * f["in_flight"],
        predicted=Latencies(
            ttft_ms=f["ttft"] * MILLISECONDS_PER_SECOND,
            tpot_ms=f["tpot"] * MILLISECONDS_PER_SECOND,
            itl_ms=f["itl"] * MILLISECONDS_PER_SECOND,
            basis=context.basis,
        ),
        memory_bytes=MemoryBytes(
            weights=f["weights_bytes"],
            kv_cache=f["kv_cache_bytes"],
            activations=f["activations_bytes"],
            graphs=f["graphs_bytes"],
            communication=f["communication_bytes"],
            runtime=f["runtime_bytes"],
            reserve=reserve,
            capacity=f["capacity_bytes"],
        ),
        attention=Attention(context.attention_kernel, dict(context.attention_layers), f["attention_share"]),
        batch_efficiency=f["batch_efficiency"],
        cache_use=f["cache_use"],
        preemption=("swap" if f["swaps"] else "recompute") if f["preempts"] else "none",
        bound_by=bound,
        bound_by_engine=context.engines[c.inventory].get(bound, bound),
        time_share=share,
    )


def time_share(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each resource in the average step, were they used one after the other."""
    seconds = {name: figures[f"{name}_seconds"] for name in RESOURCES}
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()}


def totals(
    chosen: Sequence[Deployment],
    prices: Mapping[str, float | None],
    powers: Mapping[str, float | None],
    context: PlanContext,
) -> Totals:
    """Sum devices, cost and power; devices left over are counted per inventory."""
    used = {name: sum(d.devices for d in chosen if d.inventory == name) for name in context.idle_before}
    return Totals(
        devices=sum(used.values()),
        idle_devices={name: before - used[name] for name, before in context.idle_before.items()},
        cost_usd_per_h=_sum_known((d.devices, prices[d.inventory]) for d in chosen),
        power_w=_sum_known((d.devices, powers[d.inventory]) for d in chosen),
    )


def _sum_known(items: Iterable[tuple[int, float | None]]) -> float | None:
    """Return Σ devices × figure, or None where a figure is unknown."""
    parts = list(items)
    known = [count * value for count, value in parts if value is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def predicted(chosen: Sequence[Deployment], output_tokens: float) -> Predicted:
    """Return the worst latencies and the summed rates."""
    rate = math.fsum(d.requests_per_s for d in chosen)
    return Predicted(
        ttft_ms=max((d.predicted.ttft_ms for d in chosen), default=None),
        tpot_ms=max((d.predicted.tpot_ms for d in chosen), default=None),
        requests_per_s=rate,
        output_tokens_per_s=rate * output_tokens,
    )


def metric_value(metric: str, total: Totals, figures: Predicted) -> float | None:
    """Return a goal's value from totals and predictions; None where it is unknown."""
    return {
        "requests": figures.requests_per_s,
        "tokens": figures.output_tokens_per_s,
        "devices": float(total.devices),
        "cost": total.cost_usd_per_h,
        "power": total.power_w,
    }[metric]


def relative_gap(value: float, bound: float) -> float:
    """Return |bound − value| relative to the value."""
    return abs(bound - value) / max(abs(value), 1e-12)


def as_data(value: Any) -> Any:
    """Return a plan, or a part of one, as mappings, lists and plain values."""
    if hasattr(value, "_asdict"):
        return {name: as_data(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        return {name: as_data(item) for name, item in value.items()}
    return [as_data(item) for item in value] if isinstance(value, tuple | list) else value
