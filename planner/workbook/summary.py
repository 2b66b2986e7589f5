"""The first page: what is deployed, whether it is enough, what it costs, and when it no longer is."""

from collections.abc import Callable
from typing import NamedTuple

from planner.plan import ObjectiveValue, Plan
from planner.workbook.cost import Cost
from planner.workbook.demand import Demand
from planner.workbook.deployments import Deployments
from planner.workbook.formula import Cell, change, largest, total
from planner.workbook.growth import Growth
from planner.workbook.sheet import TOP, Column, Row, Sheet, Style, Table, table

_SHEET = "Summary"


class _Line(NamedTuple):
    figure: str
    value: Cell
    unit: str
    style: Style
    meaning: str = ""


_COLUMNS = (
    Column("figure", "figure", "", "text", lambda row: row.item.figure),
    Column("value", "value", "", lambda item: item.style, lambda row: row.item.value),
    Column("unit", "unit", "", "text", lambda row: row.item.unit),
    Column("meaning", "meaning", "", "text", lambda row: row.item.meaning),
)


def summary(plan: Plan, placed: Deployments, load: Demand, money: Cost, months: Growth) -> Sheet:
    """Return the first page of a plan that deploys something."""
    figures = table(
        _SHEET, "summary", "Plan", _COLUMNS, _figures(plan, placed, load, money), TOP, plan.termination.detail
    )
    goals = _goals(plan, figures.below)
    pools = table(_SHEET, "room", "How long pools last", _pool_columns(months), months.pools.refs, goals.below,
                  "at the growth on the sheet Assumptions")  # fmt: skip
    tables = [figures, goals, pools]
    if plan.baseline:
        tables.append(_today(plan, tables[-1].below))
    return Sheet(_SHEET, f"Capacity plan: {plan.scenario.name}", tuple(tables))


def without_plan(plan: Plan) -> Sheet:
    """Return the first page where nothing is deployed: how it ended, and what could be reached instead."""
    items = [_Line("result", plan.termination.reason, "", "text"), _Line("proof", plan.termination.detail, "", "text")]
    items += [_Line("instead", line, "", "text") for line in plan.shortfall]
    return Sheet(_SHEET, f"No plan: {plan.scenario.name}", (table(_SHEET, "summary", "Result", _COLUMNS, items),))


def _figures(plan: Plan, placed: Deployments, load: Demand, money: Cost) -> list[_Line]:
    rates = {name: total(load.workloads.range(f"{name}_requests_per_s")) for name in ("demand", "capacity")}
    return [
        _Line("devices", placed.table.totals["devices"], "device", "count", "planned, of all pools"),
        _Line("devices needed", load.parts.totals["devices_needed"], "device", "count",
              "for the demand at the utilisation target"),
        _Line("demand", rates["demand"], "request/s", "number", "all workloads"),
        _Line("capacity", rates["capacity"], "request/s", "number", "what the plan carries at most"),
        *_latencies(plan, load),
        *(_Line(item.title, row["value"], item.unit, item.style, item.meaning)
          for row, item in zip(money.totals.refs, money.totals.items, strict=True)),
    ]  # fmt: skip


def _latencies(plan: Plan, load: Demand) -> list[_Line]:
    return [
        _Line(name.upper(), largest(load.workloads.range(f"{name}_ms")), "ms", "number", "worst mean of any workload")
        for name in ("ttft", "tpot")
        if getattr(plan.predicted, f"{name}_ms") is not None
    ]


def _goals(plan: Plan, top: int) -> Table:
    def text(goal: ObjectiveValue) -> str:
        return f"{goal.sense} {goal.metric}"

    columns = (
        Column("goal", "goal", "", "text", lambda row: text(row.item)),
        Column("value", "reached", "see right", "number", lambda row: row.item.value),
        Column("unit", "unit", "", "text", lambda row: row.item.unit),
        Column("bound", "proven bound", "see left", "number", lambda row: row.item.bound),
        Column("relative_gap", "gap", "", "percent", lambda row: row.item.relative_gap),
    )
    return table(_SHEET, "goals", "Goals", columns, (plan.objective, *plan.later_objectives), top)


def _pool_columns(months: Growth) -> tuple[Column, ...]:
    wanted = ("inventory", "devices_in_stock", "runs_out_month", "order_by_month", "late_months", "nodes_missing_last")
    by_key = {column.key: column for column in months.pools.columns}
    return tuple(Column(key, by_key[key].title, by_key[key].unit, by_key[key].style, _shown(key)) for key in wanted)


def _shown(key: str) -> Callable[[Row], Cell]:
    """Return what fills a column with references to a column of another table, whose rows are the items."""
    return lambda row: row.item[key]


def _today(plan: Plan, top: int) -> Table:
    columns = (
        Column("metric", "metric", "", "text", lambda row: row.item.metric),
        Column("today", "today", "see right", "number", lambda row: row.item.baseline),
        Column("unit", "unit", "", "text", lambda row: row.item.unit),
        Column("plan", "plan", "see left", "number", lambda row: row.item.plan),
        Column("gain", "gain", "", "percent", _gain),
    )
    return table(_SHEET, "today", "Beside what runs today", columns, plan.baseline, top)


def _gain(row: Row) -> Cell:
    """Return the plan's over today's, less 1, where the plan has it."""
    return None if row.item.gain is None else change(row["plan"], row["today"])
