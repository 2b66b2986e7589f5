"""Serving and step rows of Ascend sources: from each source's way of writing to what is compared."""

import re
from collections.abc import Mapping
from typing import Any

from measurement_serving import (
    ACCEPTANCE_SHAPE,
    CACHE_HITS,
    DISAGGREGATED,
    MEAN_LENGTHS,
    NO_PARALLELISM,
    closed_loop,
    gpustack_assumptions,
    place_of,
)
from measurement_work import (
    DIES_PER_CARD,
    PREFILL_STEP,
    TPOT,
    Case,
    Classified,
    Reason,
    Row,
    Serving,
    acceptances,
    accepted_drafts,
    device_count,
    precision_names,
    prediction_columns,
)


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
            backend_version="0.20",
            precision="int4",
            tp=16,
            ep=16,
            max_num_seqs=12,
            max_num_batched_tokens=8192,
        )
    tp = re.match(r"TP(\d+)", parallelism)
    if tp is None:
        return NO_PARALLELISM
    columns = {"backend": "vllm-ascend", "backend_version": "0.13", "precision": "bf16", "tp": int(tp[1])}
    taken: tuple[str, ...] = ("version 0.13, as the tutorial, or no newer",)
    if "," in parallelism:  # a dataset, whose answers differ in length
        taken, columns = (*taken, MEAN_LENGTHS), columns | {"length_spread": "uniform[0.5,1.5]"}
    return closed_loop(row, taken, **columns)


_OWN_RUNNER = "the source's own runner, priced as sglang"
_OFFLINE_BATCH = "a batch that only decodes: TPOT counts accepted drafts"
_EVEN = "experts evenly loaded by force"
_LITTLE = "requests decoding = measured rate × measured TPOT (Little)"
_UNSTATED_ACCEPTANCE = (
    "acceptance not stated: as likely per draft as in the page's row of the same model that states it"
)
_MICRO_BATCHES = {"backend": "sglang", "overlaps": "dual_batch_overlap"}

# What the page's commands say, by (model, parallelism column, input length) of a row: the part of the deployment that
# the TPOT belongs to. ``accepted``: tokens per step that the page states for the model, at ``of`` drafts.
_R1 = {"accepted": 2.82, "of": 3, "drafts": 3}
_QWEN_MOE = {"accepted": 2.83, "of": 3, "drafts": 3, "drafter": "eagle"}
_QWEN = {"accepted": 2.15, "of": 4, "drafts": 4, "drafter": "eagle"}
_R1_DECODE = _R1 | {"role": "decode", "tp": 2, "attention_dp": 16, "ep": 32, "concurrency": 32}
_SGLANG: dict[tuple[str, str, int], dict[str, Any]] = {
    ("DeepSeek-R1 671B", "PD low-latency", 6000): _R1_DECODE,
    ("DeepSeek-R1 671B", "PD low-latency", 3900): _R1_DECODE,
    ("DeepSeek-R1 671B", "PD low-latency", 3500): _R1_DECODE,
    ("DeepSeek-V3.2", "PD long context", 64000): _R1 | {"role": "decode", "tp": 4, "attention_dp": 8, "ep": 32},
    ("Qwen3-235B-A22B", "low-latency", 11000): _QWEN_MOE | {"drafts": 4, "tp": 16, "moe_tp": 16, "concurrency": 1},
    ("Qwen3-235B-A22B", "PD", 3500): _QWEN_MOE | {"role": "decode", "attention_dp": 32, "ep": 32},
    ("Qwen3-235B-A22B", "mixed, EAGLE3 accept 2.83", 3500): _QWEN_MOE | {"attention_dp": 16, "ep": 16},
    ("Qwen3-235B-A22B", "mixed", 2000): _QWEN_MOE | {"attention_dp": 32, "ep": 32, "concurrency": 768},
    ("Qwen3-32B", "TP8", 6000): _QWEN | {"tp": 8, "concurrency": 32},  # two runs: bf16 on A3, int8 on A2
    ("Qwen3-32B", "low-latency", 4000): _QWEN | {"tp": 8, "concurrency": 1},
    ("Qwen3-32B", "TP16 EAGLE3 accept 2.15", 18000): _QWEN | {"tp": 16},
    ("Qwen3-32B", "TP4", 2000): _QWEN | {"drafts": 3, "tp": 4},
    ("Qwen3-32B", "TP8", 3500): _QWEN | {"drafts": 3, "tp": 4, "concurrency": 78},  # TP4 on the page
}


def sglang_ascend(row: Row) -> Classified:
    """SGLang's page for Ascend: nearly all runs speculate, and many have prefill and decode apart.

    A row with both apart has the decode side's TPOT; its TTFT and rate are those of both.
    """
    if isinstance(place := place_of(row), Reason):
        return place
    if "suspect" in row:
        return Reason("the source contradicts itself")
    if isinstance(precision := precision_names(row), Reason):
        return precision
    known = _SGLANG.get((str(row["model"]), str(row["parallelism"]), int(row["in_len"])))
    if known is None:
        return Reason("command of the run not found on the page")
    if "role" in known and not str(row["metric"]).startswith("tpot"):
        return Reason(f"{DISAGGREGATED}: set by both sides")
    columns = dict(known)
    accepted, of, drafts = (columns.pop(name) for name in ("accepted", "of", "drafts"))
    chance = acceptances(accepted - 1, of).split(",")[0]
    taken: tuple[str, ...] = (ACCEPTANCE_SHAPE,)
    if "accept" not in row["parallelism"]:
        taken += (_UNSTATED_ACCEPTANCE,)
    if row["id"] in _CORRECTED_TO_BF16:
        precision = ("bf16", "")
        taken += ("bf16, as the page says",)
    if "role" in known and "concurrency" not in known:
        columns["concurrency"] = _running(row)
        taken += (_LITTLE,)
    return closed_loop(
        row, taken, backend="sglang", precision=precision[0], speculative_acceptance=",".join([chance] * drafts),
        **columns,
    )  # fmt: skip


_CORRECTED_TO_BF16 = ("A129", "A130")  # the correction stands at the first of the two figures of one run
# Output tokens per second of the rows whose concurrency is not stated, by the id of their row of TPOT.
_RATES = {"A096": 471.7, "A115": 11218.0}


def _running(row: Row) -> int:
    return round(_RATES[str(row["id"])] * float(row["value"]) * 1e-3)


def recipes(row: Row) -> Classified:
    """Recipes of CANN: fixed batches in decode, one batch in prefill, and one vLLM deployment."""
    if isinstance(place := place_of(row), Reason):
        return place
    if "in_len" not in row:
        return Reason("context length not stated")
    if isinstance(precision := precision_names(row), Reason):
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
        work = {"concurrency": sequences, "isl": length, "osl": 1, "role": "prefill", "expert_load": "even"}
        work |= {"max_num_batched_tokens": sequences * length // device_count(row)}
        if "micro" in row["parallelism"]:
            work |= _MICRO_BATCHES
        return _one_role(row, PREFILL_STEP, float(row["value"]) * 1e-3, work, (_EVEN,))
    return _recipe_decode(row)


def _recipe_decode(row: Row) -> Classified:
    batch = int(row["batch_or_concurrency"])
    chances = _stated_acceptance(str(row.get("note", "")))
    if not chances:
        return Reason("speculative settings not stated")
    seconds = float(row["value"]) * 1e-3 if row["metric"] == "tpot" else batch / int(row["devices"]) / row["value"]
    taken: tuple[str, ...] = (_OFFLINE_BATCH, _EVEN)
    if "," in chances:
        taken += (ACCEPTANCE_SHAPE,)
    work = {"concurrency": batch, "isl": int(row["in_len"]), "osl": 2, "role": "decode", "expert_load": "even"}
    return _one_role(row, TPOT, seconds, work | {"speculative_acceptance": chances}, taken)


def _stated_acceptance(text: str) -> str:
    """Read 'MTP1 accept 0.7', 'MTP3 accept 1.44 of 3' or 'MTP1 70% accept'."""
    if found := re.search(r"MTP1 accept ([\d.]+)", text):
        return found[1]
    if found := re.search(r"accept ([\d.]+) of (\d)", text):
        return acceptances(float(found[1]), int(found[2]))
    if found := re.search(r"(\d+)% accept", text):
        return str(float(found[1]) / 100)
    return ""


def _one_role(
    row: Row, quantity: str, seconds: float, columns: Mapping[str, object], taken: tuple[str, ...]
) -> Classified:
    """Return the case of a replica that only decodes or only prefills, attention DP and experts over all dies."""
    if isinstance(place := place_of(row), Reason):
        return place
    if isinstance(precision := precision_names(row), Reason):
        return precision
    dies = device_count(row)
    given: dict[str, object] = {
        "model": place[0],
        "hardware": place[1],
        "backend": "sglang",
        "precision": precision[0],
        "kv_precision": precision[1],
        "attention_dp": dies,
        "ep": dies,
    }
    work = Serving(prediction_columns(row, **(given | dict(columns))))
    taken = (*place[2], _OWN_RUNNER, "attention data-parallel over all dies", *taken)
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
        attention = ("SP-TP-SP attention priced as data-parallel attention", "10 experts per rank: 2 of them copies")
        work = {"concurrency": cards * per_card // isl, "isl": isl, "osl": 1, "role": "prefill"}
        work |= {"max_num_batched_tokens": per_card // DIES_PER_CARD, "redundant_experts": 64} | _MICRO_BATCHES
        return _one_role(row, PREFILL_STEP, per_card / float(row["value"]), work, attention)
    seconds = float(row["value"]) * 1e-3 if metric == "tpot" else per_card / float(row["value"])
    chances = _stated_acceptance(str(row["parallelism"]))
    work = _CLOUDMATRIX_DECODE | {"concurrency": cards * per_card, "isl": isl, "osl": int(row["out_len"])}
    return _one_role(row, TPOT, seconds, work | {"speculative_acceptance": chances}, _CLOUDMATRIX_TAKEN)


_CLOUDMATRIX_DECODE = _MICRO_BATCHES | {"role": "decode", "redundant_experts": 64}
_CLOUDMATRIX_TAKEN = (
    _OFFLINE_BATCH,
    "32 of 320 ranks hold shared experts and 32 hold copies: priced as 64 copies over EP320",
)
DEEPSEEK_LAYERS = 61


def _cloudmatrix_layer(row: Row) -> Classified:
    """'874 -> 1260' µs for one layer, without and with one MTP draft; a step is 61 of them."""
    cases: list[Case] = []
    taken = (
        *_CLOUDMATRIX_TAKEN,
        "a step is 61 such layers",
        "batch per card, 70 % acceptance and EP320 as in the source's other rows",
    )
    sequences = int(row["devices"]) * int(row["batch_or_concurrency"])
    lengths = {"concurrency": sequences, "isl": int(row["in_len"]), "osl": int(row["out_len"])}
    for name, text, acceptance in zip(("", "-mtp"), str(row["value"]).split(" -> "), ("", "0.7"), strict=True):
        seconds = float(text) * 1e-6 * DEEPSEEK_LAYERS / (1 + accepted_drafts(acceptance))
        drafts = {"id": f"{row['id']}{name}", "speculative_acceptance": acceptance}
        work = _CLOUDMATRIX_DECODE | lengths | drafts
        classified = _one_role(row, TPOT, seconds, work, taken)
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
