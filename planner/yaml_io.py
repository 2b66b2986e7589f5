"""Reads YAML and JSON with the place of every field, and writes files atomically.

The only module that uses the YAML library.
"""

import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from planner.errors import InputError, Problem

Loc = tuple[str | int, ...]
Position = tuple[str, int, int]  # path, line, column
_MAX_NODES = 200_000  # stops alias bombs; a real specification has hundreds
_MAX_CHARACTERS = 5_000_000  # the largest file worth reading is a plan, of some ten thousand
_WIDTH = 120
_MAX_DEPTH = 200  # the C reader overflows the stack at some ten thousand, which ends the process
_MAX_WHOLE = 2**53  # other readers of JSON hold whole numbers exactly up to here
_WHOLE_TAG = "tag:yaml.org,2002:int"
_LONGEST_NUMBER = 100  # characters; Python itself stops converting at some thousands
_PLAIN = re.compile(r"[A-Za-z./~][\w./-]*")
_INDENT = re.compile(r"[ \t?-]+")
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Document(NamedTuple):
    """Data read from one file, with the place of every mapping key and list item, counted from 1."""

    path: str
    data: Any
    positions: Mapping[Loc, Position]

    def problem(self, loc: Loc, message: str) -> Problem:
        """Make a problem at a field; an absent field is placed at the closest enclosing one present."""
        place = loc
        while place and place not in self.positions:
            place = place[:-1]
        path, line, column = self.positions.get(place, (self.path, 1, 1))
        return Problem(path, line, column, ".".join(str(part) for part in loc), message)

    def with_override(self, loc: Loc, value: Any, origin: str) -> "Document":
        """Return the document with one field replaced; problems with it name its origin.

        Raises:
            InputError: the path leads through something that is not a mapping.
        """

        def replaced(data: Any, rest: Loc) -> Any:
            if not rest:
                return value
            if data is not None and not isinstance(data, dict):
                above = ".".join(str(part) for part in loc[: len(loc) - len(rest)])
                what = f"'{above}'" if above else "the file"
                raise InputError.single(origin, f"{what} is not a mapping, so nothing can be set in it")
            return {**(data or {}), rest[0]: replaced((data or {}).get(rest[0]), rest[1:])}

        kept = {place: at for place, at in self.positions.items() if place[: len(loc)] != loc}
        # Mappings that are there only because of this field have no other place.
        made = {loc[:length]: (origin, 0, 0) for length in range(1, len(loc) + 1)}
        return Document(self.path, replaced(self.data, loc), {**made, **kept})


class _Builder:
    """Turns a node tree into data, collecting positions and faults on the way."""

    def __init__(self, path: str, loader: Any) -> None:
        self.path = path
        self.loader = loader
        self.positions: dict[Loc, Position] = {}
        self.problems: list[Problem] = []
        self.nodes = 0

    def build(self, node: yaml.Node, loc: Loc, above: tuple[int, ...] = ()) -> Any:
        self.nodes += 1
        if id(node) in above or self.nodes > _MAX_NODES:
            raise InputError([self._problem(node, loc, "aliases repeat without end; write the content out")])
        above = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc, above)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, child in enumerate(node.value):
                self.positions[(*loc, index)] = self._place(child)
                items.append(self.build(child, (*loc, index), above))
            return items
        return self._scalar(node, loc)

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        endless = node.tag == _WHOLE_TAG and len(node.value) > _LONGEST_NUMBER
        try:
            value = math.inf if endless else self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problems.append(self._problem(node, loc, f"cannot be read: {error}"))
            return None
        except (LookupError, AttributeError):  # how the library meets a tag that does not fit, like !!bool 3
            self.problems.append(self._problem(node, loc, f"cannot be read as {node.tag.rpartition(':')[2]}"))
            return None
        if (endless or isinstance(value, int)) and abs(value) > _MAX_WHOLE:
            self.problems.append(self._problem(node, loc, _too_large(node.value)))
        return value

    def _mapping(self, node: yaml.MappingNode, loc: Loc, above: tuple[int, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
            if not key:
                self.problems.append(self._problem(key_node, loc, "a key must be plain text"))
                continue
            if key in data:
                first = self.positions[(*loc, key)][1]
                message = f"is written twice (first in line {first}); keep one"
                self.problems.append(self._problem(key_node, (*loc, key), message))
                continue
            self.positions[(*loc, key)] = self._place(key_node)
            data[key] = self.build(value_node, (*loc, key), above)
        return data

    def _problem(self, node: yaml.Node, loc: Loc, message: str) -> Problem:
        return Problem(*self._place(node), ".".join(map(str, loc)), message)

    def _place(self, node: yaml.Node) -> Position:
        return self.path, node.start_mark.line + 1, node.start_mark.column + 1


def parse(text: str, path: str) -> Document:
    """Parse YAML (or JSON) text.

    Raises:
        InputError: bad syntax, duplicate keys, or unreadable scalars, each with its place.
    """
    loader = _Loader(text)
    builder = _Builder(path, loader)
    try:
        _check_depth(text, path)
        node = loader.get_single_node()
        data = builder.build(node, ()) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line, column = _line_and_column(error.problem_mark or error.context_mark)
        raise InputError.single(path, f"not valid YAML: {error.problem}", line=line, column=column) from None
    except yaml.YAMLError as error:
        raise InputError.single(path, f"not valid YAML: {' '.join(str(error).split())}", line=1, column=1) from None
    except RecursionError:
        raise InputError.single(path, "nested too deeply", line=1, column=1) from None
    finally:
        loader.dispose()
    if builder.problems:
        raise InputError(builder.problems)
    return Document(path, data, builder.positions)


def _check_depth(text: str, path: str) -> None:
    """Refuse absurd nesting before the tree is built, which recurses on the stack of the C reader."""
    flow, block = text.count("[") + text.count("{"), max(map(len, _INDENT.findall(text)), default=0)
    if flow + 2 * block <= _MAX_DEPTH:  # every level needs a bracket or an indentation, two levels at most share one
        return
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _MAX_DEPTH:
            line, column = _line_and_column(event.start_mark)
            message = f"nested too deeply: more than {_MAX_DEPTH} levels"
            raise InputError.single(path, message, line=line, column=column)


def _line_and_column(mark: Any) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def parse_json(text: str, path: str) -> Any:
    """Parse JSON text: keys written twice, numbers that are none, and whole numbers no reader can hold are faults.

    Raises:
        InputError: bad syntax or one of these faults.
    """

    def fault(written: str, message: str) -> InputError:
        before = text[: text.find(written)]
        return InputError.single(path, message, "", before.count("\n") + 1, len(before) - before.rfind("\n"))

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) < len(pairs):
            parse(text, path)  # names every such key with its place
            raise InputError.single(path, "a key is written twice; keep one", line=1, column=1)
        return data

    def number(written: str) -> float:
        value = float(written)
        if not math.isfinite(value):
            raise fault(written, f"not valid JSON: {written[:20]} is not a finite number")
        return value

    def whole(written: str) -> int:
        if len(written) > _LONGEST_NUMBER or abs(int(written)) > _MAX_WHOLE:
            raise fault(written, _too_large(written))
        return int(written)

    try:
        return json.loads(text, object_pairs_hook=mapping, parse_constant=number, parse_float=number, parse_int=whole)
    except json.JSONDecodeError as error:
        raise InputError.single(path, f"not valid JSON: {error.msg}", "", error.lineno, error.colno) from None
    except RecursionError:
        raise InputError.single(path, "nested too deeply", line=1, column=1) from None


def _too_large(written: str) -> str:
    return f"{written[:20]}{'...' * (len(written) > 20)} is too large: whole numbers end at {_MAX_WHOLE}"


def parse_all(text: str, path: str) -> list[Any]:
    """Parse YAML text of several documents, set apart by lines of three hyphens; see ``parse`` for the errors."""
    return [parse(part, path).data for part in re.split(r"(?m)^---$", text)]


def parse_scalar(text: str) -> Any:
    """Parse one value as YAML would read it; text that is not valid YAML stays text."""
    try:
        return parse(text, "").data
    except InputError:
        return text


def scalar_text(text: str) -> str:
    """Write text so that YAML reads the same text back: as it is where that is safe, else in quotes."""
    safe = _PLAIN.fullmatch(text) and parse_scalar(text) == text
    return text if safe else json.dumps(text, ensure_ascii=False)


def dump(data: Any) -> str:
    """Write data as YAML: mappings in their order, text of several lines as it stands."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Represent text."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Dumper.add_representer(str, _Dumper.represent_str)


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises:
        InputError: missing, a folder, unreadable, too large, or not UTF-8.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(_MAX_CHARACTERS + 1)
    except FileNotFoundError:
        raise InputError.single(str(path), "no such file") from None
    except UnicodeDecodeError:
        raise InputError.single(str(path), "not a UTF-8 text file") from None
    except OSError as error:
        raise InputError.single(str(path), f"cannot be read: {error.strerror}") from None
    except ValueError as error:  # a path no system allows
        raise InputError.single(str(path), f"cannot be read: {error}") from None
    if len(text) > _MAX_CHARACTERS:
        raise InputError.single(str(path), f"longer than {_MAX_CHARACTERS} characters: no file of this kind is")
    return text


def load(path: Path) -> Document:
    """Read and parse a YAML file; see ``parse`` for the errors."""
    return parse(read_text(path), str(path))


def write_text(path: Path, text: str) -> None:
    """Write a file of text in UTF-8; see ``write_bytes``."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: readers see the old content or the new one, never half of it.

    A link stays a link; what is no file (a device, a pipe) is written to, not replaced.

    Raises:
        InputError: the place cannot be written.
    """
    try:
        if _is_special(path):
            with path.open("wb") as stream:
                stream.write(content)
            return
        path = path.resolve() if path.is_symlink() else path
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InputError.single(str(path), f"cannot be written: {error.strerror}") from None


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


def check_writable(path: Path) -> None:
    """Find out early that a file cannot be written.

    Raises:
        InputError: its folder is missing or not writable, or the path is a folder.
    """
    try:
        _check_writable(path)
    except OSError as error:  # the path itself is impossible, like a name that is too long
        raise InputError.single(str(path), f"cannot be written: {error.strerror}") from None


def _check_writable(path: Path) -> None:
    if path.is_dir():
        raise InputError.single(str(path), "is a folder; give the name of a file")
    if _is_special(path):
        if not os.access(path, os.W_OK):
            raise InputError.single(str(path), "cannot be written to")
        return
    if not path.parent.is_dir():
        raise InputError.single(str(path), f"there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise InputError.single(str(path), f"the folder {path.parent} cannot be written to")
