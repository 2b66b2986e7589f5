"""Accuracy on rows that predictions were not fitted to, and of NVIDIA AIConfigurator 0.12 on the same: one table.

    python benchmarks/accuracy/table.py [--run-peer] [--update-docs]

Every part of benchmarks/data/silicon_dev.csv is left out in turn: every other load, whole deployments, models, backends
on a system, and systems. Efficiencies, kernels and intervals are fitted to the rest alone, and the part is predicted.
Rows with prefill and decode apart (silicon_disagg_dev.csv) and public GPU figures (gpu_public_measurements.yaml) are
predicted as they come: nothing was fitted to any of them. --run-peer runs the peer in an environment of its own
(benchmarks/accuracy/peer.py); without, its saved predictions are read. --update-docs writes
docs/reference/accuracy.md. Takes about a quarter of an hour.
"""

import argparse
import csv
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import public
import scores
from scores import Guess, Row

from planner.api import predict
from planner.calibrate.data import Rows, prepared
from planner.calibrate.folds import SPLITS
from planner.calibrate.held_out import Held, held_out
from planner.calibrate.measurements import read_measurements
from planner.catalog import load_efficiencies, load_priors

_ROOT = Path(__file__).resolve().parents[2]
DATA = _ROOT / "benchmarks" / "data" / "silicon_dev.csv"
PEER = _ROOT / "benchmarks" / "data" / "aiconfigurator_0.12.csv"
POOLS = _ROOT / "benchmarks" / "data" / "silicon_disagg_dev.csv"
POOLS_PEER = _ROOT / "benchmarks" / "data" / "aiconfigurator_0.12_disagg.csv"
PAGE = _ROOT / "docs" / "reference" / "accuracy.md"
_SWEEP = ("model", "system", "backend", "backend_version")
_HEADERS = (
    "rows left out", "rows", "TPOT median", "mean", "TTFT median", "mean", "regret", "80 % of TPOT", "of TTFT",
    "picks: optimism", "corrected", "80 % of TPOT", "over limit", "at p90",
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


def predicted(rows: Sequence[Row], calibration: str) -> dict[str, Guess]:
    """Predict with a shipped calibration; without intervals where it has none."""
    found: dict[str, Guess] = {}
    for p in predict(list(rows), calibration):
        if p["status"] == "ok":
            certain = _certain(p["ttft_ms"], p["tpot_ms"])
            named = {name: p[f"{name[:4]}_ms{name[4:]}"] for name in Guess._fields}
            found[p["id"]] = certain if p["tpot_ms_p10"] is None else Guess(**named)
    return found


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
    excess = [f"{scores.optimism(picks):+.1f}", f"{scores.corrected(picks):+.1f}"]
    return [*found, *covered, *excess, at_picks, f"{scores.violations(picks):.0f}", careful]


def read(path: Path) -> list[Row]:
    """Read a file of measured rows."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def replicas() -> Iterator[list[str]]:
    """Yield lines of replicas that prefill and decode: all core rows, those that the peer answers, possible sweeps."""
    rows = [row for row in read(DATA) if scores.core(row)]
    efficiencies = load_efficiencies("operators").value
    ready = prepared(read_measurements(DATA), efficiencies, load_priors("silicon").value)
    found = {"no whole run at all": predicted(rows, "operators")}
    for split in SPLITS:
        held = held_out(ready, efficiencies, None, split, lambda stage: None)
        found[split.name] = guesses_of(ready, held)
        sys.stderr.write(f"{split.name}: done\n")
    for name, guesses in found.items():
        yield line(name, rows, guesses, intervals=not name.startswith("no "))
    theirs = from_file(PEER)
    both = [row for row in rows if row["id"] in theirs]
    yield line("rows that AIConfigurator answers: its own", both, theirs, intervals=False)
    for name, guesses in found.items():
        yield line(f"the same rows: {name}", both, guesses, intervals=not name.startswith("no "))
    possible = without_impossible(rows, ready)
    for name, guesses in found.items():
        yield line(f"possible sweeps: {name}", possible, guesses, intervals=not name.startswith("no "))
    answered = [row for row in possible if row["id"] in theirs]
    yield line("possible sweeps that AIConfigurator answers: its own", answered, theirs, intervals=False)


def without_impossible(rows: Sequence[Row], ready: Rows) -> list[Row]:
    """Return rows but those of sweeps with a run that is faster than the data sheet of its devices allows."""
    beaten = {ready.measured.rows[i].id for i in np.nonzero(ready.datasheet > 1)[0]}
    sweeps = {tuple(row[name] for name in _SWEEP) for row in rows if row["id"] in beaten}
    return [row for row in rows if tuple(row[name] for name in _SWEEP) not in sweeps]


def pools() -> Iterator[list[str]]:
    """Yield lines of pools that prefill and decode apart: of all rows, then of those that the peer answers, too."""
    rows, theirs = read(POOLS), from_file(POOLS_PEER)
    both = [row for row in rows if row["id"] in theirs]
    found = {name: predicted(rows, name) for name in ("operators", "silicon")}
    for name, guesses in found.items():
        yield line(f"prefill and decode apart: `{name}`", rows, guesses, intervals=name == "silicon")
    yield line("of them, rows that AIConfigurator answers: its own", both, theirs, intervals=False)
    for name, guesses in found.items():
        yield line(f"the same rows: `{name}`", both, guesses, intervals=name == "silicon")


def public_lines(found: Mapping[str, dict[str, list[float]]]) -> Iterator[list[str]]:
    """Yield lines of public GPU runs, which state TPOT or TTFT each for a few rows."""
    for name, errors in found.items():
        parts = public.serving(errors)
        counts = "TPOT {}, TTFT {}".format(*(parts[quantity][0] for quantity in ("tpot", "ttft")))
        cells = [f"{value:.1f}" for quantity in ("tpot", "ttft") for value in parts[quantity][1:]]
        line = [f"public GPU runs: `{name}`", counts, *cells]
        yield line + ["-"] * (len(_HEADERS) - len(line))


def main() -> None:
    """Print the table, and write the page where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-peer", action="store_true")
    parser.add_argument("--update-docs", action="store_true")
    options = parser.parse_args()
    if options.run_peer:
        script = Path(__file__).with_name("peer.py")
        subprocess.run([sys.executable, script, DATA, PEER], check=True)
        subprocess.run([sys.executable, script, POOLS, POOLS_PEER, "--disagg"], check=True)
    found = {name: public.compared(name) for name in public.EFFICIENCIES}
    text = _markdown(_HEADERS, [*replicas(), *pools(), *public_lines(found)])
    by_quantity = _markdown(public.HEADERS, public.quantities(found))
    sys.stdout.write(f"{text}\n{by_quantity}")
    if options.update_docs:
        PAGE.write_text(_page(text, by_quantity), encoding="utf-8")


def _markdown(headers: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headers, ["---"] * len(headers), *lines)) + "\n"


def _page(text: str, by_quantity: str) -> str:
    return f"""<!-- Written by benchmarks/accuracy/table.py --update-docs. -->

# Accuracy, held out

Three kinds of rows, none of them fitted to what it is compared with. Figures in percent: errors as sizes; *regret* is
what a choice of deployment by prediction loses of the best throughput per device, at TPOT limits of 15, 25, 50 and
100 ms; *80 %* is how many measured values lie in the interval of 80 %. *Picks* are the best deployment and concurrency
of a group under a limit, by prediction: how much more throughput was expected of them than they had (the winner's
curse); what of that is left, in the mean of logarithms, once the excess of all other groups' picks is taken off, as a
plan does; coverage there, how many miss the limit, and how many do where the ninetieth percentile has to hold it.

**Replicas that prefill and decode**: core rows of benchmarks/data/silicon_dev.csv, closed loops on H100, H200 and B200;
no suspected speculation, no anomaly. Each part is predicted by a calibration that was fitted without it. The structure
of the model and the priors of its levels were chosen with these rows in sight. *Possible sweeps* leave out the runs of
one model, system, backend and version where any of them is faster than the data sheet of its devices allows: whatever
ran was not what the row says. Calibrations learn nothing from such a row, and `planner calibrate` names it.

**Prefill and decode apart**: benchmarks/data/silicon_disagg_dev.csv, DeepSeek-R1 on H100, H200, B200, GB200 and GB300
with the replicas of both pools stated. Nothing is fitted to these rows; the structure of the closed network was chosen
with them in sight. All are suspected of speculation, more than half are on systems of which `silicon` has seen one run
or none, and some have waits of many seconds that fall with load. A deployment is both pools with their replicas,
devices are those of both. A refused row counts as an error of 100 % and has no part in the other figures.

**Public GPU runs**: benchmarks/data/gpu_public_measurements.yaml, engines and devices that `silicon` has seldom or
never seen. Few runs state both latencies, so there is no regret to tell. Below by quantity, in
[public measurements](public-measurements.md) one by one.

AIConfigurator 0.12 runs on its own tables, with the modes of its kernels picked to its advantage on the first kind of
rows (benchmarks/accuracy/peer.py); some of its constants come from the measurements that these rows are a part of.

{text}
## Public GPU figures by quantity

Median / mean error in percent, and in brackets the median with its sign; positive is predicted more than measured.

{by_quantity}"""


if __name__ == "__main__":
    main()
