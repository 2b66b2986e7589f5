"""Trials until the best deployment is found, replayed on measured runs: `planner tune` and four other ways.

    python benchmarks/tuning/replay.py [--seeds 20] [--budget 20] [--update-docs]

A group is all core rows of one model, system and lengths in benchmarks/data/silicon_dev.csv with at least four
deployments; what is sought is the row of most output tokens per second and device, without a limit and with TPOT
limits of 15, 25, 50 and 100 ms where these leave some rows and not all. One trial reveals one measured row. The loop is
that of `planner tune` with a calibration fitted without the group. --update-docs writes docs/reference/tuning-replay.md
and its picture. The first run fits for about ten minutes. Needs `pip install -e '.[benchmarks]'`.
"""

import argparse
import csv
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import held_out
import peers
import scores

from planner.catalog import load_priors
from planner.posterior.joint import observed
from planner.posterior.measured import LATENCIES
from planner.studies.tuning.acquisition import prospects
from planner.studies.tuning.outcomes import Outcomes

_ROOT = Path(__file__).resolve().parents[2]
DATA = _ROOT / "benchmarks" / "data" / "silicon_dev.csv"
PEER = _ROOT / "benchmarks" / "data" / "aiconfigurator_0.12.csv"
PAGE = _ROOT / "docs" / "reference" / "tuning-replay.md"
PICTURE = PAGE.with_suffix(".png")
LIMITS_MS = (None, 100.0, 50.0, 25.0, 15.0)
_FEWEST = 4  # deployments of a group
_CLOSE = 0.98  # of the best: found
METHODS = ("planner tune", "AIConfigurator's ranking", "Optuna TPE", "particle swarm", "random order")
_RANDOM = METHODS[2:]


class Task(NamedTuple):
    """A group under a limit; ``truth`` (C,) is what its rows are worth, ``times`` (2, C) what was measured [s]."""

    group: held_out.Group
    rows: list[Mapping[str, str]]
    limit_ms: float | None
    outcomes: Outcomes
    times: np.ndarray
    truth: np.ndarray


def tasks() -> list[Task]:
    """Return all tasks."""
    with DATA.open(newline="") as stream:
        known = {row["id"]: row for row in csv.DictReader(stream)}
    found = []
    for group, limit in itertools.product(held_out.groups(DATA), LIMITS_MS):
        rows = [known[i] for i in group.ids]
        if len({tuple(row[c] for c in scores._DEPLOYMENT) for row in rows}) < _FEWEST:
            continue
        task = _task(group, rows, limit)
        kept = (task.truth > 0).sum()
        if kept and (limit is None or kept < len(rows)):
            found.append(task)
    return found


def _task(group: held_out.Group, rows: list[Mapping[str, str]], limit: float | None) -> Task:
    osl = np.array([float(row["osl"]) for row in rows])
    outcomes = Outcomes(
        clients=np.array([float(row["concurrency"]) for row in rows]),
        scale=osl / np.array([float(row["devices"]) for row in rows]),
        osl=osl,
        limits=(np.inf, np.inf if limit is None else limit / 1e3),
        latency=None,
        unit="output token/s per device",
    )
    times = np.array([[float(row[f"{name}_ms"]) / 1e3 for row in rows] for name in LATENCIES])
    return Task(group, rows, limit, outcomes, times, outcomes.worth(*times))


def ours(task: Task) -> Iterator[float]:
    """Yield the worth of rows in the order that `planner tune` would try them."""
    joint, left, known = task.group.joint, set(range(len(task.rows))), dict[int, float]()
    repeat = np.array([getattr(load_priors("silicon").value.repeat, name) for name in LATENCIES])
    every = np.arange(len(task.rows))
    while left:
        found = prospects(joint, task.group.modelled, task.outcomes, every, known, 0)
        i = max(left, key=lambda i: (found.gain[i], found.worth[i]))
        left.remove(i)
        known[i] = float(task.truth[i])
        yield float(task.truth[i])
        joint = observed(joint, i, np.log(task.times[:, i] / task.group.modelled[:, i]), repeat)


def ranked(task: Task) -> list[int]:
    """Return rows by what AIConfigurator predicts; those beyond the limit by predicted TPOT, those it refuses last."""
    theirs = _answers()
    guesses = [theirs.get(i) for i in task.group.ids]
    times = np.array([[float(g[f"{n}_ms"]) / 1e3 if g else np.inf for g in guesses] for n in LATENCIES])
    with np.errstate(invalid="ignore"):
        worth = np.where(np.isfinite(times[0]), task.outcomes.worth(*times), -1.0)
    return sorted(range(len(guesses)), key=lambda i: (-worth[i], times[1][i], i))


def _answers() -> dict[str, Mapping[str, str]]:
    with PEER.open(newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream) if row["status"] == "ok"}


def regrets(task: Task, method: str, seed: int, budget: int) -> np.ndarray:
    """Return the share of the best worth that the best row so far lacks, after 1, 2, … trials; shape (budget,)."""
    run: Mapping[str, Callable[[], Iterator[float]]] = {
        METHODS[0]: lambda: ours(task),
        METHODS[1]: lambda: peers.ranking(ranked(task), lambda i: float(task.truth[i])),
        METHODS[2]: lambda: peers.tpe(task.rows, lambda i: float(task.truth[i]), seed),
        METHODS[3]: lambda: peers.swarm(task.rows, lambda i: float(task.truth[i]), seed),
        METHODS[4]: lambda: peers.random_order(task.rows, lambda i: float(task.truth[i]), seed),
    }
    best = np.maximum.accumulate(list(itertools.islice(run[method](), budget)))
    full = np.concatenate([best, np.full(budget - len(best), best[-1])])
    return 1 - full / task.truth.max()


def trials_until_found(regret: np.ndarray) -> int:
    """Return the trials until within 2 % of the best; one more than the budget where they do not suffice."""
    close = np.nonzero(regret <= 1 - _CLOSE)[0]
    return int(close[0]) + 1 if len(close) else len(regret) + 1


def table(tasks: Sequence[Task], found: Mapping[str, np.ndarray]) -> Iterator[list[str]]:
    """Yield lines: trials until found by method, over all tasks and by limit."""
    answered = set(_answers())
    cuts = [("all", lambda t: True), ("AIConfigurator answers every row", lambda t: answered.issuperset(t.group.ids))]
    cuts += [(_named(limit), lambda t, limit=limit: t.limit_ms == limit) for limit in LIMITS_MS]
    for title, belongs in cuts:
        mine = np.array([belongs(task) for task in tasks])
        if not mine.any():
            continue
        for method in METHODS:
            counts = found[method][mine]
            each = [f"{statistics.median(counts.ravel()):g}", f"{counts.mean():.2f}", f"{np.quantile(counts, 0.9):g}"]
            yield [title, str(int(mine.sum())), method, *each]


def _named(limit: float | None) -> str:
    return "no limit" if limit is None else f"TPOT ≤ {limit:g} ms"


def main() -> None:
    """Print the table, and write the page and the picture where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=20)
    parser.add_argument("--update-docs", action="store_true")
    options = parser.parse_args()
    every = tasks()
    curves = {}
    for method in METHODS:
        seeds = range(options.seeds if method in _RANDOM else 1)
        curves[method] = np.array([[regrets(t, method, s, options.budget) for s in seeds] for t in every])
        sys.stderr.write(f"{method}: done\n")
    found = {m: np.array([[trials_until_found(r) for r in seeds] for seeds in c]) for m, c in curves.items()}
    lines = [["tasks", "number", "method", "trials, median", "mean", "p90"], ["---"] * 6, *table(every, found)]
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"
    worse = [
        f"{method}: `planner tune` takes more trials on average in "
        f"{sum(_by_group(every, found[METHODS[0]])[g] > mean for g, mean in _by_group(every, found[method]).items())} "
        f"of {len(_by_group(every, found[method]))} groups\n"
        for method in METHODS[1:]
    ]
    sys.stdout.write(text + "\n" + "".join(worse))
    if options.update_docs:
        _draw(curves)
        PAGE.write_text(_page(text, worse, options), encoding="utf-8")


def _by_group(every: Sequence[Task], counts: np.ndarray) -> dict[str, float]:
    names = [task.group.name for task in every]
    return {name: float(counts[[n == name for n in names]].mean()) for name in sorted(set(names))}


def _draw(curves: Mapping[str, np.ndarray]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for method, regret in curves.items():
        mean = 100 * regret.mean(axis=(0, 1))
        axes.plot(range(1, len(mean) + 1), mean, marker="o", markersize=3, label=method)
    axes.set_xlabel("trials")
    axes.set_ylabel("mean regret of the best row tried [%]")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=1)
    axes.xaxis.set_major_locator(pyplot.MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=120, metadata={"Software": None})


def _page(text: str, worse: Sequence[str], options: argparse.Namespace) -> str:
    compared = "".join(f"- {line}" for line in worse)
    return f"""<!-- Written by benchmarks/tuning/replay.py --update-docs. -->

# Trials until the best deployment is found

![mean regret against trials](tuning-replay.png)

A task is a group of core rows of benchmarks/data/silicon_dev.csv (one model, system, input and output length; at least
four deployments) and a TPOT limit, or none; the best row has most output tokens per second and device within the limit.
A trial reveals one measured row, deployment and load together. Counted are trials until within 2 % of the best, with a
budget of {options.budget} (one more where it does not suffice) and {options.seeds} seeds where a method is random.

`planner tune` is its acquisition with a calibration fitted without the group: efficiencies, kernels and residuals, in
{held_out.FOLDS} fits that each leave out a tenth of the groups. Rows of the same model and system at other lengths
stay in. The cost per trial is taken as equal. AIConfigurator's ranking is that of its own predictions, those beyond the
limit by predicted TPOT, rows that it cannot answer last. Optuna's TPE has its default settings, which start with ten
random trials; the particle swarm has five particles. Both search backend, precision, degrees and clients, and what they
propose stands for the closest measured row that is left.

{text}
By group, with all its limits taken together:

{compared}"""


if __name__ == "__main__":
    main()
