"""``guidellm benchmark``: benchmarks.json, a benchmark per load.

Read: vllm-project/guidellm 0.3.1 (``benchmarks[].args.strategy``) and 0.7.3, report version 2
(``benchmarks[].config.strategy``), alike since 0.4; and what 0.8.1 writes. Token times are in
milliseconds, durations in seconds.

Its ``time_per_output_token_ms`` counts the first token in, so TPOT is ``inter_token_latency_ms``; whose mean is over
tokens, not requests. Where the report lists every request, the mean over requests is taken from there.
"""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from planner.importers.fields import Fields
from planner.importers.measured import Measured, Tail, half_width, spread_text
from planner.importers.vllm_bench import NOT_STREAMED

_TTFT, _TPOT = "metrics.time_to_first_token_ms.successful", "metrics.inter_token_latency_ms.successful"
_LENGTHS = ("metrics.prompt_token_count.successful", "metrics.output_token_count.successful")


def recognises(data: Any) -> bool:
    """Tell a report of GuideLLM."""
    if not isinstance(data, dict) or not isinstance(data.get("benchmarks"), list):
        return False
    return any(isinstance(item, Mapping) and "metrics" in item for item in data["benchmarks"])


def read(report: Fields) -> Iterator[Measured]:
    """Read every benchmark of a report; faults are noted in ``report``."""
    for number, run in enumerate(report.parts("benchmarks"), start=1):
        concurrency, open_loop = _load(run)
        widths = [
            half_width(run.maybe(f"{name}.mean") or 0.0, run.maybe(f"{name}.std_dev") or 0.0) for name in _LENGTHS
        ]
        tpot, doubts = _tpot(run, varying=widths[1] > 0)
        yield Measured(
            source=str(report.path),
            run=f"benchmark {number}",
            concurrency=concurrency,
            isl=run.number(f"{_LENGTHS[0]}.mean", above=0),
            osl=run.number(f"{_LENGTHS[1]}.mean", above=0),
            ttft_ms=run.number(f"{_TTFT}.mean", above=0, wrong=NOT_STREAMED),
            tpot_ms=tpot,
            completed=_requests(run, "successful"),
            duration_s=run.number("duration", "run_stats.duration", above=0),
            length_spread=spread_text(max(widths)),
            ttft_tail=_tail(run, _TTFT),
            tpot_tail=_tail(run, _TPOT),
            failed=_requests(run, "errored"),
            model=run.text("config.backend.model", "worker.backend_model", "benchmarker.backend.model"),
            open_loop=open_loop,
            doubts=doubts,
        )


def _load(run: Fields) -> tuple[int, str]:
    """Return the clients of a strategy, or why there are none."""
    prefix = next(
        (p for p in ("config.strategy", "args.strategy", "scheduler.strategy") if run.get(p)), "config.strategy"
    )
    kind = run.text(f"{prefix}.type_")
    if kind == "synchronous":
        return 1, ""
    if kind == "concurrent":
        return run.count(f"{prefix}.streams", least=1), ""
    if kind == "throughput":
        limit = run.maybe(f"{prefix}.max_concurrency")
        return (
            (int(limit), "")
            if limit
            else (0, "requests were sent as fast as possible; --profile concurrent has clients")
        )
    if kind in ("constant", "poisson"):
        rate = run.maybe(f"{prefix}.rate") or 0.0
        return 0, f"requests came at {rate:g} per second whether others were answered or not"
    if kind:
        return 0, f"requests came by the strategy '{kind}'"
    run.fault(f"{prefix}.type_", "is missing; it says how load was made, like 'concurrent'")
    return 0, ""


def _tpot(run: Fields, *, varying: bool) -> tuple[float, tuple[str, ...]]:
    """Return the mean over requests of the time between tokens [ms], and why it may be off."""
    aggregate = run.number(f"{_TPOT}.mean", above=0, wrong="must be more than 0: no request gained a second token")
    if not varying:
        return aggregate, ()
    requests = run.get("requests.successful")
    listed = requests if isinstance(requests, list) else []
    each = [request.get("inter_token_latency_ms") for request in listed if isinstance(request, Mapping)]
    times = [float(value) for value in each if isinstance(value, int | float) and value > 0]
    if times and len(listed) >= _requests(run, "successful"):
        return statistics.fmean(times), ()
    return aggregate, ("TPOT is a mean over tokens, since lengths vary and the report does not list all requests",)


def _requests(run: Fields, status: str) -> int:
    return run.count(f"metrics.request_totals.{status}", f"request_totals.{status}", least=int(status == "successful"))


def _tail(run: Fields, metric: str) -> Tail:
    return Tail(*(run.maybe(f"{metric}.percentiles.{name}") for name in Tail._fields))
