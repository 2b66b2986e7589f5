"""What a person reads: the deployments, what they reach, what binds them, how it is proven."""

from collections.abc import Iterator

from planner.plan import AnyDeployment, Deployment, ObjectiveValue, Plan
from planner.report import Limit, Report
from planner.schema.calibration import MEDIAN
from planner.table import RESOURCE_NAMES, drafts_of, of_role
from planner.table import degrees as split_over
from planner.text import aligned, figure, grouped, kernel, nearest, prefill, shows

_GB = 1e9
_LEFT = ("deployment", "inventory", "bound by")


def report_text(report: Report) -> str:
    """Return a report as plain text."""
    plan = report.plan
    if not plan.deployments:
        lines = [f"{plan.scenario.name}: no plan", f"{plan.termination.detail}.", *plan.shortfall]
        if plan.termination.reason == "infeasible":
            lines += ["", *_named("left out", _left_out(report))]
    else:
        lines = [
            f"{plan.scenario.name}: {headline(plan)}{_chance(report)}",
            "",
            *_deployments(plan),
            "",
            *_facts(report),
        ]
    return "\n".join([*lines, *(f"note: {note}" for note in report.notes), ""])


def headline(plan: Plan) -> str:
    """Return a plan in one line."""
    parts = [f"{d.replicas} × {_what(d)}" for d in plan.deployments]
    return f"{figure(plan.predicted.requests_per_s)} request/s with " + " and ".join(parts)


def _chance(report: Report) -> str:
    """Say how surely the limits hold: no more surely than the one that is least sure."""
    held = [limit.held for limit in report.limits if limit.held is not None]
    if not held:
        return ""
    return f"; {'each limit held by at least' if len(held) > 1 else 'its limit held by'} {min(held):.0%} of such plans"


def _what(d: AnyDeployment) -> str:
    role = "" if d.role == "mixed" else f"{d.role} "
    if not isinstance(d, Deployment):
        return f"{of_role(d.label, d.role)} on {d.inventory}"
    return f"{role}{degrees(d)} on {d.hardware}"


def degrees(d: Deployment) -> str:
    """Return how a replica is split, in short."""
    drafts = f" {drafts_of(d.speculative_tokens)}" if d.speculative_tokens else ""
    return f"{split_over(d._asdict())}{drafts}"


def _deployments(plan: Plan) -> list[str]:
    priced = [d for d in plan.deployments if isinstance(d, Deployment)]
    listed = [d for d in plan.deployments if not isinstance(d, Deployment)]
    lines = _priced(priced) if priced else []
    if listed:
        headers = ("deployment", "inventory", "label", "replicas", "devices", "request/s")
        rows = [
            (d.name, d.inventory, d.label, str(d.replicas), str(d.devices), figure(d.requests_per_s)) for d in listed
        ]
        lines += aligned(headers, rows, (*_LEFT, "label"))
    return lines


def _priced(deployments: list[Deployment]) -> list[str]:
    headers = (
        "deployment", "inventory", "replicas", "devices", "weights", "max seqs", "max tokens", "request/s", "TTFT",
        "TPOT", "KV cache", "bound by",
    )  # fmt: skip
    rows = [
        (
            f"{d.name} ({degrees(d)})",
            d.inventory,
            str(d.replicas),
            str(d.devices),
            d.weight_precision,
            str(d.max_num_seqs),
            str(d.max_num_batched_tokens),
            figure(d.requests_per_s),
            f"{d.predicted.ttft_ms:.0f} ms" if shows(d.role, "ttft") else "",
            f"{d.predicted.tpot_ms:.1f} ms" if shows(d.role, "tpot") else "",
            f"{d.memory_bytes.kv_cache / _GB:.1f} GB",
            _bound(d),
        )
        for d in deployments
    ]
    return aligned(headers, rows, _LEFT)


def _bound(d: Deployment) -> str:
    engine = "" if d.bound_by_engine == d.bound_by else f" ({d.bound_by_engine})"
    return f"{RESOURCE_NAMES[d.bound_by]}{engine} {d.time_share[d.bound_by]:.0%}"


def _attention(d: Deployment, *, several: bool) -> str:
    layers = ", ".join(f"{count} {kind}" for kind, count in d.attention.layers.items())
    whose = f"{d.name}: " if several else ""
    return f"{whose}{layers} layers with {kernel(d.attention.kernel)}, {d.attention.time_share:.0%} of the average step"


def _batching(plan: Plan) -> list[str]:
    """One line per deployment whose scheduler loses steps or cache to the requests that end early."""
    lines = []
    for d in _of_engines(plan):
        if d.batch_efficiency < 1:
            share = f"{d.batch_efficiency:.1%} of its batch's steps"
            lines.append(f"{d.name}: a request generates in {share}, then waits for the longest")
        if d.preemption == "none" and d.role == "mixed":
            lines.append(f"{d.name}: {d.cache_use:.1%} of the reserved KV cache holds tokens")
    return lines


def _of_engines(plan: Plan) -> list[Deployment]:
    return [d for d in plan.deployments if isinstance(d, Deployment)]


def _routes(plan: Plan) -> list[str]:
    """One line per route between the parts of a pair."""
    lines = []
    for route in plan.routes:
        line = f"{route.prefill} to {route.decode}: {figure(route.requests_per_s)} request/s"
        if route.ttft_ms is not None and route.tpot_ms is not None and route.transfer_ms is not None:
            cache = f"{figure(route.transfer_ms)} ms of it for the cache"
            line += f", TTFT {figure(route.ttft_ms)} ms ({cache}), TPOT {figure(route.tpot_ms)} ms"
        lines.append(line)
    return lines


def _settings(plan: Plan) -> list[str]:
    """What deployments set besides degrees and limits, where engines offer a choice."""
    several = len(plan.deployments) > 1
    lines = []
    for d in _of_engines(plan):
        parts = [f"{d.engine.name} {d.engine.version}", prefill(d.prefill_policy, d.role)]
        parts += [f"KV cache in {d.kv_precision}", f"blocks of {d.block_size}"]
        parts += [f"turns on {', '.join(d.overlaps)}"] if d.overlaps else []
        lines.append((f"{d.name}: " if several else "") + ", ".join(parts))
    return lines


def _baseline(plan: Plan) -> list[str]:
    """What the plan gains over what runs today, a line per metric."""
    lines = []
    for c in plan.baseline:
        if c.baseline is None or c.plan is None or c.gain is None:
            lines.append(f"{c.metric}: unknown")
            continue
        scale, unit = (1e3, "ms") if c.unit == "s" else (1.0, c.unit)
        before, after = (figure(value * scale) for value in (c.baseline, c.plan))
        lines.append(f"{c.metric}: {before} → {after} {unit} ({c.gain:+.1%})")
    return lines


def _facts(report: Report) -> Iterator[str]:
    plan, statistics = report.plan, report.plan.statistics
    priced = _of_engines(plan)
    rate = plan.predicted
    cost, watts = plan.totals.cost_usd_per_h, plan.totals.power_w
    power = "power not published" if watts is None else f"{watts / 1e3:.1f} kW rated"
    used = {name: sum(d.devices for d in plan.deployments if d.inventory == name) for name in plan.totals.idle_devices}
    tokens = "" if rate.output_tokens_per_s is None else f", {figure(rate.output_tokens_per_s)} output token/s"
    carries = f"{figure(rate.requests_per_s)} request/s{tokens}"
    yield from _named(
        "devices", [f"{name}: {n} used, {plan.totals.idle_devices[name]} idle" for name, n in used.items()]
    )
    yield from _named("load", [f"asked {report.asked}; carries up to {carries}" if report.asked else carries])
    routes = _routes(plan)
    yield from _named("routes", routes) if routes else ()
    if len(plan.by_workload) > 1:
        rates = [f"{name}: {figure(p.requests_per_s)} request/s" for name, p in plan.by_workload.items()]
        yield from _named("each", rates)
    yield from _named("limits", _limits(report) or ["none asked"]) if priced else ()
    yield from _named("settings", _settings(plan)) if priced else ()
    yield from _named("kernels", [_attention(d, several=len(priced) > 1) for d in priced])
    batching = _batching(plan)
    yield from _named("batches", batching) if batching else ()
    yield from _named("cost", [power if cost is None else f"{cost:.2f} USD/h, {power}"])
    gains = _baseline(plan)
    yield from _named("today", gains) if gains else ()
    yield from _named("result", [_goal(goal) for goal in (plan.objective, *plan.later_objectives)])
    yield from _named("proof", [plan.termination.detail])
    if not priced:
        yield from _listed_facts(report)
        return
    legal = f"{grouped(statistics.legal)} legal, {grouped(statistics.meeting_slo)} within all limits"
    yield from _named("searched", [f"{grouped(statistics.configurations)} configurations, {legal}"])
    yield from _named("left out", _left_out(report))
    yield from _named("figures", _figures(plan))
    yield from _named("chances", _certainty(plan)) if plan.certainty else ()


def _listed_facts(report: Report) -> Iterator[str]:
    """What was searched where a table lists the columns, and what its rates stand for."""
    statistics = report.plan.statistics
    places = f"{grouped(statistics.configurations)} columns, on every inventory each may stand on"
    yield from _named("searched", [f"{places}; {grouped(statistics.legal)} have room"])
    yield from _named("left out", _left_out(report)) if report.rejected else ()
    yield from _named(
        "figures", ["rates as the table lists them, times its factors: inside the table's own linear model"]
    )


def _figures(plan: Plan) -> list[str]:
    """What figures are, and how far off they may be."""
    priced = _of_engines(plan)
    several = len(priced) > 1
    lines = []
    for d in priced:
        p = d.predicted
        whose = f"{d.name}: " if several else ""
        if p.confidence is None:
            lines.append(f"{whose}means at the full rate, from {p.basis} efficiencies, not fitted to silicon")
            continue
        share = "as expected" if p.confidence == MEDIAN else f"such that {p.confidence:.0%} are no slower"
        lines.append(f"{whose}means at the full rate, {share}; {nearest(p.basis, d.engine.name, d.hardware)}")
        ranges = (("TTFT", p.ttft_ms_p10, p.ttft_ms_p90), ("TPOT", p.tpot_ms_p10, p.tpot_ms_p90))
        known = [f"{name} {figure(low)} to {figure(high)} ms" for name, low, high in ranges if low and high]
        lines.append(f"four of five: {', '.join(known)}")
        lines += [f"beyond all measured runs: {what}" for what in p.outside]
    return lines


def _certainty(plan: Plan) -> list[str]:
    """How sure each deployment is the best there is, and what to expect of it after all."""
    several = len(plan.certainty) > 1
    lines = []
    for c in plan.certainty:
        parts = []
        if c.rivals and c.chance_best is not None and c.expected_regret is not None:
            parts.append(f"{c.chance_best:.0%} that none of {c.rivals} other divisions of the model does better")
            parts.append(f"expected regret {c.expected_regret:.1%}")
        if c.rivals is None:
            parts.append("part of a pair, not compared")
        parts.append(f"expected rate {figure(c.requests_per_s)} request/s, what earlier picks fell short by taken off")
        lines.append((f"{c.deployment}: " if several else "") + ", ".join(parts))
    return lines


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
            f"{x.name.upper()} {figure(x.predicted)} of {figure(x.limit)} {x.unit}{_held(x)}"
            for x in report.limits
            if x.deployment == d.name
        ]
        if mine:
            lines.append((f"{d.name}: " if several else "") + ", ".join(mine))
    return lines


def _held(limit: Limit) -> str:
    return "" if limit.held is None else f" (held by {limit.held:.0%})"


def _goal(goal: ObjectiveValue) -> str:
    gap = "" if goal.relative_gap is None else f", gap {goal.relative_gap:.2%}"
    bound = "" if goal.bound is None else f", bound {figure(goal.bound)}"
    value = "unknown" if goal.value is None else f"{figure(goal.value)} {goal.unit}"
    best = ", ".join(f"{name} {figure(most)}" for name, most in goal.best.items())
    over = f", each metric over its own best ({best})" if best else ""
    return f"{goal.sense} {goal.metric}: {value}{bound}{gap}{over}"


def _left_out(report: Report) -> list[str]:
    """Say what configurations fell to: rules of the load and memory first, structure in one line."""
    structure = sum(r.configurations for r in report.rejected if r.structural)
    parts = [(r.configurations, r.meaning) for r in report.rejected if not r.structural]
    lines = [f"{count:>6}  {meaning}" for count, meaning in sorted(parts, key=lambda part: (-part[0], part[1]))]
    if structure:
        lines.append(f"{structure:>6}  do not divide the model or fit into nodes (--json lists the rules)")
    return lines or ["nothing"]
