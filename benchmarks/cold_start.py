"""How long a warm `planner solve` takes, beside importing the libraries it cannot do without.

    python benchmarks/cold_start.py [RUNS]

Both commands run in turn, RUNS times each (default 15) in new processes, after one run that fills the cache of
generated code. Prints medians and their ratio, which should stay at or below 2.0.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = [sys.executable, "-c", "import numpy, pydantic, typer, yaml"]
SOLVE = [str(Path(sys.executable).with_name("planner")), "solve", "scenarios/quickstart.yaml"]


def seconds(command: list[str]) -> float:
    """Return the wall time of one run of a command."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    seconds(SOLVE)
    pairs = [(seconds(IMPORTS), seconds(SOLVE)) for _ in range(runs)]
    imports, solve = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = f"ratio {solve / imports:.2f} (medians of {runs})"
    print(f"imports {imports * 1e3:.0f} ms, solve {solve * 1e3:.0f} ms, {ratio}")


if __name__ == "__main__":
    main()
