"""``aiperf profile``: profile_export_aiperf.json, one run, every metric with its unit.

Read: ai-dynamo/aiperf 0.1.1 (src: exporters, metrics, config) and what 0.13.0 writes, schema version 1.4, whose
``input_config`` lists ``phases`` instead of ``loadgen``. ``inter_token_latency`` is
(latency − TTFT) / (tokens − 1) per request: the TPOT of this project. Its means are over requests.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from planner.importers.fields import Fields
from planner.importers.measured import Measured, Tail, half_width, spread_text
from planner.importers.vllm_bench import NOT_STREAMED

_TO_MS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "sec": 1e3, "seconds": 1e3, "milliseconds": 1.0}
_TTFT, _TPOT = "time_to_first_token", "inter_token_latency"


def recognises(data: Any) -> bool:
    """Tell an export of AIPerf (or of GenAI-Perf, whose form it keeps)."""
    return isinstance(data, dict) and "input_config" in data and isinstance(data.get("request_latency"), Mapping)


def read(run: Fields) -> Iterator[Measured]:
    """Read one run; faults are noted in ``run``."""
    factor = {name: _factor(run, name) for name in (_TTFT, _TPOT)}
    concurrency, open_loop = _load(run)
    cancelled = ("the run was cancelled before its end",) if run.get("was_cancelled") is True else ()
    yield Measured(
        source=str(run.path),
        run=run.text("benchmark_id") or "run 1",
        concurrency=concurrency,
        isl=run.number("input_sequence_length.avg", above=0),
        osl=run.number("output_sequence_length.avg", above=0),
        ttft_ms=run.number(f"{_TTFT}.avg", above=0, wrong=NOT_STREAMED) * factor[_TTFT],
        tpot_ms=run.number(f"{_TPOT}.avg", above=0) * factor[_TPOT],
        completed=run.count("request_count.avg", least=1),
        duration_s=run.number("benchmark_duration.avg", above=0) * _factor(run, "benchmark_duration") / 1e3,
        length_spread=spread_text(
            max(_half_width(run, name) for name in ("input_sequence_length", "output_sequence_length"))
        ),
        ttft_tail=_tail(run, _TTFT, factor[_TTFT]),
        tpot_tail=_tail(run, _TPOT, factor[_TPOT]),
        failed=int(run.maybe("error_request_count.avg") or 0),
        model=_model(run),
        open_loop=open_loop,
        doubts=cancelled,
    )


def _factor(run: Fields, metric: str) -> float:
    """Return what turns a metric into milliseconds."""
    if run.get(metric) is None:
        return 1.0  # its absence is noted where it is read
    unit = run.text(f"{metric}.unit")
    if unit not in _TO_MS:
        run.fault(f"{metric}.unit", f"must be a unit of time, one of {', '.join(_TO_MS)} (got '{unit}')")
    return _TO_MS.get(unit, 1.0)


def _half_width(run: Fields, metric: str) -> float:
    """Return how far lengths lie from their mean; the deviation may be left out where there is none."""
    return half_width(run.maybe(f"{metric}.avg") or 0.0, run.maybe(f"{metric}.std") or 0.0)


def _tail(run: Fields, metric: str, factor: float) -> Tail:
    found = (run.maybe(f"{metric}.{name}") for name in Tail._fields)
    return Tail(*(None if value is None else value * factor for value in found))


def _load(run: Fields) -> tuple[int, str]:
    """Return the clients, or why there is no fixed number of them."""
    phases = [phase for phase in _phases(run) if not phase.get("exclude_from_results")]
    if len(phases) > 1:
        return 0, f"figures are over {len(phases)} phases of different load"
    load = phases[0] if phases else run.get("input_config.loadgen")
    if not isinstance(load, Mapping):
        run.fault("input_config", "must say how load was made, in 'loadgen' or 'phases'")
        return 0, ""
    rate = load.get("request_rate") or load.get("rate")
    if load.get("type", "concurrency") != "concurrency" or rate:
        how = f"at {rate:g} per second" if isinstance(rate, int | float) else f"by {load.get('type') or 'a schedule'}"
        return 0, f"requests came {how} whether others were answered or not"
    clients = load.get("concurrency") or (1 if phases else None)  # the newer configuration leaves out defaults
    if isinstance(clients, bool) or not isinstance(clients, int | None):
        run.fault("input_config.loadgen.concurrency", "must be one number: import the files of the single runs")
        return 0, ""
    return clients or 0, ""


def _phases(run: Fields) -> list[Mapping[str, Any]]:
    """Return the phases of the newer configuration, listed or by name."""
    phases = run.get("input_config.phases")
    listed = list(phases.values()) if isinstance(phases, Mapping) else phases if isinstance(phases, list) else []
    return [phase for phase in listed if isinstance(phase, Mapping)]


def _model(run: Fields) -> str:
    """Return the model that was asked, where it is only one."""
    names = run.get("input_config.endpoint.model_names", "input_config.models.items", "input_config.models")
    found = names if isinstance(names, list) else []
    listed = [name.get("name") if isinstance(name, Mapping) else name for name in found]
    return listed[0] if len(listed) == 1 and isinstance(listed[0], str) else ""
