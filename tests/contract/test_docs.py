"""Every `console` block of the documentation is run, and must print what it shows.

`pytest tests/contract/test_docs.py --update-docs` writes the outputs and the generated pages anew.
A line that is only `…` stands for lines left out.
"""

import importlib.util
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


@pytest.fixture
def workplace(tmp_path):
    """A folder like a checkout, with `planner` on the path."""
    for name in ("scenarios", "hardware_specs", "benchmarks/data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    script = tmp_path / ".bin" / "planner"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m planner "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return tmp_path


def commands(block):
    """Return (command, shown output) pairs of a block."""
    pairs = []
    for line in block.splitlines():
        if line.startswith("$ "):
            pairs.append((line[2:], []))
        else:
            pairs[-1][1].append(line)
    return pairs


def run(command, folder, last_code):
    if command == "echo $?":
        return f"{last_code}\n", 0
    path = f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr, done.returncode


def matches(shown, printed):
    pattern = "\n".join(r"(?:.*\n)*?.*" if line == "…" else re.escape(line.rstrip()) for line in shown)
    text = "\n".join(line.rstrip() for line in printed.splitlines())
    return re.fullmatch(pattern.strip("\n"), text.strip("\n")) is not None


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_documented_commands_print_what_is_shown(page, workplace, request):
    text = page.read_text(encoding="utf-8")
    code, wrong = 0, []
    for block in BLOCK.findall(text):
        written = []
        for command, shown in commands(block):
            printed, code = run(command, workplace, code)
            assert "Traceback" not in printed, printed
            assert str(ROOT) not in printed, printed
            written += [f"$ {command}", *printed.rstrip("\n").splitlines()]
            if not matches(shown, printed):
                wrong.append(f"{command}\nprinted:\n{printed}")
        if request.config.getoption("--update-docs") and "…" not in block.splitlines():
            text = text.replace(block, "\n".join(line.rstrip() for line in written) + "\n")
    if request.config.getoption("--update-docs"):
        page.write_text(text, encoding="utf-8")
    else:
        assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_between_pages_lead_somewhere(page):
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_generated_pages_are_up_to_date(request, monkeypatch):
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "generate", generate)
    spec.loader.exec_module(generate)
    for path, text in generate.pages().items():
        if request.config.getoption("--update-docs"):
            path.write_text(text, encoding="utf-8")
        assert path.read_text(encoding="utf-8") == text, f"{path} is out of date: run python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_documented_python_runs(page, workplace):
    for block in re.findall(r"(?<=^```python\n)(.*?)(?=^```$)", page.read_text(encoding="utf-8"), re.M | re.S):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_documented_hardware_file_is_valid(workplace):
    page = (ROOT / "docs" / "reference" / "hardware.md").read_text(encoding="utf-8")
    text = re.search(r"(?<=^```yaml\n)(.*?)(?=^```$)", page, re.M | re.S)
    (workplace / "mine.yaml").write_text(text[0], encoding="utf-8")
    command = "planner solve scenarios/quickstart.yaml --set inventory.h100.hardware=../mine.yaml"
    assert run(command, workplace, 0)[1] == 0
