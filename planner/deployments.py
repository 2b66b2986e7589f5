"""From replicas of columns to deployments in the user's words, the routes between them, and what they reach."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from planner.columns.believed import SHARES, Believed
from planner.constants import MILLISECONDS_PER_SECOND
from planner.plan import (
    AnyDeployment,
    Attention,
    Deployment,
    EngineVersion,
    Latencies,
    ListedDeployment,
    MemoryBytes,
    Predicted,
    Route,
)
from planner.problem import Flow, PlanningProblem
from planner.table import RESOURCES, ColumnTable


class PoolContext(NamedTuple):
    """What deployments of one pool carry beyond their column; ``engines`` is what the device calls its resources."""

    model: str
    hardware: str
    engines: Mapping[str, str]
    attention_kernel: str
    attention_layers: Mapping[str, int]
    capture_sizes: tuple[int, ...]
    memory_fraction: float
    max_model_len: int


def deployments(
    problem: PlanningProblem,
    replicas: Sequence[int],
    flows: Sequence[Flow],
    contexts: Sequence[PoolContext],
    beliefs: Mapping[int, Believed],
) -> tuple[tuple[AnyDeployment, ...], tuple[Route, ...]]:
    """Return one deployment per column with replicas, in the order of the columns, and the routes between them.

    ``contexts`` by pool of the table, ``beliefs`` by column with replicas; none where a table lists the columns.
    """
    table = problem.table
    chosen = [i for i, count in enumerate(replicas) if count]
    names = _names(table, chosen)
    pairs = _pairs(table, flows)
    at = {(p, d): r for r, (p, d) in enumerate(zip(problem.routes.prefill, problem.routes.decode, strict=True))}
    used = [(flow, at[flow.prefill, flow.decode]) for flow in flows]
    if table.labels:
        listed = tuple(_listed(table, i, replicas[i], names[i], pairs.get(i)) for i in chosen)
        return listed, tuple(Route(names[f.prefill], names[f.decode], f.rate, None, None, None) for f, _ in used)
    found = tuple(
        _deployment(
            table, i, replicas[i], names[i], pairs.get(i), contexts[table.pool[i]],
            _latencies(problem, i, used, beliefs),
        )
        for i in chosen
    )  # fmt: skip
    return found, tuple(_route(problem, flow, route, names) for flow, route in used)


def _names(table: ColumnTable, chosen: Sequence[int]) -> dict[int, str]:
    numbers: dict[tuple[str, str], int] = {}
    names = {}
    for i in chosen:
        pool = table.pools[table.pool[i]]
        number = numbers[pool.workload, pool.role] = numbers.get((pool.workload, pool.role), 0) + 1
        names[i] = f"{pool.workload}-{pool.role}-{number}"
    return names


def _pairs(table: ColumnTable, flows: Sequence[Flow]) -> dict[int, str]:
    """Name the pair that each column is part of: columns that exchange requests, directly or through others."""
    group: dict[int, int] = {}
    for flow in flows:
        a, b = group.setdefault(flow.prefill, flow.prefill), group.setdefault(flow.decode, flow.decode)
        group = {column: a if of == b else of for column, of in group.items()}
    numbers: dict[tuple[str, int], int] = {}
    names: dict[int, str] = {}
    counts: dict[str, int] = {}
    for column in sorted(group):
        workload = table.pools[table.pool[column]].workload
        key = (workload, group[column])
        if key not in numbers:
            numbers[key] = counts[workload] = counts.get(workload, 0) + 1
        names[column] = f"{workload}-pair-{numbers[key]}"
    return names


def _latencies(
    problem: PlanningProblem, column: int, used: Sequence[tuple[Flow, int]], beliefs: Mapping[int, Believed]
) -> Latencies:
    """Return the latencies of a mixed column, or the worst of whole requests through a part of a pair."""
    f, routes, mine = problem.table.figures, problem.routes, beliefs[column]
    through = [(flow, route) for flow, route in used if column in (flow.prefill, flow.decode)]
    ttft = [(float(routes.ttft[route]), beliefs[flow.prefill].ttft) for flow, route in through]
    tpot = [(float(routes.tpot[route]), beliefs[flow.decode].tpot) for flow, route in through]
    first = _quantiles("ttft", ttft or [(float(f["ttft"][column]), mine.ttft)])
    each = _quantiles("tpot", tpot or [(float(f["tpot"][column]), mine.tpot)])
    return Latencies(
        **first,
        **each,
        itl_ms=float(f["itl"][column]) * MILLISECONDS_PER_SECOND,
        basis=mine.basis,
        outside=mine.outside,
        confidence=mine.confidence,
    )


def _quantiles(name: str, found: Sequence[tuple[float, tuple[float, ...] | None]]) -> dict[str, Any]:
    """Return the worst of latencies [s] as fields in milliseconds, as planned and by percentile."""
    fields: dict[str, Any] = {f"{name}_ms": max(planned for planned, _ in found) * MILLISECONDS_PER_SECOND}
    for i, share in enumerate(SHARES):
        known = [planned * factors[i] * MILLISECONDS_PER_SECOND for planned, factors in found if factors]
        fields[f"{name}_ms_p{share * 100:.0f}"] = max(known) if known else None
    return fields


def _route(problem: PlanningProblem, flow: Flow, route: int, names: Mapping[int, str]) -> Route:
    f, routes = problem.table.figures, problem.routes
    ttft = float(routes.ttft[route])
    transfer = ttft - float(f["ttft"][flow.prefill]) - float(f["ttft"][flow.decode])
    return Route(
        prefill=names[flow.prefill],
        decode=names[flow.decode],
        requests_per_s=flow.rate,
        ttft_ms=ttft * MILLISECONDS_PER_SECOND,
        tpot_ms=float(routes.tpot[route]) * MILLISECONDS_PER_SECOND,
        transfer_ms=transfer * MILLISECONDS_PER_SECOND,
    )


def _listed(table: ColumnTable, i: int, replicas: int, name: str, pair: str | None) -> ListedDeployment:
    pool, devices = table.pools[table.pool[i]], int(table.figures["devices"][i])
    rate = replicas * float(table.figures["rate"][i])
    return ListedDeployment(
        name,
        pool.workload,
        pool.role,
        pair,
        pool.inventory,
        table.labels[i],
        devices,
        replicas,
        replicas * devices,
        rate,
    )


def _deployment(
    table: ColumnTable, i: int, replicas: int, name: str, pair: str | None, context: PoolContext, latencies: Latencies
) -> Deployment:
    c, f = table.configuration(i), {key: float(values[i]) for key, values in table.figures.items()}
    left = f["capacity_bytes"] - f["weights_bytes"] - f["activations_bytes"]
    reserve = left - f["kv_cache_bytes"] - f["graphs_bytes"] - f["communication_bytes"] - f["runtime_bytes"]
    share = time_share(f)
    bound = max(share, key=lambda resource: share[resource])
    most = c.max_num_seqs * (1 + c.speculative_tokens)
    return Deployment(
        name=name,
        workload=c.workload,
        model=context.model,
        role=c.role,
        pair=pair,
        inventory=c.inventory,
        hardware=context.hardware,
        engine=EngineVersion(c.engine, c.engine_version),
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
        prefill_utilisation=c.prefill_utilisation,
        prefill_policy=c.prefill_policy,
        overlaps=c.overlaps,
        graph_capture_sizes=() if c.role == "prefill" else tuple(n for n in context.capture_sizes if n <= most),
        context_parallel=c.context_parallel,
        redundant_experts=c.redundant_experts,
        kv_fraction=f["kv_cache_bytes"] / left,
        block_size=c.block_size,
        max_model_len=context.max_model_len,
        memory_fraction=context.memory_fraction,
        speculative_tokens=c.speculative_tokens,
        devices_per_replica=c.devices,
        replicas=replicas,
        devices=replicas * c.devices,
        requests_per_s=replicas * f["rate"],
        requests_in_flight=replicas * f["in_flight"],
        predicted=latencies,
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
        bound_by_engine=context.engines.get(bound, bound),
        time_share=share,
    )


def time_share(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each resource in the average step, were they used one after the other."""
    seconds = {name: figures[f"{name}_seconds"] for name in RESOURCES}
    total = sum(seconds.values())
    return {name: value / total for name, value in seconds.items()}


def predicted(
    chosen: Sequence[AnyDeployment], routes: Sequence[Route], output_tokens: Mapping[str, float]
) -> Predicted:
    """Return the worst latencies, and the rates that mixed deployments and routes carry.

    ``output_tokens`` of a request by workload, NaN where that is not known.
    """
    workloads = {d.name: d.workload for d in chosen}
    mixed = [(d.name, d.requests_per_s) for d in chosen if d.role == "mixed"]
    rates = [*mixed, *((route.prefill, route.requests_per_s) for route in routes)]
    mine = [d.predicted for d in chosen if isinstance(d, Deployment)]
    tokens = math.fsum(rate * output_tokens[workloads[name]] for name, rate in rates)
    return Predicted(
        ttft_ms=max((latency.ttft_ms for latency in mine), default=None),
        tpot_ms=max((latency.tpot_ms for latency in mine), default=None),
        requests_per_s=math.fsum(rate for _, rate in rates),
        output_tokens_per_s=None if math.isnan(tokens) else tokens,
    )
