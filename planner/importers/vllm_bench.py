"""``vllm bench serve --save-result``: one JSON object per run, several in a file with ``--append-result``.

Read: vllm/benchmarks/serve.py of 2026 (ROCm/vllm at 17fcf0f); older versions lack ``failed``. Times are milliseconds;
``mean_tpot_ms`` is (latency − TTFT) / (tokens − 1), averaged over requests of two tokens or more. ``backend`` names the
client's protocol, not the engine, so it is not read.

The file does not say how lengths were drawn (``--random-range-ratio``): only ``--save-detailed`` tells.
"""

import math
from collections.abc import Iterator
from typing import Any

from planner.importers.fields import Fields
from planner.importers.measured import FIXED, Measured, Tail, length_spread

NOT_STREAMED = "must be more than 0: without streaming nobody saw the first token"


def recognises(data: Any) -> bool:
    """Tell a result of vllm bench serve."""
    return isinstance(data, dict) and "num_prompts" in data and "endpoint_type" in data and "duration" in data


def read(run: Fields) -> Iterator[Measured]:
    """Read one run; faults are noted in ``run``."""
    completed = run.count("completed", least=1)
    acceptance, drafted = _speculation(run)
    yield served(run, completed)._replace(
        length_spread=_spread(run, completed),
        failed=_failed(run, completed),
        model=run.text("model_id"),
        speculative=drafted,
        acceptance=acceptance,
    )


def served(run: Fields, completed: int) -> Measured:
    """Return what SGLang's client, which began as a copy of vLLM's, writes under the same names."""
    return Measured(
        source=str(run.path),
        run=f"line {run.line}",
        concurrency=int(run.maybe("max_concurrency") or 0),
        isl=run.number("total_input_tokens") / max(completed, 1),
        osl=run.number("total_output_tokens") / max(completed, 1),
        ttft_ms=run.number("mean_ttft_ms", above=0, wrong=NOT_STREAMED),
        tpot_ms=run.number("mean_tpot_ms", above=0, wrong="must be more than 0: no request gained a second token"),
        completed=completed,
        duration_s=run.number("duration", above=0),
        ttft_tail=tail(run, "ttft"),
        tpot_tail=tail(run, "tpot"),
        open_loop=open_loop(run, "--max-concurrency"),
    )


def tail(run: Fields, metric: str) -> Tail:
    """Return the percentiles of a metric, written like ``p99_ttft_ms``."""
    p50 = run.maybe(f"p50_{metric}_ms", f"median_{metric}_ms")
    return Tail(p50, run.maybe(f"p90_{metric}_ms"), run.maybe(f"p99_{metric}_ms"))


def open_loop(run: Fields, option: str) -> str:
    """Return why requests were not sent by a fixed number of clients; empty where they were."""
    rate = run.get("request_rate")
    if run.get("ramp_up_strategy"):
        return "requests came at a rate that was ramped up"
    if isinstance(rate, str) and rate not in ("inf", "Infinity"):
        return f"requests came as a trace has them (request_rate: {rate})"
    if isinstance(rate, int | float) and math.isfinite(rate):
        return f"requests came at {rate:g} per second whether others were answered or not"
    if run.get("max_concurrency") is None:
        return f"all requests were sent at once; {option} sets the number of clients"
    return ""


def _spread(run: Fields, completed: int) -> str:
    """Return how lengths spread: from those of every request, or fixed where both means are whole."""
    outputs = run.numbers("output_lens")
    inputs = run.numbers("input_lens")
    if outputs and len(inputs) == len(outputs):
        pairs = [(i, o) for i, o in zip(inputs, outputs, strict=True) if o > 0]  # failed requests are there with 0
        return length_spread([i for i, _ in pairs], [o for _, o in pairs])
    totals = (run.maybe("total_input_tokens") or 0.0, run.maybe("total_output_tokens") or 0.0)
    return FIXED if completed and not any(total % completed for total in totals) else ""


def _failed(run: Fields, completed: int) -> int | None:
    """Return the requests that failed; older versions count only those asked for."""
    failed = run.maybe("failed")
    if failed is None:
        asked = run.maybe("num_prompts")
        failed = asked - completed if asked is not None else None
    return None if failed is None else max(int(failed), 0)


def _speculation(run: Fields) -> tuple[tuple[float, ...], bool | None]:
    """Return the chance of each draft after those before it, from the shares of steps that accepted it."""
    if run.get("spec_decode_acceptance_length") is None:
        return (), None  # the server's counters may not have been within reach
    reached, chances = 1.0, list[float]()
    for share in run.numbers("spec_decode_per_position_acceptance_rates"):
        if share <= 0 or reached <= 0:
            break
        chances.append(min(share / reached, 1.0))
        reached = share
    return tuple(chances), True
