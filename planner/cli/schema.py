"""`planner schema`: JSON Schema of the files users write."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from planner.cli.common import print_json


class Kind(StrEnum):
    """Files with a schema."""

    scenario = "scenario"
    hardware = "hardware"
    engine = "engine"
    calibration = "calibration"


def schema(kind: Annotated[Kind, typer.Argument(help="Which file.")] = Kind.scenario) -> None:
    """Print the JSON Schema of a scenario or specification, for editors and programs."""
    from pydantic import BaseModel

    from planner.schema.engine import Engine
    from planner.schema.hardware import Hardware

    models: dict[Kind, type[BaseModel]] = {Kind.hardware: Hardware, Kind.engine: Engine}
    forms = {Kind.scenario: _of_scenarios, Kind.calibration: _of_calibrations}
    document = models[kind].model_json_schema() if kind in models else forms[kind]()
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **document})


def _of_calibrations() -> dict[str, Any]:
    """Return the schema of both forms of a calibration: fitted, with the rows it rests on, and efficiencies alone."""
    from pydantic.json_schema import models_json_schema

    from planner.schema.calibration import Calibration
    from planner.schema.efficiency import Efficiencies

    refs, document = models_json_schema([(Calibration, "validation"), (Efficiencies, "validation")])
    fitted, alone = (refs[form, "validation"] for form in (Calibration, Efficiencies))
    return {"if": {"required": ["rows"]}, "then": fitted, "else": alone, **document}


def _of_scenarios() -> dict[str, Any]:
    """Return the schema of both forms of a scenario: with a table of columns, and without."""
    from pydantic.json_schema import models_json_schema

    from planner.schema.scenario import Scenario, TableScenario

    # What a preset supplies need not be written.
    refs, document = models_json_schema([(Scenario, "validation"), (TableScenario, "validation")])
    with_table, without = (refs[form, "validation"] for form in (TableScenario, Scenario))
    definitions = document["$defs"]
    lengths = ["input_tokens", "output_tokens"]
    workload = definitions["Workload"]
    workload["required"] = [name for name in workload["required"] if name not in lengths]
    workload["anyOf"] = [{"required": ["preset"]}, {"required": lengths}]
    some_preset = {"not": {"additionalProperties": {"not": {"required": ["preset"]}}}}
    for name in ("Scenario", "TableScenario"):
        definitions[name]["required"].remove("objective")
        definitions[name]["anyOf"] = [{"required": ["objective"]}, {"properties": {"workloads": some_preset}}]
    return {"if": {"required": ["columns"]}, "then": with_table, "else": without, **document}
