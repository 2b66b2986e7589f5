"""The plan file: written for programs, and read back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from planner import yaml_io
from planner.errors import InputError, Problem, as_written
from planner.plan import PLAN_SCHEMA_VERSION, Deployment, ListedDeployment, Plan, as_data

_KINDS = (Deployment.__name__, ListedDeployment.__name__)


def plan_text(plan: Plan) -> str:
    """Return a plan as JSON text."""
    return json.dumps(as_data(plan), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        InputError: not JSON, another schema version, or fields that are missing or of the wrong type.
    """
    text = yaml_io.read_text(path)
    data = yaml_io.parse_json(text, str(path))
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != PLAN_SCHEMA_VERSION:
        message = f"must be {PLAN_SCHEMA_VERSION} for this version of the planner (got {as_written(version)})"
        raise InputError.single(str(path), message, "schema_version")
    try:
        plan = TypeAdapter(Plan).validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(
            Problem(str(path), 0, 0, ".".join(str(part) for part in place), detail["msg"].lower())
            for detail in error.errors(include_url=False)
            for place in _places(data, detail["loc"])
        ) from None
    nameless = [Problem(str(path), 0, 0, place, "must be a mapping") for place in _nameless(data, as_data(plan), "")]
    if nameless:
        raise InputError(nameless)
    return plan


def _places(data: Any, loc: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Yield a fault's place, without the kind of deployment that was tried; not at all where it is of another kind."""
    if len(loc) > 2 and loc[2] in _KINDS:
        label = "label" in data["deployments"][loc[1]]
        if label == (loc[2] == ListedDeployment.__name__):
            yield (*loc[:2], *loc[3:])
    else:
        yield loc


def _nameless(given: Any, read: Any, place: str) -> Iterator[str]:
    """Yield where values stand in a list without the names of their fields: a named tuple accepts them, too."""
    if isinstance(read, dict) and not isinstance(given, dict):
        yield place
    elif isinstance(read, dict | list):
        for key in read if isinstance(read, dict) else range(len(read)):
            yield from _nameless(given[key], read[key], f"{place}.{key}" if place else str(key))
