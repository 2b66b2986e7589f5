"""The error of the cost model on published measurements, per source.

    python benchmarks/public_measurements.py [--efficiencies NAME] [--update-docs]

Prints, per source and quantity: rows, expressed rows, median and mean error, median signed error (positive = predicted
more than measured). --update-docs also writes docs/reference/public-measurements.md with every compared figure and the
rows that cannot be expressed. Works from a checkout with the package installed or on PYTHONPATH.
"""

import argparse
import importlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from measurement_rows import Measurements, classify, load
from measurement_work import (
    OUTPUT_RATE,
    PREFILL_STEP,
    TOTAL_RATE,
    TPOT,
    TTFT,
    Attention,
    Case,
    Collective,
    Exchange,
    Gemm,
    KvTokens,
    MemoryRead,
    Reason,
    Serving,
    Step,
    Timed,
    Transfer,
)

from planner.errors import PlannerError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "public-measurements.md"


class Pricer(Protocol):
    """What the cost model is asked; every method raises ValueError or PlannerError with the reason if it refuses."""

    def serve(self, rows: Sequence[Mapping[str, str]]) -> Iterable[Mapping[str, Any]]:
        """Return `id, ttft_ms, tpot_ms, status, reason` of every prediction row."""

    def seconds(self, work: Timed) -> float:
        """Return the time of a step or an operator."""

    def tokens(self, work: KvTokens) -> float:
        """Return the tokens of KV cache that fit."""


_WIDE = 8  # devices
_OPERATORS = "planner.columns.operators"
_FUNCTIONS: Mapping[type, str] = {
    Step: "step_seconds",
    Gemm: "gemm_seconds",
    Attention: "attention_seconds",
    Collective: "collective_seconds",
    Exchange: "expert_exchange_seconds",
    Transfer: "transfer_seconds",
    MemoryRead: "memory_read_seconds",
    KvTokens: "kv_tokens",
}


class Planner:
    """The shipped cost model: `planner.api.predict`, one function of `planner.columns.operators` per kind of work."""

    def __init__(self, efficiencies: str) -> None:
        self.efficiencies = efficiencies

    def serve(self, rows: Sequence[Mapping[str, str]]) -> Iterable[Mapping[str, Any]]:
        """Return the predictions of `planner.api.predict`."""
        complete = [{**row, "expert_exchange": _exchange(int(row["ep"]))} for row in rows]
        predicted: Iterable[Mapping[str, Any]] = _function("planner.api", "predict")(complete, self.efficiencies)
        return predicted

    def seconds(self, work: Timed) -> float:
        """Return the time of a step or an operator."""
        return self._call(work)

    def tokens(self, work: KvTokens) -> float:
        """Return the tokens of KV cache that fit."""
        return self._call(work)

    def _call(self, work: Timed | KvTokens) -> float:
        fields = work._asdict()
        if isinstance(work, Step):
            fields["expert_exchange"] = _exchange(work.ep)
        function = _function(_OPERATORS, _FUNCTIONS[type(work)])
        return float(function(hardware=fields.pop("hardware"), efficiencies=self.efficiencies, **fields))


def _exchange(ep: int) -> str:
    """Wide expert parallelism is run with all-to-all kernels, whatever the engine's default for a node."""
    return "all_to_all" if ep > _WIDE else ""


def _function(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ValueError(f"the cost model has no {module}.{name}") from None


class Outcome(NamedTuple):
    """One figure of one row, with what the model makes of it, or why it says nothing."""

    family: str
    row: Mapping[str, Any]
    case: Case | None
    predicted: float | None
    reason: str

    @property
    def error(self) -> float:
        """Signed error in percent of what was measured."""
        assert self.case is not None
        assert self.predicted is not None
        return 100 * (self.predicted / self.case.measured - 1)


def outcomes(measurements: Sequence[Measurements], pricer: Pricer) -> list[Outcome]:
    """Return one outcome per comparable figure, and one per row that has none."""
    classified = [(m.family, row, classify(m.family, row)) for m in measurements for row in m.rows]
    served = _serve([case for *_, cases in classified if not isinstance(cases, Reason) for case in cases], pricer)
    found: list[Outcome] = []
    for family, row, cases in classified:
        if isinstance(cases, Reason):
            found.append(Outcome(family, row, None, None, cases.text))
            continue
        for case in cases:
            try:
                found.append(Outcome(family, row, case, _predict(case, pricer, served), ""))
            except (ValueError, PlannerError) as error:
                found.append(Outcome(family, row, case, None, str(error)))
    return found


def _serve(cases: Iterable[Case], pricer: Pricer) -> Mapping[str, Mapping[str, Any]]:
    rows = {work.columns["id"]: work.columns for case in cases for work in case.work if isinstance(work, Serving)}
    try:
        return {str(answer["id"]): answer for answer in pricer.serve(list(rows.values()))}
    except (ValueError, PlannerError) as error:
        return {name: {"status": "refused", "reason": str(error)} for name in rows}


def _predict(case: Case, pricer: Pricer, served: Mapping[str, Mapping[str, Any]]) -> float:
    total = 0.0
    for work in case.work:
        if isinstance(work, Serving):
            total += _served_quantity(case.quantity, work.columns, served.get(work.columns["id"], {}))
        elif isinstance(work, KvTokens):
            total += pricer.tokens(work)
        else:
            total += pricer.seconds(work)
    return total


def _served_quantity(quantity: str, row: Mapping[str, str], answer: Mapping[str, Any]) -> float:
    """Turn a prediction into what was measured; a closed loop of N clients does N·osl tokens per TTFT + osl·TPOT."""
    if answer.get("status") != "ok":
        raise ValueError(str(answer.get("reason") or "no prediction"))
    if row.get("role"):  # a replica of one role has one time
        return float(answer["ttft_ms" if quantity == PREFILL_STEP else "tpot_ms"]) * 1e-3
    ttft, tpot = float(answer["ttft_ms"]) * 1e-3, float(answer["tpot_ms"]) * 1e-3
    isl, osl = float(row["isl"]), float(row["osl"])
    loops = float(row["concurrency"]) / (ttft + osl * tpot)
    return {TTFT: ttft, TPOT: tpot, OUTPUT_RATE: loops * osl, TOTAL_RATE: loops * (isl + osl)}[quantity]


# --- the page -------------------------------------------------------------------------------------------------------


def table(headers: list[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def error_rows(found: Sequence[Outcome], sources: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[list[str]]:
    """Return the error table: a line per source and quantity; sources without a comparable figure have one line."""
    rows = []
    for (family, source), about in sources.items():
        own = [o for o in found if (o.family, o.row["src"]) == (family, source)]
        expressed = [o for o in own if o.predicted is not None]
        counts = [str(len({o.row["id"] for o in outcomes})) for outcomes in (own, expressed)]
        by_quantity = defaultdict(list)
        for outcome in expressed:
            assert outcome.case is not None
            by_quantity[outcome.case.quantity].append(outcome.error)
        lines = [[quantity, str(len(errors)), *_statistics(errors)] for quantity, errors in by_quantity.items()]
        for number, line in enumerate(lines or [[""] * 5]):
            head = [_document(about), *counts] if number == 0 else [""] * 3
            rows.append([f"{family} `{source}`", *head, *line])
    return rows


def _document(about: Mapping[str, Any]) -> str:
    return f"[{about['title']}]({about['url']})" if "url" in about else str(about["title"])


def _statistics(errors: Sequence[float]) -> list[str]:
    sizes = [abs(error) for error in errors]
    return [
        f"{statistics.median(sizes):.1f}",
        f"{statistics.fmean(sizes):.1f}",
        f"{statistics.median(errors):+.1f}",
    ]


ERROR_HEADERS = ["source", "document", "rows", "expressed", "quantity", "figures", "median %", "mean %", "bias %"]


def ranges(ids: Iterable[str]) -> str:
    """Write ids in order, runs of neighbours in the list as first–last."""
    runs: list[list[int]] = []
    names = sorted(ids)
    for name in names:
        number = int(name[1:])
        if runs and names[0][0] == name[0] and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    width, letter = len(names[0]) - 1, names[0][0]
    return ", ".join(
        f"{letter}{run[0]:0{width}}" + (f"–{letter}{run[-1]:0{width}}" if len(run) > 1 else "") for run in runs
    )


def reason_rows(found: Iterable[Outcome]) -> list[list[str]]:
    """Return the reasons, the commonest first, with their rows."""
    ids: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for outcome in found:
        ids[outcome.reason][str(outcome.row["id"])] = ""
    rows = []
    for reason, names in sorted(ids.items(), key=lambda item: (-len(item[1]), item[0])):
        letters = sorted({name[0] for name in names})
        texts = [ranges(name for name in names if name[0] == letter) for letter in letters]
        rows.append([reason, str(len(names)), ", ".join(texts)])
    return rows


def _shown(quantity: str, value: float) -> str:
    if quantity in {OUTPUT_RATE, TOTAL_RATE}:
        return f"{value:.4g} tokens/s"
    if quantity == "KV tokens":
        return f"{value:.4g} tokens"
    return f"{value * 1e3:.4g} ms" if value >= 1e-3 else f"{value * 1e6:.4g} µs"


def figure_rows(found: Sequence[Outcome], numbers: Mapping[str, int]) -> list[list[str]]:
    """Return every compared figure; assumptions by number."""
    rows = []
    for o in found:
        if o.case is None or o.predicted is None:
            continue
        row = o.row
        devices = f"{row['devices']} × {row['hardware']}"
        taken = ", ".join(str(numbers[text]) for text in o.case.assumptions)
        values = [_shown(o.case.quantity, value) for value in (o.case.measured, o.predicted)]
        rows.append(
            [row["id"], f"`{row['src']}`", row["model"], devices, o.case.quantity, *values, f"{o.error:+.1f}", taken]
        )
    return rows


_INTRODUCTION = """# Public measurements

What the cost model predicts of published measurements (`benchmarks/data`), without any fit to them:
`python benchmarks/public_measurements.py --update-docs` writes this page. Error = predicted / measured − 1; median and
mean are of its size, bias is its median with sign. Rates of serving come from the prediction of a closed loop of N
clients: N·osl / (TTFT + osl·TPOT) output tokens per second. Steps and operators are compared as times, whatever unit
the source has: a rate per card becomes the time of the step that yields it, FLOP/s the time of the product. Devices
in predictions are the planner's: a 910C card is two of them. A row can hold more than one figure.
"""


def page(found: Sequence[Outcome], measurements: Sequence[Measurements], efficiencies: str) -> str:
    """Return the documentation page."""
    sources = {(m.family, name): about for m in measurements for name, about in m.sources.items()}
    taken = dict.fromkeys(text for o in found if o.case and o.predicted is not None for text in o.case.assumptions)
    numbers = {text: number for number, text in enumerate(taken, start=1)}
    rows = len({o.row["id"] for o in found})
    expressed = len({o.row["id"] for o in found if o.predicted is not None})
    refused = [o for o in found if o.case is not None and o.predicted is None]
    impossible = [o for o in found if o.case is None]
    text = "<!-- Generated by benchmarks/public_measurements.py. -->\n\n" + _INTRODUCTION
    kinds = Counter({str(o.row["id"]): o.case.kind for o in found if o.case and o.predicted is not None}.values())
    shares = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    text += f"\n{expressed} of {rows} rows are expressed ({shares}), with the efficiencies `{efficiencies}`.\n"
    text += "\n## Error per source\n\n" + table(ERROR_HEADERS, error_rows(found, sources))
    text += "\n## Rows that cannot be expressed\n\n" + table(["reason", "rows", "which"], reason_rows(impossible))
    if refused:
        text += "\nExpressed, but refused by the cost model:\n\n"
        text += table(["reason", "rows", "which"], reason_rows(refused))
    headers = ["row", "source", "model", "devices", "quantity", "measured", "predicted", "error %", "assumptions"]
    text += "\n## Every figure\n\n" + table(headers, figure_rows(found, numbers))
    text += "\n## Assumptions\n\n" + table(["number", "assumption"], [[str(n), t] for t, n in numbers.items()])
    return text


def main() -> None:
    """Price every row, print the error table, write the page if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--efficiencies", default="textbook", help="an efficiency set by name (default: textbook)")
    parser.add_argument("--update-docs", action="store_true", help=f"write {PAGE.name}")
    arguments = parser.parse_args()
    measurements = load()
    found = outcomes(measurements, Planner(arguments.efficiencies))
    sources = {(m.family, name): about for m in measurements for name, about in m.sources.items()}
    print(table(ERROR_HEADERS, error_rows(found, sources)))
    print(table(["reason", "rows", "which"], reason_rows(o for o in found if o.predicted is None)))
    if arguments.update_docs:
        PAGE.write_text(page(found, measurements, arguments.efficiencies), encoding="utf-8")


if __name__ == "__main__":
    main()
