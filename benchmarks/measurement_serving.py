"""What serving rows of all sources share: places, metrics and closed loops."""

import re
from typing import Any

from measurement_work import (
    OUTPUT_RATE,
    TOTAL_RATE,
    TPOT,
    TTFT,
    Case,
    Classified,
    Reason,
    Row,
    Serving,
    hardware_name,
    model_name,
    prediction_columns,
)

NO_BATCH = Reason("batch or concurrency not stated")
NO_PARALLELISM = Reason("parallelism not stated")
DISAGGREGATED = "disaggregated prefill and decode"
SPECULATION = Reason("speculative decoding whose acceptance is not stated")
CACHE_HITS = Reason("prefix-cache hits of an unknown share")
MEAN_LENGTHS = "a wide spread of lengths, priced at its mean"
BURST = (
    "all requests arrive at once and are served once: priced as a closed loop of that many clients, without the tail"
)
ACCEPTANCE_SHAPE = "every draft position as likely to be accepted as the one before"

_Place = tuple[str, str, tuple[str, ...]]


def place_of(row: Row) -> _Place | Reason:
    """Return the published model, the shipped device and assumptions."""
    model, hardware = model_name(row), hardware_name(row)
    if isinstance(model, Reason):
        return model
    return hardware if isinstance(hardware, Reason) else (model, *hardware)


def _serving_metric(row: Row) -> tuple[str, float] | Reason:
    """Return the quantity and its value in seconds or output tokens/s of the whole deployment."""
    metric, value = str(row["metric"]), float(row["value"])
    if "_per_card" in metric:
        return OUTPUT_RATE, value * int(row["devices"])
    for start, quantity, scale in (
        ("tpot", TPOT, 1e-3),
        ("ttft", TTFT, 1e-3),
        ("output_tokens_per_s", OUTPUT_RATE, 1.0),
        ("total_tokens_per_s", TOTAL_RATE, 1.0),
    ):
        if metric.startswith(start):
            return quantity, value * scale
    return Reason(f"metric not expressed: {metric}")


def closed_loop(row: Row, assumptions: tuple[str, ...], **columns: object) -> Classified:
    """Return the case of one figure of a closed loop whose client count and lengths the row states."""
    if isinstance(place := place_of(row), Reason):
        return place
    if isinstance(metric := _serving_metric(row), Reason):
        return metric
    model, hardware, taken = place
    given: dict[str, object] = {
        "model": model,
        "hardware": hardware,
        "concurrency": row.get("batch_or_concurrency"),
        "isl": row["in_len"],
        "osl": row["out_len"],
    }
    work = Serving(prediction_columns(row, **(given | columns)))
    return (Case("serving", metric[0], metric[1], (work,), (*taken, *assumptions)),)


def chitu(row: Row) -> Classified:
    """Chitu: output rate at a batch, 128 tokens in and 1024 out."""
    if isinstance(place := place_of(row), Reason):
        return place
    parallelism = str(row["parallelism"])
    ranks = {name.lower(): int(count) for name, count in re.findall(r"(TP|PP|DP|EP)(\d+)", parallelism)}
    if not ranks:
        return NO_PARALLELISM
    moe_tp = ranks.get("tp", 1) if "DeepSeek" in place[0] and "ep" not in ranks else 1
    is_ascend = "device_unit" in row
    columns: dict[str, Any] = {
        "backend": "vllm-ascend" if is_ascend else "vllm",
        "precision": "fp8" if "DeepSeek" in place[0] else "bf16",
        "tp": ranks.get("tp", 1),
        "pp": ranks.get("pp", 1),
        "attention_dp": ranks.get("dp", 1),
        "moe_tp": moe_tp,
        "ep": ranks.get("ep", 1),
    }
    taken = (
        f"the Chitu engine, priced as {columns['backend']}",
        "a fixed batch, priced as a closed loop",
    )
    return closed_loop(row, taken, **columns)


def gpustack_assumptions(row: Row, is_burst: bool) -> tuple[str, ...]:
    random = "random" in str(row["variant"])
    return ((BURST,) if is_burst else ()) + (() if random else (MEAN_LENGTHS,))
