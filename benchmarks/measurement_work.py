"""What a published measurement asks of the cost model: kinds of work, and the names of models and devices."""

import itertools
import operator
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Reason(NamedTuple):
    """Why a row cannot be expressed."""

    text: str


class Serving(NamedTuple):
    """A closed loop of `concurrency` clients, as a prediction row (text, the columns of the interface)."""

    columns: Mapping[str, str]


class Step(NamedTuple):
    """One engine step: `sequences` over the whole replica, each `new_tokens` wide behind `context` cached tokens.

    `speculative_acceptance` is the chance that draft token 1, 2, … is accepted after those before it, by commas. The
    step verifies the drafts on top of `new_tokens` and runs the draft model.
    """

    model: str
    hardware: str
    backend: str
    precision: str
    sequences: int
    context: int
    new_tokens: int = 1
    tp: int = 1
    pp: int = 1
    attention_dp: int = 1
    moe_tp: int = 1
    ep: int = 1
    kv_precision: str = ""
    speculative_acceptance: str = ""

    @property
    def accepted(self) -> float:
        """Draft tokens accepted per step."""
        return accepted_drafts(self.speculative_acceptance)


class Gemm(NamedTuple):
    """`groups` products of (m × k) and (k × n) in one kernel, on one device."""

    hardware: str
    precision: str
    m: int
    k: int
    n: int
    groups: int = 1

    @property
    def flops(self) -> float:
        """Floating-point (or integer) operations."""
        return 2.0 * self.groups * self.m * self.k * self.n


class Attention(NamedTuple):
    """The attention of one layer, without its projections: `sequences` over `tp` devices."""

    hardware: str
    model: str
    precision: str
    sequences: int
    context: int
    new_tokens: int
    tp: int


class Collective(NamedTuple):
    """`size` is what every rank holds in full: the result of an all-gather, the input of a reduce-scatter."""

    hardware: str
    operation: str  # all_reduce | all_gather | reduce_scatter
    size: float  # bytes
    devices: int


class Exchange(NamedTuple):
    """Expert dispatch or combine: every rank has `tokens`, each going to `top_k` experts spread over `devices`."""

    hardware: str
    operation: str  # dispatch | combine
    tokens: int
    hidden: int
    top_k: int
    devices: int
    bytes_per_value: float


class Transfer(NamedTuple):
    """One device sends `size` bytes to another."""

    hardware: str
    size: float  # bytes
    scope: str  # scale-up | scale-out


class MemoryRead(NamedTuple):
    """One device streams `size` bytes of its memory."""

    hardware: str
    size: float  # bytes


class KvTokens(NamedTuple):
    """How many tokens of KV cache fit a replica."""

    model: str
    hardware: str
    backend: str
    precision: str
    tp: int
    pp: int = 1


Timed = Step | Gemm | Attention | Collective | Exchange | Transfer | MemoryRead
Work = Serving | Timed | KvTokens


class Case(NamedTuple):
    """One figure to compare: what was measured (seconds, tokens/s or tokens) and the work that predicts it.

    The times of several pieces of work add up.
    """

    kind: str  # serving | step | operator | capacity
    quantity: str
    measured: float
    work: tuple[Work, ...]
    assumptions: tuple[str, ...] = ()


Classified = tuple[Case, ...] | Reason

TPOT, TTFT = "TPOT", "TTFT"
OUTPUT_RATE, TOTAL_RATE = "output rate", "total rate"
DECODE_STEP, PREFILL_STEP = "decode step", "prefill step"
OPERATOR_TIME, KV_TOKENS = "operator time", "KV tokens"

# By how a row's model starts; the longest that fits wins. Values are the names that weights are published under.
_MODELS = {
    "deepseek-r1": "deepseek-ai/DeepSeek-R1",
    "deepseek-ai/deepseek-r1": "deepseek-ai/DeepSeek-R1",
    "deepseek-v3/r1": "deepseek-ai/DeepSeek-V3",
    "deepseek-v3 ": "deepseek-ai/DeepSeek-V3",
    "deepseek-v3.1": "deepseek-ai/DeepSeek-V3.1",
    "deepseek-v3.2": "deepseek-ai/DeepSeek-V3.2",
    "deepseek-ai/deepseek-v3.2": "deepseek-ai/DeepSeek-V3.2",
    "glm-5 ": "zai-org/GLM-5",
    "kimi-k2": "moonshotai/Kimi-K2-Instruct",
    "kimi-k2-thinking": "moonshotai/Kimi-K2-Thinking",
    "qwen3-8b": "Qwen/Qwen3-8B",
    "qwen/qwen3-8b": "Qwen/Qwen3-8B",
    "qwen3-32b": "Qwen/Qwen3-32B",
    "qwen3-30b-a3b": "Qwen/Qwen3-30B-A3B",
    "qwen3-235b": "Qwen/Qwen3-235B-A22B",
    "gpt-oss-20b": "openai/gpt-oss-20b",
    "gpt-oss-120b": "openai/gpt-oss-120b",
    "pangu pro moe": "ascend-tribe/pangu-pro-moe",
    "llama2-70b": "meta-llama/Llama-2-70b-hf",
    "llama-2-70b": "meta-llama/Llama-2-70b-hf",
    "llama-2-7b": "meta-llama/Llama-2-7b-hf",
    "facebook/opt-13b": "facebook/opt-13b",
    "facebook/opt-66b": "facebook/opt-66b",
}

_A3 = "ascend-910c-a3"  # a node of 16 dies on its own
_SUPERNODE = ("ascend-910c", ("several A3 nodes taken as one supernode",))
_NOT_STATED_BIN = "the bin of the 910B is not stated: taken as 910B3"
# pattern (the first that fits wins), shipped name ('' = not shipped), assumption
_HARDWARE = (
    (r"Ascend 910B2$", "ascend-910b2", ""),
    (r"CloudMatrix|SuperPoD", "ascend-910c", ""),
    (r"910C|A3", _A3, ""),
    (r"910B|A2", "ascend-910b3", _NOT_STATED_BIN),
    (r"Ascend 950DT", "ascend-950dt", ""),
    (r"Ascend 950PR", "ascend-950pr", ""),
    (r"310P", "ascend-310p", ""),
    (r"A100-40G SXM", "a100-40g-sxm", ""),
    (r"A100-80G|a100-80gb", "a100-80g-sxm", ""),
    (r"NVIDIA A100 SXM$|a100_dgx|a100$", "a100-80g-sxm", "A100 taken as the 80 GB SXM part"),
    (r"A100$|A100 x4 TP4", "a100-80g-sxm", "A100 taken as the 80 GB SXM part"),
    (r"A800-40G", "", ""),
    (r"A800", "a800-80g-sxm", "A800 taken as the 80 GB SXM part"),
    (r"NVIDIA H100 SXM|h100-80gb|h100_dgx|h100$|H100$", "h100-sxm", ""),
    (r"H200 NVL", "", ""),
    (r"NVIDIA H200 SXM", "h200-sxm", ""),
    (r"H800", "h800-sxm", ""),
    (r"H20$", "h20-sxm", ""),
    (r"RTX PRO 6000", "rtx-pro-6000-server", "the edition is not stated: taken as the server one"),
    (r"MI210", "mi210", ""),
)

_PRECISIONS = {"BF16": "bf16", "INT8": "int8", "W8A8": "int8", "W4A16-class": "int4", "FP8": "fp8"}
_KV_SUFFIXES = {"C8": "fp8", "C16": "bf16"}  # a cache in 8 bit is priced as fp8
DIES_PER_CARD = 2
DIES_PER_NODE = 16
BOARDS_PER_NODE = 8


def model_name(row: Row) -> str | Reason:
    """Return the published name of a row's model, if it is shipped."""
    text = str(row["model"]).lower() + " "
    fits = [start for start in _MODELS if text.startswith(start)]
    if not fits:
        return Reason(f"model not shipped: {row['model']}")
    return _MODELS[max(fits, key=len)]


def hardware_name(row: Row) -> tuple[str, tuple[str, ...]] | Reason:
    """Return the shipped name of a row's device and what it takes for granted."""
    for pattern, name, assumption in _HARDWARE:
        if re.search(pattern, str(row["hardware"])):
            if not name:
                break
            if name == _A3 and device_count(row) > DIES_PER_NODE:
                return _SUPERNODE
            return name, (assumption,) if assumption else ()
    return Reason(f"hardware not shipped: {row['hardware']}")


def precision_names(row: Row) -> tuple[str, str] | Reason:
    """Return the precision of the weights and of the KV cache ('' = the default)."""
    text = str(row.get("quant", ""))
    for suffix, kv in _KV_SUFFIXES.items():
        if text.startswith("W") and text.endswith(suffix):
            return _PRECISIONS[text.removesuffix(suffix)], kv
    if text in _PRECISIONS:
        return _PRECISIONS[text], ""
    if "W4A8" in text:
        return Reason("int4 weights with int8 arithmetic (W4A8) are not a precision of the model")
    return Reason(f"precision not stated or not modelled: {text or 'none given'}")


def device_count(row: Row) -> int:
    """Return the planner's devices: dies of a 910C, boards of everything else."""
    count, unit = int(row.get("devices", 1)), str(row.get("device_unit", "GPU"))
    is_910c = re.search("910C|A3|CloudMatrix", str(row["hardware"]))
    if unit.startswith(("server", "node")):
        return count * (DIES_PER_NODE if is_910c else BOARDS_PER_NODE)
    return count * (DIES_PER_CARD if is_910c and unit.startswith(("card", "package")) else 1)


def accepted_drafts(chances: str) -> float:
    """Return the mean number of accepted drafts: c₁ + c₁c₂ + … of conditional chances."""
    conditional = [float(chance) for chance in chances.split(",") if chance]
    return float(sum(itertools.accumulate(conditional, operator.mul)))


def acceptances(mean: float, positions: int) -> str:
    """Return one chance for all draft positions, by commas, with which the mean number is accepted."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        if sum(p**i for i in range(1, positions + 1)) < mean:
            low = p
        else:
            high = p
    return ",".join([f"{low:.4f}"] * positions)


def prediction_columns(row: Row, **columns: object) -> dict[str, str]:
    """Return a prediction row: what is not given has one device per rank, no spread and no speculation."""
    defaults: dict[str, object] = {
        "backend_version": "",
        "tp": 1,
        "pp": 1,
        "attention_dp": 1,
        "moe_tp": 1,
        "ep": 1,
        "length_spread": "fixed",
        "maybe_speculative": False,
        "anomalous": False,
        "kv_precision": "",
        "speculative_acceptance": "",
        "max_num_seqs": "",
        "max_num_batched_tokens": "",
        "role": "",
        "overlaps": "",
        "expert_load": "",
        "redundant_experts": "",
        "drafter": "",
    }
    chosen = {"id": row["id"]} | defaults | columns
    chosen["system"] = chosen["hardware"]
    chosen["devices"] = int(str(chosen["tp"])) * int(str(chosen["pp"])) * int(str(chosen["attention_dp"]))
    return {name: str(value) for name, value in chosen.items()}
