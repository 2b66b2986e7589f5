"""``python -m sglang.benchmark.serving`` (``sglang.bench_serving`` in older releases): JSON lines, one per run.

Read: python/sglang/bench_serving.py of 2025 (sgl-project/sglang at 0033168) and what 0.5.23 writes.
Times are milliseconds; ``mean_tpot_ms`` leaves the first token out. ``concurrency`` is the mean number of requests in
flight; the clients are ``max_concurrency``.

``random_range_ratio`` r draws lengths from [r, 1] of those asked for: 1 is fixed, and 0, the default, is anything.
``server_info`` holds the server's own arguments, which are taken as facts of the deployment.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from planner.importers.fields import Fields
from planner.importers.measured import FIXED, Measured, length_spread
from planner.importers.vllm_bench import served

_FORMATS = {"fp8": "fp8", "w8a8_int8": "int8", "w8a8_fp8": "fp8", "awq": "int4", "gptq": "int4", "modelopt_fp4": "fp4"}


def recognises(data: Any) -> bool:
    """Tell a line of sglang.bench_serving."""
    return isinstance(data, dict) and "random_range_ratio" in data and "mean_e2e_latency_ms" in data


def read(run: Fields) -> Iterator[Measured]:
    """Read one run; faults are noted in ``run``."""
    completed = run.count("completed", least=1)
    accepted = run.maybe("accept_length")
    yield served(run, completed)._replace(
        length_spread=_spread(run),
        failed=_failed(run),
        model=run.text("server_info.model_path"),
        facts=_facts(run),
        speculative=_speculative(run, accepted),
    )


def _spread(run: Fields) -> str:
    """Return how lengths spread: as drawn for random prompts, as counted for others, where they were written."""
    ratio = run.maybe("random_range_ratio")
    asked = run.maybe("random_output_len")
    if run.text("dataset_name").startswith("random") and ratio is not None and 0 <= ratio <= 1:
        least = max(ratio, 1 / asked if asked else 0.001)  # never less than one token
        return FIXED if ratio == 1 else f"uniform[{least:.4g},1]"
    lengths = [[length for length in run.numbers(name) if length > 0] for name in ("input_lens", "output_lens")]
    return length_spread(*lengths) if all(lengths) else ""


def _failed(run: Fields) -> int | None:
    """Return the requests that failed, which only ``--output-details`` lists."""
    errors = run.get("errors")
    return sum(bool(error) for error in errors) if isinstance(errors, list) else None


def _speculative(run: Fields, accepted: float | None) -> bool | None:
    """Tell whether drafts were made, as far as the server says."""
    if run.text("server_info.speculative_algorithm") or (accepted is not None and accepted > 1):
        return True
    return False if isinstance(run.get("server_info"), Mapping) else None


def _facts(run: Fields) -> dict[str, str | int]:
    """Return what the server's arguments say of the deployment, in the words of prediction rows.

    With attention data parallelism SGLang's tp_size counts all devices of a stage, and attention is split over
    tp_size / dp_size of them; without, dp_size counts whole replicas, and one row is one replica.
    """
    if not isinstance(run.get("server_info"), Mapping):
        return {}
    found: dict[str, str | int] = {"backend": "sglang", "backend_version": run.text("server_info.version")}
    tp, dp = (int(run.maybe(f"server_info.{name}_size") or 0) for name in ("tp", "dp"))
    if run.get("server_info.enable_dp_attention") and dp and tp:
        found |= {"tp": tp // dp, "attention_dp": dp}
    elif tp:
        found["tp"] = tp
        if dp > 1:
            message = f"is {dp}: several replicas shared the load, and a row is one; benchmark one replica"
            run.fault("server_info.dp_size", message)
    for column, name in (("pp", "pp_size"), ("ep", "ep_size")):
        degree = int(run.maybe(f"server_info.{name}") or 0)
        found |= {column: degree} if degree else {}
    precision = _FORMATS.get(run.text("server_info.quantization"))
    return found | ({"precision": precision} if precision else {})
