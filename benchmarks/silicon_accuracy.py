"""The error of `planner predict` on measured serving runs, with textbook efficiencies and no fit.

    python benchmarks/silicon_accuracy.py [--calibration NAME] [--update-docs]

Prints median and mean error of TPOT and TTFT for core rows (no hidden speculation, no anomaly), for all rows, and
by backend, system, model and precision. --update-docs writes docs/reference/silicon-accuracy.md.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from planner.api import predict

DATA = Path(__file__).parent / "data" / "silicon_dev.csv"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "silicon-accuracy.md"
_GROUPS = ("backend", "system", "precision", "model", "concurrency")
_SMALLEST_GROUP = 9

Row = Mapping[str, str]


class Errors(NamedTuple):
    """A row with its relative errors, signed."""

    row: Row
    ttft: float
    tpot: float

    @property
    def core(self) -> bool:
        """Whether the row is neither suspected of speculation nor anomalous."""
        return self.row["maybe_speculative"] != "True" and self.row["anomalous"] != "True"


class Accuracy(NamedTuple):
    """Rows measured, and the errors of those predicted."""

    measured: int
    errors: list[Errors]


def accuracy(calibration: str = "textbook") -> Accuracy:
    """Predict every row and compare."""
    with DATA.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = []
    for row, prediction in zip(rows, predict(rows, calibration), strict=True):
        if prediction["status"] == "ok":
            ttft, tpot = (prediction[name] / float(row[name]) - 1 for name in ("ttft_ms", "tpot_ms"))
            found.append(Errors(row, ttft, tpot))
    return Accuracy(len(rows), found)


def median(errors: Sequence[float]) -> float:
    """Median of the sizes, in percent."""
    return 100 * statistics.median(abs(error) for error in errors)


def mean(errors: Sequence[float]) -> float:
    """Mean of the sizes, in percent."""
    return 100 * statistics.fmean(abs(error) for error in errors)


def lines(found: Accuracy) -> Iterator[list[str]]:
    """One line per cut of the rows."""
    core = [e for e in found.errors if e.core]
    yield _line("core", core)
    yield _line("all", found.errors)
    for field in _GROUPS:
        values = sorted({e.row[field] for e in core}, key=lambda v: (len(v), v) if v.isdigit() else (0, v))
        for value in values:
            group = [e for e in core if e.row[field] == value]
            if len(group) >= _SMALLEST_GROUP:
                yield _line(f"core, {field} {value}", group)


def _line(name: str, errors: Sequence[Errors]) -> list[str]:
    tpot, ttft = [e.tpot for e in errors], [e.ttft for e in errors]
    figures = (median(tpot), mean(tpot), median(ttft), mean(ttft))
    bias = f"{100 * statistics.median(tpot):+.1f}"
    return [name, str(len(errors)), *(f"{value:.1f}" for value in figures), bias]


def main() -> None:
    """Print the table, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", default="textbook")
    parser.add_argument("--update-docs", action="store_true")
    options = parser.parse_args()
    found = accuracy(options.calibration)
    headers = ["rows", "count", "TPOT median %", "TPOT mean %", "TTFT median %", "TTFT mean %", "TPOT bias %"]
    table = [headers, ["---"] * len(headers), *lines(found)]
    text = "\n".join("| " + " | ".join(line) + " |" for line in table) + "\n"
    answered = f"{len(found.errors)} of {found.measured} rows predicted.\n"
    sys.stdout.write(f"{answered}\n{text}")
    if options.update_docs:
        PAGE.write_text(_page(answered, text, options.calibration), encoding="utf-8")


def _page(answered: str, table: str, calibration: str) -> str:
    return (
        "<!-- Written by benchmarks/silicon_accuracy.py --update-docs. -->\n\n# Accuracy on measured serving runs\n\n"
        f"`planner predict` with the `{calibration}` efficiencies on benchmarks/data/silicon_dev.csv, closed loops on "
        "NVIDIA devices. Nothing is fitted to these rows, but some textbook values were set by a study that had seen "
        "such runs. *Core* rows are neither suspected of hidden speculation nor anomalous. Bias is the median signed "
        f"error: positive is predicted slower than measured.\n\n{answered}\n{table}"
    )


if __name__ == "__main__":
    main()
