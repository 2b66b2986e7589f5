"""Serving and step rows of GPU sources: from each source's way of writing to what is compared."""

import re
from collections.abc import Mapping
from typing import Any

from measurement_serving import (
    BURST,
    CACHE_HITS,
    DISAGGREGATED,
    NO_BATCH,
    SPECULATION,
    gpustack_assumptions,
    place_of,
)
from measurement_work import (
    DECODE_STEP,
    PREFILL_STEP,
    TOTAL_RATE,
    TPOT,
    TTFT,
    Case,
    Classified,
    KvTokens,
    Reason,
    Row,
    Serving,
    Step,
    prediction_columns,
)

_GPUSTACK_ENGINES = {
    "vllm serve": ("vllm", "vLLM"),
    "sglang.launch_server": ("sglang", "SGLang"),
    "trtllm-serve": ("trtllm", "TensorRT-LLM"),
}
_GPUSTACK_COMMAND_LIMIT = 200  # longer commands were cut off when they were collected
_GPUSTACK_PRECISIONS = {"-FP8": "fp8", "-AWQ": "int4", "gpt-oss": "fp4", "DeepSeek": "fp8"}


def gpustack(row: Row) -> Classified:
    """GPUStack's pages on NVIDIA devices: total rate and TPOT of a burst, or of a few requests at a time."""
    if isinstance(place := place_of(row), Reason):
        return place
    command = str(row["parallelism"])
    if "--speculative" in command:
        return SPECULATION
    if len(command) >= _GPUSTACK_COMMAND_LIMIT:
        return Reason("the command was cut off before all its settings")
    size = place[0].rsplit("-", 1)[-1] if "oss" in place[0] or "Qwen3-32B" in place[0] else ""
    if size and not re.search(rf"(?<!\d){size}", command, re.IGNORECASE):
        return Reason("the command on the page serves another model")
    concurrency, loop_taken = _gpustack_concurrency(row)
    columns = _gpustack_columns(row, command)
    columns |= {"model": place[0], "hardware": place[1], "concurrency": concurrency}
    taken: tuple[str, ...] = (*place[2], *loop_taken, *gpustack_assumptions(row, is_burst=BURST in loop_taken))
    if "--enable-dp-attention" in command and columns["attention_dp"] == 1:
        taken += ("data-parallel attention without a size has no effect",)
    work = (Serving(prediction_columns(row, **columns)),)
    cases = [
        Case("serving", TOTAL_RATE, float(row["value"]), work, tuple(dict.fromkeys(taken))),
        Case("serving", TPOT, float(row["mean_tpot_ms"]) * 1e-3, work, tuple(dict.fromkeys(taken))),
    ]
    if BURST not in loop_taken:
        cases.append(Case("serving", TTFT, float(row["mean_ttft_ms"]) * 1e-3, work, tuple(dict.fromkeys(taken))))
    return tuple(cases)


def _gpustack_concurrency(row: Row) -> tuple[int, tuple[str, ...]]:
    """Return the clients: stated, or rate × time in the system where the page lets a few requests in at a time."""
    variant, batch = str(row["variant"]), str(row["batch_or_concurrency"])
    if stated := re.search(r"batch size (\d+)|BS=(\d+)", variant):
        return int(stated[1] or stated[2]), ()
    if batch.startswith("burst of"):
        return int(batch.split()[-1]), (BURST,)
    osl = float(row["out_len"])
    seconds = (float(row["mean_ttft_ms"]) + osl * float(row["mean_tpot_ms"])) * 1e-3
    return round(float(row["output_tok_s"]) / osl * seconds), ("concurrency = measured rate × measured time (Little)",)


def _flag(command: str, names: str, default: int = 1) -> int:
    found = re.search(rf"(?:{names})[ =](\d+)", command)
    return int(found[1]) if found else default


def _gpustack_columns(row: Row, command: str) -> dict[str, Any]:
    """Read engine, parallelism, precision and limits off the serve command."""
    backend, label = next(names for start, names in _GPUSTACK_ENGINES.items() if start in command)
    version = re.search(rf"{label}: v?([\w.]+)", str(row["engines"]))
    tp = _flag(command, "-tp|--tp|--tp-size|--tp_size")
    dp = _flag(command, "--dp|--dp-size") if "--enable-dp-attention" in command else 1
    ep = tp if "--enable-expert-parallel" in command else _flag(command, "--ep-size|--ep_size")
    is_moe = not re.search(r"Qwen3-(8|32)B", command)
    columns: dict[str, Any] = {
        "backend": backend,
        "backend_version": version[1] if version else "",
        "precision": next((p for mark, p in _GPUSTACK_PRECISIONS.items() if mark in command), "bf16"),
        "tp": tp // dp,
        "pp": _flag(command, "--pp-size|--pp_size"),
        "attention_dp": dp,
        "moe_tp": tp // ep if is_moe else 1,
        "ep": ep,
        "isl": round(float(row["in_len"])),
        "osl": round(float(row["out_len"])),
    }
    if backend == "vllm":  # its defaults by device (0.11, arg_utils.py)
        small = "A100" in str(row["hardware"])
        tokens = _flag(command, "--max-num-batched-tokens", 2048 if small else 8192)
        columns |= {"max_num_seqs": 256 if small else 1024, "max_num_batched_tokens": tokens}
    return columns


def mlperf(row: Row) -> Classified:
    """MLPerf results state devices and software, not how a submission splits the model over them."""
    return Reason("MLPerf: parallelism and batch of the submission not stated")


def deepseek_production(row: Row) -> Classified:
    """DeepSeek's own figures."""
    if row["phase"] == "prefill":
        return CACHE_HITS
    return NO_BATCH


def _gpu_step(row: Row, seconds: float, shape: tuple[int, int, int], taken: tuple[str, ...]) -> Classified:
    """Return a DeepSeek step on Hopper: attention DP and experts over all devices, fp8."""
    place = place_of(row)
    if isinstance(place, Reason):
        return place
    devices = int(row["devices"])
    sequences, context, new_tokens = shape
    work = Step(place[0], place[1], "sglang", "fp8", sequences, context, new_tokens, attention_dp=devices, ep=devices)
    quantity = DECODE_STEP if new_tokens == 1 else PREFILL_STEP
    taken = (*place[2], "attention data-parallel over all devices", *taken)
    return (Case("step", quantity, seconds, (work,), taken),)


PROFILE_TOKENS = 16384
PROFILE_BATCH = 128


def cloudmatrix_gpu(row: Row) -> Classified:
    """The GPU columns of CloudMatrix384's tables."""
    if row["phase"] == "decode":
        return SPECULATION
    isl, devices = int(row["in_len"]), int(row["devices"])
    taken = (f"{PROFILE_TOKENS} tokens per device and step, as the published profile and the table's other rows",)
    sequences = devices * PROFILE_TOKENS // isl
    return _gpu_step(row, PROFILE_TOKENS / float(row["value"]), (sequences, 0, isl), taken)


def step3(row: Row) -> Classified:
    """Decode rates that the Step-3 paper compares with."""
    if "profile" not in str(row["model"]):
        placed = place_of(row)
        return placed if isinstance(placed, Reason) else NO_BATCH
    devices = int(row["devices"])
    taken = (
        f"{PROFILE_BATCH} requests per device, as the published profile states",
        "priced as sglang",
    )
    return _gpu_step(row, PROFILE_BATCH / float(row["value"]), (devices * PROFILE_BATCH, int(row["in_len"]), 1), taken)


def splitwise(row: Row) -> Classified:
    """Splitwise: the time of a prompt and of a token, one request at a time."""
    if isinstance(place := place_of(row), Reason):
        return place
    tp, isl, osl = int(row["devices"]), int(row["in_len"]), int(row["out_len"])
    taken = (*place[2], "the engine of the study, priced as vllm", "fp16 priced as bf16")
    prompt = Step(place[0], place[1], "vllm", "bf16", 1, 0, isl, tp=tp)
    token = Step(place[0], place[1], "vllm", "bf16", 1, isl + osl // 2, 1, tp=tp)
    return (
        Case("step", PREFILL_STEP, float(row["value"]) * 1e-3, (prompt,), taken),
        Case("step", DECODE_STEP, float(row["token_time_ms"]) * 1e-3, (token,), taken),
    )


# (prompts or sequences, tokens each) where a fitted line is read off; the large branch starts at a batch of 95
_FIT_POINTS: Mapping[str, tuple[int, int]] = {
    "prefill": (1, 512),
    "decoding_smallbs": (16, 512),
    "decoding_largebs": (128, 256),
}


def distserve(row: Row) -> Classified:
    """DistServe: fitted lines of step time, read off at one point each, and the KV cache that fits."""
    if isinstance(place := place_of(row), Reason):
        return place
    phase, tp = str(row["phase"]), int(row["devices"])
    if phase == "capacity":
        work = KvTokens(place[0], place[1], "vllm", "bf16", tp)
        return (Case("capacity", "KV tokens", float(row["value"]), (work,), (*place[2], "priced as vllm")),)
    a, b, c = (float(value) for value in row["value"])
    count, tokens = _FIT_POINTS[phase]
    is_prefill = phase == "prefill"
    milliseconds = a + b * count * tokens + c * (count * tokens**2 if is_prefill else count)
    shape = (count, 0, tokens) if is_prefill else (count, tokens, 1)
    step = Step(place[0], place[1], "vllm", "bf16", *shape, tp=tp)
    taken: tuple[str, ...] = (*place[2], f"a fitted line, read off at {count} × {tokens} tokens")
    if "engine distserve" in str(row["parallelism"]):
        taken += ("DistServe's own engine, priced as vllm",)
    return (Case("step", PREFILL_STEP if is_prefill else DECODE_STEP, milliseconds * 1e-3, (step,), taken),)


def lmsys(row: Row) -> Classified:
    """LMSYS blogs: rates per device of pools whose step size the rows do not state."""
    if row["phase"] == "prefill":
        return Reason(f"{DISAGGREGATED}: tokens per prefill step not stated")
    return Reason(f"{DISAGGREGATED}: batch not stated")
