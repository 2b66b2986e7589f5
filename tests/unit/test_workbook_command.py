"""`planner export --to xlsx`, csv, parquet: where they are written, and that nothing half-written is left."""

import io
import json
import os
import sys
import zipfile
from pathlib import Path
from unittest import mock

import pytest
from typer.testing import CliRunner

from planner.cli import app
from planner.exporters.json_file import plan_text

ASKED = ("search.tp=[2]", "search.pp=[1]", "search.roles=[mixed]")


@pytest.fixture
def plan(solved, tmp_path):
    from planner.catalog import find_scenario

    file = tmp_path / "plan.json"
    file.write_text(plan_text(solved(find_scenario(Path("quickstart")), ASKED).plan))
    return file


@pytest.fixture(autouse=True)
def without_explanation(monkeypatch):
    """Studies have tests of their own, and take longer than these."""
    from planner import handover
    from planner.explanation import Explanation

    monkeypatch.setattr(handover, "explained", lambda case, plan: Explanation("", "", (), ()))


def run(*words):
    return CliRunner().invoke(app, ["export", "--alternatives", "0", *map(str, words)])


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_workbook_stands_beside_the_plan_or_where_it_is_told(plan, tmp_path):
    result = run(plan, "--to", "xlsx")
    assert result.exit_code == 0, result.output
    assert result.output == f"{tmp_path / 'plan.xlsx'}: written\n"
    assert run(plan, "--to", "xlsx", "--out", tmp_path / "other.xlsx").exit_code == 0
    assert left(tmp_path) == ["other.xlsx", "plan.json", "plan.xlsx"]
    assert "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO((tmp_path / "plan.xlsx").read_bytes())).namelist()


def test_what_is_there_is_kept_unless_forced(plan, tmp_path):
    (tmp_path / "plan.xlsx").write_text("mine")
    for words in ((), ("--out", tmp_path / "plan.xlsx")):
        result = run(plan, "--to", "xlsx", *words)
        assert result.exit_code == 2
        assert "is there already" in result.output
        assert (tmp_path / "plan.xlsx").read_text() == "mine"
    assert run(plan, "--to", "xlsx", "--force").exit_code == 0
    assert (tmp_path / "plan.xlsx").read_bytes().startswith(b"PK")
    assert left(tmp_path) == ["plan.json", "plan.xlsx"]


def test_the_plan_is_not_overwritten(plan):
    before = plan.read_text()
    assert run(plan, "--to", "xlsx", "--out", plan, "--force").exit_code == 2
    assert plan.read_text() == before


def test_a_folder_is_no_place_for_a_workbook(plan, tmp_path):
    (tmp_path / "book").mkdir()
    for words in ((), ("--force",)):
        assert run(plan, "--to", "xlsx", "--out", tmp_path / "book", *words).exit_code == 2
    assert left(tmp_path) == ["book", "plan.json"]
    assert left(tmp_path / "book") == []


def test_a_missing_or_unwritable_place_is_said(plan, tmp_path):
    for place in (plan / "book.xlsx", Path("/proc/nowhere/book.xlsx")):
        result = run(plan, "--to", "xlsx", "--out", place)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
    assert left(tmp_path) == ["plan.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_locked_folder_is_said(plan, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert run(plan, "--to", "xlsx", "--out", locked / "plan.xlsx").exit_code == 2
    assert run(plan, "--to", "csv", "--out", locked / "tables").exit_code == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data | {"schema_version": 99}, "schema_version"),
        (lambda data: {**data, "totals": {**data["totals"], "cost_usd_per_h": 1.0}}, "not as it was solved"),
        (lambda data: {**data, "deployments": [{**data["deployments"][0], "replicas": 3}]}, "not as it was solved"),
    ],
)
@pytest.mark.parametrize("format", ["xlsx", "csv"])
def test_another_version_or_a_tampered_plan_is_refused(plan, tmp_path, change, said, format):
    plan.write_text(json.dumps(change(json.loads(plan.read_text()))))
    result = run(plan, "--to", format, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert said in result.output
    assert left(tmp_path) == ["plan.json"]


def test_tables_are_written_into_a_folder(plan, tmp_path):
    for format in ("csv", "parquet"):
        out = tmp_path / format
        result = run(plan, "--to", format, "--out", out)
        assert result.exit_code == 0, result.output
        assert {f"{name}.{format}" for name in ("deployments", "growth", "what_if")} <= set(left(out))
        again = run(plan, "--to", format, "--out", out)
        assert again.exit_code == 2
        assert "holds files already" in again.output


def test_parquet_without_pyarrow_says_what_to_install(plan, tmp_path):
    with mock.patch.dict(sys.modules, {"pyarrow": None}):
        result = run(plan, "--to", "parquet", "--out", tmp_path / "tables")
    assert result.exit_code == 2
    assert "pip install" in result.output
    assert left(tmp_path) == ["plan.json"]
