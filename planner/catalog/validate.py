"""Turns pydantic's findings into problems with a place, in the user's words."""

import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from planner.errors import InputError, Problem, as_written, did_you_mean
from planner.yaml_io import Document, Loc

M = TypeVar("M", bound=BaseModel)

_EXPECTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text in quotes",
    "dict_type": "must be a mapping of names to values",
    "model_type": "must be a mapping of fields",
    "model_attributes_type": "must be a mapping of fields",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}
_LIMITS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def validate(document: Document, model: type[M]) -> M:
    """Check a whole document against a schema.

    Raises:
        InputError: every fault found.
    """
    problems = schema_problems(document, model)
    if isinstance(problems, BaseModel):
        return problems
    raise InputError(problems)


def schema_problems(document: Document, model: type[M]) -> M | list[Problem]:
    """Return the validated model, or every fault of the document."""
    if not isinstance(document.data, dict):
        kind = "is empty" if document.data is None else "must be a mapping of fields"
        called = getattr(model, "called", model.__name__)
        return [document.problem((), f"{kind}; it needs the fields of {called}")]
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return [_problem(document, model, detail) for detail in details if not _follows(detail, details)]


def _follows(detail: ErrorDetails, details: list[ErrorDetails]) -> bool:
    """Tell whether a list counts as empty only because its items are faulty."""
    loc = detail["loc"]
    return detail["type"] == "too_short" and any(
        len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in details
    )


def valid_parts(document: Document, model: type[BaseModel]) -> dict[str, Any]:
    """Return the top-level fields that are valid on their own, without faulty entries of mappings.

    Lets the checks across fields run beside the faults of single fields, so that all are reported at once.
    """
    parts: dict[str, Any] = {}
    data = document.data if isinstance(document.data, dict) else {}
    for name, field in model.model_fields.items():
        if name not in data and field.is_required():
            continue
        annotation: Any = field.annotation
        if field.metadata:
            annotation = typing.Annotated[field.annotation, *field.metadata]
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        raw = data.get(name)
        try:
            parts[name] = adapter.validate_python(raw) if name in data else field.get_default(call_default_factory=True)
        except ValidationError as error:
            faulty = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
            good = {key: value for key, value in raw.items() if key not in faulty} if isinstance(raw, dict) else {}
            if typing.get_origin(field.annotation) is dict and good:
                parts[name] = adapter.validate_python(good)
    return parts


def _problem(document: Document, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    loc: Loc = tuple(part for part in detail["loc"] if part != "[key]")
    return document.problem(_written(document.data, loc), _message(model, loc, detail))


def _written(data: Any, loc: Loc) -> Loc:
    """Return a place as the file has it: without the index of an item that was written without a list around it."""
    kept: list[str | int] = []
    for part in loc:
        if isinstance(part, int) and not isinstance(data, list):
            continue
        kept.append(part)
        inside = (isinstance(data, dict) and part in data) or (isinstance(data, list) and part in range(len(data)))
        data = data[part] if inside else None
    return tuple(kept)


def _message(model: type[BaseModel], loc: Loc, detail: ErrorDetails) -> str:
    unknown = detail["type"] == "extra_forbidden"
    return in_words(detail, _fields_at(model, loc[:-1]) if unknown else ())


def in_words(detail: ErrorDetails, known: Iterable[str]) -> str:
    """Say what is wrong and what would be right; ``known``: the fields that there are beside one that is unknown."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return f"unknown field; {did_you_mean(str(detail['loc'][-1]), known)}"
    if kind == "value_error":
        return str(context["error"])
    got = f"(got {as_written(detail['input'])})"
    if kind == "literal_error":
        options = context["expected"].replace(" or ", ", ")
        return f"must be {'one of ' if ', ' in options else ''}{options} {got}"
    for limit, words in _LIMITS.items():
        if limit in context:
            return f"must be {words} {context[limit]:.16g} {got}"
    return f"{_EXPECTED.get(kind, detail['msg'])} {got}"


def _fields_at(model: type[BaseModel], loc: Loc) -> tuple[str, ...]:
    """Return the field names of the schema at a place."""
    annotation: Any = model
    for part in loc:
        annotation = _strip(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            if field is None:
                return ()
            annotation = field.annotation
        else:
            arguments = typing.get_args(annotation)
            annotation = arguments[1 if typing.get_origin(annotation) is dict else 0] if arguments else None
    annotation = _strip(annotation)
    known = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return tuple(annotation.model_fields) if known else ()


def _strip(annotation: Any) -> Any:
    """Remove ``Annotated`` and ``| None``."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
        else:
            return annotation
