"""Demand against capacity: of each workload, and of each deployment if the plan's mix of them is kept."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from planner.plan import Plan, Predicted
from planner.workbook.assumptions import Assumptions
from planner.workbook.deployments import Deployments
from planner.workbook.formula import Cell, Formula, largest, rounded_up, total
from planner.workbook.sheet import TOP, Chart, Column, Row, Series, Sheet, Table, table

_SHEET = "Demand"
NONE = Formula("0", 0)


class Demand(NamedTuple):
    """Demand and capacity by workload, and what of it each deployment takes."""

    workloads: Table
    parts: Table
    sheet: Sheet


def demand(plan: Plan, given: Assumptions, placed: Deployments) -> Demand:
    """Return the sheet of demand against capacity."""
    passing = _carried(plan, placed)
    workloads = _workloads(plan, given, passing)
    note = "the plan's mix of deployments is kept; solving again for a higher load may find a cheaper one"
    parts = table(_SHEET, "parts", "Replicas needed", _part_columns(given, placed, workloads, passing),
                  plan.deployments, workloads.below, note)  # fmt: skip
    names = workloads.range("workload")
    chart = Chart(
        "column",
        "Demand against capacity",
        "workload",
        "request/s",
        (
            Series("demand", names, workloads.range("demand_requests_per_s")),
            Series("capacity at the target", names, workloads.range("usable_requests_per_s")),
        ),
    )
    return Demand(workloads, parts, Sheet(_SHEET, "Demand against capacity", (workloads, parts), (chart,)))


def replicas_needed(load: Formula, rate: Formula, target: Formula, rounding: Formula) -> Formula:
    """Return the replicas that carry a load [request/s], none of them fuller than the target."""
    return largest([NONE, rounded_up(load / (rate * target) - rounding)])


def _carried(plan: Plan, placed: Deployments) -> Mapping[str, Formula]:
    """Return what passes through each deployment: its capacity, or of the parts of pairs what routes carry."""
    routes = placed.routes.refs if placed.routes else ()
    found = {}
    for name, row in placed.table.by("name").items():
        through = [r["requests_per_s"] for r in routes if name in (r["prefill"].value, r["decode"].value)]
        found[str(name)] = row["requests_per_s"] if row["role"].value == "mixed" else sum_of(through)
    return found


def sum_of(cells: Sequence[Formula]) -> Formula:
    """Return the sum of cells, 0 of none."""
    return total(cells) if cells else NONE


def _workloads(plan: Plan, given: Assumptions, passing: Mapping[str, Formula]) -> Table:
    ends = {
        workload: [passing[d.name] for d in plan.deployments if d.workload == workload and d.role != "prefill"]
        for workload in given.loads.by("workload")
    }
    target = given.setting("utilisation_target")

    def of(workload: Any) -> Mapping[str, Formula]:
        return given.load(workload)

    columns = (
        Column("workload", "workload", "", "text", lambda row: row.item),
        Column("demand_requests_per_s", "demand", "request/s", "number",
               lambda row: of(row.item)["demand_requests_per_s"]),
        Column("capacity_requests_per_s", "capacity", "request/s", "number", lambda row: sum_of(ends[row.item])),
        Column("usable_requests_per_s", "at the target", "request/s", "number",
               lambda row: row["capacity_requests_per_s"] * target),
        Column("headroom_requests_per_s", "headroom", "request/s", "number",
               lambda row: row["usable_requests_per_s"] - row["demand_requests_per_s"]),
        Column("utilisation", "utilisation", "", "percent",
               lambda row: row["demand_requests_per_s"] / row["capacity_requests_per_s"]),
        Column("output_tokens_per_s", "output at capacity", "token/s", "number",
               lambda row: _tokens(row, of(row.item)["output_tokens"])),
        *(column for name in ("ttft", "tpot") for column in _latency(plan, given, name)),
    )  # fmt: skip
    served = [name for name, found in ends.items() if found]
    return table(_SHEET, "workloads", "Workloads", columns, served, TOP, "demand is set on the sheet Assumptions")


def _tokens(row: Row, each: Formula) -> Cell:
    capacity: Formula = row["capacity_requests_per_s"]
    return None if each.value is None else capacity * each


def _latency(plan: Plan, given: Assumptions, name: str) -> tuple[Column, Column]:
    def predicted(row: Row) -> Cell:
        found: Predicted = plan.by_workload[row.item]
        value: float | None = getattr(found, f"{name}_ms")
        return value

    return (
        Column(f"{name}_ms", f"{name.upper()}, worst mean", "ms", "number", predicted),
        Column(f"{name}_limit_ms", f"{name.upper()} limit", "ms", "number",
               lambda row: _copied(given.load(row.item)[f"{name}_limit_ms"])),
    )  # fmt: skip


def _copied(cell: Formula) -> Cell:
    """Return a reference, or nothing where the cell is blank: a reference would show 0."""
    return None if cell.value is None else cell


def _part_columns(
    given: Assumptions, placed: Deployments, workloads: Table, passing: Mapping[str, Formula]
) -> tuple[Column, ...]:
    of_workload, of_placed = workloads.by("workload"), placed.table.by("name")
    target, rounding = given.setting("utilisation_target"), given.setting("rounding")
    return (
        Column("deployment", "deployment", "", "text", lambda row: row.item.name),
        Column("workload", "workload", "", "text", lambda row: row.item.workload),
        Column("inventory", "inventory", "", "text", lambda row: row.item.inventory),
        Column("carried_requests_per_s", "carries at most", "request/s", "number", lambda row: passing[row.item.name]),
        Column("share", "share of the workload", "", "percent",
               lambda row: row["carried_requests_per_s"] / of_workload[row.item.workload]["capacity_requests_per_s"]),
        Column("load_requests_per_s", "load at the demand", "request/s", "number",
               lambda row: of_workload[row.item.workload]["demand_requests_per_s"] * row["share"]),
        Column("utilisation", "utilisation", "", "percent",
               lambda row: row["load_requests_per_s"] / of_placed[row.item.name]["requests_per_s"]),
        Column("rate_of_replica", "rate of a replica", "request/s", "number",
               lambda row: of_placed[row.item.name]["rate_of_replica"]),
        Column("replicas", "planned", "replica", "count", lambda row: of_placed[row.item.name]["replicas"]),
        Column("replicas_needed", "needed", "replica", "count",
               lambda row: replicas_needed(row["load_requests_per_s"], row["rate_of_replica"], target, rounding)),
        Column("replicas_spare", "spare", "replica", "count",
               lambda row: row["replicas"] - row["replicas_needed"]),
        Column("devices_per_replica", "replica", "device", "count",
               lambda row: of_placed[row.item.name]["devices_per_replica"]),
        Column("devices_needed", "devices needed", "device", "count",
               lambda row: row["replicas_needed"] * row["devices_per_replica"], summed=True),
    )  # fmt: skip
