"""`planner export`: what it writes where, and what it refuses without leaving anything behind."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner.cli import app
from planner.errors import InputError
from planner.exporters import FORMATS
from planner.exporters.json_file import plan_text
from planner.output import write_file, write_folder

ASKED = ("search.tp=[2]", "search.pp=[1]", "search.roles=[mixed]")
QUICKSTART = Path("quickstart")


@pytest.fixture
def plan(solved, tmp_path):
    from planner.catalog import find_scenario

    file = tmp_path / "plan.json"
    file.write_text(plan_text(solved(find_scenario(QUICKSTART), ASKED).plan))
    return file


def run(*words):
    return CliRunner().invoke(app, ["export", *map(str, words)])


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_is_written_and_said(plan, tmp_path):
    out = tmp_path / "launch"
    result = run(plan, "--to", "vllm", "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{out}: 10 files written" in result.output
    assert {"README.md", "hosts.env", "h100-0.compose.yaml", "front.compose.yaml"} <= set(left(out))
    assert stat.S_IMODE((out / "benchmark" / "chat.sh").stat().st_mode) & 0o111
    assert left(tmp_path) == ["launch", "plan.json"]


def test_json_names_the_files(plan, tmp_path):
    out = tmp_path / "launch"
    said = json.loads(run(plan, "--to", "vllm", "--out", out, "--json").output)
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert said == {"out": str(out), "files": written}


def test_the_same_plan_gives_the_same_files(plan, tmp_path):
    for name in ("one", "two"):
        assert run(plan, "--to", "vllm", "--out", tmp_path / name).exit_code == 0
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_folder_with_files_is_kept_unless_forced(plan, tmp_path):
    out = tmp_path / "launch"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    result = run(plan, "--to", "vllm", "--out", out)
    assert result.exit_code == 2
    assert "holds files already" in result.output
    assert left(out) == ["mine.txt"]
    assert run(plan, "--to", "vllm", "--out", out, "--force").exit_code == 0
    assert "mine.txt" not in left(out)
    assert left(tmp_path) == ["launch", "plan.json"]


def test_an_empty_folder_is_filled(plan, tmp_path):
    (tmp_path / "launch").mkdir()
    assert run(plan, "--to", "vllm", "--out", tmp_path / "launch").exit_code == 0


def test_a_file_is_no_place_for_a_folder(plan):
    result = run(plan, "--to", "vllm", "--out", plan, "--force")
    assert result.exit_code == 2
    assert "is no folder" in result.output
    assert plan.read_text().startswith("{")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_said(plan, tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = run(plan, "--to", "vllm", "--out", locked / "launch")
    assert result.exit_code == 2
    assert "cannot be written" in result.output


def test_a_place_below_a_file_is_said(plan, tmp_path):
    result = run(plan, "--to", "vllm", "--out", plan / "launch")
    assert result.exit_code == 2
    assert "cannot be written" in result.output
    assert left(tmp_path) == ["plan.json"]


def test_a_failure_half_way_leaves_what_was_there(tmp_path):
    out = tmp_path / "launch"
    write_folder(out, {"a.txt": "old"})
    with pytest.raises(Exception, match="cannot be written"):
        write_folder(out, {"a.txt": "new", "a.txt/b.txt": "below a file"}, force=True)
    assert (out / "a.txt").read_text() == "old"
    assert left(tmp_path) == ["launch"]


@pytest.mark.parametrize("content", ["text", b"bytes"])
def test_a_full_disk_leaves_nothing_behind(content, tmp_path, monkeypatch):
    def full(path, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_file(tmp_path / "plan.xlsx", content)
    assert left(tmp_path) == []


def test_a_folder_that_holds_the_plan_is_kept_even_if_forced(plan, tmp_path):
    result = run(plan, "--to", "dynamo", "--out", tmp_path, "--force")
    assert result.exit_code == 0, "plan.json is in the new folder, too"
    mine = plan.rename(tmp_path / "mine.json")
    result = run(mine, "--to", "vllm", "--out", tmp_path, "--force")
    assert result.exit_code == 2
    assert "holds the plan itself" in result.output
    assert mine.exists()


def test_several_files_need_a_folder(plan):
    result = run(plan, "--to", "vllm")
    assert result.exit_code == 2
    assert "name a folder" in result.output


def test_an_unknown_format_names_the_known_ones(plan):
    result = run(plan, "--to", "vlm")
    assert result.exit_code == 2
    assert "did you mean 'vllm'" in result.output
    assert all(name in run(plan, "--to", "helm").output for name in FORMATS)


def test_another_schema_version_is_refused(plan, tmp_path):
    data = json.loads(plan.read_text())
    plan.write_text(json.dumps(data | {"schema_version": 99}))
    result = run(plan, "--to", "vllm", "--out", tmp_path / "launch")
    assert result.exit_code == 2
    assert "schema_version" in result.output
    assert left(tmp_path) == ["plan.json"]


@pytest.mark.parametrize("field", ["max_num_seqs", "replicas", "tp", "block_size", "max_model_len"])
def test_a_tampered_plan_is_refused(plan, tmp_path, field):
    data = json.loads(plan.read_text())
    data["deployments"][0][field] *= 2
    plan.write_text(json.dumps(data))
    result = run(plan, "--to", "vllm", "--out", tmp_path / "launch")
    assert result.exit_code == 2
    assert "not as it was solved" in result.output
    assert left(tmp_path) == ["plan.json"]


def test_names_of_any_kind_stay_inside_the_folder(solved, tmp_path):
    """Names are the user's: they become folders, containers and shell words."""
    from planner.catalog import find_scenario, scenario_from_data
    from planner.pipeline import solve
    from planner.yaml_io import load

    data = load(find_scenario(QUICKSTART)).data
    data |= {"name": "My plan; rm -rf $HOME", "inventory": {"H 100/../x": data["inventory"]["h100"]}}
    data["workloads"] = {"../../Chat\n$(x)": data["workloads"]["chat"]}
    report = solve(scenario_from_data(data, ASKED))
    file = tmp_path / "plan.json"
    file.write_text(plan_text(report.plan))
    result = run(file, "--to", "vllm", "--out", tmp_path / "launch")
    assert result.exit_code == 0, result.output
    assert {"h-100-x-0.compose.yaml", "chat-x-mixed-1"} <= set(left(tmp_path / "launch"))
    assert left(tmp_path) == ["launch", "plan.json"]
    for path in (tmp_path / "launch").rglob("*"):
        if path.name == "plan.json":  # the plan itself, which nothing runs
            continue
        assert not (path.is_file() and ("rm -rf $HOME" in path.read_text() or "$(x)" in path.read_text()))


def test_names_that_files_cannot_tell_apart_are_said(tmp_path):
    from planner.catalog import find_scenario, scenario_from_data
    from planner.pipeline import solve
    from planner.yaml_io import load

    data = load(find_scenario(QUICKSTART)).data
    node = data["inventory"]["h100"]
    data |= {"inventory": {"h100": node, "H100!": node}}
    file = tmp_path / "plan.json"
    file.write_text(plan_text(solve(scenario_from_data(data, ASKED)).plan))
    result = run(file, "--to", "vllm", "--out", tmp_path / "launch")
    assert result.exit_code == 2
    assert "rename one" in result.output
    assert left(tmp_path) == ["plan.json"]


def test_a_model_s_own_file_becomes_a_folder_of_weights(tmp_path):
    from planner import resources
    from planner.catalog import find_scenario, scenario_from_data
    from planner.pipeline import solve
    from planner.yaml_io import load

    config = resources.shipped("architectures") / "Qwen3-32B" / "config.json"
    data = load(find_scenario(QUICKSTART)).data
    data["models"]["chat"]["architecture"] = str(config)
    file = tmp_path / "plan.json"
    file.write_text(plan_text(solve(scenario_from_data(data, ASKED)).plan))
    assert run(file, "--to", "vllm", "--out", tmp_path / "launch").exit_code == 0
    assert "model: /models/Qwen3-32B\n" in (tmp_path / "launch" / "chat-mixed-1" / "vllm.yaml").read_text()
    assert "/models/Qwen3-32B" in (tmp_path / "launch" / "README.md").read_text()


@pytest.mark.parametrize("name", ["infeasible", "column_table"])
def test_markdown_takes_every_plan(solved, tmp_path, name):
    from planner.catalog import find_scenario

    path = find_scenario(Path(name))
    file = tmp_path / "plan.json"
    file.write_text(plan_text(solved(path).plan))
    printed = run(file, "--to", "markdown", "--folder", path.parent)
    assert printed.exit_code == 0, printed.output
    assert printed.output.startswith(f"# Plan: {name}")
    written = run(file, "--to", "markdown", "--folder", path.parent, "--out", tmp_path / "plan.md")
    assert written.exit_code == 0
    assert (tmp_path / "plan.md").read_text() == printed.output
    onto = run(file, "--to", "markdown", "--folder", path.parent, "--out", file)
    assert onto.exit_code == 2
    assert "is the plan itself" in onto.output
