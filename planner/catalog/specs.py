"""Hardware, engines and efficiencies: one YAML file each, by shipped name or by path."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

from pydantic import BaseModel

from planner import resources, yaml_io
from planner.catalog.validate import validate
from planner.errors import InputError, did_you_mean
from planner.schema.base import unknown_sources
from planner.schema.calibration import Calibration
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.priors import Priors

S = TypeVar("S", bound=BaseModel)
T = TypeVar("T")
_SPECIFICATION_SUFFIXES = (".yaml", ".yml", ".json")


class Loaded(NamedTuple, Generic[T]):
    """A specification with the name it was asked by and a digest of its file."""

    value: T
    name: str
    sha256: str


def is_path(name: str) -> bool:
    """Tell a path from a shipped name."""
    return name.endswith(_SPECIFICATION_SUFFIXES)


def resolve_path(name: str, folder: Path) -> Path:
    """Return where a path in a file points: relative to that file's folder, or absolute.

    Raises:
        InputError: it starts at the home of a user whom the system does not know.
    """
    try:
        return folder / Path(name).expanduser()
    except RuntimeError:
        raise InputError.single(name, "there is no such home folder; write the path out") from None


def looks_like_path(name: str) -> bool:
    """Tell a name that was meant as a path, for hints only: an organisation and a model have a slash between, too."""
    return name.startswith((".", "/", "~")) or "\\" in name


def hardware_names() -> tuple[str, ...]:
    """Return the shipped hardware, sorted."""
    return names("hardware_specs")


def engine_names() -> tuple[str, ...]:
    """Return the shipped engines, sorted."""
    return names("engines")


def efficiency_names() -> tuple[str, ...]:
    """Return the shipped sets of efficiencies, sorted."""
    return names("hardware_specs/calibrations")


def load_hardware(name: str, folder: Path = Path()) -> Loaded[Hardware]:
    """Load a device; ``_`` may stand for ``-``, and a form factor may be left out where only one is shipped.

    Raises:
        InputError: unknown name, or every fault of the file.
    """
    return load("hardware_specs", "hardware", name, folder, Hardware)


def load_engine(name: str) -> Loaded[Engine]:
    """Load the facts of a serving engine; see ``load_hardware`` for the errors."""
    return load("engines", "engine", name, Path(), Engine)


def load_efficiencies(name: str, folder: Path = Path()) -> Loaded[Efficiencies]:
    """Load a set of efficiencies; see ``load_hardware`` for the errors."""
    return load("hardware_specs/calibrations", "calibration", name, folder, Efficiencies)


def load_priors(name: str, folder: Path = Path()) -> Loaded[Priors]:
    """Load the priors of a calibration; see ``load_hardware`` for the errors."""
    return load("calibrate/priors", "priors", name, folder, Priors)


def load_calibration(name: str, folder: Path = Path()) -> Loaded[Efficiencies | Calibration]:
    """Load a calibration: efficiencies alone, or fitted ones with what they leave unexplained.

    Raises:
        InputError: unknown name, or every fault of the file.
    """
    found: Loaded[Efficiencies | Calibration] = load(
        "hardware_specs/calibrations", "calibration", name, folder, _form_of_calibration
    )
    return found


def _form_of_calibration(data: Any) -> type[Calibration | Efficiencies]:
    fitted = isinstance(data, dict) and data.get("basis") == "fitted" and "rows" in data
    return Calibration if fitted else Efficiencies


def names(kind: str) -> tuple[str, ...]:
    """Return the shipped specifications in a folder, sorted."""
    return tuple(sorted(path.stem for path in resources.shipped(kind).glob("*.yaml")))


def _find(kind: str, word: str, name: str, folder: Path) -> Path:
    if is_path(name):
        return resolve_path(name, folder)
    wanted = name.lower().replace("_", "-")
    known = names(kind)
    matches = [n for n in known if n == wanted] or [n for n in known if n.startswith(wanted + "-")]
    if len(matches) == 1:
        return resources.shipped(kind) / f"{matches[0]}.yaml"
    message = f"unknown {word} '{name}'; {did_you_mean(wanted, known)}"
    if looks_like_path(name) or "/" in name:
        message = f"'{name}' is no shipped name, and a path must end in {' or '.join(_SPECIFICATION_SUFFIXES)}"
    if matches:
        message = f"'{name}' may be {' or '.join(matches)}; write one of them"
    raise InputError.single("", message)


def load(kind: str, word: str, name: str, folder: Path, schema: type[S] | Callable[[Any], type[S]]) -> Loaded[S]:
    """Load a specification of any schema by shipped name or path; see ``load_hardware`` for the errors.

    ``schema`` may be a function that tells it by what the file holds.
    """
    path = _find(kind, word, name, folder)
    text = yaml_io.read_text(path)
    shown = name if is_path(name) else path.stem
    digest = hashlib.sha256(text.encode()).hexdigest()
    key = (kind, shown, digest)
    if key not in _READ:
        _READ[key] = Loaded(_validated(text, path, schema), shown, digest)
    return cast("Loaded[S]", _READ[key])


# What was read before, by what it says: studies load the same files hundreds of times, and nothing changes them.
_READ: dict[tuple[str, str, str], Loaded[Any]] = {}


def _validated(text: str, path: Path, schema: type[S] | Callable[[Any], type[S]]) -> S:
    document = yaml_io.parse(text, str(path))
    form: type[S] = schema if isinstance(schema, type) else schema(document.data)
    value = validate(document, form)
    known = frozenset(getattr(value, "sources", ()))
    lost = unknown_sources(value, known)
    if lost:
        hint = did_you_mean("", known)
        raise InputError(
            document.problem(place, f"names a source that 'sources' does not list; {hint}") for place in lost
        )
    return value
