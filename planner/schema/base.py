"""What all input schemas share: strictness, quantities with units, and sourced values."""

from typing import Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.annotated_handlers import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from planner import units
from planner.errors import as_written

# Far beyond any cluster, and far within what sums and products of a few such numbers can hold.
MOST = 10**9
_LARGEST, _SMALLEST = 1e30, 1e-30


class Schema(BaseModel):
    """Base of every input model: unknown fields are errors, instances are immutable.

    ``called`` names the file in messages.
    """

    called: ClassVar[str] = "a part of a file"
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)


def parse_quantity(value: object, dimension: units.Dimension) -> float:
    """Return a written quantity in its base unit; see ``units.parse_quantity``.

    Raises:
        ValueError: not such a quantity, or of a size that no device, load or time has.
    """
    number = units.parse_quantity(value, dimension)
    if abs(number) > _LARGEST or 0 < abs(number) < _SMALLEST:
        size = "large" if abs(number) > 1 else "small"
        msg = f"{as_written(value)} is too {size}; write it like '{dimension.example}'"
        raise ValueError(msg)
    return number


def _quantity(
    dimension: units.Dimension, *, zero_allowed: bool = False, whole: bool = False, most: float = _LARGEST
) -> Any:
    """Return the annotations that make a float field a quantity of one dimension."""

    def parse(value: object) -> float:
        number = parse_quantity(value, dimension)
        if number < 0 or (number == 0 and not zero_allowed):
            least = "must not be negative" if zero_allowed else "must be more than zero"
            msg = f"{least}; write it like '{dimension.example}'"
            raise ValueError(msg)
        if number > most:
            msg = f"must be at most {most:.16g} {dimension.unit} (got {as_written(value)})"
            raise ValueError(msg)
        if whole and number != int(number):
            msg = f"must be a whole number of {dimension.unit}s; write it like '{dimension.example}'"
            raise ValueError(msg)
        return number

    schema = {
        "type": "string",
        "description": f"a {dimension.name} with its unit, like '{dimension.example}'",
        "examples": [dimension.example],
        "unit": dimension.unit,
    }
    return (
        BeforeValidator(parse),
        PlainSerializer(lambda value: units.format_quantity(value, dimension), when_used="json"),
        WithJsonSchema(schema),
    )


Bytes = Annotated[float, *_quantity(units.BYTES)]
BytesPerSecond = Annotated[float, *_quantity(units.BYTES_PER_SECOND)]
FlopPerSecond = Annotated[float, *_quantity(units.FLOP_PER_SECOND)]
Seconds = Annotated[float, *_quantity(units.SECONDS)]
SecondsOrZero = Annotated[float, *_quantity(units.SECONDS, zero_allowed=True)]
Watts = Annotated[float, *_quantity(units.WATTS)]
UsdPerHour = Annotated[float, *_quantity(units.USD_PER_HOUR, zero_allowed=True)]
Tokens = Annotated[float, *_quantity(units.TOKENS, whole=True, most=MOST)]

Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, strict=True)]
Chance = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False, strict=True)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False, strict=True)]
Positive = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False, strict=True)]
Count = Annotated[int, Field(ge=1, le=MOST, strict=True)]
Name = Annotated[str, Field(min_length=1, strict=True)]


class OneOrMore:
    """Marks a list of at least one item, which may be written without brackets where it is the only one.

    In the JSON Schema, both forms; goes last in ``Annotated``.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Put a single value into a list before the list is checked."""
        return core_schema.no_info_before_validator_function(as_list, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Allow an item where the list is allowed."""
        several = handler(schema)
        return {"anyOf": [several["items"], several]}


def as_list(value: object) -> list[object]:
    """Return a list as it is, anything else as the only item of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


V = TypeVar("V")


class Sourced(Schema, Generic[V]):
    """A value with where it comes from; conflicting figures are kept beside the chosen one."""

    value: V
    source: tuple[Name, ...] = Field(min_length=1, description="keys of the file's `sources`")
    note: str | None = None
    alternatives: tuple[str, ...] = Field((), description="other published figures, and who gives them")


class Source(Schema):
    """One document that values were taken from."""

    title: Name
    url: str | None = None
    accessed: str = Field(description="when and how it was read")
    licence: str | None = None


def unknown_sources(
    spec: BaseModel, sources: frozenset[str], above: tuple[str | int, ...] = ()
) -> list[tuple[str | int, ...]]:
    """Return the places of sourced values that name a source the file does not list."""
    found: list[tuple[str | int, ...]] = []
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        parts: dict[Any, Any] = value if isinstance(value, dict) else {"": value}
        if isinstance(value, tuple):
            parts = dict(enumerate(value))
        for key, item in parts.items():
            place = (*above, name) if key == "" else (*above, name, key)
            if isinstance(item, Sourced) and not sources.issuperset(item.source):
                found.append((*place, "source"))
            elif isinstance(item, BaseModel):
                own = frozenset(getattr(item, "sources", ())) or sources  # a specification inside another has its own
                found += unknown_sources(item, own, place)
    return found
