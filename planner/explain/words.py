"""Explanations in words: paragraphs and tables, whatever they are shown in."""

from collections.abc import Iterator, Sequence

from planner.explanation import (
    Alternatives,
    Constraint,
    DeploymentExplained,
    Elasticity,
    Explanation,
    LatencyParts,
    Lever,
    Rung,
    Trade,
    WhyNot,
)
from planner.plan import AnyDeployment, Deployment, Plan
from planner.table import RESOURCE_NAMES, of_role
from planner.text import Block, Lines, Table, figure, prefill, scaled

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
_TOLD_APART = {
    "shape": "how the model is split over devices, and how many replicas there are",
    "settings": "how the model is split over devices, how engines are set, and how many replicas there are",
}
_PARTS, _SYMBOLS, _OBSTACLES = 8, 12, 3  # rows that are shown; --json has all
_SHOWN = 0.005  # share of a step from which a resource is named
_SAME = 1e-9  # relative; below it two figures were computed in another order
_GB = 1e9


def explanation_blocks(explanation: Explanation) -> list[Block]:
    """Return why a plan is what it is."""
    binding, free = ([_constraint(c) for c in explanation.constraints if c.binds == b] for b in (True, False))
    blocks: list[Block] = [f"{explanation.name}: why this plan ({explanation.objective})"]
    blocks.append(Lines((("binds", tuple(binding)), ("has room", tuple(free)))))
    for deployment in explanation.deployments:
        blocks += _deployment(deployment)
    return blocks


def why_not_blocks(found: WhyNot) -> list[Block]:
    """Return the answer to why a plan is not another one."""
    lines: list[tuple[str, tuple[str, ...]]] = [("asked", (found.meaning,))]
    lines += [("note", tuple(f"{text}; tried all the same" for text in found.outside))]
    if found.deployed:
        return [Lines((*lines, ("answer", ("the plan is that already",))))]
    if found.other is not None:
        return [Lines((*lines, ("best", (plan_words(found.other),)))), _trades(found.trades), _verdict(found)]
    return [Lines((*lines, ("answer", ("there is no such plan", *_obstacles(found), *found.reasons))))]


def alternatives_blocks(found: Alternatives) -> list[Block]:
    """Return the best plans: their metrics, a row each, then what they are."""
    metrics = {trade.metric: trade.unit for one in found.plans for trade in one.trades}
    rows = []
    for one in found.plans:
        by_metric = {trade.metric: trade for trade in one.trades}
        cells = (_cell(by_metric[name], first=one.rank == 1) if name in by_metric else "" for name in metrics)
        rows.append((str(one.rank), *cells))
    return [
        f"{found.name}: the best plans ({found.objective}), told apart by {_TOLD_APART[found.distinct]}",
        Table(("", *(f"{name} [{unit}]" for name, unit in metrics.items())), tuple(rows), ("",)),
        Lines(
            tuple(
                (str(one.rank), (plan_words(one.plan, settings=found.distinct == "settings"),)) for one in found.plans
            )
        ),
        found.detail,
    ]


def plan_words(plan: Plan, *, settings: bool = False) -> str:
    """Return a plan in a line: its replicas and what they are, and where asked how their engines are set."""
    return " + ".join(f"{d.replicas} × {_words(d, settings=settings)}" for d in plan.deployments)


def resource(name: str) -> str:
    """Return what people call a resource or a part of a step."""
    return RESOURCE_NAMES.get(name, name.replace("_", " "))


def _words(d: AnyDeployment, *, settings: bool) -> str:
    if not isinstance(d, Deployment):
        return f"{of_role(d.label, d.role)} on {d.inventory}"
    turned_on = f", {', '.join(d.overlaps)} on" if d.overlaps else ""
    more = f" ({prefill(d.prefill_policy, d.role)}, blocks of {d.block_size}{turned_on})" if settings else ""
    return f"{d.configuration().label()}{more}"


# --- why -----------------------------------------------------------------------------------------------------------


def _constraint(c: Constraint) -> str:
    if c.kind == "queue":
        return f"{c.what}: {c.detail}"
    value, limit, unit = (c.value, c.limit, c.unit) if c.unit != "byte" else (c.value / _GB, c.limit / _GB, "GB")
    of = "for" if c.kind == "demand" else "of"
    unit = "" if c.kind == "inventory" else f" {unit}"
    return f"{c.what}: {figure(value)} {of} {figure(limit)}{unit}" + (f"; {c.detail}" if c.detail else "")


def _deployment(d: DeploymentExplained) -> Iterator[Block]:
    prompts = d.steps.get("prompt", 0.0)
    mix = f", {prompts:.0%} of them with prompts" if "decode" in d.steps and prompts else ""
    yield f"{d.name} ({d.what}): steps of {figure(d.step_ms)} ms on average{mix}"
    engine = "" if d.bound_by_engine == d.bound_by else f" ({d.bound_by_engine})"
    shares = sorted(d.by_resource.items(), key=lambda pair: -pair[1])
    named = [f"{resource(name)}{engine if name == d.bound_by else ''} {s:.0%}" for name, s in shares if s >= _SHOWN]
    latencies = [(latency.metric.upper(), (_latency(latency),)) for latency in d.latencies]
    layers = ", ".join(f"{name} {share:.0%}" for name, share in d.by_layer.items() if share >= _SHOWN)
    yield Lines((("bound by", (", ".join(named),)), ("layers", (layers,)), *latencies))
    yield _parts(d)
    if d.levers:
        yield _levers(d)
        yield Lines(tuple(_ladder(d)))
    if d.elasticities:
        yield from _elasticities(d.elasticities)


def _latency(latency: LatencyParts) -> str:
    parts = [f"{name} {figure(ms)}" for name, ms in sorted(latency.parts_ms.items(), key=lambda pair: -pair[1])]
    return f"{figure(latency.total_ms)} ms: {', '.join(parts)}"


def _parts(d: DeploymentExplained) -> Table:
    headers = ("where a step goes", "layer", "step", "ms", "share", "bound by")
    rows = [
        (p.operator.replace("_", " "), p.layer, p.step, f"{p.ms:.3f}", f"{p.share:.1%}", resource(p.bound_by))
        for p in d.parts[:_PARTS]
    ]
    rest = d.parts[_PARTS:]
    if rest:
        share = sum(p.share for p in rest)
        rows.append((f"{len(rest)} others", "", "", f"{sum(p.ms for p in rest):.3f}", f"{share:.1%}", ""))
    return Table(headers, tuple(rows), ("where a step goes", "layer", "step", "bound by"))


def _levers(d: DeploymentExplained) -> Table:
    headers = ("10 % better", "TTFT", "TPOT", "request/s", "then stops")
    rows = [
        (lever.parameter, _change(lever.ttft), _change(lever.tpot), _change(lever.load), _then(lever))
        for lever in d.levers
    ]
    return Table(headers, tuple(rows), ("10 % better", "then stops"))


def _ladder(d: DeploymentExplained) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The first lever as far as it goes, then the rungs: what binds, and where the next takes over."""
    if d.first is not None:
        first = d.first
        still = first.then[:1] == d.limited_by[:1]
        stop = "stop" if len(first.then) > 1 else "stops"
        until = f"where {_then(first)} still {stop} it" if still else f"until {_then(first)} {stop} it"
        before = scaled(first.value, first.unit)
        yield "first", (f"{_better(first)} from {before}: {_change(first.load)} request/s within the limits, {until}",)
    for number, rung in enumerate(d.ladder, start=1):
        yield f"rung {number}", (_rung(rung),)


def _rung(rung: Rung) -> str:
    gain = rung.levers[0]
    gains = [f"{_change(value)} {name}" for name, value in (("TTFT", gain.ttft), ("TPOT", gain.tpot)) if value]
    after = f"then {resource(rung.next)} would take longest"
    return f"{', '.join(_better(lever) for lever in rung.levers)}: {', '.join(gains)}; {after}"


def _better(lever: Lever) -> str:
    return f"{lever.parameter} ×{lever.factor:.2f} ({scaled(lever.changed_to, lever.unit)})"


def _change(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"


def _then(lever: Lever) -> str:
    return " and ".join(_STOPS.get(name, name.replace("_", " ")) for name in lever.then) or "nothing tried"


def _elasticities(found: Sequence[Elasticity]) -> Iterator[Block]:
    """The strongest symbols, a row each, with every metric; one that crosses steps shows the change over ±5 %."""
    metrics = list(dict.fromkeys(e.metric for e in found))
    strength: dict[str, float] = {}
    for e in found:
        strength[e.symbol] = max(strength.get(e.symbol, 0.0), abs(e.within_step), abs(e.across_steps))
    chosen = sorted(strength, key=lambda name: -strength[name])[:_SYMBOLS]
    by_place = {(e.symbol, e.metric): e for e in found}
    meanings = {e.symbol: e.meaning for e in found}
    rows = [(name, *(_elasticity(by_place.get((name, m))) for m in metrics), meanings[name]) for name in chosen]
    headers = ("1 % more of", *(f"{_METRICS[m]} %" for m in metrics), "meaning")
    yield Table(headers, tuple(rows), ("1 % more of", "meaning"))
    if any(not e.smooth for e in found if e.symbol in chosen):
        yield "*: over ±5 %, where tiles or graph sizes step; between two steps it is another figure (--json has both)"


def _elasticity(e: Elasticity | None) -> str:
    if e is None:
        return "0"
    return f"{e.within_step:+.2f}" if e.smooth else f"{e.across_steps:+.2f}*"


# --- why not, and what else ----------------------------------------------------------------------------------------


def _verdict(found: WhyNot) -> str:
    """Say in a sentence what it costs."""
    changed = [trade for trade in found.trades if trade.change is not None and abs(trade.change) > _SAME]
    if not changed:
        return "as good as the plan in all of these; ties go to fewer devices, less cost, and the first of the grid"
    searched = "; the scenario does not search it" if found.outside else ""
    return "against the plan: " + ", ".join(f"{t.metric} {t.change:+.1%}" for t in changed) + searched


def _trades(trades: Sequence[Trade]) -> Table:
    rows = [
        (f"{t.metric} [{t.unit}]", _number(t.best), _number(t.other), "" if t.change is None else f"{t.change:+.1%}")
        for t in trades
    ]
    return Table(("", "the plan", "as asked", "change"), tuple(rows), ("",))


def _number(value: float | None) -> str:
    return "unknown" if value is None else figure(value)


def _cell(trade: Trade, *, first: bool) -> str:
    if first or trade.change is None or abs(trade.change) < _SAME:
        return _number(trade.other)
    return f"{_number(trade.other)} ({trade.change:+.1%})"


def _obstacles(found: WhyNot) -> Iterator[str]:
    """The rule that stops the configuration that comes furthest, then those that stop the others."""
    for number, obstacle in enumerate(found.obstacles[:_OBSTACLES]):
        first = "the closest breaks" if number == 0 else "others break"
        yield f"{first} {obstacle.name}: {obstacle.meaning} ({obstacle.detail})"
