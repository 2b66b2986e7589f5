"""`planner schema`: JSON Schema of the files users write."""

from enum import StrEnum
from typing import Annotated

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

    from planner.schema.efficiency import Efficiencies
    from planner.schema.engine import Engine
    from planner.schema.hardware import Hardware
    from planner.schema.scenario import Scenario

    models: dict[Kind, type[BaseModel]] = {
        Kind.scenario: Scenario,
        Kind.hardware: Hardware,
        Kind.engine: Engine,
        Kind.calibration: Efficiencies,
    }
    document = models[kind].model_json_schema()
    print_json({"$schema": "https://json-schema.org/draft/2020-12/schema", **document})
