"""The `planner` command; also `python -m planner`, whatever else installs a script of that name."""

import gc
import io
import os
import sys

_LARGE = {"calibrate"}  # commands with matrices that are worth several threads


def main() -> None:
    """Run the command line."""
    # A short run allocates much and frees little. Collecting it over and over would cost a tenth of the time, and
    # searching all of it for cycles at the end, just before the process goes, a fifth.
    gc.set_threshold(100_000, 20, 20)
    # Small matrices are done before the threads of NumPy's linear algebra are awake, which takes a third of a run.
    if _LARGE.isdisjoint(sys.argv[1:2]):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks × or ≤ shows ? instead of failing
    from planner.cli import app

    try:
        app(prog_name="planner")
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
