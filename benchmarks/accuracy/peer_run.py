"""Answers rows with AIConfigurator; runs in the environment that peer.py builds, never in the planner's.

    python benchmarks/accuracy/peer_run.py MEASURED.csv OUT.csv [--disagg] [--hybrid] [--lengths FACTOR]

What is passed and what is not is told in peer.py.
"""

import argparse
import csv
import functools
import itertools
import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from aiconfigurator.cli.api import cli_estimate
from aiconfigurator.sdk import perf_database

Row = Mapping[str, str]
Modes = dict[str, str]

BLACKWELL = {"b200_sxm", "gb200", "gb300"}
FIELDS = ("id", "ttft_ms", "tpot_ms", "status", "reason")
_LONGEST_REASON = 230

# Checkpoints whose quantisation the peer reads itself; any other row names the model and, below, its modes.
CHECKPOINTS = {
    ("meta-llama/Meta-Llama-3.1-70B", "fp8"): "nvidia/Llama-3.1-70B-Instruct-FP8",
    ("Qwen/Qwen3-32B", "fp8"): "Qwen/Qwen3-32B-FP8",
    ("Qwen/Qwen3.5-397B-A17B", "fp4"): "nvidia/Qwen3.5-397B-A17B-NVFP4",
    ("MiniMaxAI/MiniMax-M2.5", "fp4"): "nvidia/MiniMax-M2.5-NVFP4",
    ("zai-org/GLM-5", "fp8"): "zai-org/GLM-5-FP8",
    ("zai-org/GLM-5", "fp4"): "nvidia/GLM-5-NVFP4",
}


def _modes(gemm: str, moe: str = "") -> Modes:
    return {"gemm_quant_mode": gemm} | ({"moe_quant_mode": moe} if moe else {})


# (model, precision[, backend, generation]) -> modes of the weights, tried in this order.
WEIGHTS: dict[tuple[str, ...], list[Modes]] = {
    ("meta-llama/Meta-Llama-3.1-70B", "fp8", "vllm", "hopper"): [_modes("fp8")],
    ("meta-llama/Meta-Llama-3.1-70B", "fp4"): [_modes("nvfp4")],
    ("meta-llama/Meta-Llama-3.1-8B", "fp8"): [_modes("fp8_static")],
    ("Qwen/Qwen3.5-397B-A17B", "fp8"): [_modes("fp8_block", "fp8_block")],
    ("deepseek-ai/DeepSeek-R1", "fp4"): [_modes("fp8_block", "nvfp4")],
    ("MiniMaxAI/MiniMax-M2.5", "fp8", "vllm", "hopper"): [_modes("fp8", "fp8_block"), _modes("fp8", "fp8")],
    ("MiniMaxAI/MiniMax-M2.5", "fp8", "vllm", "blackwell"): [_modes("fp8", "fp8")],
    ("openai/gpt-oss-120b", "fp4", "trtllm", "blackwell"): [{"moe_quant_mode": "w4a8_mxfp4_mxfp8"}],
}


class Answer(NamedTuple):
    """What the peer says to a row: two latencies [ms], or why not."""

    ttft: float | None
    tpot: float | None
    reason: str

    def cells(self) -> list[str]:
        """Return the columns after `id`."""
        if self.ttft is None or self.tpot is None:
            return ["", "", "refused", self.reason]
        return [f"{self.ttft:.3f}", f"{self.tpot:.4f}", "ok", self.reason]


def alternatives(row: Row) -> Iterator[tuple[str, Modes]]:
    """Model path and quantisation modes that describe a row, the fittest first."""
    model, precision = row["model"], row["precision"]
    generation = "blackwell" if row["system"] in BLACKWELL else "hopper"
    weights = WEIGHTS.get((model, precision, row["backend"], generation)) or WEIGHTS.get((model, precision)) or [{}]
    for cache, modes in itertools.product(_cache_modes(row), weights):
        path = model if modes else CHECKPOINTS.get((model, precision), model)
        yield path, modes | cache


def _cache_modes(row: Row) -> list[Modes]:
    """Element type of the KV cache: TensorRT-LLM's checkpoints choose fp8, the others' default is the model's own."""
    narrow, wide = {"kvcache_quant_mode": "fp8"}, {"kvcache_quant_mode": "bfloat16"}
    if row["precision"] == "bf16":
        return [wide]
    if row["backend"] == "trtllm" or (row["model"], row["precision"]) == ("meta-llama/Meta-Llama-3.1-70B", "fp8"):
        return [narrow]
    return [wide, narrow]  # fp8 only where bf16 does not fit


def workload(row: Row, factor: float) -> dict[str, int]:
    """Mean lengths: `factor` of the nominal ones where lengths are drawn, else the nominal ones."""
    scale = 1.0 if row["length_spread"] == "fixed" else factor
    return {name: round(int(row[name]) * scale) for name in ("isl", "osl")}


def _batch(row: Row, ranks: int) -> int:
    return max(1, -(-int(row["concurrency"]) // ranks))  # requests of one attention rank, rounded up


def mixed(row: Row) -> dict[str, Any]:
    """Return the arguments for a replica that prefills and decodes."""
    return {
        "mode": "agg",
        "batch_size": _batch(row, int(row["attention_dp"]) * int(row["pp"])),
        "tp_size": int(row["tp"]),
        "pp_size": int(row["pp"]),
        "attention_dp_size": int(row["attention_dp"]),
        "moe_tp_size": int(row["moe_tp"]),
        "moe_ep_size": int(row["ep"]),
    }


def apart(row: Row) -> dict[str, Any]:
    """Return the arguments for prefill and decode apart; prompts are prefilled one by one on each rank."""
    arguments: dict[str, Any] = {"mode": "disagg", "prefill_batch_size": 1}
    for role in ("prefill", "decode"):
        arguments |= {
            f"{role}_num_workers": int(row[f"{role}_replicas"]),
            f"{role}_tp_size": int(row[f"{role}_tp"]),
            f"{role}_pp_size": 1,
            f"{role}_attention_dp_size": int(row[f"{role}_attention_dp"]),
            f"{role}_moe_tp_size": int(row[f"{role}_moe_tp"]),
            f"{role}_moe_ep_size": int(row[f"{role}_ep"]),
        }
    ranks = int(row["decode_replicas"]) * int(row["decode_attention_dp"])
    return arguments | {"decode_batch_size": _batch(row, ranks)}


def answer(row: Row, options: argparse.Namespace) -> Answer:
    """Ask the peer with each alternative in turn; the first refusal stands where all are refused."""
    shape = apart(row) if options.disagg else mixed(row)
    refusal = ""
    for database_mode in ("SILICON", "HYBRID") if options.hybrid else ("SILICON",):
        for path, modes in alternatives(row):
            arguments = workload(row, options.lengths) | shape | modes
            try:
                found = cli_estimate(
                    path, row["system"], backend_name=row["backend"], database_mode=database_mode, **arguments
                )
            except Exception as problem:  # whatever it raises, it has no answer
                refusal = refusal or short(problem)
                continue
            notes = ["estimated without tables"] if database_mode == "HYBRID" else []
            if found.kv_cache_warning:
                notes.append("batch beyond its KV cache")
            return Answer(found.ttft, found.tpot, "; ".join(notes))
    return Answer(None, None, refusal)


def short(problem: Exception) -> str:
    """Return the first sentence of an error, without file names."""
    text = " ".join(str(problem).split()) or type(problem).__name__
    text = re.sub(r"^perf database error: ", "", text)
    return re.split(r" at /|\. ", text)[0][:_LONGEST_REASON]


def remember_tables() -> None:
    """Keep what the peer reads from its files; it would read hundreds of them again for every row."""
    for name in ("get_database", "get_latest_database_version"):
        setattr(perf_database, name, functools.cache(getattr(perf_database, name)))


def main() -> None:
    """Answer every row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--disagg", action="store_true", help="rows with prefill and decode apart")
    parser.add_argument("--hybrid", action="store_true", help="let it estimate where its tables hold nothing")
    parser.add_argument("--lengths", type=float, default=0.9, help="mean of drawn lengths over nominal")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    remember_tables()
    with options.measured.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    answers = [answer(row, options) for row in rows]
    with options.out.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows([row["id"], *found.cells()] for row, found in zip(rows, answers, strict=True))
    answered = sum(found.ttft is not None for found in answers)
    sys.stdout.write(f"{answered} of {len(rows)} rows answered\n")


if __name__ == "__main__":
    main()
