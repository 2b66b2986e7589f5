"""The answer: deployments with their predicted figures, totals, and how good it provably is.

Field names and units are the interface of the plan file; times in it are milliseconds.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from planner.constants import MILLISECONDS_PER_SECOND
from planner.levels import level
from planner.table import Configuration

PLAN_SCHEMA_VERSION = 1
LATENCIES = ("ttft", "tpot")


class EngineVersion(NamedTuple):
    """The engine a deployment runs."""

    name: str
    version: str


class Latencies(NamedTuple):
    """Mean latencies at the deployment's full rate [ms], as planned for.

    ``confidence``: share of such deployments that are expected to be no slower; percentiles are of deployments, too.
    ``basis``: the nearest thing that was measured (deployment, system+backend, system, none); ``outside``: what of the
    deployment lies beyond all measured runs. Efficiencies that were not fitted have a basis, and no intervals.
    ``itl_ms``: the gap between two tokens while the last chunk of a prompt shares the step.
    """

    ttft_ms: float
    tpot_ms: float
    itl_ms: float
    basis: str
    outside: tuple[str, ...]
    confidence: float | None
    ttft_ms_p10: float | None
    ttft_ms_p50: float | None
    ttft_ms_p90: float | None
    tpot_ms_p10: float | None
    tpot_ms_p50: float | None
    tpot_ms_p90: float | None


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

    Latencies of a part of a pair are the worst of the whole requests that pass through it. ``requests_per_s`` is what
    its replicas can do; of a pair, ``Plan.routes`` says what passes. ``mean_running`` counts requests of an attention
    rank, as max_num_seqs does; ``overlaps`` are on although the engine leaves them off by default.
    ``batch_efficiency``: share of a batch's steps in which a request still generates. ``cache_use``: share of the KV
    cache held by requests that holds tokens. ``preemption``: none, recompute or swap, whichever takes less time.
    ``bound_by`` names the resource that takes most of a step, and ``bound_by_engine`` what the device calls it.
    """

    name: str
    workload: str
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
    prefill_utilisation: int
    prefill_policy: str
    overlaps: tuple[str, ...]
    graph_capture_sizes: tuple[int, ...]
    context_parallel: int
    redundant_experts: int
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
            workload=self.workload,
            inventory=self.inventory,
            engine=self.engine.name,
            engine_version=self.engine.version,
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
            context_parallel=self.context_parallel,
            redundant_experts=self.redundant_experts,
            block_size=self.block_size,
            prefill_policy=self.prefill_policy,
            prefill_utilisation=self.prefill_utilisation,
            overlaps=self.overlaps,
        )


class ListedDeployment(NamedTuple):
    """Replicas of a column that a table lists: its label and its rate, nothing else is known of it."""

    name: str
    workload: str
    role: str
    pair: str | None
    inventory: str
    label: str
    devices_per_replica: int
    replicas: int
    devices: int
    requests_per_s: float
    requests_in_flight: float = 0.0


AnyDeployment = Deployment | ListedDeployment


class Route(NamedTuple):
    """Requests that prefill on one deployment and decode on another.

    Their mean latencies [ms], and the part of TTFT that waits for the cache to arrive; null where a table lists the
    columns.
    """

    prefill: str
    decode: str
    requests_per_s: float
    ttft_ms: float | None
    tpot_ms: float | None
    transfer_ms: float | None


class Totals(NamedTuple):
    """Sums over deployments; cost is None where a price is unknown.

    ``power_w``: rated power of the used devices, None where it is not published.
    """

    devices: int
    idle_devices: dict[str, int]
    cost_usd_per_h: float | None
    power_w: float | None


class Predicted(NamedTuple):
    """Worst latencies over deployments [ms] and summed rates; None where a table lists rates and no more."""

    ttft_ms: float | None
    tpot_ms: float | None
    requests_per_s: float
    output_tokens_per_s: float | None


class ObjectiveValue(NamedTuple):
    """One goal's value; the first goal also has a proven bound.

    ``best``: of a weighted goal, the value that each of its metrics is divided by: its best alone.
    """

    sense: str
    metric: str
    unit: str
    value: float | None
    bound: float | None
    relative_gap: float | None
    bound_kind: str | None
    best: dict[str, float]


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


class Comparison(NamedTuple):
    """One metric of what runs today beside the plan's; ``gain`` is the plan's over today's, less 1."""

    metric: str
    unit: str
    baseline: float | None
    plan: float | None
    gain: float | None


class Certainty(NamedTuple):
    """How sure a deployment is the best choice, given what its calibration leaves unexplained.

    ``rivals``: other ways to divide the model that meet the limits, null for parts of pairs, which are not compared.
    ``chance_best``: that none of them has a higher rate per unit of the goal; ``expected_regret``: what the best of
    them would have more, mean share of it.
    ``requests_per_s``: expected of all replicas less what earlier choices as far from anything measured fell short
    (the winner's curse).
    """

    deployment: str
    rivals: int | None
    chance_best: float | None
    expected_regret: float | None
    requests_per_s: float


class Plan(NamedTuple):
    """The content of a plan file.

    ``routes`` connect the parts of pairs. ``by_workload`` are predictions for each of several workloads.
    ``shortfall`` says, where nothing fits, what could be reached instead; ``baseline`` compares with what runs today,
    and is empty where the scenario does not say; ``certainty`` is empty without a fitted calibration.
    """

    schema_version: int
    planner_version: str
    scenario: ScenarioRecord
    termination: PlanTermination
    objective: ObjectiveValue
    later_objectives: tuple[ObjectiveValue, ...]
    deployments: tuple[AnyDeployment, ...]
    routes: tuple[Route, ...]
    totals: Totals
    predicted: Predicted
    by_workload: dict[str, Predicted]
    shortfall: tuple[str, ...]
    baseline: tuple[Comparison, ...]
    certainty: tuple[Certainty, ...]
    statistics: Statistics


def totals(
    chosen: Sequence[AnyDeployment],
    prices: Mapping[str, float | None],
    powers: Mapping[str, float | None],
    devices: Mapping[str, int],
) -> Totals:
    """Sum devices, cost and power; devices left over are counted per inventory, of all it has."""
    used = {name: sum(d.devices for d in chosen if d.inventory == name) for name in devices}
    return Totals(
        devices=sum(used.values()),
        idle_devices={name: before - used[name] for name, before in devices.items()},
        cost_usd_per_h=_sum_known((d.devices, prices[d.inventory]) for d in chosen),
        power_w=_sum_known((d.devices, powers[d.inventory]) for d in chosen),
    )


def _sum_known(items: Iterable[tuple[int, float | None]]) -> float | None:
    """Return Σ devices × figure, or None where a figure is unknown."""
    parts = list(items)
    known = [count * value for count, value in parts if value is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def metric_value(metric: str, total: Totals, figures: Predicted) -> float | None:
    """Return a metric's value from totals and predictions, None where it is unknown.

    Latencies as the step they are in [s]; see ``levels.level``.
    """
    if metric in ("ttft", "tpot"):
        milliseconds: float | None = getattr(figures, f"{metric}_ms")
        return None if milliseconds is None else float(level(np.array(milliseconds / MILLISECONDS_PER_SECOND)))
    return {
        "requests": figures.requests_per_s,
        "tokens": figures.output_tokens_per_s,
        "devices": float(total.devices),
        "cost": total.cost_usd_per_h,
        "power": total.power_w,
    }[metric]


def relative_gap(metric: str, value: float, bound: float) -> float:
    """Return |bound − value| relative to the value; of a weighted goal, which may be 0, to 1 at least."""
    return abs(bound - value) / max(abs(value), 1.0 if metric == "weighted" else 1e-12)


def as_data(value: Any) -> Any:
    """Return a plan, or a part of one, as mappings, lists and plain values."""
    if hasattr(value, "_asdict"):
        return {name: as_data(item) for name, item in value._asdict().items()}
    if isinstance(value, dict):
        return {name: as_data(item) for name, item in value.items()}
    return [as_data(item) for item in value] if isinstance(value, tuple | list) else value
