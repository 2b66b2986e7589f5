"""Serving and step rows of Ascend sources: from each source's way of writing to what is compared."""

import re
from typing import Any

from measurement_serving import (
    ACCEPTANCE_SHAPE,
    CACHE_HITS,
    DISAGGREGATED,
    MEAN_LENGTHS,
    NO_PARALLELISM,
    SPECULATION,
    closed_loop,
    gpustack_assumptions,
    place_of,
)
from measurement_work import (
    DECODE_STEP,
    PREFILL_STEP,
    Case,
    Classified,
    Reason,
    Row,
    Step,
    acceptances,
    accepted_drafts,
    device_count,
    precision_names,
)

_OFFLINE_ENGINE = "the source's own runner, priced as vllm-ascend"


def vllm_ascend(row: Row) -> Classified:
    """vLLM-Ascend's documentation: closed loops with stated TP; pairs and pipelines are not."""
    parallelism, model = str(row.get("parallelism", "")), str(row["model"])
    if row["metric"] == "tpot_delta_vs_no_fine_grained_tp":
        return Reason("a difference between two runs, not a figure of one")
    if "P1D" in parallelism:
        return Reason(f"{DISAGGREGATED}: concurrency not stated")
    if "CPP" in parallelism:
        return Reason("chunked pipeline prefill: stages not stated")
    if "cache hit" in str(row.get("note", "")) or "prefix cache" in parallelism:
        placed = place_of(row)
        return placed if isinstance(placed, Reason) else CACHE_HITS
    if model == "Kimi-K2-Thinking":
        tutorial = ("parallelism and sequence limit from the tutorial: TP16, EP16, at most 12 sequences",)
        return closed_loop(
            row,
            tutorial,
            backend="vllm-ascend",
            precision="int4",
            tp=16,
            ep=16,
            max_num_seqs=12,
            max_num_batched_tokens=8192,
        )
    tp = re.match(r"TP(\d+)", parallelism)
    if tp is None:
        return NO_PARALLELISM
    taken: tuple[str, ...] = (MEAN_LENGTHS,) if "," in parallelism else ()
    return closed_loop(row, taken, backend="vllm-ascend", precision="bf16", tp=int(tp[1]))


def sglang_ascend(row: Row) -> Classified:
    """SGLang's page for Ascend: nearly all runs speculate."""
    if isinstance(place := place_of(row), Reason):
        return place
    if "suspect" in row:
        return Reason("the source contradicts itself")
    precision, parallelism = precision_names(row), str(row["parallelism"])
    if isinstance(precision, Reason):
        return precision
    if parallelism.startswith("PD"):
        return Reason(f"{DISAGGREGATED}: split not stated, speculative acceptance not stated")
    accept = re.search(r"accept ([\d.]+)", parallelism)
    if accept is None:
        return SPECULATION
    dies = device_count(row)
    moe = "235B" in place[0]
    drafts = 3 if moe else 4
    taken: tuple[str, ...] = (
        f"EAGLE3 drafts {drafts} tokens (from the page); the stated length counts the token that is always kept",
        ACCEPTANCE_SHAPE,
    )
    if moe:
        taken += ("data-parallel attention and experts over all dies (from the page)",)
    ranks: dict[str, object] = {"attention_dp": dies, "ep": dies} if moe else {"tp": dies}
    return closed_loop(
        row,
        taken,
        backend="sglang",
        precision=precision[0],
        speculative_acceptance=acceptances(float(accept[1]) - 1, drafts),
        **ranks,
    )


def recipes(row: Row) -> Classified:
    """Recipes of CANN: fixed batches in decode, one batch in prefill, and one vLLM deployment."""
    if isinstance(place := place_of(row), Reason):
        return place
    if "in_len" not in row:
        return Reason("context length not stated")
    precision = precision_names(row)
    if isinstance(precision, Reason):
        return precision
    if str(row["parallelism"]).startswith("vLLM"):
        dies = device_count(row)
        reading = (f"DP+EP{dies} read as attention DP {dies}",)
        columns: dict[str, Any] = {
            "backend": "vllm-ascend",
            "precision": precision[0],
            "attention_dp": dies,
            "ep": dies,
        }
        return closed_loop(row, reading, **columns)
    if row["phase"] == "prefill":
        sequences, length = (int(part) for part in str(row["batch_or_concurrency"]).split(" x "))
        overlap = ("two micro-batches overlap as the engine does by default",)
        taken = overlap if "micro" in row["parallelism"] else ()
        return _step_case(row, float(row["value"]) * 1e-3, (sequences, 0, length), taken)
    return _recipe_decode(row)


def _recipe_decode(row: Row) -> Classified:
    note, batch = str(row.get("note", "")), int(row["batch_or_concurrency"])
    chances = _stated_acceptance(note)
    if not chances:
        return Reason("speculative settings not stated")
    tokens = 1 + accepted_drafts(chances)
    if row["metric"] == "tpot":
        seconds = float(row["value"]) * 1e-3 * tokens
    else:
        seconds = batch / int(row["devices"]) * tokens / float(row["value"])
    taken: tuple[str, ...] = ("TPOT counts accepted drafts: one step is TPOT × (1 + accepted)", "experts evenly loaded")
    if "," in chances:
        taken += (ACCEPTANCE_SHAPE,)
    return _step_case(row, seconds, (batch, int(row["in_len"]), 1), taken, chances)


def _stated_acceptance(text: str) -> str:
    """Read 'MTP1 accept 0.7', 'MTP3 accept 1.44 of 3' or 'MTP1 70% accept'."""
    if found := re.search(r"MTP1 accept ([\d.]+)", text):
        return found[1]
    if found := re.search(r"accept ([\d.]+) of (\d)", text):
        return acceptances(float(found[1]), int(found[2]))
    if found := re.search(r"(\d+)% accept", text):
        return str(float(found[1]) / 100)
    return ""


def _step_case(
    row: Row, seconds: float, shape: tuple[int, int, int], taken: tuple[str, ...], acceptance: str = ""
) -> Classified:
    """Return the case of one step with attention DP and experts over all dies: (sequences, context, new tokens)."""
    if isinstance(place := place_of(row), Reason):
        return place
    if isinstance(precision := precision_names(row), Reason):
        return precision
    dies = device_count(row)
    sequences, context, new_tokens = shape
    work = Step(
        place[0],
        place[1],
        "vllm-ascend",
        precision[0],
        sequences,
        context,
        new_tokens,
        attention_dp=dies,
        ep=dies,
        kv_precision=precision[1],
        speculative_acceptance=acceptance,
    )
    quantity = DECODE_STEP if new_tokens == 1 else PREFILL_STEP
    taken = (*place[2], _OFFLINE_ENGINE, "attention data-parallel over all dies", *taken)
    return (Case("step", quantity, seconds, (work,), taken),)


def cloudmatrix(row: Row) -> Classified:
    """CloudMatrix384: prefill of 16 384 tokens per card, decode at a batch per card, latency of a layer."""
    metric, note = str(row["metric"]), str(row.get("note", ""))
    if "gain" in metric or "speedup" in metric:
        return Reason("a gain over another run, not a figure of one")
    if metric == "per_layer_latency":
        return _cloudmatrix_layer(row)
    cards, per_card = int(row["devices"]), int(re.split(r"\D", str(row["batch_or_concurrency"]))[0])
    isl = int(row["in_len"])
    if row["phase"] == "prefill":
        if "perfect" in note:
            return Reason("a projection of the source, not a measurement")
        attention = ("SP-TP-SP attention priced as data-parallel attention",)
        return _step_case(row, per_card / float(row["value"]), (cards * per_card // isl, 0, isl), attention)
    chances = _stated_acceptance(str(row["parallelism"]))
    tokens = 1 + float(chances)
    seconds = float(row["value"]) * 1e-3 if metric == "tpot" else per_card / float(row["value"])
    taken = (
        "TPOT counts accepted drafts: one step is TPOT × (1 + accepted)",
        "context = prompt + half of the answer",
        "32 of 320 ranks hold shared experts and 32 hold copies: priced as EP320",
    )
    context = isl + int(row["out_len"]) // 2
    return _step_case(row, seconds * tokens, (cards * per_card, context, 1), taken, chances)


DEEPSEEK_LAYERS = 61


def _cloudmatrix_layer(row: Row) -> Classified:
    """'874 -> 1260' µs for one layer, without and with one MTP draft; a step is 61 of them."""
    cases: list[Case] = []
    taken = (
        "a step is 61 such layers",
        "batch per card, 70 % acceptance and EP320 as in the source's other rows",
    )
    sequences = int(row["devices"]) * int(row["batch_or_concurrency"])
    context = int(row["in_len"]) + int(row["out_len"]) // 2
    for text, acceptance in zip(str(row["value"]).split(" -> "), ("", "0.7"), strict=True):
        seconds = float(text) * 1e-6 * DEEPSEEK_LAYERS
        classified = _step_case(row, seconds, (sequences, context, 1), taken, acceptance)
        if isinstance(classified, Reason):
            return classified
        cases += classified
    return tuple(cases)


def gpustack_ascend(row: Row) -> Classified:
    """GPUStack's pages on 910B: bursts, or four requests at a time."""
    command, batch = str(row["parallelism"]), str(row["batch_or_concurrency"])
    if "suspect" in row:
        return Reason("the command on the page serves another model")
    if "--enable-prefix-caching" in command:
        return CACHE_HITS
    if command.startswith("MindIE") and "30B" in str(row["model"]):
        return Reason("device count not stated")
    is_burst = "batch size 4" not in str(row["variant"])
    if is_burst and str(row["metric"]).startswith("ttft"):
        return Reason("mean time to first token of a burst: set by the order of arrival alone")
    tp = re.search(r"-tp (\d+)", command)
    columns: dict[str, Any] = {
        "backend": "mindie" if command.startswith("MindIE") else "vllm-ascend",
        "backend_version": command.split(":", 1)[0].split()[-1],
        "precision": "bf16" if row["quant"] == "BF16" else "int8",
        "tp": int(tp[1]) if tp else 1,
        "moe_tp": int(tp[1]) if tp else 1,
        "concurrency": int(re.findall(r"\d+", batch)[0]) if is_burst else 4,
        "isl": round(float(row["in_len"])),
        "osl": round(float(row["out_len"])),
    }
    if columns["backend"] == "vllm-ascend":
        columns |= {"max_num_seqs": 256}
    return closed_loop(row, gpustack_assumptions(row, is_burst), **columns)
