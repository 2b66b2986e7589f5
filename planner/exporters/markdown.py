"""A plan as Markdown, for a pull request: what is deployed, what it reaches, what it costs, and how it is proven."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from planner.launch.facts import Facts
from planner.plan import Deployment, ListedDeployment, ObjectiveValue, Plan
from planner.text import figure, grouped, prefill, shows

_GB = 1e9
_MOST_REASONS = 6


def files(plan: Plan, facts: Facts) -> dict[str, str]:
    """Return the page."""
    return {"plan.md": "\n".join(_page(plan)) + "\n"}


def _page(plan: Plan) -> Iterator[str]:
    yield f"# Plan: {_cell(plan.scenario.name)}"
    yield ""
    yield f"**{_headline(plan)}** – {plan.termination.detail}."
    for line in plan.shortfall:
        yield f"- {line}"
    yield from _section("Deployments", _deployments(plan))
    yield from _section("Routes", _routes(plan))
    yield from _section("Limits and load", _asked(plan))
    yield from _section("Beside what runs today", _baseline(plan))
    yield from _section("Devices and cost", _totals(plan))
    yield from _section("Goals", _goals(plan))
    yield from _folded("Settings", _settings(plan))
    yield from _folded("Memory of the fullest device", _memory(plan))
    yield from _folded("Search", _search(plan))
    yield ""
    yield f"planner {plan.planner_version}, scenario `{plan.scenario.sha256[:12]}`, solved by {plan.statistics.solver}"


def _headline(plan: Plan) -> str:
    if not plan.deployments:
        return "no plan"
    kinds = ", ".join(
        f"{sum(d.devices for d in plan.deployments if d.inventory == name)} of {name}"
        for name in dict.fromkeys(d.inventory for d in plan.deployments)
    )
    return f"{figure(plan.predicted.requests_per_s)} request/s on {plan.totals.devices} devices ({_cell(kinds)})"


def _section(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"## {title}", "", *lines)


def _folded(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", f"<details><summary>{title}</summary>", "", *lines, "", "</details>")


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    if not rows:
        return []
    return [f"| {' | '.join(_cell(value) for value in row)} |" for row in (head, ["---"] * len(head), *rows)]


def _cell(value: object) -> str:
    """Return text that cannot leave its cell, or become markup."""
    text = " ".join(str(value).split())
    return "".join(f"\\{c}" if c in "|`<>\\" else c for c in text)


def _ours(plan: Plan) -> list[Deployment]:
    return [d for d in plan.deployments if isinstance(d, Deployment)]


def _deployments(plan: Plan) -> list[str]:
    rows = [
        (
            d.name, d.role, f"{d.replicas} × {d.devices_per_replica} {d.hardware}", _degrees(d),
            f"{d.weight_precision} / {d.kv_precision}", figure(d.requests_per_s), _latency(d, "ttft"),
            _latency(d, "tpot"), f"{d.bound_by_engine} {d.time_share[d.bound_by]:.0%}",
        )
        for d in _ours(plan)
    ]  # fmt: skip
    head = ("deployment", "role", "replicas", "degrees", "weights / cache", "request/s", "TTFT", "TPOT", "bound by")
    listed = [
        (d.name, d.role, f"{d.replicas} × {d.devices_per_replica}", d.label, figure(d.requests_per_s))
        for d in plan.deployments
        if isinstance(d, ListedDeployment)
    ]
    return _table(head, rows) or _table(("deployment", "role", "replicas", "label", "request/s"), listed)


def _degrees(d: Deployment) -> str:
    named = (("tp", d.tp), ("pp", d.pp), ("dp", d.attention_dp), ("ep", d.ep), ("cp", d.context_parallel))
    text = " ".join(f"{name}{size}" for name, size in named if size > 1 or name == "tp")
    spare = f", {d.redundant_experts} redundant experts" if d.redundant_experts else ""
    return text + spare + (f", {d.speculative_tokens} drafts" if d.speculative_tokens else "")


def _latency(d: Deployment, name: str) -> str:
    if not shows(d.role, name):
        return ""
    low, high = (getattr(d.predicted, f"{name}_ms_{end}", None) for end in ("p10", "p90"))
    interval = "" if low is None or high is None else f" ({figure(low)} to {figure(high)})"
    return f"{figure(getattr(d.predicted, f'{name}_ms'))} ms{interval}"


def _routes(plan: Plan) -> list[str]:
    rows = [
        (r.prefill, r.decode, figure(r.requests_per_s), *(_ms(v) for v in (r.ttft_ms, r.tpot_ms, r.transfer_ms)))
        for r in plan.routes
    ]
    return _table(("prefill", "decode", "request/s", "TTFT", "TPOT", "of it for the cache"), rows)


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{figure(value)} ms"


def _asked(plan: Plan) -> list[str]:
    workloads: Mapping[str, Mapping[str, Any]] = plan.scenario.resolved.get("workloads", {})
    rows = []
    for name, asked in workloads.items():
        slo = asked.get("slo") or {}
        limits = ", ".join(f"{metric.upper()} {limit}" for metric, limit in slo.items()) or "none"
        reached = plan.by_workload.get(name)
        carried = "nothing" if reached is None else f"{figure(reached.requests_per_s)} request/s"
        load = asked.get("requests", "")
        text = f"{load['concurrency']} in flight" if isinstance(load, Mapping) else load
        rows.append((name, text, carried, limits))
    return _table(("workload", "asked", "carried at most", "limits"), rows)


def _baseline(plan: Plan) -> list[str]:
    def shown(value: float | None) -> str:
        return "unknown" if value is None else figure(value)

    rows = [
        (c.metric, shown(c.baseline), shown(c.plan), c.unit, "unknown" if c.gain is None else f"{c.gain:+.1%}")
        for c in plan.baseline
    ]
    return _table(("metric", "today", "plan", "unit", "gain"), rows)


def _totals(plan: Plan) -> list[str]:
    used = {name: sum(d.devices for d in plan.deployments if d.inventory == name) for name in plan.totals.idle_devices}
    lines = _table(
        ("inventory", "used", "idle"), [(name, n, plan.totals.idle_devices[name]) for name, n in used.items()]
    )
    cost, power = plan.totals.cost_usd_per_h, plan.totals.power_w
    price = "price not given" if cost is None else f"{cost:.2f} USD/h"
    watts = "power not published" if power is None else f"{power / 1e3:.1f} kW rated"
    return [*lines, "", f"{price}, {watts}"] if plan.deployments else []


def _goals(plan: Plan) -> list[str]:
    return [_goal(goal) for goal in (plan.objective, *plan.later_objectives)]


def _goal(goal: ObjectiveValue) -> str:
    value = "unknown" if goal.value is None else f"{figure(goal.value)} {goal.unit}"
    bound = "" if goal.bound is None else f", bound {figure(goal.bound)}"
    gap = "" if goal.relative_gap is None else f", gap {goal.relative_gap:.2%}"
    return f"- {goal.sense} {goal.metric}: {value}{bound}{gap}"


def _settings(plan: Plan) -> list[str]:
    rows = [
        (
            d.name, f"{d.engine.name} {d.engine.version}", d.max_num_seqs, d.max_num_batched_tokens, d.max_model_len,
            d.block_size, prefill(d.prefill_policy, d.role), ", ".join(d.overlaps) or "none",
        )
        for d in _ours(plan)
    ]  # fmt: skip
    head = ("deployment", "engine", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "block", "prefill", "on")
    return _table(head, rows)


def _memory(plan: Plan) -> list[str]:
    ours = _ours(plan)
    parts = ours[0].memory_bytes._fields if ours else ()
    rows = [(d.name, *(f"{getattr(d.memory_bytes, part) / _GB:.2f} GB" for part in parts)) for d in ours]
    return _table(("deployment", *(part.replace("_", " ") for part in parts)), rows)


def _search(plan: Plan) -> list[str]:
    s = plan.statistics
    line = (
        f"{grouped(s.configurations)} configurations, {grouped(s.legal)} legal, {grouped(s.meeting_slo)} within limits"
    )
    most = sorted(s.rejected.items(), key=lambda item: (-item[1], item[0]))[:_MOST_REASONS]
    return [line, "", *_table(("left out by", "configurations"), [(rule, grouped(n)) for rule, n in most])]
