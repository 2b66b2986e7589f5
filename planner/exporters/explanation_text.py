"""What a person reads of why a plan is what it is."""

from collections.abc import Iterator, Sequence

from planner.explanation import Constraint, DeploymentExplained, Elasticity, Explanation, LatencyParts, Lever, Rung
from planner.text import aligned, figure, scaled

RESOURCES = {
    "compute": "compute",
    "vector": "element-wise work",
    "hbm_bandwidth": "memory bandwidth",
    "link_bandwidth": "links",
    "latency": "launch and link latency",
    "host": "host",
    "memory_capacity": "memory capacity",
}
_METRICS = {"rate": "request/s", "ttft": "TTFT", "tpot": "TPOT", "itl": "ITL"}
_STOPS = {
    "ttft": "the TTFT limit",
    "tpot": "the TPOT limit",
    "itl": "the ITL limit",
    "kv_cache_too_small": "the KV cache",
    "prefill_cannot_keep_up": "the queue of prompts",
    "too_few_sequences": "max_num_seqs",
    "weights_do_not_fit": "memory for weights",
}
_PARTS, _SYMBOLS = 8, 12  # lines of a table; --json has all
_SHOWN = 0.005  # share of a step from which a resource is named
_GB = 1e9


def explanation_text(explanation: Explanation) -> str:
    """Return an explanation as plain text."""
    lines = [f"{explanation.name}: why this plan ({explanation.objective})", ""]
    for title, binds in (("binds", True), ("has room", False)):
        lines += _named(title, [_constraint(c) for c in explanation.constraints if c.binds == binds])
    for deployment in explanation.deployments:
        lines += ["", *_deployment(deployment)]
    return "\n".join([*lines, *(f"note: {note}" for note in explanation.notes), ""])


def resource(name: str) -> str:
    """Return what people call a resource or a part of a step."""
    return RESOURCES.get(name, name.replace("_", " "))


def _named(name: str, lines: Sequence[str]) -> Iterator[str]:
    for label, line in zip([name, *[""] * len(lines)], lines, strict=False):
        yield f"{label:8}  {line}"


def _constraint(c: Constraint) -> str:
    if c.kind == "queue":
        return f"{c.what}: {c.detail}"
    value, limit, unit = (c.value, c.limit, c.unit) if c.unit != "byte" else (c.value / _GB, c.limit / _GB, "GB")
    of = "for" if c.kind == "demand" else "of"
    return f"{c.what}: {figure(value)} {of} {figure(limit)} {unit}" + (f"; {c.detail}" if c.detail else "")


def _deployment(d: DeploymentExplained) -> Iterator[str]:
    prompts = d.steps.get("prompt", 0.0)
    mix = f", {prompts:.0%} of them with prompts" if "decode" in d.steps and prompts else ""
    yield f"{d.name} ({d.what}): steps of {figure(d.step_ms)} ms on average{mix}"
    engine = "" if d.bound_by_engine == d.bound_by else f" ({d.bound_by_engine})"
    shares = sorted(d.by_resource.items(), key=lambda pair: -pair[1])
    named = [f"{resource(name)}{engine if name == d.bound_by else ''} {s:.0%}" for name, s in shares if s >= _SHOWN]
    yield from _named("bound by", [", ".join(named)])
    for latency in d.latencies:
        yield from _named(latency.metric.upper(), [_latency(latency)])
    yield ""
    yield from _parts(d)
    if d.levers:
        yield ""
        yield from _levers(d)
    if d.elasticities:
        yield ""
        yield from _elasticities(d.elasticities)


def _latency(latency: LatencyParts) -> str:
    parts = [f"{name} {figure(ms)}" for name, ms in sorted(latency.parts_ms.items(), key=lambda pair: -pair[1])]
    return f"{figure(latency.total_ms)} ms: {', '.join(parts)}"


def _parts(d: DeploymentExplained) -> list[str]:
    headers = ("where a step goes", "layer", "step", "ms", "share", "bound by")
    rows = [
        (p.operator.replace("_", " "), p.layer, p.step, f"{p.ms:.3f}", f"{p.share:.1%}", resource(p.bound_by))
        for p in d.parts[:_PARTS]
    ]
    rest = d.parts[_PARTS:]
    if rest:
        share = sum(p.share for p in rest)
        rows.append((f"{len(rest)} others", "", "", f"{sum(p.ms for p in rest):.3f}", f"{share:.1%}", ""))
    return aligned(headers, rows, ("where a step goes", "layer", "step", "bound by"))


def _levers(d: DeploymentExplained) -> Iterator[str]:
    headers = ("10 % better", "TTFT", "TPOT", "request/s", "then stops")
    rows = [
        (lever.parameter, _change(lever.ttft), _change(lever.tpot), _change(lever.load), _then(lever))
        for lever in d.levers
    ]
    yield from aligned(headers, rows, ("10 % better", "then stops"))
    if d.first is not None:
        gain = f"{_change(d.first.load)} request/s within the limits"
        until = "where {} still stops it" if d.first.then[:1] == d.limited_by[:1] else "until {} stops it"
        yield f"first: {_changed(d.first)}: {gain}, {until.format(_then(d.first))}"
    yield from (_rung(number, rung) for number, rung in enumerate(d.ladder, start=1))


def _rung(number: int, rung: Rung) -> str:
    gain = rung.levers[0]
    gains = [f"{_change(value)} {name}" for name, value in (("TTFT", gain.ttft), ("TPOT", gain.tpot)) if value]
    changed = " and ".join(_changed(lever) for lever in rung.levers)
    return f"rung {number}: {changed} ({', '.join(gains)}), then {resource(rung.next)} takes longest"


def _changed(lever: Lever) -> str:
    before, after = scaled(lever.value, lever.unit), scaled(lever.changed_to, lever.unit)
    return f"{lever.parameter} {before} → {after} (×{lever.factor:.2f})"


def _change(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"


def _then(lever: Lever) -> str:
    return " and ".join(_STOPS.get(name, name.replace("_", " ")) for name in lever.then) or "nothing tried"


def _elasticities(found: Sequence[Elasticity]) -> Iterator[str]:
    """The strongest symbols, a row each, with every metric; one that crosses steps shows the change over ±5 %."""
    metrics = list(dict.fromkeys(e.metric for e in found))
    strength: dict[str, float] = {}
    for e in found:
        strength[e.symbol] = max(strength.get(e.symbol, 0.0), abs(e.within_step), abs(e.across_steps))
    chosen = sorted(strength, key=lambda name: -strength[name])[:_SYMBOLS]
    by_place = {(e.symbol, e.metric): e for e in found}
    headers = ("1 % more of", *(f"{_METRICS[m]} %" for m in metrics), "meaning")
    rows = [(name, *(_elasticity(by_place.get((name, m))) for m in metrics), _meaning(found, name)) for name in chosen]
    yield from aligned(headers, rows, ("1 % more of", "meaning"))
    if any(not e.smooth for e in found if e.symbol in chosen):
        yield "*: over ±5 %, where tiles or graph sizes step; between two steps it is another figure (--json has both)"


def _elasticity(e: Elasticity | None) -> str:
    if e is None:
        return "0"
    return f"{e.within_step:+.2f}" if e.smooth else f"{e.across_steps:+.2f}*"


def _meaning(found: Sequence[Elasticity], symbol: str) -> str:
    return next(e.meaning for e in found if e.symbol == symbol)
