"""What-if cases: demand, rates, utilisation and prices changed, and what the same mix of deployments then costs."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from planner.plan import Plan
from planner.workbook.assumptions import Assumptions
from planner.workbook.cost import Cost
from planner.workbook.demand import Demand, replicas_needed, sum_of
from planner.workbook.formula import Cell, Formula, change, if_known, total
from planner.workbook.sheet import TOP, Chart, Column, Row, Series, Table, table

_SHEET = "Sensitivity"
_SWINGS = (0.8, 1.2)
_MORE = (1.5, 2.0)
_TARGETS = (0.9, 0.8, 0.7)


class Sensitivity(NamedTuple):
    """The cases, and a chart of them."""

    cases: Table
    chart: Chart


class _Case(NamedTuple):
    """What is multiplied in a case; 1 where it is as it is."""

    name: str
    demand: float = 1.0
    rate: float = 1.0
    target: float = 1.0
    prices: Mapping[str, float] = {}


def sensitivity(plan: Plan, given: Assumptions, load: Demand, money: Cost) -> Sensitivity:
    """Return what-if cases; their factors are the reader's to change."""
    used = list(dict.fromkeys(d.inventory for d in plan.deployments))
    note = (
        "each case multiplies the demand, the rate of every replica, the utilisation target and prices by its factors"
    )
    cases = table(_SHEET, "what_if", "What if", _columns(plan, used, given, load, money), _cases(used), TOP, note)
    labels = cases.range("case")
    chart = Chart(
        "column",
        "Cost of devices needed, by what-if case",
        "case",
        "USD/h",
        (Series("needed", labels, cases.range("cost_usd_per_h")),),
    )
    return Sensitivity(cases, chart)


def _cases(used: list[str]) -> Iterator[_Case]:
    yield _Case("as it is")
    for factor in (*_SWINGS, *_MORE):
        yield _Case(f"demand × {factor:g}", demand=factor)
    for factor in _SWINGS:
        yield _Case(f"rates × {factor:g}", rate=factor)
    for factor in _TARGETS:
        yield _Case(f"target × {factor:g}", target=factor)
    for name in used:
        for factor in _SWINGS:
            yield _Case(f"price of {name} × {factor:g}", prices={name: factor})


def _columns(plan: Plan, used: list[str], given: Assumptions, load: Demand, money: Cost) -> tuple[Column, ...]:
    parts, rounding = load.parts.by("deployment"), given.setting("rounding")
    target, base = given.setting("utilisation_target"), money.total("needed_usd_per_h")

    def price_factor(name: str) -> Callable[[Row], Cell]:
        return lambda row: row.item.prices.get(name, 1.0)

    def replicas(name: str) -> Callable[[Row], Cell]:
        mine = parts[name]
        return lambda row: replicas_needed(
            mine["load_requests_per_s"] * row["demand_factor"],
            mine["rate_of_replica"] * row["rate_factor"],
            target * row["target_factor"],
            rounding,
        )

    def devices(row: Row) -> Formula:
        return total([row[f"replicas_{d.name}"] * parts[d.name]["devices_per_replica"] for d in plan.deployments])

    def spent(row: Row) -> Cell:
        each = [
            row[f"replicas_{d.name}"]
            * parts[d.name]["devices_per_replica"]
            * given.price(d.inventory)
            * row[f"price_factor_{d.inventory}"]
            for d in plan.deployments
        ]
        return if_known([given.price(name) for name in used], sum_of(each))

    return (
        Column("case", "case", "", "text", lambda row: row.item.name),
        Column("demand_factor", "demand", "×", "factor", lambda row: row.item.demand, editable=True),
        Column("rate_factor", "rates", "×", "factor", lambda row: row.item.rate, editable=True),
        Column("target_factor", "target", "×", "factor", lambda row: row.item.target, editable=True),
        *(
            Column(f"price_factor_{name}", f"price: {name}", "×", "factor", price_factor(name), editable=True)
            for name in used
        ),
        *(
            Column(f"replicas_{d.name}", f"needed: {d.name}", "replica", "count", replicas(d.name))
            for d in plan.deployments
        ),
        Column("devices", "needed", "device", "count", devices),
        Column("cost_usd_per_h", "cost", "USD/h", "money", spent),
        Column("change", "against needed now", "", "percent",
               lambda row: change(row["cost_usd_per_h"], base)),
    )  # fmt: skip
