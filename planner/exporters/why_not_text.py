"""What a person reads of why a plan is not another one, and of the plans next to the best."""

from collections.abc import Iterator, Sequence

from planner.explanation import Alternatives, Trade, WhyNot
from planner.plan import AnyDeployment, Deployment, Plan
from planner.text import aligned, figure

_OBSTACLES = 3  # --json has all
_SAME = 1e-9  # relative; below it two figures were computed in another order


def why_not_text(found: WhyNot) -> str:
    """Return the answer to why not as plain text."""
    lines = [f"asked: {found.meaning}", *(f"note: {text}; tried all the same" for text in found.outside)]
    if found.deployed:
        lines.append("the plan is that already")
    elif found.other is not None:
        lines += [f"best:  {plan_words(found.other)}", "", *_trades(found.trades, "the plan", "asked for")]
        lines += ["", _verdict(found)]
    else:
        lines += ["there is no such plan", *_obstacles(found), *found.reasons]
    return "\n".join([*lines, ""])


def alternatives_text(found: Alternatives) -> str:
    """Return the best plans as plain text: their metrics, a row each, then what they are."""
    metrics = {trade.metric: trade.unit for one in found.plans for trade in one.trades}
    headers = ("", *(f"{name} [{unit}]" for name, unit in metrics.items()))
    rows = []
    for one in found.plans:
        by_metric = {trade.metric: trade for trade in one.trades}
        cells = (_cell(by_metric[name], first=one.rank == 1) if name in by_metric else "" for name in metrics)
        rows.append((str(one.rank), *cells))
    title = f"{found.name}: the best plans ({found.objective}), told apart by {found.distinct}"
    plans = [f"{one.rank}  {plan_words(one.plan)}" for one in found.plans]
    return "\n".join([title, "", *aligned(headers, rows, ("",)), "", *plans, "", found.detail, ""])


def plan_words(plan: Plan) -> str:
    """Return a plan in a line: its replicas and what they are."""
    return " + ".join(f"{d.replicas} × {_words(d)}" for d in plan.deployments)


def _words(d: AnyDeployment) -> str:
    return d.configuration().label() if isinstance(d, Deployment) else f"{d.label} on {d.inventory}"


def _verdict(found: WhyNot) -> str:
    """Say in a sentence what it costs; the plan's own goals come first in the trades' order of importance."""
    changed = [trade for trade in found.trades if trade.change is not None and abs(trade.change) > _SAME]
    if not changed:
        return "as good as the plan in all of these; ties go to fewer devices, less cost, and the first of the grid"
    gained = "" if not found.outside else "; the scenario does not search it"
    return "against the plan: " + ", ".join(f"{t.metric} {t.change:+.1%}" for t in changed) + gained


def _trades(trades: Sequence[Trade], best: str, other: str) -> list[str]:
    rows = [
        (f"{t.metric} [{t.unit}]", _number(t.best), _number(t.other), "" if t.change is None else f"{t.change:+.1%}")
        for t in trades
    ]
    return aligned(("", best, other, "change"), rows, ("",))


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
