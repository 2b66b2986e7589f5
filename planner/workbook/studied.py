"""What studies of the plan found: what figures hang on, and the next best plans."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from planner.explanation import Alternative, Elasticity
from planner.plan import Deployment, Plan
from planner.workbook.facts import CapacityFacts
from planner.workbook.formula import Cell, change
from planner.workbook.sensitivity import Sensitivity
from planner.workbook.sheet import TOP, Column, Row, Sheet, Style, field, table


class _Hangs(NamedTuple):
    """What a figure of a deployment hangs on."""

    deployment: str
    elasticity: Elasticity


def elasticities(facts: CapacityFacts, swings: Sensitivity) -> Iterator[Sheet]:
    """Yield the sheet of what-if cases, with what latencies and rates of deployments hang on where it is known."""
    tables = [swings.cases]
    if facts.explanation is not None:
        items = [_Hangs(d.name, e) for d in facts.explanation.deployments for e in d.elasticities]
        note = "relative change of a figure over that of a parameter: 0.5 means 1 % more of it gives 0.5 % more"
        columns = (
            Column("deployment", "deployment", "", "text", field("deployment")),
            *(Column(key, title, unit, style, field("elasticity", key)) for key, title, unit, style in _ELASTICITY),
        )
        tables.append(table("Sensitivity", "elasticities", "What figures hang on", columns, items,
                            swings.cases.below, note))  # fmt: skip
    yield Sheet("Sensitivity", "What if, and what figures hang on", tuple(tables), (swings.chart,))


_ELASTICITY: tuple[tuple[str, str, str, Style], ...] = (
    ("metric", "figure", "", "text"),
    ("symbol", "parameter", "", "text"),
    ("across_steps", "over ± 5 %", "% per %", "number"),
    ("within_step", "at the point", "% per %", "number"),
    ("value", "value", "see right", "general"),
    ("unit", "unit", "", "text"),
    ("meaning", "meaning", "", "text"),
)


def alternatives(facts: CapacityFacts) -> Iterator[Sheet]:
    """Yield the sheet of the next best plans, where they were looked for."""
    found = facts.alternatives
    if found is None:
        return
    metrics = list(dict.fromkeys(t.metric for one in found.plans for t in one.trades))
    units = {t.metric: t.unit for one in found.plans for t in one.trades}
    columns = [
        Column("rank", "rank", "", "count", lambda row: row.item.rank),
        Column("deployments", "deployments", "", "text", lambda row: _said(row.item.plan)),
    ]
    for metric in metrics:
        columns.append(Column(metric, metric, units[metric], "number", _metric(metric)))
        columns.append(Column(f"{metric}_change", f"{metric} against the best", "", "percent", _change(metric)))
    note = f"told apart by {found.distinct}; {found.detail}"
    made = table("Alternatives", "alternatives", f"The best plans: {found.objective}", columns, found.plans, TOP, note)
    yield Sheet("Alternatives", "The next best plans", (made,))


def _said(plan: Plan) -> str:
    return " + ".join(
        f"{d.replicas} × {d.configuration().label()}" for d in plan.deployments if isinstance(d, Deployment)
    )


def _metric(metric: str) -> Callable[[Row], Cell]:
    def fill(row: Row) -> Cell:
        one: Alternative = row.item
        return next((t.other for t in one.trades if t.metric == metric), None)

    return fill


def _change(metric: str) -> Callable[[Row], Cell]:
    """Return the change against the first plan, where both are known."""

    def fill(row: Row) -> Cell:
        best, mine = row.above[metric], row[metric]
        return None if best.value is None or mine.value is None else change(mine, best)

    return fill
