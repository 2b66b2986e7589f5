"""The capacity workbook as data: sheets of tables whose cells are values, or formulas with their value.

Nothing here knows a file format: exporters write the sheets as a workbook, or their tables as CSV and Parquet.
"""

from planner.plan import Plan
from planner.workbook.assumptions import assumptions, intervals, sources
from planner.workbook.cost import cost
from planner.workbook.demand import demand
from planner.workbook.deployments import deployments
from planner.workbook.facts import CapacityFacts
from planner.workbook.growth import growth
from planner.workbook.question import question
from planner.workbook.sensitivity import sensitivity
from planner.workbook.sheet import TOP, Sheet
from planner.workbook.studied import alternatives, elasticities
from planner.workbook.summary import summary, without_plan


def sheets(plan: Plan, facts: CapacityFacts) -> tuple[Sheet, ...]:
    """Return the sheets of a plan in the order they are shown; those of figures only where something is deployed."""
    asked = question(plan)
    if not plan.deployments:
        return (without_plan(plan), Sheet("Assumptions", "Where figures come from", tuple(sources(facts, TOP))), asked)
    given = assumptions(plan, facts)
    placed = deployments(plan, given)
    load = demand(plan, given, placed)
    money = cost(plan, facts, given, load)
    months = growth(plan, facts, given, load)
    swings = sensitivity(plan, given, load, money)
    tables = (*given.tables, *intervals(plan, given.below))
    tables = (*tables, *sources(facts, tables[-1].below))
    others = (*alternatives(facts), *elasticities(facts, swings))
    return (
        summary(plan, placed, load, money, months),
        placed.sheet,
        load.sheet,
        money.sheet,
        months.sheet,
        *others,
        Sheet("Assumptions", "What can be changed, and where figures come from", tables),
        asked,
    )
