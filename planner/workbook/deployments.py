"""What is deployed: replicas, their rates, memory, and the routes between the parts of pairs."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from planner.plan import Deployment, ListedDeployment, Plan
from planner.text import shows
from planner.workbook.assumptions import Assumptions
from planner.workbook.formula import Cell, Formula, smallest, total
from planner.workbook.sheet import TOP, Column, Row, Sheet, Style, Table, field, table

_SHEET = "Deployments"
_GB = 1e9  # byte


class Deployments(NamedTuple):
    """The deployments of a plan, and its routes where it has some."""

    table: Table
    routes: Table | None
    sheet: Sheet


def deployments(plan: Plan, given: Assumptions) -> Deployments:
    """Return the sheet of what is deployed."""
    ours = [d for d in plan.deployments if isinstance(d, Deployment)]
    own = _OWN if len(ours) == len(plan.deployments) else _LISTED
    main = table(_SHEET, "deployments", "Deployments", (*_COUNTED, *own), plan.deployments, TOP,
                 "replicas and the rate of one are the plan's; latencies are means at that rate")  # fmt: skip
    tables = [main]
    routes = None
    if plan.routes:
        columns = _route_columns(main, plan, given.setting("rounding"))
        routes = table(_SHEET, "routes", "Routes", columns, plan.routes, tables[-1].below,
                       "requests that prefill on one deployment and decode on another")  # fmt: skip
        tables.append(routes)
    if ours:
        note = "the fullest device; the parts add up to its capacity"
        tables.append(table(_SHEET, "memory", "Memory", _MEMORY, ours, tables[-1].below, note))
        title = "Share of resources in the average step"
        tables.append(table(_SHEET, "time", title, _time_columns(ours), ours, tables[-1].below, "one after the other"))
    return Deployments(main, routes, Sheet(_SHEET, f"What is deployed: {plan.scenario.name}", tuple(tables)))


def _plain(key: str, title: str, unit: str, style: Style, *path: str) -> Column:
    """Return a column of a field, by the names that lead to it."""
    return Column(key, title, unit, style, field(*(path or (key,))))


def _rate_of_one(row: Row) -> Cell:
    d: Deployment | ListedDeployment = row.item
    return d.requests_per_s / d.replicas


def _latency(metric: str) -> Callable[[Row], Cell]:
    """Return what gives a mean latency [ms]; of a pair, TTFT with its prefill and TPOT with its decode."""
    return lambda row: getattr(row.item.predicted, f"{metric}_ms") if shows(row.item.role, metric) else None


def _gigabytes(part: str) -> Callable[[Row], Cell]:
    return lambda row: getattr(row.item.memory_bytes, part) / _GB


_COUNTED = (
    _plain("name", "deployment", "", "text"),
    _plain("workload", "workload", "", "text"),
    _plain("role", "role", "", "text"),
    _plain("pair", "pair", "", "text"),
    _plain("inventory", "inventory", "", "text"),
    Column("replicas", "replicas", "", "count", lambda row: row.item.replicas, editable=True),
    _plain("devices_per_replica", "replica", "device", "count"),
    Column(
        "devices", "devices", "device", "count", lambda row: row["replicas"] * row["devices_per_replica"], summed=True
    ),
    Column("rate_of_replica", "rate of a replica", "request/s", "number", _rate_of_one, editable=True),
    Column("requests_per_s", "capacity", "request/s", "number", lambda row: row["replicas"] * row["rate_of_replica"]),
)
_LISTED = (_plain("label", "label", "", "text"),)
_OWN = (
    Column("ttft_ms", "TTFT", "ms", "number", _latency("ttft")),
    Column("tpot_ms", "TPOT", "ms", "number", _latency("tpot")),
    _plain("hardware", "hardware", "", "text"),
    _plain("engine", "engine", "", "text", "engine", "name"),
    _plain("engine_version", "version", "", "text", "engine", "version"),
    _plain("tp", "tp", "", "count"),
    _plain("pp", "pp", "", "count"),
    _plain("attention_dp", "dp", "", "count"),
    _plain("ep", "ep", "", "count"),
    _plain("context_parallel", "cp", "", "count"),
    _plain("weight_precision", "weights", "", "text"),
    _plain("kv_precision", "KV cache", "", "text"),
    _plain("max_num_seqs", "max_num_seqs", "request", "count"),
    _plain("max_num_batched_tokens", "max_num_batched_tokens", "token", "count"),
    _plain("max_model_len", "max_model_len", "token", "count"),
    _plain("speculative_tokens", "drafts", "token", "count"),
    _plain("requests_in_flight", "in flight", "request", "number"),
    _plain("bound_by", "bound by", "", "text", "bound_by_engine"),
)
_PARTS = ("weights", "kv_cache", "activations", "graphs", "communication", "runtime", "reserve")
_NAME = _plain("name", "deployment", "", "text")
_MEMORY = (
    _NAME,
    *(Column(f"{part}_gb", part.replace("_", " "), "GB", "number", _gigabytes(part)) for part in _PARTS),
    Column("capacity_gb", "capacity", "GB", "number", lambda row: total([row[f"{part}_gb"] for part in _PARTS])),
)


def _time_columns(ours: Sequence[Deployment]) -> tuple[Column, ...]:
    def share(name: str) -> Callable[[Row], Cell]:
        return lambda row: row.item.time_share.get(name)

    names = dict.fromkeys(name for d in ours for name in d.time_share)
    return (_NAME, *(Column(name, name.replace("_", " "), "", "percent", share(name)) for name in names))


def _route_columns(main: Table, plan: Plan, rounding: Formula) -> tuple[Column, ...]:
    """Return columns of routes: as planned, and less where a part can no longer do what is sent to it."""
    capacity = {name: row["requests_per_s"] for name, row in main.by("name").items()}
    planned = {
        d.name: math.fsum(r.requests_per_s for r in plan.routes if d.name in (r.prefill, r.decode))
        for d in plan.deployments
    }

    def room(end: str) -> Callable[[Row], Cell]:
        return lambda row: capacity[getattr(row.item, end)] * (rounding + 1) / row[f"{end}_load_requests_per_s"]

    return (
        _plain("prefill", "prefill", "", "text"),
        _plain("decode", "decode", "", "text"),
        _plain("planned_requests_per_s", "planned", "request/s", "number", "requests_per_s"),
        Column("prefill_load_requests_per_s", "planned through prefill", "request/s", "number",
               lambda row: planned[row.item.prefill]),
        Column("decode_load_requests_per_s", "planned through decode", "request/s", "number",
               lambda row: planned[row.item.decode]),
        Column("prefill_room", "prefill can do of it", "", "percent", room("prefill")),
        Column("decode_room", "decode can do of it", "", "percent", room("decode")),
        Column("requests_per_s", "carried", "request/s", "number",
               lambda row: row["planned_requests_per_s"]
               * smallest([Formula("1", 1), row["prefill_room"], row["decode_room"]])),
        _plain("ttft_ms", "TTFT", "ms", "number"),
        _plain("tpot_ms", "TPOT", "ms", "number"),
        _plain("transfer_ms", "of it for the cache", "ms", "number"),
    )  # fmt: skip
