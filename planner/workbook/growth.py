"""Two years of growth: which pool runs out when, and what to order when."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from planner.plan import Plan
from planner.workbook.assumptions import Assumptions
from planner.workbook.demand import NONE, Demand, replicas_needed, sum_of
from planner.workbook.facts import CapacityFacts
from planner.workbook.formula import Cell, Formula, at, if_above, if_known, largest, rounded_up, smallest, total, within
from planner.workbook.sheet import TOP, Chart, Column, Row, Series, Sheet, Table, table

_SHEET = "Growth"
_MONTHS = 24
_LAST = Formula(f"{_MONTHS}", _MONTHS)
_BEYOND = f"not in {_MONTHS} months"


class Growth(NamedTuple):
    """Demand and devices by month, and by pool when they run out."""

    months: Table
    pools: Table
    sheet: Sheet


def growth(plan: Plan, facts: CapacityFacts, given: Assumptions, load: Demand) -> Growth:
    """Return the sheet of growth; the plan's mix of deployments is kept."""
    used = [name for name in facts.pools if any(d.inventory == name for d in plan.deployments)]
    note = "the plan's mix of deployments is kept, and room in nodes is not looked at: solve again before ordering"
    months = table(_SHEET, "growth", "By month", _month_columns(plan, used, given, load), range(_MONTHS + 1),
                   TOP, note)  # fmt: skip
    pools = table(_SHEET, "runs_out", "Which pool runs out when", _pool_columns(given, months), used, months.below,
                  "months from now; an order arrives after the lead time, and what is due earlier is late")  # fmt: skip
    orders = table(_SHEET, "orders", "What to order when", _order_columns(used, given, months), range(_MONTHS + 1),
                   pools.below, "whole nodes, to be ordered in the month")  # fmt: skip
    time = months.range("month")
    charts = [
        Chart(
            "line",
            f"Devices of {name}",
            "month",
            "device",
            (
                Series("needed", time, months.range(f"devices_{name}")),
                Series("in stock", time, months.range(f"stock_{name}")),
            ),
        )
        for name in used
    ]
    spent = Chart("line", "Cost of devices needed, by month", "month", "USD/month",
                  (Series("cost", time, months.range("cost_usd_per_month")),))  # fmt: skip
    return Growth(months, pools, Sheet(_SHEET, "Growth over two years", (months, pools, orders), (*charts, spent)))


def _month_columns(plan: Plan, used: list[str], given: Assumptions, load: Demand) -> tuple[Column, ...]:
    parts = load.parts.by("deployment")
    target, rounding = given.setting("utilisation_target"), given.setting("rounding")

    def demand(workload: str) -> Callable[[Row], Cell]:
        asked = given.load(workload)
        return lambda row: asked["demand_requests_per_s"] * (asked["growth_per_month"] + 1) ** row["month"]

    def replicas(name: str, workload: str) -> Callable[[Row], Cell]:
        mine = parts[name]
        return lambda row: replicas_needed(
            row[f"demand_{workload}"] * mine["share"], mine["rate_of_replica"], target, rounding
        )

    def devices(inventory: str) -> Callable[[Row], Cell]:
        mine = [d.name for d in plan.deployments if d.inventory == inventory]
        return lambda row: sum_of([row[f"replicas_{name}"] * parts[name]["devices_per_replica"] for name in mine])

    prices = [given.price(name) for name in used]

    def spent(row: Row) -> Cell:
        hourly = [row[f"devices_{name}"] * price for name, price in zip(used, prices, strict=True)]
        return if_known(prices, total(hourly) * given.setting("hours_per_month"))

    stock = {name: row["devices_in_stock"] for name, row in given.prices.by("inventory").items()}
    short = [column for name in used for column in _short(name, stock[name], given)]
    served = list(load.workloads.by("workload"))
    return (
        Column("month", "month", "", "count", lambda row: row.item),
        *(Column(f"demand_{w}", f"demand: {w}", "request/s", "number", demand(w)) for w in served),
        *(
            Column(f"replicas_{d.name}", f"needed: {d.name}", "replica", "count", replicas(d.name, d.workload))
            for d in plan.deployments
        ),
        *(Column(f"devices_{name}", f"needed: {name}", "device", "count", devices(name)) for name in used),
        *short,
        Column("cost_usd_per_month", "cost", "USD/month", "money", spent),
    )


def _short(name: str, stock: Formula, given: Assumptions) -> tuple[Column, ...]:
    each = given.prices.by("inventory")[name]["devices_per_node"]
    return (
        Column(f"stock_{name}", f"in stock: {name}", "device", "count", lambda row: stock),
        Column(f"nodes_short_{name}", f"missing: {name}", "node", "count",
               lambda row: rounded_up(largest([NONE, row[f"devices_{name}"] - stock]) / each)),
    )  # fmt: skip


def _pool_columns(given: Assumptions, months: Table) -> tuple[Column, ...]:
    lead = given.setting("lead_time_months")
    pools: Mapping[str, Mapping[str, Formula]] = given.prices.by("inventory")

    def first_short(row: Row) -> Formula:
        """Return the first month without room; needs only grow or only shrink, so one comparison starts it all."""
        needed, stock = months.range(f"devices_{row.item}"), pools[row.item]["devices_in_stock"]
        fits = if_above(at(needed, Formula("1", 1)), stock, NONE, within(needed, stock))
        return if_above(fits, _LAST, _BEYOND, fits)

    return (
        Column("inventory", "inventory", "", "text", lambda row: row.item),
        Column("devices_in_stock", "in stock", "device", "count", lambda row: pools[row.item]["devices_in_stock"]),
        Column("devices_now", "needed now", "device", "count",
               lambda row: months.refs[0][f"devices_{row.item}"]),
        Column("devices_last", f"needed in month {_MONTHS}", "device", "count",
               lambda row: months.refs[_MONTHS][f"devices_{row.item}"]),
        Column("runs_out_month", "runs out in", "month", "count", first_short),
        Column("order_by_month", "order by", "month", "count",
               lambda row: _or_text(row["runs_out_month"], largest([NONE, row["runs_out_month"] - lead]))),
        Column("late_months", "late by", "month", "count",
               lambda row: _or_text(row["runs_out_month"], largest([NONE, lead - row["runs_out_month"]]))),
        Column("nodes_missing_last", f"missing in month {_MONTHS}", "node", "count",
               lambda row: months.refs[_MONTHS][f"nodes_short_{row.item}"]),
    )  # fmt: skip


def _or_text(month: Formula, then: Formula) -> Formula:
    """Return a formula where a month is a number, otherwise the text that stands there."""
    value = then.value if isinstance(month.value, int | float) else month.value
    return Formula(f"IF(COUNT({month.text})=1,{then.text},{month.text})", value)


def _order_columns(used: list[str], given: Assumptions, months: Table) -> tuple[Column, ...]:
    lead = given.setting("lead_time_months")
    one = Formula("1", 1)

    def arriving(name: str) -> Callable[[Row], Cell]:
        short = months.range(f"nodes_short_{name}")

        def fill(row: Row) -> Cell:
            known = at(short, smallest([_LAST, row["month"] + lead]) + one)
            if not row.place:
                return known
            before = at(short, smallest([_LAST, row["month"] + lead - one]) + one)
            return largest([NONE, known - before])

        return fill

    return (
        Column("month", "month", "", "count", lambda row: row.item),
        *(Column(f"nodes_to_order_{name}", f"order: {name}", "node", "count", arriving(name)) for name in used),
    )
