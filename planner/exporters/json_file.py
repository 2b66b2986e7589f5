"""The plan file: written for programs, and read back."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from planner import yaml_io
from planner.catalog.validate import in_words
from planner.errors import InputError, Problem, as_written
from planner.plan import PLAN_SCHEMA_VERSION, Deployment, ListedDeployment, Plan, as_data

Place = tuple[str | int, ...]
_MAPPING = "must be a mapping of fields"
_KINDS = {kind.__name__: kind for kind in (Deployment, ListedDeployment)}


def plan_text(plan: Plan) -> str:
    """Return a plan as JSON text."""
    return json.dumps(as_data(plan), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_plan(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        InputError: not JSON, another schema version, or fields that are missing or of the wrong type.
    """
    text = yaml_io.read_text(path)
    if path.suffix in (".yaml", ".yml"):
        raise InputError.single(
            str(path), f"is no plan: `planner solve {path} --out plan.json` makes one of a scenario"
        )
    data = yaml_io.parse_json(text, str(path))
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != PLAN_SCHEMA_VERSION:
        message = f"must be {PLAN_SCHEMA_VERSION} for this version of the planner (got {as_written(version)})"
        raise InputError([_with_places(text, path).problem(("schema_version",), message)])
    try:
        plan = TypeAdapter(Plan).validate_json(text, strict=True)
    except ValidationError as error:
        document = _with_places(text, path)
        raise InputError(
            _problem(document, place, detail)
            for detail in error.errors(include_url=False)
            for place in _places(data, detail["loc"])
        ) from None
    nameless = list(_nameless(data, as_data(plan), ()))
    if nameless:
        document = _with_places(text, path)
        raise InputError(document.problem(place, _MAPPING) for place in nameless)
    return plan


def _problem(document: yaml_io.Document, place: Place, detail: ErrorDetails) -> Problem:
    if detail["type"] == "missing" and isinstance(place[-1], int):  # of a list, items are not missing
        return document.problem(place[:-1], _MAPPING)
    return document.problem(place, in_words(detail, _fields_at(detail["loc"][:-1])))


def _with_places(text: str, path: Path) -> yaml_io.Document:
    """Return JSON with the place of every field: all but very long texts are YAML, too."""
    try:
        return yaml_io.parse(text, str(path))
    except InputError:
        return yaml_io.Document(str(path), None, {(): (str(path), 0, 0)})


def _fields_at(loc: Place) -> tuple[str, ...]:
    """Return the names of the fields at a place of a plan; none where it has none of its own."""
    kind: Any = Plan
    for part in loc:
        inside = [each for each in get_args(kind) if each not in (NoneType, Ellipsis)]
        if part in _KINDS:
            kind = _KINDS[str(part)]
        elif hasattr(kind, "_fields"):
            kind = get_type_hints(kind).get(str(part))
        else:
            kind = inside[-1] if inside else None
        parts = [each for each in get_args(kind) if each is not NoneType]
        kind = parts[0] if get_origin(kind) is UnionType and len(parts) == 1 else kind
    return tuple(getattr(kind, "_fields", ()))


def _places(data: Any, loc: Place) -> Iterator[Place]:
    """Yield a fault's place, without the kind of deployment that was tried; not at all where it is of another kind."""
    if len(loc) > 2 and loc[2] in _KINDS:
        label = "label" in data["deployments"][loc[1]]
        if label == (loc[2] == ListedDeployment.__name__):
            yield (*loc[:2], *loc[3:])
    else:
        yield loc


def _nameless(given: Any, read: Any, place: Place) -> Iterator[Place]:
    """Yield where values stand in a list without the names of their fields: a named tuple accepts them, too."""
    if isinstance(read, dict) and not isinstance(given, dict):
        yield place
    elif isinstance(read, dict | list):
        for key in read if isinstance(read, dict) else range(len(read)):
            yield from _nameless(given[key], read[key], (*place, key))
