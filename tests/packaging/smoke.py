"""Builds the wheel, installs it into an empty environment, and uses it from an empty folder."""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(command: list[str], folder: Path, expected: int = 0) -> str:
    """Run a command away from the checkout and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PLANNER_CACHE_DIR")}
    environment["PLANNER_CACHE_DIR"] = str(folder / "cache")
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}, not {expected}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """Run the smoke test; exits with a message on the first failure."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, empty = Path(temporary), Path(temporary, "empty")
        empty.mkdir()
        run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], folder)
        wheel = next(folder.glob("*.whl"))
        venv.create(folder / "venv", with_pip=True)
        binaries = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        run([str(binaries / "python"), "-m", "pip", "install", "-q", str(wheel)], folder)
        planner = str(binaries / "planner")
        plan = json.loads(run([planner, "solve", "quickstart", "--json", "--out", "plan.json"], empty))
        if plan["termination"]["reason"] != "optimal":
            sys.exit(f"the wheel's quickstart ended as {plan['termination']}")
        run([planner, "verify", "plan.json"], empty)
        run([planner, "solve", "infeasible"], empty, expected=3)
        run([planner, "solve", "nonsense"], empty, expected=2)
        run([planner, "init", "mine.yaml"], empty)
        run([str(binaries / "python"), "-m", "planner", "solve", "mine.yaml"], empty)
        for listing in (["hardware", "list"], ["models", "list"], ["grid"], ["schema"]):
            run([planner, *listing], empty)
        print(f"{wheel.name}: installed into an empty environment, solves and verifies from an empty folder")


if __name__ == "__main__":
    main()
