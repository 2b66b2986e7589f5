"""Positions, faults and overrides of documents; atomic writing."""

import os
import stat
from pathlib import Path

import pytest

from planner import yaml_io
from planner.errors import InputError

TEXT = """\
# comment
name: x
list:
  - 1
  - {a: 2,
     b: 3}
deep:
  er: [4, 5]
"""


def problems(text):
    with pytest.raises(InputError) as caught:
        yaml_io.parse(text, "file.yaml")
    return [(p.line, p.column, p.field, p.message) for p in caught.value.problems]


def test_data_and_positions_of_keys_and_items():
    document = yaml_io.parse(TEXT, "file.yaml")
    assert document.data == {"name": "x", "list": [1, {"a": 2, "b": 3}], "deep": {"er": [4, 5]}}
    assert {loc: place[1:] for loc, place in document.positions.items()} == {
        ("name",): (2, 1),
        ("list",): (3, 1),
        ("list", 0): (4, 5),
        ("list", 1): (5, 5),
        ("list", 1, "a"): (5, 6),
        ("list", 1, "b"): (6, 6),
        ("deep",): (7, 1),
        ("deep", "er"): (8, 3),
        ("deep", "er", 0): (8, 8),
        ("deep", "er", 1): (8, 11),
    }
    assert {place[0] for place in document.positions.values()} == {"file.yaml"}


def test_json_has_positions_too():
    document = yaml_io.parse('{"a": 1,\n "b": [true, null]}', "x.json")
    assert document.data == {"a": 1, "b": [True, None]}
    assert document.positions[("b",)][1:] == (2, 2)


def test_a_problem_stands_at_the_closest_field_present():
    document = yaml_io.parse(TEXT, "file.yaml")
    assert str(document.problem(("deep", "er", 1), "bad")) == "file.yaml:8:11: deep.er.1: bad"
    assert str(document.problem(("deep", "missing", "x"), "bad")) == "file.yaml:7:1: deep.missing.x: bad"
    assert str(document.problem(("nowhere",), "bad")) == "file.yaml:1:1: nowhere: bad"


def test_duplicate_keys_are_all_reported_with_the_first_line():
    found = problems("a: 1\nb: {c: 1,\n c: 2}\na: 3\n")
    assert [(line, column, field) for line, column, field, _ in found] == [(3, 2, "b.c"), (4, 1, "a")]
    assert "first in line 2" in found[0][3]
    assert "first in line 1" in found[1][3]


def test_aliases_are_followed():
    document = yaml_io.parse("a: &x {b: [1]}\nc: *x\n", "file.yaml")
    assert document.data == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert ("c", "b", 0) in document.positions


def test_aliases_without_end_are_refused():
    ((line, _, _, message),) = problems("a: &x\n  b: *x\n")
    assert (line, "aliases" in message) == (1, True)


def test_an_alias_bomb_is_refused():
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    ((_, _, _, message),) = problems("\n".join(lines))
    assert "aliases" in message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1, 2\nb: 3\n", (2, 2)),
        ("a: 'open\n", (2, 1)),
        ("\ta: 1\n", (1, 1)),
        ("a: 1\n b: 2\n", (2, 3)),
        ("a: !!python/object:os.system x\n", (1, 4)),
    ],
)
def test_bad_syntax_has_a_place(text, place):
    ((line, column, _, message),) = problems(text)
    assert (line, column) == place
    assert message.startswith(("not valid YAML", "cannot be read"))


def test_keys_must_be_plain_text():
    ((_, _, _, message),) = problems("? [1, 2]\n: 3\n")
    assert message == "a key must be plain text"


def test_deep_nesting_is_a_problem_not_a_crash():
    ((_, _, _, message),) = problems("[" * 5000 + "]" * 5000)
    assert message


@pytest.mark.parametrize("text", ["[" * 200 + "]" * 200, "- " * 200 + "x", "a: '" + "[{" * 500 + "'"])
def test_nesting_within_reason_and_brackets_in_text_are_accepted(text):
    assert yaml_io.parse(text, "x").data


@pytest.mark.parametrize("text", ["[" * 201 + "]" * 201, "- " * 201 + "x", "[']', " * 201])
def test_nesting_beyond_reason_is_refused(text):
    ((_, _, _, message),) = problems(text)
    assert message == "nested too deeply: more than 200 levels"


@pytest.mark.parametrize(
    "text", ["true", "no", "null", "1", "1_0", "0x1", "2020-01-01", "", " a", "a: b", "#", "-", "é", "\\"]
)
def test_text_written_is_text_read(text):
    assert yaml_io.parse(f"key: {yaml_io.scalar_text(text)} # comment\n", "x").data == {"key": text}


@pytest.mark.parametrize("read", [yaml_io.parse, yaml_io.parse_json], ids=["yaml", "json"])
def test_whole_numbers_are_those_every_reader_holds(read):
    for number in (2**53, -(2**53)):
        found = read(f"[{number}]", "x")
        assert getattr(found, "data", found) == [number]
    for written in (f"{2**53 + 1}", "1" + "0" * 90, "-1" + "0" * 5000):
        with pytest.raises(InputError, match="too large: whole numbers end at 9007199254740992"):
            read(f"[{written}]", "x")


def test_json_with_a_key_twice_is_refused():
    with pytest.raises(InputError, match=r"x\.json:2:3: b\.a: is written twice"):
        yaml_io.parse_json('{"b": {"a": 1,\n  "a": 2}}', "x.json")


def test_an_empty_document_has_no_data():
    assert yaml_io.parse("# nothing\n", "x").data is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("1.5", 1.5), ("30 ms", "30 ms"), ("[1, 2]", [1, 2]), ("null", None), ("true", True), ("[1", "[1")],
)
def test_parse_scalar(text, value):
    found = yaml_io.parse_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_an_override_replaces_a_field_and_names_itself():
    document = yaml_io.parse(TEXT, "file.yaml")
    changed = document.with_override(("deep", "er"), [9], "--set deep.er=[9]")
    assert changed.data["deep"] == {"er": [9]}
    assert document.data["deep"] == {"er": [4, 5]}
    assert str(changed.problem(("deep", "er", 0), "bad")) == "--set deep.er=[9]: deep.er.0: bad"
    assert changed.positions[("name",)] == ("file.yaml", 2, 1)


def test_an_override_makes_mappings_on_its_way():
    changed = yaml_io.parse("a: 1\nn:\n", "f").with_override(("b", "c"), 2, "o").with_override(("n", "m"), 3, "o")
    assert changed.data == {"a": 1, "b": {"c": 2}, "n": {"m": 3}}


def test_a_mapping_made_by_an_override_is_placed_at_it():
    changed = yaml_io.parse("a: 1\n", "f").with_override(("b", "c"), 2, "--set b.c=2")
    assert str(changed.problem(("b",), "unknown")) == "--set b.c=2: b: unknown"
    assert str(changed.problem(("b", "d"), "missing")) == "--set b.c=2: b.d: missing"
    assert str(changed.problem(("a",), "bad")) == "f:1:1: a: bad"


@pytest.mark.parametrize("loc", [("name", "x"), ("list", "0")])
def test_an_override_through_a_value_is_refused(loc):
    with pytest.raises(InputError, match=f"'{loc[0]}' is not a mapping"):
        yaml_io.parse(TEXT, "file.yaml").with_override(loc, 1, "--set")


def test_write_then_read(tmp_path):
    path = tmp_path / "new.txt"
    yaml_io.write_text(path, "grün\n")
    assert yaml_io.read_text(path) == "grün\n"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    yaml_io.write_text(path, "next\n")
    assert path.read_bytes() == b"next\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "plan.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "plan.json")
    yaml_io.write_text(tmp_path / "link.json", "new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "plan.json").read_text() == "new"


def test_a_pipe_is_written_to_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    yaml_io.check_writable(pipe)
    yaml_io.write_text(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "plan.json"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    if step == "replace":
        monkeypatch.setattr(Path, "replace", fail)
        text = "new"
    else:
        text = "broken \ud800"  # cannot be encoded, so writing stops half way
    with pytest.raises(InputError if step == "replace" else UnicodeEncodeError):
        yaml_io.write_text(path, text)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_into_no_folder_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        yaml_io.write_text(tmp_path / "missing" / "x", "text")
    with pytest.raises(InputError, match="there is no folder"):
        yaml_io.check_writable(tmp_path / "missing" / "x")
    with pytest.raises(InputError, match="is a folder"):
        yaml_io.check_writable(tmp_path)
    yaml_io.check_writable(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_files_are_input_errors(tmp_path):
    (tmp_path / "latin").write_bytes(b"gr\xfcn")
    for name, message in (("none", "no such file"), ("latin", "not a UTF-8"), (".", "cannot be read")):
        with pytest.raises(InputError, match=message):
            yaml_io.read_text(tmp_path / name)
    for path in ("x" * 300, "a\0b"):
        with pytest.raises(InputError, match="cannot be read"):
            yaml_io.read_text(Path(path))
    with pytest.raises(InputError, match="cannot be written"):
        yaml_io.check_writable(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="longer than 5000000 characters"):
        yaml_io.read_text(Path("/dev/zero"))
