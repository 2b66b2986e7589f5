"""Which requirements of a plan bind: what each asks, what the plan makes of it, and whether there is room left."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from planner.explanation import Constraint, Obstacle
from planner.plan import AnyDeployment, Deployment, Plan
from planner.problem import Load
from planner.units import METRIC_UNITS

# Latencies of a pair are known by both parts; each is shown where it is decided.
_OF_ROLE = {"mixed": ("ttft", "tpot", "itl"), "prefill": ("ttft",), "decode": ("tpot", "itl")}
MEMORY, QUEUE, SEQUENCES = "kv_cache_too_small", "prefill_cannot_keep_up", "too_few_sequences"


class Facts(NamedTuple):
    """What the scenario asks, and what is known of deployments beyond the plan, by their name.

    ``latencies``: limits [ms] by workload and metric. ``devices``: usable ones by inventory. ``limits``: of the whole
    plan by metric. ``kv_needed``: byte of cache that the running requests rarely exceed. ``stops``: what the next
    larger load would break. ``per_device``: what a device of each inventory adds to a metric of the whole plan, None
    where that is not known.
    """

    latencies: Mapping[str, Mapping[str, float]]
    devices: Mapping[str, int]
    loads: Sequence[Load]
    limits: Mapping[str, float]
    kv_needed: Mapping[str, float]
    stops: Mapping[str, Sequence[Obstacle]]
    per_device: Mapping[str, Mapping[str, float | None]]


def constraints(plan: Plan, facts: Facts) -> tuple[Constraint, ...]:
    """Return every requirement, those that bind first.

    A latency or memory limit binds where the next larger load of the grid breaks it; a demand, where the plan without
    one of its replicas does not carry it; devices and other totals, where no replica of the plan could be added.
    """
    found = [
        *_latencies(plan, facts),
        *_memory(plan, facts),
        *_demands(plan, facts),
        *_inventory(plan, facts),
        *_totals(plan, facts),
    ]
    return tuple(sorted(found, key=lambda constraint: not constraint.binds))


def _priced(plan: Plan) -> list[Deployment]:
    return [d for d in plan.deployments if isinstance(d, Deployment)]


def _broken(facts: Facts, deployment: str, rule: str) -> str:
    """Return what the next load makes of a rule, "" where it does not break it."""
    return next((o.detail for o in facts.stops.get(deployment, ()) if o.name == rule), "")


def _latencies(plan: Plan, facts: Facts) -> Iterator[Constraint]:
    for d in _priced(plan):
        for metric, limit in facts.latencies.get(d.workload, {}).items():
            value = getattr(d.predicted, f"{metric}_ms")
            if metric in _OF_ROLE[d.role]:
                broken = _broken(facts, d.name, metric)
                detail = f"the next larger load comes to {broken}" if broken else ""
                yield Constraint("latency", f"{metric.upper()} of {d.name}", value, limit, "ms", bool(broken), detail)


def _memory(plan: Plan, facts: Facts) -> Iterator[Constraint]:
    for d in _priced(plan):
        broken = _broken(facts, d.name, MEMORY)
        detail = f"the next larger load: {broken}" if broken else ""
        used = facts.kv_needed[d.name]
        yield Constraint("memory", f"KV cache of {d.name}", used, d.memory_bytes.kv_cache, "byte", bool(broken), detail)
        for rule, what in ((QUEUE, "prompts of"), (SEQUENCES, "sequences of")):
            broken = _broken(facts, d.name, rule)
            if broken:
                yield Constraint("queue", f"{what} {d.name}", 1.0, 1.0, "1", True, f"the next larger load: {broken}")


def _demands(plan: Plan, facts: Facts) -> Iterator[Constraint]:
    for load in facts.loads:
        if load.demand is None:
            continue
        mine = [d for d in plan.deployments if d.workload == load.workload]
        field = "requests_per_s" if load.kind == "rate" else "requests_in_flight"
        parts = _of_role(mine)
        carried = min((sum(getattr(d, field) for d in part) for part in parts), default=0.0)
        without = [
            sum(getattr(d, field) for d in part) - getattr(d, field) / d.replicas for part in parts for d in part
        ]
        binds = bool(without) and max(without) < load.demand
        unit = "request/s" if load.kind == "rate" else "request"
        detail = "one replica fewer does not carry it" if binds else ""
        yield Constraint("demand", f"load of {load.workload}", carried, load.demand, unit, binds, detail)


def _of_role(deployments: Sequence[AnyDeployment]) -> list[list[AnyDeployment]]:
    """Return the deployments that carry a load together with what serves whole requests: one list per part of pairs."""
    mixed = [d for d in deployments if d.role == "mixed"]
    parts = [[d for d in deployments if d.role == role] for role in ("prefill", "decode")]
    return [[*mixed, *part] for part in parts if part] or [mixed]


def _inventory(plan: Plan, facts: Facts) -> Iterator[Constraint]:
    for name, most in facts.devices.items():
        sizes = [d.devices_per_replica for d in plan.deployments if d.inventory == name]
        used = most - plan.totals.idle_devices[name]
        binds = bool(sizes) and most - used < min(sizes)
        detail = "no further replica of the plan has room" if binds else ""
        yield Constraint("inventory", f"devices of {name}", used, most, "device", binds, detail)


def _totals(plan: Plan, facts: Facts) -> Iterator[Constraint]:
    values = {
        "devices": float(plan.totals.devices), "cost": plan.totals.cost_usd_per_h, "power": plan.totals.power_w,
    }  # fmt: skip
    each: dict[str, Mapping[str, float | None]] = {**facts.per_device, "devices": dict.fromkeys(facts.devices, 1.0)}
    for metric, most in facts.limits.items():
        value = values[metric]
        if value is None:
            continue
        least = min((d.devices_per_replica * (each[metric][d.inventory] or 0.0) for d in plan.deployments), default=0.0)
        binds = value + least > most
        detail = "one replica more exceeds it" if binds else ""
        yield Constraint("limit", f"{metric} of the plan", value, most, METRIC_UNITS[metric], binds, detail)
