"""AISBench ``--mode perf``: performances/MODEL/DATASET.json with the totals, and DATASET.csv with the times, beside it.

Read: AISBench/benchmark 3.1 of 2026-08-20 (calculators/base_perf_metric_calculator.py, summarizers/default_perf.py)
and what 3.1 of 2026-06-30 writes. Values are text with units, "1234.5 ms"; each belongs to a stage, "total" or
"stable" (while all clients were busy). TPOT is (latency − TTFT) / (tokens − 1), averaged over
requests. "Max Concurrency" is the configured number of clients, "Concurrency" the mean in flight.
The request rate is not written, so a run at a rate shows only in too few in flight.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from planner.errors import Problem, as_written
from planner.importers.fields import Fields, table
from planner.importers.measured import Measured, Tail, spread_text
from planner.importers.vllm_bench import NOT_STREAMED

_TO_MS = {"ms": 1.0, "s": 1e3, "us": 1e-3}
_NAME, _STAGE = "Performance Parameters", "Stage"


def recognises(data: Any) -> bool:
    """Tell the totals of an AISBench run."""
    return isinstance(data, dict) and "Max Concurrency" in data and "Benchmark Duration" in data


def read(run: Fields) -> Iterator[Measured]:
    """Read the totals in ``run`` and the times in the table beside them, stage by stage."""
    path = run.path.with_suffix(".csv")
    rows = table(path)
    stages = run.get("Max Concurrency")
    for stage in stages if isinstance(stages, Mapping) else ():
        times = _Times(
            path, {row.get(_NAME, ""): (n, row) for n, row in rows if row.get(_STAGE) == stage}, run.problems
        )
        lengths = [times.length(name) for name in ("InputTokens", "OutputTokens")]
        yield Measured(
            source=str(run.path),
            run=f"stage {stage}",
            concurrency=run.count(f"Max Concurrency.{stage}", least=1),
            isl=lengths[0][0],
            osl=lengths[1][0],
            ttft_ms=times.milliseconds("TTFT", "Average", NOT_STREAMED),
            tpot_ms=times.milliseconds("TPOT", "Average", "must be more than 0: no request gained a second token"),
            completed=run.count(f"Success Requests.{stage}", least=1),
            duration_s=_duration(run, stage) / 1e3,
            length_spread=spread_text(max(width for _, width in lengths)),
            ttft_tail=times.tail("TTFT"),
            tpot_tail=times.tail("TPOT"),
            failed=run.count(f"Failed Requests.{stage}"),
        )


def _duration(run: Fields, stage: str) -> float:
    """Return the duration of a stage [ms]."""
    name = f"Benchmark Duration.{stage}"
    value = _in_milliseconds(run.get(name))
    if not value > 0:
        run.fault(name, f"must be a time like '1234.5 ms' (got {as_written(run.get(name))})")
    return value


def _in_milliseconds(value: Any) -> float:
    """Return a written time [ms], not a number where it is none."""
    number, _, unit = str(value).strip().partition(" ")
    try:
        return float(number) * _TO_MS.get(unit, math.nan)
    except ValueError:
        return math.nan


class _Times:
    """The rows of one stage of the table, by metric, each with its line."""

    def __init__(self, path: Path, rows: Mapping[str, tuple[int, Mapping[str, str]]], problems: list[Problem]) -> None:
        self.path = path
        self.rows = rows
        self.problems = problems

    def milliseconds(self, metric: str, statistic: str, wrong: str) -> float:
        """Return a time [ms]; one that is missing or not above 0 is a problem."""
        line, row = self.rows.get(metric, (1, {}))
        value = _in_milliseconds(row.get(statistic, ""))
        if not value > 0:
            got = f"(got {as_written(row[statistic])})" if row.get(statistic) else f"(no row '{metric}' of this stage)"
            self._fault(line, f"{metric}, {statistic}", f"{wrong} {got}")
        return value

    def tail(self, metric: str) -> Tail:
        """Return the percentiles [ms] that the run was asked for."""
        _, row = self.rows.get(metric, (1, {}))
        found = [_in_milliseconds(row.get(name, "")) for name in ("Median", "P90", "P99")]
        return Tail(*(value if math.isfinite(value) else None for value in found))

    def length(self, metric: str) -> tuple[float, float]:
        """Return the mean of a length, and half its width over the mean."""
        line, row = self.rows.get(metric, (1, {}))
        numbers = []
        for statistic in ("Average", "Min", "Max"):
            try:
                numbers.append(float(row.get(statistic) or math.nan))
            except ValueError:
                numbers.append(math.nan)
        mean, least, most = numbers
        if not mean > 0:
            self._fault(
                line, f"{metric}, Average", f"must be a number of tokens (got {as_written(row.get('Average'))})"
            )
            return math.nan, 0.0
        return mean, (most - least) / 2 / mean if most >= least else 0.0

    def _fault(self, line: int, field: str, message: str) -> None:
        self.problems.append(Problem(str(self.path), line, 1, field, message))
