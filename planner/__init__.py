"""Decides how to deploy large language models, with a proof.

    from planner import load_scenario, solve
    report = solve(load_scenario("scenarios/quickstart.yaml"))
    report.plan.deployments

The names below are the public interface; everything else may change.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from planner._version import __version__

if TYPE_CHECKING:
    from planner.api import (
        alternatives,
        explain_plan,
        export,
        infeasible,
        likely,
        load_scenario,
        pareto,
        plan_text,
        plot_explanation,
        predict,
        read_plan,
        report_text,
        sensitivity,
        solve,
        verify_plan,
        why_not,
    )
    from planner.errors import InputError, PlannerError
    from planner.plan import Plan
    from planner.report import Report

_HOMES = {
    "InputError": "planner.errors",
    "Plan": "planner.plan",
    "PlannerError": "planner.errors",
    "Report": "planner.report",
    "alternatives": "planner.api",
    "explain_plan": "planner.api",
    "export": "planner.api",
    "infeasible": "planner.api",
    "likely": "planner.api",
    "load_scenario": "planner.api",
    "pareto": "planner.api",
    "plan_text": "planner.api",
    "plot_explanation": "planner.api",
    "predict": "planner.api",
    "read_plan": "planner.api",
    "report_text": "planner.api",
    "sensitivity": "planner.api",
    "solve": "planner.api",
    "verify_plan": "planner.api",
    "why_not": "planner.api",
}

__all__ = [
    "InputError",
    "Plan",
    "PlannerError",
    "Report",
    "__version__",
    "alternatives",
    "explain_plan",
    "export",
    "infeasible",
    "likely",
    "load_scenario",
    "pareto",
    "plan_text",
    "plot_explanation",
    "predict",
    "read_plan",
    "report_text",
    "sensitivity",
    "solve",
    "verify_plan",
    "why_not",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `planner --help` need not load a solver."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    msg = f"module 'planner' has no attribute '{name}'"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
