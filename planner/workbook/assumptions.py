"""What the reader of a workbook may change, and where the figures come from."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from planner.plan import Certainty, Deployment, Plan
from planner.workbook.facts import CapacityFacts, LoadFacts
from planner.workbook.formula import Cell, Formula
from planner.workbook.sheet import TOP, Column, Row, Style, Table, defined_name, field, table

_SHEET = "Assumptions"
_YOURS = "an example, no part of the plan: put in yours"
_HOURS = Formula("365*24/12", 365 * 24 / 12, "/")


class Assumptions(NamedTuple):
    """The editable tables: settings by name, prices by inventory, loads by workload."""

    settings: Table
    prices: Table
    loads: Table

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables from top to bottom."""
        return self.settings, self.prices, self.loads

    @property
    def below(self) -> int:
        """The first free row."""
        return self.loads.below

    def setting(self, name: str) -> Formula:
        """Return the reference to a setting."""
        return self.settings.by("setting")[name]["value"]

    def price(self, inventory: str) -> Formula:
        """Return the reference to the price of a device [USD/h]."""
        return self.prices.by("inventory")[inventory]["price_usd_per_h"]

    def load(self, workload: str) -> Mapping[str, Formula]:
        """Return the references of a workload's row."""
        return self.loads.by("workload")[workload]


class _Setting(NamedTuple):
    name: str
    value: Cell
    unit: str
    style: Style
    meaning: str


_SETTINGS = (
    _Setting(
        "utilisation_target", 1.0, "share of the predicted rate", "share",
        "how full replicas may be planned; the plan itself uses all of their predicted rate",
    ),
    _Setting("monthly_growth", 0.05, "per month", "percent", f"growth of every load; {_YOURS}"),
    _Setting("lead_time_months", 3, "month", "count", f"from order to operation, whole months; {_YOURS}"),
    _Setting("hours_per_month", _HOURS, "h/month", "number", "a twelfth of a year"),
    _Setting("rounding", 1e-6, "replica", "general", "a need so little above a whole number of replicas is none"),
)  # fmt: skip


def assumptions(plan: Plan, facts: CapacityFacts) -> Assumptions:
    """Return what can be changed."""
    settings = table(
        _SHEET,
        "settings",
        "Settings",
        (
            Column("setting", "setting", "", "text", lambda row: row.item.name),
            Column(
                "value",
                "value",
                "",
                lambda item: item.style,
                lambda row: row.item.value,
                editable=True,
                named=lambda item: item.name,
            ),
            Column("unit", "unit", "", "text", lambda row: row.item.unit),
            Column("meaning", "meaning", "", "text", lambda row: row.item.meaning),
        ),
        _SETTINGS,
        TOP,
        "cells on yellow are yours to change; everything else follows",
    )
    prices = table(_SHEET, "prices", "Devices and prices", _price_columns(), facts.pools.items(), settings.below,
                   "from the scenario, without devices it reserves; a blank price is unknown")  # fmt: skip
    note = "demand is what the scenario asks for, or what the plan carries where it asks for the most that fits"
    columns = _load_columns(plan, settings)
    loads = table(_SHEET, "loads", "Loads", columns, facts.loads.items(), prices.below, note)
    return Assumptions(settings, prices, loads)


def _price_columns() -> tuple[Column, ...]:
    return (
        Column("inventory", "inventory", "", "text", lambda row: row.item[0]),
        Column("hardware", "hardware", "", "text", lambda row: row.item[1].hardware),
        Column(
            "devices_in_stock", "in stock", "device", "count", lambda row: row.item[1].devices, editable=True,
            named=lambda item: defined_name("stock", item[0]),
        ),
        Column("devices_per_node", "node", "device", "count", lambda row: row.item[1].devices_per_node),
        Column(
            "price_usd_per_h", "price of a device", "USD/h", "money", lambda row: row.item[1].price_usd_per_h,
            editable=True, named=lambda item: defined_name("price", item[0]),
        ),
        Column("rated_power_w", "rated power of a device", "W", "number", lambda row: row.item[1].power_w),
    )  # fmt: skip


def _load_columns(plan: Plan, settings: Table) -> tuple[Column, ...]:
    growth = settings.by("setting")["monthly_growth"]["value"]
    return (
        Column("workload", "workload", "", "text", lambda row: row.item[0]),
        Column("input_tokens", "prompt", "token", "count", lambda row: row.item[1].input_tokens),
        Column("output_tokens", "output", "token", "count", lambda row: row.item[1].output_tokens),
        Column("asked", "asked for", "", "text", lambda row: _KINDS[row.item[1].kind]),
        Column(
            "load", "load", "see left", "number", lambda row: _asked(plan, *row.item), editable=True,
            named=lambda item: defined_name("load", item[0]),
        ),
        Column("residence_s", "time of a request", "s", "number", lambda row: _residence(plan, *row.item)),
        Column(
            "demand_requests_per_s", "demand", "request/s", "number", _demand,
            named=lambda item: defined_name("demand", item[0]),
        ),
        Column(
            "growth_per_month", "growth", "per month", "percent", lambda row: growth, editable=True,
            named=lambda item: defined_name("growth", item[0]),
        ),
        *(Column(f"{name}_limit_ms", f"{name.upper()} limit", "ms", "number", _limit(name)) for name in _LIMITS),
    )  # fmt: skip


_LIMITS = ("ttft", "tpot", "itl")
_KINDS = {"rate": "request/s", "in_flight": "requests in flight", "max": "the most that fits, in request/s"}


def _limit(name: str) -> Callable[[Row], Cell]:
    return lambda row: row.item[1].limits_ms.get(name)


def carried(plan: Plan, workload: str) -> float:
    """Return what a plan carries of a workload [request/s]."""
    found = plan.by_workload.get(workload)
    return 0.0 if found is None else found.requests_per_s


def _asked(plan: Plan, workload: str, load: LoadFacts) -> float:
    return carried(plan, workload) if load.asked is None else load.asked


def _residence(plan: Plan, workload: str, load: LoadFacts) -> float | None:
    """Return how long a request is in flight where loads count those [s], by Little's law."""
    if load.kind != "in_flight":
        return None
    in_flight = math.fsum(d.requests_in_flight for d in plan.deployments if d.workload == workload)
    return in_flight / carried(plan, workload)


def _demand(row: Row) -> Cell:
    load: Formula = row["load"]
    return load / row["residence_s"] if row.item[1].kind == "in_flight" else load


def intervals(plan: Plan, top: int) -> Iterator[Table]:
    """Yield how sure the predictions of deployments are, where the plan says."""
    ours = [d for d in plan.deployments if isinstance(d, Deployment)]
    if not ours:
        return
    chances = {certainty.deployment: certainty for certainty in plan.certainty}
    figures = [
        (f"{metric}_{end}", metric.partition("_")[0].upper() + f", {words}", "ms")
        for metric in ("ttft_ms", "tpot_ms")
        for end, words in (("p10", "a tenth is below"), ("p50", "median"), ("p90", "a tenth is above"))
    ]
    known = (
        ("rivals", "other divisions of the model", "", "count"),
        ("chance_best", "chance that none does better", "", "percent"),
        ("expected_regret", "expected regret", "", "percent"),
        ("requests_per_s", "after the winner's curse", "request/s", "number"),
    )
    columns = (
        Column("deployment", "deployment", "", "text", lambda row: row.item.name),
        Column("basis", "nearest that was measured", "", "text", field("predicted", "basis")),
        Column("confidence", "confidence", "", "percent", field("predicted", "confidence")),
        *(Column(key, title, unit, "number", field("predicted", key)) for key, title, unit in figures),
        *(Column(key, title, unit, style, _certain(chances, key)) for key, title, unit, style in known),  # type: ignore[arg-type]
        Column("outside", "beyond all measured runs", "", "text", field("predicted", "outside")),
    )
    note = "of deployments like it, as the calibration expects; blank where efficiencies were not fitted"
    yield table(_SHEET, "intervals", "How sure predictions are", columns, ours, top, note)


def _certain(chances: Mapping[str, Certainty], key: str) -> Callable[[Row], Cell]:
    def fill(row: Row) -> Cell:
        known = chances.get(row.item.name)
        value: float | None = None if known is None else getattr(known, key)
        return value

    return fill


def sources(facts: CapacityFacts, top: int) -> Iterator[Table]:
    """Yield where the figures of devices and calibrations are from."""
    columns = tuple(
        Column(key, title, "", "text", field(key))
        for key, title in (
            ("specification", "specification"), ("field", "field"), ("value", "value"), ("source", "source"),
            ("url", "address"), ("note", "note"),
        )
    )  # fmt: skip
    yield table(_SHEET, "sources", "Sources", columns, facts.figures, top, "as the specifications give them")
