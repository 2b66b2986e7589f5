"""Whether the steps of a migration hold: they are replayed tick by tick, without the problem that found them."""

from collections.abc import Iterator, Sequence

from planner.migration import Kind, Migration, Start

_ROUNDING = 1e-6  # relative: rates are sums of a few floats


def migration_violations(migration: Migration, starts: Sequence[Start], ticks: int) -> list[str]:
    """Return every way that steps break a migration; empty where they hold."""
    found = list(_unmoved(migration, starts))
    found += [f"{start.kind.name} ends after tick {ticks}" for start in starts if start.end > ticks]
    for tick in range(ticks + 1):
        found += _overfull(migration, starts, tick)
        for workload, need in migration.needs.items():
            served = capacity(migration, starts, workload, tick)
            if served < need * (1 - _ROUNDING):
                found.append(f"tick {tick}: {workload} is served at {served:.6g} request/s, needed are {need:.6g}")
    return found


def capacity(migration: Migration, starts: Sequence[Start], workload: str, tick: int) -> float:
    """Return the requests per second of a workload that can be served at a tick."""
    rates = {"mixed": 0.0, "prefill": 0.0, "decode": 0.0}
    for kind, count in _serving(migration, starts, tick):
        if kind.workload == workload:
            rates[kind.role] += count * kind.rate
    return rates["mixed"] + min(rates["prefill"], rates["decode"])


def _serving(migration: Migration, starts: Sequence[Start], tick: int) -> Iterator[tuple[Kind, int]]:
    for part in (*migration.staying, *migration.leaving):
        yield part.kind, part.replicas
    for start in starts:
        if start.action == "drain" and start.tick <= tick:
            yield start.kind, -start.replicas
        if start.action == "load" and start.end <= tick:
            yield start.kind, start.replicas


def _unmoved(migration: Migration, starts: Sequence[Start]) -> Iterator[str]:
    """Yield replicas that are not moved once each."""
    for part in migration.leaving:
        mine = [s for s in starts if (s.action, s.kind, s.place) == ("drain", part.kind, part.place)]
        if sum(start.replicas for start in mine) != part.replicas:
            yield f"not all of {part.kind.name} leave {part.place}"
    for arriving in migration.arriving:
        loads = [s for s in starts if (s.action, s.kind) == ("load", arriving.kind) and s.place in arriving.places]
        if sum(start.replicas for start in loads) != arriving.replicas:
            yield f"not all of {arriving.kind.name} arrive"


def _overfull(migration: Migration, starts: Sequence[Start], tick: int) -> Iterator[str]:
    """Yield nodes whose devices are more than taken at a tick."""
    for n, node in enumerate(migration.nodes):
        used = sum(
            migration.on(part.place, part.kind.devices, n) * part.replicas
            for part in (*migration.staying, *migration.leaving)
        )
        for start in starts:
            each = migration.on(start.place, start.kind.devices, n) * start.replicas
            if start.action == "load" and start.tick <= tick:
                used += each
            if start.action == "drain" and start.end <= tick:
                used -= each
        if used > node.devices:
            yield f"tick {tick}: {node.label} has {node.devices} devices, {used} are in use"
