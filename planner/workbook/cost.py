"""What the plan costs, and what the demand needs of it: by deployment, by pool, per request and token."""

from collections.abc import Callable
from typing import NamedTuple

from planner.plan import Plan
from planner.workbook.assumptions import Assumptions
from planner.workbook.demand import Demand, sum_of
from planner.workbook.facts import CapacityFacts
from planner.workbook.formula import Cell, Formula, if_known, total
from planner.workbook.sheet import TOP, Chart, Column, Row, Series, Sheet, Style, Table, table

_SHEET = "Cost"
_PER_MILLION = Formula("10^6", 1e6, "^")
_SECONDS_PER_HOUR = Formula("60*60", 3600, "*")


class Cost(NamedTuple):
    """Cost by deployment and pool, and totals by name."""

    deployments: Table
    pools: Table
    totals: Table
    sheet: Sheet

    def total(self, name: str) -> Formula:
        """Return the reference to a total."""
        return self.totals.by("figure")[name]["value"]


def cost(plan: Plan, facts: CapacityFacts, given: Assumptions, load: Demand) -> Cost:
    """Return the sheet of costs."""
    by_deployment = table(_SHEET, "cost", "By deployment", _columns(given, load), plan.deployments, TOP,
                          "planned, and needed for the demand at the utilisation target")  # fmt: skip
    pools = table(_SHEET, "pools", "By pool", _pool_columns(plan, given, by_deployment), facts.pools,
                  by_deployment.below, "devices in stock cost nothing until they are used")  # fmt: skip
    totals = _totals(given, load, by_deployment, pools)
    names = by_deployment.range("deployment")
    chart = Chart(
        "column",
        "Cost by deployment",
        "deployment",
        "USD/h",
        (
            Series("planned", names, by_deployment.range("cost_usd_per_h")),
            Series("needed at the demand", names, by_deployment.range("needed_cost_usd_per_h")),
        ),
    )
    return Cost(by_deployment, pools, totals, Sheet(_SHEET, "Cost", (by_deployment, pools, totals), (chart,)))


def _columns(given: Assumptions, load: Demand) -> tuple[Column, ...]:
    parts = load.parts.by("deployment")

    def spent(devices: str) -> Callable[[Row], Cell]:
        return lambda row: if_known([row["price_usd_per_h"]], row[devices] * row["price_usd_per_h"])

    return (
        Column("deployment", "deployment", "", "text", lambda row: row.item.name),
        Column("inventory", "inventory", "", "text", lambda row: row.item.inventory),
        Column("price_usd_per_h", "price of a device", "USD/h", "money",
               lambda row: or_unknown(given.price(row.item.inventory))),
        Column("devices", "planned", "device", "count",
               lambda row: parts[row.item.name]["replicas"] * parts[row.item.name]["devices_per_replica"],
               summed=True),
        Column("cost_usd_per_h", "planned", "USD/h", "money", spent("devices"), summed=True),
        Column("devices_needed", "needed", "device", "count",
               lambda row: parts[row.item.name]["devices_needed"], summed=True),
        Column("needed_cost_usd_per_h", "needed", "USD/h", "money", spent("devices_needed"), summed=True),
    )  # fmt: skip


def or_unknown(price: Formula) -> Formula:
    """Return a reference that says "unknown" where its cell is blank."""
    return if_known([price], price)


def _pool_columns(plan: Plan, given: Assumptions, by_deployment: Table) -> tuple[Column, ...]:
    rows = by_deployment.by("deployment")

    def summed(key: str) -> Callable[[Row], Formula]:
        return lambda row: sum_of([rows[d.name][key] for d in plan.deployments if d.inventory == row.item])

    def price(row: Row) -> Formula:
        return given.price(row.item)

    def stock(row: Row) -> Formula:
        return given.prices.by("inventory")[row.item]["devices_in_stock"]

    return (
        Column("inventory", "inventory", "", "text", lambda row: row.item),
        Column("devices_in_stock", "in stock", "device", "count", stock, summed=True),
        Column("devices_used", "planned", "device", "count", summed("devices"), summed=True),
        Column("devices_idle", "idle", "device", "count",
               lambda row: row["devices_in_stock"] - row["devices_used"], summed=True),
        Column("devices_needed", "needed", "device", "count", summed("devices_needed"), summed=True),
        Column("cost_usd_per_h", "planned", "USD/h", "money",
               lambda row: if_known([price(row)], row["devices_used"] * price(row))),
        Column("rated_power_w", "rated power, planned", "W", "count",
               lambda row: _power(given.prices.by("inventory")[row.item]["rated_power_w"], row["devices_used"])),
    )  # fmt: skip


def _power(each: Formula, devices: Formula) -> Formula:
    return if_known([each], devices * each)


class _Total(NamedTuple):
    name: str
    title: str
    unit: str
    style: Style
    value: Formula
    meaning: str


def _totals(given: Assumptions, load: Demand, by_deployment: Table, pools: Table) -> Table:
    hours = given.setting("hours_per_month")
    columns = (
        Column("figure", "figure", "", "text", lambda row: row.item.name),
        Column("value", "value", "", lambda item: item.style, lambda row: row.item.value, named=lambda item: item.name),
        Column("unit", "unit", "", "text", lambda row: row.item.unit),
        Column("meaning", "meaning", "", "text", lambda row: row.item.meaning),
    )
    planned, needed = (by_deployment.totals[key] for key in ("cost_usd_per_h", "needed_cost_usd_per_h"))
    hourly = [Formula(name, cell.value) for name, cell in (("cost_usd_per_h", planned), ("needed_usd_per_h", needed))]
    carried = total(load.workloads.range("capacity_requests_per_s"))
    used = [row["rated_power_w"] for row in pools.refs if row["devices_used"].value]
    rated = if_known(used, total(used))
    items = [
        _Total("cost_usd_per_h", "cost per hour", "USD/h", "money", planned, "planned devices"),
        _Total("cost_usd_per_month", "cost per month", "USD/month", "money", _times(hourly[0], hours), "the same"),
        _Total("needed_usd_per_h", "cost per hour, needed", "USD/h", "money", needed, "for the demand at the target"),
        _Total("needed_usd_per_month", "cost per month, needed", "USD/month", "money", _times(hourly[1], hours), ""),
        _Total("cost_usd_per_million_requests", "cost per million requests", "USD", "money",
               _per_million(hourly[0], carried), "planned, at capacity"),
        _Total("rated_power_w", "rated power", "W", "count", rated, "planned devices"),
    ]  # fmt: skip
    tokens = load.workloads.range("output_tokens_per_s")
    if all(cell.value is not None for cell in tokens):
        price = _per_million(hourly[0], total(tokens))
        name = "cost_usd_per_million_tokens"
        items.append(_Total(name, "cost per million output tokens", "USD", "money", price, "planned, at capacity"))
    return table(_SHEET, "totals", "Totals", columns, items, pools.below)


def _times(hourly: Formula, hours: Formula) -> Formula:
    return if_known([hourly], hourly * hours)


def _per_million(hourly: Formula, per_s: Formula) -> Formula:
    return if_known([hourly], hourly / (per_s * _SECONDS_PER_HOUR) * _PER_MILLION)
