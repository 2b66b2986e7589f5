"""Ascend runs of public sources as measured rows that `planner calibrate` reads: benchmarks/data/ascend_runs.csv.

    python benchmarks/ascend_runs.py [--check]

Each line is one run of benchmarks/data/ascend_measurements.yaml that the planner can express: a deployment under a
closed loop, or a replica that only decodes or only prefills, with what the source says of micro-batches, drafts, forced
expert balance and versions in columns of its own. Figures of one run (TPOT, TTFT, tokens per second) become one line;
where a source gives only tokens per second, TPOT is clients over rate, the whole of a request spread over its tokens.
--check compares the file instead of writing it. Assumptions stand with the rules (benchmarks/measurement_ascend.py).
"""

import argparse
import csv
import io
import math
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))
from measurement_rows import classify, load
from measurement_work import OUTPUT_RATE, PREFILL_STEP, TPOT, TTFT, Case, Reason, Row, Serving

PATH = Path(__file__).parent / "data" / "ascend_runs.csv"
# Runs that say little, with the reason: they are predicted and reported, and nothing is fitted to them.
SHAKY = {
    "A643": "mean of 788 ms against a median of 204 ms on the page: requests of a few tokens set it",
    "A613": "device count not stated beside the command",
    "A616": "device count not stated beside the command",
    "A622": "twelve times the smallest step; the page's own MindIE run takes 25 ms",
    "A320": "queue-bound, says the page: 16 clients for 12 places, and more than twice the TPOT of 8",
}
_WIDE = 8  # devices
_SAME = 0.02  # between two figures of one run
_DROPPED = ("id", "hardware", "maybe_speculative", "anomalous")


class Figure(NamedTuple):
    """One figure of a run: the row it comes from, what it is, and its time [s]."""

    name: str
    quantity: str
    seconds: float


def runs(rows: Iterable[Row]) -> list[dict[str, str]]:
    """Return one mapping per run, in the order of the rows; a run is named by its first figure."""
    found: dict[tuple[tuple[str, str], ...], list[Figure]] = defaultdict(list)
    for row in rows:
        cases = classify("Ascend", row)
        for case in () if isinstance(cases, Reason) else cases:
            if isinstance(work := case.work[0], Serving):
                kept = {name: value for name, value in work.columns.items() if name not in _DROPPED}
                if int(kept["ep"]) > _WIDE:  # such ranks run all-to-all kernels, whatever the engine's default
                    kept["expert_exchange"] = "all_to_all"
                found[("source", str(row["src"])), *kept.items()].append(_figure(work, case))
    parts = ((dict(key), part) for key, figures in found.items() for part in _agreeing(figures))
    return [run for run in (_run(columns, part) for columns, part in parts) if run["ttft_ms"] or run["tpot_ms"]]


def _figure(work: Serving, case: Case) -> Figure:
    clients = float(work.columns["concurrency"])
    seconds = clients / case.measured if case.quantity == OUTPUT_RATE else case.measured
    return Figure(work.columns["id"], case.quantity, seconds)


def _agreeing(figures: list[Figure]) -> list[list[Figure]]:
    """Split off every TPOT that contradicts the first one of what reads as the same run."""
    first = next((f.seconds for f in figures if f.quantity == TPOT), math.nan)
    apart = [f for f in figures if f.quantity == TPOT and abs(f.seconds / first - 1) > _SAME]
    return [[f for f in figures if f not in apart], *([f] for f in apart)]


def _run(columns: dict[str, str], figures: list[Figure]) -> dict[str, str]:
    times: dict[str, float] = {}
    for quantity in (OUTPUT_RATE, TPOT, PREFILL_STEP, TTFT):  # what a rate tells gives way to a TPOT
        for figure in reversed([f for f in figures if f.quantity == quantity]):
            times["tpot_ms" if quantity in (OUTPUT_RATE, TPOT) else "ttft_ms"] = figure.seconds
    shaky = "; ".join(SHAKY[f.name] for f in figures if f.name in SHAKY)
    return {
        "id": figures[0].name, "source": columns["source"], "figures": " ".join(dict.fromkeys(f.name for f in figures)),
        **{name: f"{times[name] * 1e3:.6g}" if name in times else "" for name in ("ttft_ms", "tpot_ms")},
        "anomalous": str(bool(shaky)), **columns, "shaky": shaky,
    }  # fmt: skip


def csv_text(found: list[dict[str, str]]) -> str:
    """Return the runs as CSV, columns that no run has left out."""
    names = list(dict.fromkeys(name for run in found for name in run))
    used = [name for name in names if any(run.get(name) for run in found)]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, used, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return stream.getvalue()


def main() -> None:
    """Write the file, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 where the file is not what this writes")
    arguments = parser.parse_args()
    found = runs(next(m.rows for m in load() if m.family == "Ascend"))
    text = csv_text(found)
    if arguments.check:
        sys.exit(PATH.read_text(encoding="utf-8") != text)
    PATH.write_text(text, encoding="utf-8")
    print(f"{len(found)} runs")


if __name__ == "__main__":
    main()
