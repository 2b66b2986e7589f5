"""Every check of the project, one after the other; what cannot run here is reported as not run.

With CI set in the environment, a check that cannot run is a failure.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable

# name, module it needs, command
CHECKS = (
    ("lint", "ruff", [PYTHON, "-m", "ruff", "check"]),
    ("format", "ruff", [PYTHON, "-m", "ruff", "format", "--check"]),
    ("types", "mypy", [PYTHON, "-m", "mypy"]),
    ("imports", "importlinter", [PYTHON, "-c", "from importlinter.cli import lint_imports_command as run; run()"]),
    ("wheel", "hatchling", [PYTHON, "tests/packaging/smoke.py"]),
    ("tests", "xdist", [PYTHON, "-m", "pytest", "-n", "auto", "--dist", "loadfile"]),
)


def main() -> int:
    """Run all checks; return the number that failed."""
    outcomes = {}
    for name, module, command in CHECKS:
        print(f"--- {name}", flush=True)
        if importlib.util.find_spec(module) is None:
            outcomes[name] = f"not run: {module} is not installed"
        else:
            code = subprocess.run(command, cwd=ROOT, check=False).returncode
            outcomes[name] = "passed" if code == 0 else f"failed with exit code {code}"
    print("\n--- checks")
    for name, outcome in outcomes.items():
        print(f"{name:8} {outcome}")
    passed = sum(outcome == "passed" for outcome in outcomes.values())
    not_run = sum(outcome.startswith("not run") for outcome in outcomes.values())
    failed = len(outcomes) - passed - not_run
    print(f"checks: {passed} passed, {failed} failed, {not_run} skipped")
    return failed + (not_run if os.environ.get("CI") else 0)


if __name__ == "__main__":
    sys.exit(min(1, main()))
