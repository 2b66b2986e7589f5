"""Measured operators as families of rows that share parameters: which rows serve, and the time that they should take.

The form is that of the cost model (operator_tables.py says how it is fitted). A function for each kind of operator
chooses its rows and gives their work in flop and byte.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.catalog.specs import load_efficiencies
from planner.columns.values import multiplies_in
from planner.microbench import work
from planner.schema.hardware import Hardware
from planner.schema.precision import FORMATS, Precision
from planner.table import Floats

Table = Mapping[str, NDArray[Any]]
Places = NDArray[np.intp]
# Formats of the tables, as the planner knows them. Block-scaled and plain fp8 are one to it, as are nvfp4 and mxfp4.
FORMAT_OF: dict[str, Precision] = {
    "bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "w4a16_mxfp4": "fp4",
    "w4a8_mxfp4_mxfp8": "fp4", "int4_wo": "int4", "sq": "int8",
}  # fmt: skip
_ACTIVATION = FORMATS["bf16"].bytes_per_value
_NORM = 3.0
_SOFTMAX_FLOPS = 5  # per score, planner/costs/operators/attention.py
_LEAST_WIDTH, _MOST_TOKENS = 1024, 8192
_FEWEST = 40  # rows worth fitting
TEXTBOOK = load_efficiencies("textbook").value
TILE, LEAST_TILE = TEXTBOOK.compute.tile_rows.value, TEXTBOOK.compute.least_tile_rows.value


class System(NamedTuple):
    """A system: its data sheet and its last-level cache [byte]."""

    hardware: Hardware
    cache: float

    def rate(self, precision: Precision) -> float | None:
        """Return the matrix rate that the planner takes for weights of a format; none where it cannot multiply."""
        compute = multiplies_in(self.hardware, precision)
        return None if compute is None else self.hardware.peak_flops[compute].value


class Family(NamedTuple):
    """Rows that share parameters: ``seconds`` takes their values and indices of rows; ``shapes`` are independent.

    ``longer``: the same with terms that the cost model lacks, to see what they would explain.
    """

    names: tuple[str, ...]
    start: tuple[float, ...]
    seconds: Callable[[Any, Places], Floats]
    times: Floats
    shapes: NDArray[np.intp]
    longer: "Family | None" = None


def both(left: Floats, right: Floats) -> Floats:
    """Combine times that overlap, as planner/costs/functions.py."""
    return np.asarray((left**_NORM + right**_NORM) ** (1 / _NORM))


def tiled(rows: Floats) -> Floats:
    """Round rows up to whole tiles, as planner/costs/tiles.py."""
    tile = np.minimum(TILE, 2.0 ** np.ceil(np.log2(np.maximum(rows, LEAST_TILE)) - 1e-9))
    return np.asarray(tile * np.ceil(rows / tile - 1e-9))


def shape_numbers(*columns: NDArray[Any]) -> NDArray[np.intp]:
    """Number the distinct rows of columns."""
    return np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)[1].reshape(-1)


def roofline(
    names: tuple[str, ...], times: Floats, matrix: Floats, memory: Floats, vector: Floats, shapes: NDArray[np.intp],
    fixed: Mapping[str, float],
) -> Family:  # fmt: skip
    """Return a family with the parameters compute, bandwidth and floor, less those that are ``fixed``.

    ``matrix`` and ``memory`` are times [s] at data-sheet rates, ``vector`` at the share reached.
    """
    short = ("compute", "bandwidth", "floor")
    free = [place for place, name in enumerate(short) if name not in fixed]

    def seconds(values: Sequence[Any] | Floats, chosen: Places) -> Floats:
        full = {**fixed, **{short[place]: value for place, value in zip(free, values, strict=True)}}
        compute, bandwidth, floor = (full[name] for name in short)
        return both(both(matrix[chosen] / compute, memory[chosen] / bandwidth), vector[chosen]) + floor

    start = (0.6, 0.7, float(np.min(times)) / 2)
    return Family(names, tuple(start[place] for place in free), seconds, times, shapes)


_ROOFLINE = ("compute", "bandwidth", "floor")


def gemm(table: Table, dtype: str, system: System) -> Family | None:
    """Products with weights: 1024 to 16384 inputs, 1024 to 65536 outputs, up to 8192 rows (planner's gemm.py)."""
    rate = system.rate(FORMAT_OF[dtype])
    if rate is None:
        return None
    kept = (table["gemm_dtype"] == dtype) & (table["m"] <= _MOST_TOKENS)
    kept &= (table["n"] >= _LEAST_WIDTH) & (table["k"] >= _LEAST_WIDTH) & (table["k"] <= 16384)
    m, n, k = (table[name][kept].astype(float) for name in "mnk")
    if len(m) < _FEWEST:
        return None
    matrix = 2 * tiled(m) * n * k / rate
    moved = n * k * FORMATS[FORMAT_OF[dtype]].bytes_per_value + m * (n + k) * _ACTIVATION
    memory = moved / system.hardware.memory.bandwidth.value
    return roofline(_ROOFLINE, table["seconds"][kept], matrix, memory, 0 * m, shape_numbers(n, k), {})


def _grouped(table: Table, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep grouped-query attention as models have it: full window, 4 to 16 query heads per KV head, 1 to 8 of these."""
    ratio = table["num_heads"] / table["num_key_value_heads"]
    kept = (
        kept
        & (table.get("window_size", np.zeros(1)) == 0)
        & (ratio >= 4)
        & (ratio <= 16)
        & (table["num_key_value_heads"] <= 8)
    )
    return np.asarray(kept & np.isin(table["head_dim"], (64, 128, 256)))


def _vector(scores: Floats, system: System, occupancy: Floats | float = 1.0) -> Floats:
    rate = system.hardware.engines.vector_flops.value * TEXTBOOK.compute.vector.value
    return np.asarray(_SOFTMAX_FLOPS * scores / rate / occupancy)


def _occupancy(batch: Floats, tokens: Floats, heads: Floats, system: System) -> Floats:
    """Share of cores at work, as _prefill_occupancy of planner/costs/operators/attention.py."""
    cores = system.hardware.engines.cores.value
    tiles = heads * batch * np.ceil(tokens / TILE)
    return np.asarray(heads * batch * tokens / (TILE * cores * np.ceil(tiles / cores)))


def attention_prefill(table: Table, dtype: str, system: System) -> Family | None:
    """Whole prompts, nothing cached: 128 to 16384 tokens, up to 32768 together; bandwidth is not to be seen here."""
    kept = _grouped(table, (table["attn_dtype"] == dtype) & (table["isl"] >= 128) & (table["isl"] <= 16384))
    kept &= table["batch_size"] * table["isl"] <= 32768
    names = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    batch, tokens, heads, kv_heads, width = (table[name][kept].astype(float) for name in names)
    return _prefill(table["seconds"][kept], batch, tokens, heads, (2 * width, 2 * kv_heads * width), system)


def mla_prefill(table: Table, dtype: str, system: System) -> Family | None:
    """Latent attention of prompts, keys and values spelled out: 192 against 128 wide."""
    kept = (table["kv_cache_dtype"] == dtype) & (table["isl"] >= 128) & (table["isl"] <= 16384)
    kept &= (table["batch_size"] * table["isl"] <= 32768) & (table["num_heads"] >= 8)
    batch, tokens, heads = (table[name][kept].astype(float) for name in ("batch_size", "isl", "num_heads"))
    return _prefill(table["seconds"][kept], batch, tokens, heads, (320.0 + 0 * heads, heads * 320), system)


def _prefill(
    times: Floats, batch: Floats, tokens: Floats, heads: Floats, widths: tuple[Floats, Floats], system: System
) -> Family | None:
    """Return attention of prompts.

    More terms: softmax after the products and not beside them, at ``softmax`` of the vector rate, and prompts of
    10 000·``short`` tokens at half the rate of long ones.
    """
    if len(times) < _FEWEST:
        return None
    both_widths, cached = widths
    scores = batch * tokens * tokens / 2 * heads
    occupancy = _occupancy(batch, tokens, heads, system)
    matrix = 2 * scores * both_widths / system.hardware.peak_flops["bf16"].value / occupancy
    moved = batch * tokens * (heads * both_widths + cached) * _ACTIVATION
    memory = moved / system.hardware.memory.bandwidth.value
    shapes = shape_numbers(heads, both_widths, cached)
    bandwidth = TEXTBOOK.bandwidth.kv_cache.value
    vector = _vector(scores, system, occupancy)
    fixed = {"bandwidth": bandwidth}
    family = roofline(("compute", "floor"), times, matrix, memory, vector, shapes, fixed)
    share = TEXTBOOK.compute.vector.value

    def seconds(values: Floats, chosen: Places) -> Floats:
        compute, softmax, short, floor = values
        one_after_the_other = matrix[chosen] / compute + vector[chosen] * share / softmax
        return both(one_after_the_other * (1 + 10_000 * short / tokens[chosen]), memory[chosen] / bandwidth) + floor

    names, start = ("compute", "softmax", "short", "floor"), (0.7, 0.2, 0.1, family.start[-1])
    return family._replace(longer=Family(names, start, seconds, times, shapes))


def attention_decode(table: Table, dtype: str, system: System) -> Family | None:
    """One token per request: up to 512 requests, 128 to 131072 cached tokens, a cache of twice the last level's."""
    kept = _grouped(table, (table["kv_cache_dtype"] == dtype) & (table["batch_size"] <= 512) & (table["step"] >= 127))
    names = ("batch_size", "step", "num_heads", "num_key_value_heads", "head_dim")
    batch, context, heads, kv_heads, width = (table[name].astype(float) for name in names)
    moved = batch * (context + 1) * 2 * kv_heads * width * (1.0 if dtype == "fp8" else 2.0)
    kept &= moved > 2 * system.cache
    if kept.sum() < _FEWEST:
        return None
    scores = (batch * (context + 1) * heads)[kept]
    matrix = 4 * scores * width[kept] / system.hardware.peak_flops["bf16"].value
    memory = moved[kept] / system.hardware.memory.bandwidth.value
    shapes = shape_numbers(heads[kept], kv_heads[kept], width[kept])
    fixed = {"compute": TEXTBOOK.compute.attention.value}
    return roofline(
        ("bandwidth", "floor"), table["seconds"][kept], matrix, memory, _vector(scores, system), shapes, fixed
    )


def mla_decode(table: Table, dtype: str, system: System) -> Family | None:
    """Absorbed latent attention, 576 against 512 wide and 576 cached, 8 heads and more; else as attention_decode."""
    kept = (table["kv_cache_dtype"] == dtype) & (table["batch_size"] <= 512) & (table["step"] >= 127)
    batch, context, heads = (table[name].astype(float) for name in ("batch_size", "step", "num_heads"))
    moved = batch * (context + 1) * 576 * (1.0 if dtype == "fp8" else 2.0)
    kept &= (moved > 2 * system.cache) & (heads >= 8)
    if kept.sum() < _FEWEST:
        return None
    scores = (batch * (context + 1) * heads)[kept]
    matrix = 2 * scores * (576 + 512) / system.hardware.peak_flops["bf16"].value
    memory = moved[kept] / system.hardware.memory.bandwidth.value
    shapes = shape_numbers(heads[kept], batch[kept])
    return roofline(_ROOFLINE, table["seconds"][kept], matrix, memory, _vector(scores, system), shapes, {})


class Experts(NamedTuple):
    """Routed experts of one device: tokens, hidden width, width of an expert, experts, experts per token."""

    tokens: Floats
    hidden: Floats
    width: Floats
    experts: Floats
    per_token: Floats

    def balanced(self) -> Floats:
        """Experts touched where every one is drawn as often as the others: as many as there are visits, or all."""
        return np.minimum(self.experts, self.tokens * self.per_token)

    def expected(self) -> Floats:
        """Experts touched on average by the planner's profile of hot and cold ones (touched_experts in moe.py)."""
        share = TEXTBOOK.scheduling.hot_expert_share.value
        load = TEXTBOOK.scheduling.hot_expert_load.value
        cold = (1 - share * load) / (1 - share)
        each = self.per_token / self.experts
        hot_drawn = share * (1 - (1 - np.minimum(1, each * load)) ** self.tokens)
        drawn = self.experts * (hot_drawn + (1 - share) * (1 - (1 - each * cold) ** self.tokens))
        return np.minimum(drawn, self.tokens * self.per_token)

    def ideal(self, touched: Floats, dtype: str, system: System) -> tuple[Floats, Floats, Floats]:
        """Return times of matrix, memory and vector work, the first two at data-sheet rates (routed_experts)."""
        visits = self.tokens * self.per_token
        parameters = 3 * self.hidden * self.width
        rate = system.rate(FORMAT_OF[dtype])
        matrix = 2 * touched * tiled(visits / touched) * parameters / (rate or math.nan)
        moved = touched * parameters * FORMATS[FORMAT_OF[dtype]].bytes_per_value
        moved = moved + visits * (2 * self.hidden + 3 * self.width) * _ACTIVATION
        vector_rate = system.hardware.engines.vector_flops.value * TEXTBOOK.compute.vector.value
        vector = 6 * visits * self.width / vector_rate
        return matrix, moved / system.hardware.memory.bandwidth.value, vector


def experts_of(table: Table, kept: NDArray[np.bool_]) -> Experts:
    names = ("num_tokens", "hidden_size", "inter_size", "num_experts", "topk")
    tokens, hidden, inter, experts, topk = (table[name][kept].astype(float) for name in names)
    return Experts(tokens, hidden, inter / table["moe_tp_size"][kept], experts, topk)


def gated(table: Table, dtype: str, backend: str) -> NDArray[np.bool_]:
    """Keep experts of three matrices, all on one device and split up to 8 ways, not narrower than 128.

    Left out: Nemotron's, which have two, kernels of TensorRT-LLM for least latency, and, where an engine routes by
    groups of experts, DeepSeek-V3's: its balanced input then hits half of them only.
    """
    kept = (table["moe_dtype"] == dtype) & (table["moe_ep_size"] == 1) & (table["num_tokens"] <= _MOST_TOKENS)
    kept &= (table["moe_tp_size"] <= 8) & (table["inter_size"] / table["moe_tp_size"] >= 128)
    kept &= (table["topk"] <= 10) & (table["hidden_size"] != 2688)
    kept &= ~np.isin(table["kernel_source"], ("moe_torch_flow_nongated", "moe_torch_flow_min_latency"))
    grouped = (table["hidden_size"] == 7168) & (table["num_experts"] == 256)
    return np.asarray(kept & ~grouped if backend != "trtllm" else kept)


def experts(table: Table, dtype: str, system: System, backend: str) -> Family | None:
    """Routed experts with balanced input, where touched weights outgrow the last-level cache."""
    if system.rate(FORMAT_OF[dtype]) is None:
        return None
    kept = gated(table, dtype, backend) & (table["distribution"] == "balanced")
    of = experts_of(table, kept)
    touched = of.balanced()
    matrix, memory, vector = of.ideal(touched, dtype, system)
    weights = touched * 3 * of.hidden * of.width * FORMATS[FORMAT_OF[dtype]].bytes_per_value
    large = weights > system.cache
    if large.sum() < _FEWEST:
        return None
    shapes = shape_numbers(of.hidden, of.width, of.experts, of.per_token)[large]
    times = table["seconds"][kept][large]
    family = roofline(_ROOFLINE, times, matrix[large], memory[large], vector[large], shapes, {})
    return family._replace(longer=with_passes(family, Experts(*(column[large] for column in of)), system))


def with_passes(family: Family, of: Experts, system: System) -> Family:
    """Return a family with two more terms.

    ``passes``: activations of every visit move once more, between the products and not beside them, at this share of
    the bandwidth. ``narrow``: weights are read at bandwidth·w/(w + 1000·narrow) where an expert is w wide.
    """
    visits = of.tokens * of.per_token
    moved = visits * (2 * of.hidden + 3 * of.width) * _ACTIVATION / system.hardware.memory.bandwidth.value

    def seconds(values: Floats, chosen: Places) -> Floats:
        compute, bandwidth, floor, passes, narrow = values
        slower = bandwidth * of.width[chosen] / (of.width[chosen] + 1000 * narrow)
        return family.seconds((compute, slower, floor), chosen) + moved[chosen] / passes

    return Family((*family.names, "passes", "narrow"), (*family.start, 0.4, 0.05), seconds, family.times, family.shapes)


def all_reduce(table: Table, system: System) -> Family:
    """All-reduces of bf16 in a graph, 8 KiB to 256 MiB over 2 to 8 devices of a node; the tables count values."""
    size = 2.0 * table["message_size"]
    eager = np.char.endswith(table["kernel_source"].astype("U"), "eager")
    kept = ~eager & (size >= 2**13) & (size <= 2**28) & (table["num_gpus"] <= 8)
    devices, moved = table["num_gpus"][kept].astype(float), size[kept]
    rate = np.array([_link_rate(system.hardware, int(n)) for n in devices])
    depth = np.array([work.depth(int(n)) for n in devices])

    def seconds(values: Floats, chosen: Places) -> Floats:
        link, latency = values
        n, byte = devices[chosen], moved[chosen]
        one = (n - 1) * byte / (rate[chosen] * link) + depth[chosen] * latency
        two = 2 * (n - 1) / n * byte / (rate[chosen] * link) + 2 * depth[chosen] * latency
        return np.asarray(np.minimum(one, two))

    return Family(("link", "latency"), (0.6, 5e-6), seconds, table["seconds"][kept], shape_numbers(moved))


def _link_rate(hardware: Hardware, devices: int) -> float:
    """Return what a device sends within a node [byte/s]; all systems here have switches or one bus."""
    level = next((at for at in hardware.scale_up if at.devices.value >= devices), hardware.scale_up[-1])
    return level.bandwidth.value


def families(operator: str, backend: str, table: Table, system: System) -> Iterator[tuple[str, Family]]:
    """Yield the families of a table by format."""
    if operator == "all_reduce":
        yield "bf16", all_reduce(table, system)
        return
    column = {"gemm": "gemm_dtype", "experts": "moe_dtype", "attention_prefill": "attn_dtype"}
    dtypes = sorted(set(table[column.get(operator, "kv_cache_dtype")].tolist()))
    makers = {
        "gemm": gemm,
        "attention_prefill": attention_prefill,
        "attention_decode": attention_decode,
        "mla_prefill": mla_prefill,
        "mla_decode": mla_decode,
    }
    for dtype in dtypes:
        if operator in ("gemm", "experts") and dtype not in FORMAT_OF:
            continue
        if operator == "experts":
            family = experts(table, dtype, system, backend)
        else:
            family = makers[operator](table, dtype, system)
        if family is not None:
            yield dtype, family
