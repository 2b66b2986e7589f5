"""Launch files for MindIE: a config.json per deployment, started by Compose files."""

from collections.abc import Mapping

from planner.launch import compose
from planner.launch.facts import Facts
from planner.launch.found import Found
from planner.launch.mindie import ENGINE
from planner.plan import Plan


def files(plan: Plan, facts: Facts) -> dict[str, str]:
    """Return the launch files by path."""
    return compose.files(plan, facts, ENGINE)


def read(written: Mapping[str, str], plan: Plan, facts: Facts) -> dict[str, Found]:
    """Read launch files back."""
    return compose.read(written, plan, facts, ENGINE)
