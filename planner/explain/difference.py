"""What differs between two plans: the questions, the deployments, what they reach."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from planner.plan import AnyDeployment, Plan, as_data

# What the search did, not what was asked; and what the other sections show.
_BY_THE_WAY = ("specifications", "grid", "name", "description")
_REACHED = ("requests_per_s", "devices", "replicas", "kv_fraction", "bound_by")
_NOT_ASKED = frozenset(
    (
        "name", "predicted", "memory_bytes", "attention", "time_share", "requests_in_flight", "batch_efficiency",
        "cache_use", "preemption", "bound_by_engine", "graph_capture_sizes", *_REACHED,
    )
)  # fmt: skip


class Change(NamedTuple):
    """A field that differs: before and after, None where it is not there; ``change`` relative, of numbers."""

    field: str
    before: Any
    after: Any
    change: float | None


class Difference(NamedTuple):
    """Changes of the question, of the deployments in both plans by name, and of totals; and those only one has."""

    question: tuple[Change, ...]
    reached: tuple[Change, ...]
    changed: dict[str, tuple[Change, ...]]
    removed: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.question or self.reached or self.changed or self.removed or self.added)


def difference(before: Plan, after: Plan) -> Difference:
    """Return what differs. Deployments are matched by what they are, replicas left aside, then by their names."""
    pairs, removed, added = _matched(before, after)
    changed = {b.name: tuple(_changes(as_data(a), as_data(b), "")) for a, b in pairs}
    return Difference(
        question=tuple(_changes(_asked(before), _asked(after), "")),
        reached=tuple(_changes(_reached(before), _reached(after), "")),
        changed={name: found for name, found in changed.items() if found},
        removed=tuple(_label(d) for d in removed),
        added=tuple(_label(d) for d in added),
    )


def _asked(plan: Plan) -> dict[str, Any]:
    return {key: value for key, value in plan.scenario.resolved.items() if key not in _BY_THE_WAY}


def _reached(plan: Plan) -> dict[str, Any]:
    return {
        "termination": plan.termination.reason,
        "objective": {plan.objective.metric: plan.objective.value, "bound": plan.objective.bound},
        "predicted": as_data(plan.predicted),
        "totals": as_data(plan.totals),
    }


def _matched(
    before: Plan, after: Plan
) -> tuple[list[tuple[AnyDeployment, AnyDeployment]], list[AnyDeployment], list[AnyDeployment]]:
    old, new, pairs = list(before.deployments), list(after.deployments), []
    for key in (_identity, lambda d: (d.workload, d.role, d.inventory)):
        for a in list(old):
            b = next((d for d in new if key(d) == key(a)), None)
            if b is not None:
                pairs.append((a, b))
                old.remove(a)
                new.remove(b)
    return pairs, old, new


def _identity(d: AnyDeployment) -> tuple[Any, ...]:
    """Return what a deployment is, whatever its number of replicas and its load."""
    loads = ("mean_running", "prefill_utilisation", "pair")
    return tuple((k, v) for k, v in d._asdict().items() if k not in _NOT_ASKED and k not in loads)


def _label(d: AnyDeployment) -> str:
    replicas = f"{d.replicas} × {d.devices_per_replica} devices on {d.inventory}"
    return f"{d.name}: {replicas}, {d.requests_per_s:.4g} request/s"


def _changes(before: Any, after: Any, place: str) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in dict.fromkeys((*before, *after)):
            here = f"{place}.{key}" if place else str(key)
            yield from _changes(before.get(key), after.get(key), here)
    elif before != after:
        yield Change(place, before, after, _relative(before, after))


def _relative(before: Any, after: Any) -> float | None:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after))
    return after / before - 1 if numbers and before else None
