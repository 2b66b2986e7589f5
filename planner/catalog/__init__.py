"""Finds and loads specifications by name or path; every fault comes with its file, line and column."""

from planner.catalog.architecture import architecture_names, load_about, load_architecture
from planner.catalog.case import Case, Specification
from planner.catalog.scenario import AnyCase, find_scenario, load_scenario, scenario_from_data
from planner.catalog.specs import (
    efficiency_names,
    engine_names,
    hardware_names,
    is_path,
    load_calibration,
    load_efficiencies,
    load_engine,
    load_hardware,
    load_priors,
)
from planner.catalog.table_columns import TableCase

__all__ = [
    "AnyCase",
    "Case",
    "Specification",
    "TableCase",
    "architecture_names",
    "efficiency_names",
    "engine_names",
    "find_scenario",
    "hardware_names",
    "is_path",
    "load_about",
    "load_architecture",
    "load_calibration",
    "load_efficiencies",
    "load_engine",
    "load_hardware",
    "load_priors",
    "load_scenario",
    "scenario_from_data",
]
