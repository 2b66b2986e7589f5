"""Rows about single operators: products, attention, collectives, transfers; all compared as times."""

import re

from measurement_work import (
    OPERATOR_TIME,
    Attention,
    Case,
    Classified,
    Collective,
    Exchange,
    Gemm,
    MemoryRead,
    Reason,
    Row,
    Timed,
    Transfer,
    hardware_name,
    model_name,
)

_KIB = 1024.0
_GIB = 1024.0**3
_SIZES = {"B": 1.0, "KB": _KIB, "MB": _KIB**2}
_CUBE = 8192
_ELEMENTWISE = Reason("elementwise operators are not priced one by one: a layer's latency floor holds them")
NO_SHAPE = Reason("shape not stated")
_DEEPSEEK_HIDDEN, _DEEPSEEK_TOP_K = 7168, 8
_LARGE = "message size not stated: taken as 1 GiB"


def _case(row: Row, seconds: float, work: tuple[Timed, ...], taken: tuple[str, ...] = ()) -> Classified:
    hardware = hardware_name(row)
    if isinstance(hardware, Reason):
        return hardware
    return (Case("operator", OPERATOR_TIME, seconds, work, (*hardware[1], *taken)),)


def _name(row: Row) -> str:
    """Return the shipped device, '' where there is none (the case then turns into its reason)."""
    hardware = hardware_name(row)
    return "" if isinstance(hardware, Reason) else hardware[0]


def expert_exchange(row: Row) -> Classified:
    """Dispatch and combine of DeepSeek's experts: latency at a number of tokens per rank."""
    if "bandwidth" in row["metric"]:
        return Reason("bandwidth of a kernel that removes duplicates: bytes not stated")
    tokens = int(str(row["batch_or_concurrency"]).split()[0])
    ranks = re.search(r"EP(\d+)", str(row["parallelism"]))
    if ranks is None:
        return Reason("ranks not stated")
    both = ("dispatch", "combine")
    operations = both if "/" in row["metric"] else (str(row["metric"]).split("_")[0].lower(),)
    cases: list[Case] = []
    for operation, text in zip(operations, str(row["value"]).split("/"), strict=True):
        width = 1.0 if operation == "dispatch" else 2.0
        work = Exchange(
            _name(row), operation, tokens, _DEEPSEEK_HIDDEN, _DEEPSEEK_TOP_K, int(ranks[1]), bytes_per_value=width
        )
        taken = ("8-bit dispatch, bf16 combine, scales not counted", "tokens go to experts evenly")
        classified = _case(row, float(text) * 1e-6, (work,), taken)
        if isinstance(classified, Reason):
            return classified
        cases += classified
    return tuple(cases)


def cloudmatrix_operator(row: Row) -> Classified:
    """Grouped int8 products and MLA of CloudMatrix384, and its links."""
    if row["phase"] == "comm":
        if row["model"] == "UB plane":
            return Reason("a figure of a link, which is an input of the cost model")
        return expert_exchange(row)
    shape = re.search(r"g=(\d+) M=(\d+) N=(\d+) K=(\d+)", str(row["model"]))
    if shape is None:
        return NO_SHAPE
    peak = re.search(r"% of (\d+) TOPS", str(row["unit"]))
    if peak is None:
        return Reason(f"unit not understood: {row['unit']}")
    groups, m, n, k = (int(number) for number in shape.groups())
    work = Gemm(_name(row), "int8", m, k, n, groups)
    seconds = work.flops / (float(row["value"]) / 100 * float(peak[1]) * 1e12)
    return _case(row, seconds, (work,), ("M rows per group (fits the stated bandwidth)",))


def xdeepserve(row: Row) -> Classified:
    """XDeepServe: send/receive times, dispatch and combine, shares of a layer, one production service."""
    if "share_of_layer" in row["metric"]:
        return Reason("a share of a layer's time, not a time")
    if row["phase"].startswith("e2e"):
        return Reason("disaggregated prefill and decode: concurrency not stated")
    if "dispatch" in row["metric"]:
        return expert_exchange(row)
    if "upper bound" in str(row.get("note", "")):
        return Reason("an upper bound, not a value")
    work = Transfer(_name(row), _size(row["batch_or_concurrency"]), "scale-up")
    return _case(row, float(row["value"]) * 1e-6, (work,), ("between two dies of one supernode",))


def _size(text: object) -> float:
    """Return bytes from '1.3 MB': binary multiples, which the powers of two among the sizes show."""
    number, unit = str(text).split()
    return float(number) * _SIZES[unit]


def hccl(row: Row) -> Classified:
    """Collectives of a 910C node and a few kernels of msModeling's report."""
    devices = int(row["devices"])
    if row["phase"] == "operator":
        shape = re.search(r"(\d+)x(\d+)x(\d+)$", str(row["parallelism"])) or re.search(
            r"lm_head (\d+)x(\d+)x(\d+)", str(row["parallelism"])
        )
        if shape is None:
            return NO_SHAPE
        m, k, n = (int(number) for number in shape.groups())
        return _case(row, float(row["value"]) * 1e-6, (Gemm(_name(row), "bf16", m, k, n),))
    size, kind = _size(row["batch_or_concurrency"]), str(row["parallelism"])
    operation = {"AllGather": "all_gather", "ReduceScatter": "reduce_scatter", "AllReduce": "all_reduce"}[kind]
    taken: tuple[str, ...] = ()
    if operation != "all_reduce":
        size *= devices
        taken = ("stated size read as the bytes of one rank's part",)
    return _case(row, float(row["value"]) * 1e-6, (Collective(_name(row), operation, size, devices),), taken)


def ascend_microbenchmark(row: Row) -> Classified:
    """Collectives and peaks of a 910B."""
    if row["phase"] == "operator":
        if "BF16" in row["metric"]:
            return Reason("the bin of the 910B is not stated and the figure is above what most bins can reach")
        return _ELEMENTWISE if "elementwise" in row["metric"] else Reason("a precision that serving does not use")
    work = Collective(_name(row), str(row["parallelism"]), _GIB, int(row["devices"]))
    return _case(row, _GIB / (float(row["value"]) * 1e9), (work,), (_LARGE, "rate = bytes of the result over time"))


def roofline_study(row: Row) -> Classified:
    """Operators on a chip that the paper does not name."""
    return Reason(f"hardware not stated: {row['hardware']}")


def llmcompass(row: Row) -> Classified:
    """LLMCompass: fp16 products of stated shape, and the operators of one GPT-3 layer on four A100."""
    name = str(row["model"])
    if shape := re.search(r"matmul (\d+)x(\d+)x(\d+)", name):
        m, n, k = (int(number) for number in shape.groups())
        return _case(row, float(row["value"]) * 1e-3, (Gemm(_name(row), "bf16", m, k, n),), ("fp16 priced as bf16",))
    operator = name.split()[-1]
    if any(word in name for word in ("softmax", "layernorm", "gelu")):
        return _ELEMENTWISE
    if operator in {"Q_mul_K", "A_mul_V"}:
        return Reason("a part of unfused attention; attention is priced as one operator")
    return _gpt3_layer(row, operator)


_GPT3_HIDDEN = 12288


def _gpt3_layer(row: Row, operator: str) -> Classified:
    """One operator of a GPT-3 layer under TP4: batch 8, 2048 tokens each in prefill, one in decode."""
    tp, h = int(row["devices"]), _GPT3_HIDDEN
    tokens = int(row["batch_or_concurrency"])
    if str(row["parallelism"]).startswith("prefill"):
        tokens *= int(row["in_len"])
    if operator.startswith("allreduce"):
        work: Timed = Collective(_name(row), "all_reduce", 2.0 * tokens * h, tp)
    else:
        k, n = {
            "QKV_proj": (h, 3 * h // tp),
            "Wo_proj": (h // tp, h),
            "W1_proj": (h, 4 * h // tp),
            "W2_proj": (4 * h // tp, h),
        }[operator]
        work = Gemm(_name(row), "bf16", tokens, k, n)
    return _case(row, float(row["value"]), (work,), ("fp16 priced as bf16",))


# hidden width, width of keys and values, inner width
_LLAMA2 = {"70b": (8192, 1024, 28672), "7b": (4096, 4096, 11008)}


def vidur(row: Row) -> Classified:
    """Vidur: all-reduce by size, and the four products of a Llama-2 layer at a number of tokens."""
    if row["phase"] == "comm":
        work = Collective(_name(row), "all_reduce", float(row["batch_or_concurrency"]), int(row["devices"]))
        return _case(row, float(row["value"]) * 1e-3, (work,))
    model = model_name(row)
    if isinstance(model, Reason):
        return model
    hidden, kv, inner = _LLAMA2[model.split("-")[-2]]
    tp, tokens = int(row["devices"]), int(row["batch_or_concurrency"])
    shapes = (
        (hidden, (hidden + 2 * kv) // tp),
        (hidden // tp, hidden),
        (hidden, 2 * inner // tp),
        (inner // tp, hidden),
    )
    products = tuple(Gemm(_name(row), "bf16", tokens, k, n) for k, n in shapes)
    return _case(row, float(row["value"]) * 1e-3, products, ("fp16 priced as bf16", "four kernels, times added"))


def step3_attention(row: Row) -> Classified:
    """Attention layers of the Step-3 paper; only MLA has a known shape."""
    if not str(row["model"]).startswith("MLA"):
        return Reason("heads of the attention layer not stated")
    work = Attention(
        _name(row),
        "deepseek-ai/DeepSeek-V3",
        "bf16",
        int(row["batch_or_concurrency"]),
        int(row["in_len"]),
        new_tokens=1,
        tp=int(row["devices"]),
    )
    taken = ("DeepSeek-V3's MLA in bf16, heads over four devices, projections not counted",)
    return _case(row, float(row["value"]) * 1e-6, (work,), taken)


def gpu_microbenchmark(row: Row) -> Classified:
    """Peaks of a device: products are taken at a large square shape, links and memory at a large size."""
    metric, value = str(row["metric"]), float(row["value"])
    precisions = {"BF16": "bf16", "FP16": "bf16", "FP8": "fp8", "INT8": "int8", "NVFP4": "fp4"}
    kind = metric.split()[0]
    if metric.endswith("GEMM") and kind in precisions:
        work = Gemm(_name(row), precisions[kind], _CUBE, _CUBE, _CUBE)
        taken = (f"shape not stated: taken as {_CUBE} cubed",) + (("fp16 priced as bf16",) if kind == "FP16" else ())
        return _case(row, work.flops / (value * 1e12), (work,), taken)
    if kind in {"TF32", "FP32", "FP64"}:
        return Reason("a precision that serving does not use")
    if metric.startswith("HBM"):
        return _case(row, _GIB / (value * 1e9), (MemoryRead(_name(row), _GIB),), ("size not stated: taken as 1 GiB",))
    if metric.startswith("P2P"):
        one_way = value / 2 if "bidir" in row["unit"] else value
        scope = "scale-out" if "inter-node" in metric else "scale-up"
        return _case(row, _GIB / (one_way * 1e9), (Transfer(_name(row), _GIB, scope),), (_LARGE,))
    if metric.startswith("collective"):
        return Reason("operation and definition of the bandwidth not stated")
    return Reason("concurrent host copies are not priced")
