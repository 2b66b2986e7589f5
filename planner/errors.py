"""What can go wrong, and the exit code each ends the command with.

PlannerError
├─ InputError            2   something the user can edit; carries every problem found
└─ InternalError         1   ours: an inconsistent cost model, a solver answer that fails its re-check

Infeasible and out-of-time are results (exit codes 3 and 4), not exceptions.
"""

import difflib
import math
from collections.abc import Iterable
from typing import NamedTuple

EXIT_PLAN = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INFEASIBLE = 3
EXIT_NO_PLAN = 4

_LONGEST = 40  # characters of a value that a message quotes


class Problem(NamedTuple):
    """One fault of an input: where it is, what is wrong, and what would be right."""

    path: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        """Format as ``path:line:column: field: message``, the form editors and CI can click on; empty parts go."""
        place = f"{self.path}:{self.line}:{self.column}" if self.line else self.path
        return ": ".join(part for part in (place, self.field, self.message) if part)


class PlannerError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = EXIT_FAILED


class InputError(PlannerError):
    """Something the user can edit is wrong; ``problems`` holds every fault found, sorted by place."""

    exit_code = EXIT_BAD_INPUT

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def single(cls, path: str, message: str, field: str = "", line: int = 0, column: int = 0) -> "InputError":
        """Make an error of one problem."""
        return cls([Problem(path, line, column, field, message)])


class InternalError(PlannerError):
    """A check on our own work failed: please report it."""


def as_written(value: object) -> str:
    """Return a value as a YAML file would have it, shortened: messages quote files, not Python."""
    text = _yaml(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _yaml(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return repr(value) if isinstance(value, str) else str(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt name: the closest known one, else the list of known ones."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(names)}" if names else "none are known"
