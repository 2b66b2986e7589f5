"""Reads the files that benchmarks write: JSON documents one after the other, every fault with its line and field."""

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from planner.errors import InputError, Problem, as_written, did_you_mean

_MOST_BYTES = 2**30  # files with every request's token times reach hundreds of megabytes
_BLANK = re.compile(r"\s*")
_MISSING = object()


class Fields:
    """One JSON object of a file. A value that is missing or wrong is a problem, and reads as nothing or not a number.

    Names lead into nested objects by dots; of several, the first that is there counts.
    """

    def __init__(self, data: Any, path: Path, line: int, problems: list[Problem], above: str = "") -> None:
        self.data = data
        self.path = path
        self.line = line
        self.problems = problems
        self.above = above

    def get(self, *names: str) -> Any:
        """Return the first value that is there and not null, or none."""
        return next((value for name in names if (value := self._at(name)) not in (_MISSING, None)), None)

    def number(self, *names: str, above: float = -math.inf, wrong: str = "") -> float:
        """Return a finite number larger than ``above``; ``wrong`` says what it means if it is not."""
        value = self.get(*names)
        if value is None:
            self.fault(names[0], f"is missing; {self._hint(names[0])}")
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fault(names[0], f"must be a finite number (got {as_written(value)})")
            return math.nan
        if value <= above:
            self.fault(names[0], wrong or f"must be more than {above:g} (got {as_written(value)})")
            return math.nan
        return float(value)

    def maybe(self, *names: str) -> float | None:
        """Return a number, or none where it is missing or no finite number."""
        value = self.get(*names)
        usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return float(value) if usable else None

    def count(self, *names: str, least: int = 0) -> int:
        """Return a whole number of at least ``least``, 0 where it is none."""
        value = self.number(*names)
        if math.isfinite(value) and (value < least or value != int(value)):
            self.fault(names[0], f"must be a whole number of at least {least} (got {as_written(self.get(*names))})")
            return 0
        return int(value) if math.isfinite(value) else 0

    def text(self, *names: str) -> str:
        """Return a text, empty where there is none."""
        value = self.get(*names)
        return value if isinstance(value, str) else ""

    def numbers(self, *names: str) -> list[float]:
        """Return a list of numbers, empty where it is missing or holds anything else."""
        value = self.get(*names)
        usable = isinstance(value, list) and all(isinstance(item, int | float) for item in value)
        return [float(item) for item in value] if usable else []

    def parts(self, name: str) -> Iterator["Fields"]:
        """Yield the objects of a list."""
        value = self.get(name)
        if not isinstance(value, list):
            self.fault(name, "must be a list of objects")
            return
        for index, item in enumerate(value):
            yield Fields(item, self.path, self.line, self.problems, f"{self.above}{name}.{index}.")

    def fault(self, name: str, message: str) -> None:
        """Note a problem."""
        self.problems.append(Problem(str(self.path), self.line, 1, f"{self.above}{name}", message))

    def _at(self, name: str) -> Any:
        value = self.data
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                return _MISSING
            value = value[part]
        return value

    def _hint(self, name: str) -> str:
        *above, last = name.split(".")
        inside = self._at(".".join(above)) if above else self.data
        return did_you_mean(last, [str(key) for key in inside][:50] if isinstance(inside, Mapping) else [])


class Document(NamedTuple):
    """One JSON value, and the line it starts in."""

    line: int
    data: Any


def documents(path: Path) -> list[Document]:
    """Read the JSON values of a file: one, one per line, or simply one after the other.

    Numbers that JSON does not have, which benchmarks write for empty means, are read and found where they are used.

    Raises:
        InputError: the file cannot be read, is too large, or is no JSON.
    """
    text = read(path)
    decoder = json.JSONDecoder()
    found: list[Document] = []
    place, line = _BLANK.match(text).end(), 1  # type: ignore[union-attr]  # it matches nothing, too
    line += text.count("\n", 0, place)
    while place < len(text):
        try:
            data, end = decoder.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError) as error:
            at = getattr(error, "pos", place)
            row = line + text.count("\n", place, at)
            column = at - text.rfind("\n", 0, at)
            message = getattr(error, "msg", "nested too deeply")
            raise InputError.single(str(path), f"not valid JSON: {message}", "", row, column) from None
        found.append(Document(line, data))
        end = _BLANK.match(text, end).end()  # type: ignore[union-attr]
        line += text.count("\n", place, end)
        place = end
    if not found:
        raise InputError.single(str(path), "is empty; expected what a benchmark writes")
    return found


def table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Read (line, cells by column) of a CSV file with a row of column names.

    Raises:
        InputError: the file cannot be read or is no CSV.
    """
    reader = csv.DictReader(io.StringIO(read(path).removeprefix("\ufeff"), newline=""))
    try:
        return [(reader.line_num, {str(key): str(cell or "") for key, cell in row.items()}) for row in reader]
    except csv.Error as error:
        raise InputError.single(str(path), f"not valid CSV: {error}", line=reader.line_num, column=1) from None


def read(path: Path) -> str:
    """Read a UTF-8 file, larger ones than the files that users write.

    Raises:
        InputError: missing, a folder, unreadable, too large, or not UTF-8.
    """
    try:
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise InputError.single(str(path), f"larger than {_MOST_BYTES} byte; write the results without details")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError.single(str(path), "no such file") from None
    except UnicodeDecodeError:
        raise InputError.single(str(path), "not a UTF-8 text file") from None
    except (OSError, ValueError) as error:
        message = getattr(error, "strerror", None) or error
        raise InputError.single(str(path), f"cannot be read: {message}") from None
