"""Benchmarks run by hand, so nothing but this notices that they call what is no longer there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted({script.parent for script in (ROOT / "benchmarks").rglob("*.py")})
# Their rows are plain dictionaries, which a checker cannot follow; names and calls it can.
LOOSE = ("arg-type", "misc", "operator", "union-attr", "var-annotated")

pytest.importorskip("mypy")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_benchmarks_call_what_is_there(folder, tmp_path):
    options = ["--check-untyped-defs", "--ignore-missing-imports", "--follow-imports=silent", "--config-file="]
    options += [f"--disable-error-code={code}" for code in LOOSE] + [f"--cache-dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *sorted(script.name for script in folder.glob("*.py"))],
        cwd=folder, env=os.environ | {"MYPYPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
