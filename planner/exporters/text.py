"""What a person reads: the deployments, what they reach, what binds them, how it is proven."""

from collections.abc import Iterator

from planner.plan import Deployment, ObjectiveValue, Plan
from planner.report import Report
from planner.text import aligned, figure, grouped

_GB = 1e9
_LEFT = ("deployment", "inventory", "bound by")
_BOUND = {
    "compute": "compute",
    "vector": "element-wise work",
    "hbm_bandwidth": "memory bandwidth",
    "link_bandwidth": "links",
    "latency": "launch and link latency",
    "host": "host",
}


def report_text(report: Report) -> str:
    """Return a report as plain text."""
    plan = report.plan
    if not plan.deployments:
        lines = [f"{plan.scenario.name}: no plan", f"{plan.termination.detail}.", *plan.shortfall]
        if plan.termination.reason == "infeasible":
            lines += ["", *_named("left out", _left_out(report))]
    else:
        lines = [f"{plan.scenario.name}: {_headline(plan)}", "", *_deployments(plan), "", *_facts(report)]
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes), ""])


def _headline(plan: Plan) -> str:
    parts = [f"{d.replicas} × {_degrees(d)} on {d.hardware}" for d in plan.deployments]
    return f"{figure(plan.predicted.requests_per_s)} request/s with " + " and ".join(parts)


def _degrees(d: Deployment) -> str:
    degrees = [f"tp{d.tp}"]
    degrees += [f"pp{d.pp}"] if d.pp > 1 else []
    degrees += [f"ep{d.ep}"] if d.ep > 1 else []
    degrees += (
        [f"{d.speculative_tokens} draft{'s' if d.speculative_tokens > 1 else ''}"] if d.speculative_tokens else []
    )
    return " ".join(degrees)


def _deployments(plan: Plan) -> list[str]:
    headers = (
        "deployment", "inventory", "replicas", "devices", "weights", "max seqs", "max tokens", "request/s", "TTFT",
        "TPOT", "KV cache", "bound by",
    )  # fmt: skip
    rows = [
        (
            f"{d.name} ({_degrees(d)})",
            d.inventory,
            str(d.replicas),
            str(d.devices),
            d.weight_precision,
            str(d.max_num_seqs),
            str(d.max_num_batched_tokens),
            figure(d.requests_per_s),
            f"{d.predicted.ttft_ms:.0f} ms",
            f"{d.predicted.tpot_ms:.1f} ms",
            f"{d.memory_bytes.kv_cache / _GB:.1f} GB",
            _bound(d),
        )
        for d in plan.deployments
    ]
    return aligned(headers, rows, _LEFT)


def _bound(d: Deployment) -> str:
    engine = "" if d.bound_by_engine == d.bound_by else f" ({d.bound_by_engine})"
    return f"{_BOUND[d.bound_by]}{engine} {d.time_share[d.bound_by]:.0%}"


def _attention(d: Deployment, *, several: bool) -> str:
    layers = ", ".join(f"{count} {kind}" for kind, count in d.attention.layers.items())
    whose = f"{d.name}: " if several else ""
    return f"{whose}{layers} layers with {d.attention.kernel}, {d.attention.time_share:.0%} of the average step"


def _batching(plan: Plan) -> list[str]:
    """One line per deployment whose scheduler loses steps or cache to the requests that end early."""
    lines = []
    for d in plan.deployments:
        if d.batch_efficiency < 1:
            share = f"{d.batch_efficiency:.1%} of its batch's steps"
            lines.append(f"{d.name}: a request generates in {share}, then waits for the longest")
        if d.preemption == "none":
            lines.append(f"{d.name}: {d.cache_use:.1%} of the reserved KV cache holds tokens")
    return lines


def _facts(report: Report) -> Iterator[str]:
    plan, statistics = report.plan, report.plan.statistics
    rate, basis = plan.predicted, plan.deployments[0].predicted.basis
    cost, watts = plan.totals.cost_usd_per_h, plan.totals.power_w
    power = "power not published" if watts is None else f"{watts / 1e3:.1f} kW rated"
    used = {name: sum(d.devices for d in plan.deployments if d.inventory == name) for name in plan.totals.idle_devices}
    fitted = ", not fitted to silicon" if basis == "textbook" else ""
    carries = f"{figure(rate.requests_per_s)} request/s, {figure(rate.output_tokens_per_s)} output token/s"
    yield from _named(
        "devices", [f"{name}: {n} used, {plan.totals.idle_devices[name]} idle" for name, n in used.items()]
    )
    yield from _named("load", [f"asked {report.asked}; carries up to {carries}" if report.asked else carries])
    yield from _named("limits", _limits(report) or ["none asked"])
    yield from _named("kernels", [_attention(d, several=len(plan.deployments) > 1) for d in plan.deployments])
    batching = _batching(plan)
    yield from _named("batches", batching) if batching else ()
    yield from _named("cost", [power if cost is None else f"{cost:.2f} USD/h, {power}"])
    yield from _named("result", [_goal(goal) for goal in (plan.objective, *plan.later_objectives)])
    yield from _named("proof", [plan.termination.detail])
    legal = f"{grouped(statistics.legal)} legal, {grouped(statistics.meeting_slo)} within all limits"
    yield from _named("searched", [f"{grouped(statistics.configurations)} configurations, {legal}"])
    yield from _named("left out", _left_out(report))
    yield from _named("figures", [f"means at the full rate of each deployment, from {basis} efficiencies{fitted}"])


def _named(name: str, lines: list[str]) -> Iterator[str]:
    """Put a name before the first of some lines, and room before the others."""
    for label, line in zip([name, *[""] * len(lines)], lines, strict=False):
        yield f"{label:8}  {line}"


def _limits(report: Report) -> list[str]:
    """One line per deployment; its name only where there are several."""
    several = len(report.plan.deployments) > 1
    lines = []
    for d in report.plan.deployments:
        mine = [
            f"{x.name.upper()} {figure(x.predicted)} of {figure(x.limit)} {x.unit}"
            for x in report.limits
            if x.deployment == d.name
        ]
        if mine:
            lines.append((f"{d.name}: " if several else "") + ", ".join(mine))
    return lines


def _goal(goal: ObjectiveValue) -> str:
    gap = "" if goal.relative_gap is None else f", gap {goal.relative_gap:.2%}"
    bound = "" if goal.bound is None else f", bound {figure(goal.bound)}"
    value = "unknown" if goal.value is None else f"{figure(goal.value)} {goal.unit}"
    return f"{goal.sense} {goal.metric}: {value}{bound}{gap}"


def _left_out(report: Report) -> list[str]:
    """Say what configurations fell to: rules of the load and memory first, structure in one line."""
    structure = sum(r.configurations for r in report.rejected if r.structural)
    parts = [(r.configurations, r.meaning) for r in report.rejected if not r.structural]
    lines = [f"{count:>6}  {meaning}" for count, meaning in sorted(parts, key=lambda part: (-part[0], part[1]))]
    if structure:
        lines.append(f"{structure:>6}  do not divide the model or fit into nodes (--json lists the rules)")
    return lines or ["nothing"]
