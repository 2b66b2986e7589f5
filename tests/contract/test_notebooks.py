"""Tutorial notebooks run from the first cell to the last, and show what they have stored.

`pytest tests/contract/test_notebooks.py --update-docs` stores the outputs anew.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(ROOT.glob("docs/**/*.ipynb"))
# In a process of its own: what the notebook packages warn of is none of our business.
RUN = """
import sys, nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False).execute()
nbformat.write(notebook, sys.argv[2])
"""


def texts(notebook):
    """Return what every cell shows as text; pictures depend on the fonts of the machine."""
    return [
        [
            output.get("data", {}).get("text/html", output.get("data", {}).get("text/plain"))
            for output in cell["outputs"]
        ]
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        if not any("image/png" in output.get("data", {}) for output in cell["outputs"])
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[str(path.relative_to(ROOT)) for path in NOTEBOOKS])
def test_notebooks_run_and_show_what_is_stored(path, tmp_path, request):
    pytest.importorskip("nbclient")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(tmp_path / "run.ipynb")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    ran = json.loads((tmp_path / "run.ipynb").read_text(encoding="utf-8"))
    for cell in ran["cells"]:
        cell["metadata"] = {}
    if request.config.getoption("--update-docs"):
        ran["metadata"] = {"kernelspec": ran["metadata"]["kernelspec"], "language_info": {"name": "python"}}
        path.write_text(json.dumps(ran, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert texts(ran) == texts(stored)
    assert all(texts(ran)), "every cell shows something"
