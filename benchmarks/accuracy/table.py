"""Held-out accuracy of calibrations, and of NVIDIA AIConfigurator 0.12 on the same rows: one table.

    python benchmarks/accuracy/table.py [--peer FILE.csv | --run-peer] [--update-docs]

Every part of benchmarks/data/silicon_dev.csv is left out in turn: every other load, whole deployments, models, backends
on a system, and systems. Efficiencies, kernels and intervals are fitted to the rest alone, and the part is predicted.
--run-peer runs the peer in an environment of its own (benchmarks/accuracy/peer.py); without, its saved predictions are
read. --update-docs writes docs/reference/accuracy.md. Takes about ten minutes.
"""

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import scores
from scores import Guess, Row

from planner.api import predict
from planner.calibrate.data import Rows, prepared
from planner.calibrate.folds import SPLITS
from planner.calibrate.held_out import Held, held_out
from planner.calibrate.measurements import read_measurements
from planner.catalog import load_efficiencies

_ROOT = Path(__file__).resolve().parents[2]
DATA = _ROOT / "benchmarks" / "data" / "silicon_dev.csv"
PEER = _ROOT / "benchmarks" / "data" / "aiconfigurator_0.12.csv"
PAGE = _ROOT / "docs" / "reference" / "accuracy.md"
_HEADERS = (
    "rows left out", "rows", "TPOT median", "mean", "TTFT median", "mean", "regret", "80 % of TPOT", "of TTFT",
    "picks: optimism", "80 % of TPOT", "over limit", "at p90",
)  # fmt: skip


def guesses_of(rows: Rows, held: Held) -> dict[str, Guess]:
    """Return predictions of rows that were left out; quantiles come from the rows left out with other parts."""
    found: dict[str, list[float]] = {}
    for part, times in enumerate(rows.times):
        error, standard = held.error[part], held.standard[part]
        deviations = error / standard
        for number in sorted({int(g) for g in held.groups if g >= 0}):
            mine = held.groups == number
            others = rows.core & (held.groups >= 0) & ~mine & np.isfinite(standard)
            low, high = np.quantile(standard[others], [0.1, 0.9])
            for i in np.nonzero(mine & np.isfinite(error))[0].tolist():
                centre = math.log(times[i]) - error[i]
                values = [1e3 * math.exp(centre + q * deviations[i]) for q in (0.0, low, high)]
                found.setdefault(rows.measured.rows[i].id, []).extend(values)
    return {
        name: Guess(v[0], v[3], v[1], v[2], v[4], v[5]) for name, v in found.items() if len(v) == len(Guess._fields)
    }


def from_file(path: Path) -> dict[str, Guess]:
    """Read predictions without intervals."""
    with path.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["status"] == "ok"]
    return {row["id"]: _certain(float(row["ttft_ms"]), float(row["tpot_ms"])) for row in rows}


def _certain(ttft: float, tpot: float) -> Guess:
    return Guess(ttft, tpot, ttft, ttft, tpot, tpot)


def unfitted(rows: Sequence[Row]) -> dict[str, Guess]:
    """Predict with efficiencies that were not fitted to whole runs."""
    found = zip(rows, predict(list(rows), "operators"), strict=True)
    return {row["id"]: _certain(p["ttft_ms"], p["tpot_ms"]) for row, p in found if p["status"] == "ok"}


def line(name: str, rows: Sequence[Row], guesses: Mapping[str, Guess], *, intervals: bool) -> list[str]:
    """Return the figures of one split."""
    error = scores.errors(rows, guesses)
    picks = scores.selected(rows, guesses)
    found = [
        name,
        str(len(rows)),
        *(f"{error[k]:.1f}" for k in ("tpot_median", "tpot_mean", "ttft_median", "ttft_mean")),
    ]
    found.append(f"{scores.regret(rows, guesses):.1f}")
    pairs = [(row, guesses[row["id"]]) for row in rows if row["id"] in guesses]
    covered = [f"{scores.coverage(pairs, k):.0f}" for k in ("tpot", "ttft")] if intervals else ["-", "-"]
    at_picks = f"{scores.coverage([(p.row, p.guess) for p in picks], 'tpot'):.0f}" if intervals else "-"
    careful = f"{scores.violations(scores.selected(rows, guesses, upper=True)):.0f}" if intervals else "-"
    return [*found, *covered, f"{scores.optimism(picks):+.1f}", at_picks, f"{scores.violations(picks):.0f}", careful]


def table(peer: Path) -> Iterator[list[str]]:
    """Yield the lines of the table: of all core rows, then of those that the peer answers, too."""
    with DATA.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if scores.core(row)]
    efficiencies = load_efficiencies("operators").value
    ready = prepared(read_measurements(DATA), efficiencies)
    found = {"no whole run at all": unfitted(rows)}
    for split in SPLITS:
        held = held_out(ready, efficiencies, None, split, lambda stage: None)
        found[split.name] = guesses_of(ready, held)
        sys.stderr.write(f"{split.name}: done\n")
    for name, guesses in found.items():
        yield line(name, rows, guesses, intervals=not name.startswith("no "))
    theirs = from_file(peer)
    both = [row for row in rows if row["id"] in theirs]
    yield line("rows that AIConfigurator answers: its own", both, theirs, intervals=False)
    for name, guesses in found.items():
        yield line(f"the same rows: {name}", both, guesses, intervals=not name.startswith("no "))


def main() -> None:
    """Print the table, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, default=PEER)
    parser.add_argument("--run-peer", action="store_true")
    parser.add_argument("--update-docs", action="store_true")
    options = parser.parse_args()
    if options.run_peer:
        script = Path(__file__).with_name("peer.py")
        subprocess.run([sys.executable, script, DATA, options.peer], check=True)
    lines = [list(_HEADERS), ["---"] * len(_HEADERS), *table(options.peer)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
    sys.stdout.write(text)
    if options.update_docs:
        PAGE.write_text(_page(text), encoding="utf-8")


def _page(text: str) -> str:
    return f"""<!-- Written by benchmarks/accuracy/table.py --update-docs. -->

# Accuracy, held out

Core rows of benchmarks/data/silicon_dev.csv: closed loops on H100, H200 and B200; no suspected speculation, no anomaly.
Each part is predicted by a calibration that was fitted without it. Figures in percent: errors as sizes; *regret* is
what a choice of deployment by prediction loses of the best throughput per device, at TPOT limits of 15, 25, 50 and
100 ms; *80 %* is how many measured values lie in the interval of 80 %. *Picks* are the best deployment and concurrency
of a group under a limit, by prediction: how much more throughput was expected of them than they had, coverage there,
how many miss the limit, and how many do where the ninetieth percentile has to hold it.

The structure of the model and the priors of its levels were chosen with these rows in sight. AIConfigurator 0.12
runs on its own tables, with the modes of its kernels picked to its advantage on these rows
(benchmarks/accuracy/peer.py); some of its constants come from the measurements that these rows are a part of.

{text}"""


if __name__ == "__main__":
    main()
