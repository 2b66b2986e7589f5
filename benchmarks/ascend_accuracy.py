"""Accuracy on Ascend, held out by source: runs of benchmarks/data/ascend_runs.csv, and single operators.

    python benchmarks/ascend_accuracy.py [--update-docs]

Every source is left out in turn: efficiencies, and the process of what they leave, are fitted to the others alone, and
its runs and operators are predicted. Prints errors by group; --update-docs also writes the predictions to
benchmarks/data/ascend_held_out.csv and the page docs/reference/ascend-accuracy.md. Takes a few minutes.
"""

import argparse
import csv
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from ascend_runs import PATH
from measurement_rows import classify, load
from measurement_work import Case, Reason, Row
from public_measurements import Planner, table

from planner import yaml_io
from planner.calibrate.conditioning import conditioned, errors
from planner.calibrate.data import Rows, prepared
from planner.calibrate.fit import Fitted, modelled
from planner.calibrate.folds import BY_SOURCE
from planner.calibrate.held_out import held_out
from planner.calibrate.measurements import read_measurements
from planner.catalog import load_efficiencies, load_priors
from planner.errors import PlannerError
from planner.posterior.posterior import moved
from planner.schema.efficiency import Efficiencies

START, PRIORS = "ascend-operators", "ascend"
_ROOT = Path(__file__).resolve().parents[1]
STORED = _ROOT / "benchmarks" / "data" / "ascend_held_out.csv"
PAGE = _ROOT / "docs" / "reference" / "ascend-accuracy.md"


class Outcome(NamedTuple):
    """One measured time [s] of a run or an operator; predicted without any fit, held out by source, and fitted to."""

    id: str
    source: str
    kind: str  # decode | prefill | serving | operator
    what: str
    model: str
    system: str
    backend: str
    measured: float
    unfitted: float
    held_out: float
    fitted: float
    shaky: str

    @property
    def error(self) -> float:
        """Held-out error, signed, in percent of what was measured."""
        return 100 * (self.held_out / self.measured - 1)


def _large_ep(o: Outcome) -> bool:
    return o.kind == "decode" and "DeepSeek" in o.model and o.system.startswith("ascend-910c")


GROUPS: dict[str, Callable[[Outcome], bool]] = {
    "large-EP decode of DeepSeek on 910C": _large_ep,
    "of it, drafts and balance forced by the source": lambda o: _large_ep(o) and o.source in ("cm384", "cri"),
    "dense models under vLLM on 910B": lambda o: (
        o.source == "vla" and o.system.startswith("ascend-910b") and o.what == "TPOT"
    ),
    "SGLang serving": lambda o: o.source == "sgl",
    "GPUStack's bursts, vLLM and MindIE": lambda o: o.source == "gs",
    "prefill steps": lambda o: o.kind == "prefill",
    "all TPOT": lambda o: o.what == "TPOT",
    "all TTFT of serving": lambda o: o.kind == "serving" and o.what == "TTFT",
    "all runs": lambda o: o.kind != "operator",
    "single operators": lambda o: o.kind == "operator",
}


def outcomes() -> list[Outcome]:
    """Fit without each source in turn, and predict it."""
    textbook = load_efficiencies(START).value
    rows = prepared(read_measurements(PATH), textbook, load_priors(PRIORS).value)
    held = held_out(rows, textbook, None, BY_SOURCE, _silent)
    fitted, processes = conditioned(rows, textbook, rows.weights, None, _silent)
    sources = rows.measured.sources.tolist()
    without = {source: held.fits[group] for source, group in zip(sources, held.groups.tolist(), strict=True)}
    unfitted = modelled(rows.blocks, textbook, None, len(rows.places))
    runs = _runs(rows, unfitted, (held.error, errors(rows, textbook, fitted, processes)))
    return [*runs, *_operators(textbook, without, fitted)]


def _silent(stage: str) -> None:
    """Ignore progress."""


def _runs(
    rows: Rows, unfitted: tuple[np.ndarray, np.ndarray], logarithms: tuple[np.ndarray, np.ndarray]
) -> Iterator[Outcome]:
    with PATH.open(newline="", encoding="utf-8") as stream:
        shaky = {line["id"]: line["shaky"] for line in csv.DictReader(stream)}
    for i, (row, place, source) in enumerate(zip(rows.measured.rows, rows.places, rows.measured.sources, strict=True)):
        for part, what in enumerate(("TTFT", "TPOT")):
            time = float(rows.times[part][i])
            if np.isfinite(time):
                held, fitted = (time * float(np.exp(-error[part, i])) for error in logarithms)
                yield Outcome(
                    row.id, str(source), row.role or "serving", what, place.model, place.system, place.backend, time,
                    float(unfitted[part][i]), held, fitted, shaky[row.id],
                )  # fmt: skip


def _operators(textbook: Efficiencies, without: Mapping[str, Fitted], fitted: Fitted) -> Iterator[Outcome]:
    """Yield single operators; no fit has seen any, so a source without runs is predicted with what all others say."""
    with tempfile.TemporaryDirectory() as folder:
        pricers: dict[tuple[str, str], Planner] = {}

        def pricer(source: str, device: str) -> Planner:
            if (source, device) not in pricers:
                of_all = without.get(source, fitted).groups()
                groups = [g for g in of_all if g.system in (None, device) and not g.backend]
                path = Path(folder) / f"{source or 'all'}-{device}.yaml"
                here = moved(textbook, groups).model_dump(mode="json", exclude_none=True, exclude_defaults=True)
                yaml_io.write_text(path, yaml_io.dump(here))
                pricers[source, device] = Planner(str(path))
            return pricers[source, device]

        for row in next(m.rows for m in load() if m.family == "Ascend"):
            cases = classify("Ascend", row)
            for case in () if isinstance(cases, Reason) else cases:
                if case.kind == "operator":
                    yield from _operator(row, case, pricer)


def _operator(row: Row, case: Case, pricer: Callable[[str, str], Planner]) -> Iterator[Outcome]:
    device, source = case.work[0].hardware, str(row["src"])
    try:
        unfitted, held, fitted = (
            sum(one.seconds(work) for work in case.work)
            for one in (Planner(START), pricer(source, device), pricer("", device))
        )
    except (ValueError, PlannerError):
        return  # named in docs/reference/public-measurements.md
    what = type(case.work[0]).__name__.lower()
    yield Outcome(
        str(row["id"]), source, "operator", what, str(row["model"]), device, "",
        case.measured, unfitted, held, fitted, "",
    )  # fmt: skip


# --- figures and the page -------------------------------------------------------------------------------------------


def _figures(found: Sequence[Outcome], field: str) -> str:
    sizes = [100 * abs(getattr(o, field) / o.measured - 1) for o in found]
    return f"{statistics.median(sizes):.1f} / {statistics.fmean(sizes):.1f}" if sizes else "-"


HEADERS = [
    "group", "times", "no fit", "held out by source", "held out, bias", "fitted to", "times without shaky ones",
    "held out by source",
]  # fmt: skip


def group_rows(found: Sequence[Outcome], groups: Mapping[str, Callable[[Outcome], bool]]) -> list[list[str]]:
    """Return the table of errors: median / mean of their sizes in percent, by group."""
    rows = []
    for name, belongs in groups.items():
        own = [o for o in found if belongs(o)]
        sure = [o for o in own if not o.shaky]
        bias = f"{statistics.median(o.error for o in own):+.1f}" if own else "-"
        columns = [_figures(own, "unfitted"), _figures(own, "held_out"), bias, _figures(own, "fitted")]
        rows.append([name, str(len(own)), *columns, str(len(sure)), _figures(sure, "held_out")])
    return rows


def by_source(found: Sequence[Outcome]) -> dict[str, Callable[[Outcome], bool]]:
    """Return a group per source and kind."""
    pairs = dict.fromkeys((o.source, "operators" if o.kind == "operator" else o.what) for o in found)

    def group(source: str, what: str) -> Callable[[Outcome], bool]:
        return lambda o: o.source == source and what == ("operators" if o.kind == "operator" else o.what)

    return {f"`{source}` {what}": group(source, what) for source, what in pairs}


def _shown(seconds: float) -> str:
    return f"{seconds * 1e3:.4g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.4g} µs"


def run_rows(found: Iterable[Outcome]) -> list[list[str]]:
    """Return every time with its predictions."""
    return [
        [o.id, f"`{o.source}`", o.kind, o.what, o.model, o.system, o.backend, _shown(o.measured), _shown(o.held_out),
         f"{o.error:+.1f}", _shown(o.fitted)]
        for o in found
    ]  # fmt: skip


def page(found: Sequence[Outcome]) -> str:
    """Return the documentation page."""
    shaky = {o.id: [o.id, f"`{o.source}`", o.shaky] for o in found if o.shaky}
    headers = [
        "run",
        "source",
        "kind",
        "time",
        "model",
        "device",
        "engine",
        "measured",
        "held out",
        "error %",
        "fitted",
    ]
    return f"""<!-- Written by benchmarks/ascend_accuracy.py --update-docs. -->

# Accuracy on Ascend, held out by source

Runs of `benchmarks/data/ascend_runs.csv`, which `benchmarks/ascend_runs.py` makes of published figures. Each source is
predicted by a calibration that was fitted to the other sources alone, its process's kernels among it. Errors are sizes
in percent, median / mean. *No fit*: the efficiencies `{START}`, which every fit starts from. *Fitted to*: the
shipped calibration `ascend` on the rows it was fitted to, which says nothing about others.

Micro-batches, drafts with the chance that each is accepted, forced expert balance, copies of experts and the engine's
version are columns of a run ([prediction rows](prediction-rows.md)), so they are priced and not fitted. The structure
of the model, `{START}` and the priors `{PRIORS}` were chosen with these runs in sight; a source that was left out has
no part in the fit, but had one in those choices. Assumptions: [public measurements](public-measurements.md).

## By group

{table(HEADERS, group_rows(found, GROUPS))}
## By source

{table(HEADERS, group_rows(found, by_source(found)))}
## Shaky runs

Nothing is fitted to them; they are predicted, and counted except where it says so.

{table(["run", "source", "why"], list(shaky.values()))}
## Every time

{table(headers, run_rows(found))}"""


def _store(found: Sequence[Outcome]) -> None:
    with STORED.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(Outcome._fields)
        writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in o] for o in found)


def stored() -> list[Outcome]:
    """Return the predictions of the last update."""
    with STORED.open(newline="", encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    numbers = ("measured", "unfitted", "held_out", "fitted")
    return [Outcome(**line | {name: float(line[name]) for name in numbers}) for line in lines]


def main() -> None:
    """Predict every source without it, print the errors, write the page if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--update-docs", action="store_true", help=f"write {PAGE.name} and {STORED.name}")
    arguments = parser.parse_args()
    found = outcomes()
    print(table(HEADERS, group_rows(found, GROUPS | by_source(found))))
    if arguments.update_docs:
        _store(found)
        PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
