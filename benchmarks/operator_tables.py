"""Efficiencies of this project fitted to the operator tables that NVIDIA AIConfigurator ships, measured on real GPUs.

    python benchmarks/operator_tables.py [--environment FOLDER] --out FILE.yaml [--systems h200_sxm,...]

Reads tables of single operators only, in the environment that accuracy/peer.py builds (operator_tables_read.py opens
them); its samples of whole serving runs are not touched. Each operator of a backend is fitted alone, in the form of the
cost model: t = (c³ + m³)^⅓ + floor with c = flop / (rate·share) and m = byte / (bandwidth·share), vector work at its
textbook share, flop on whole tiles (planner/costs/operators, planner/costs/tiles.py); all-reduces as latency per round
plus byte over links, the faster of one shot and two. Rates are those of hardware_specs. Least squares of log time, soft
on outliers (soft L1 beyond 10 %); standard errors take shapes (not rows) as independent. Held out: fitted to every
other shape, tested on the rest.

A floor is what one kernel takes when it has nothing to do. Floors of kernels do not add up to a step's: in a graph they
overlap with their neighbours; they are facts to look at, nothing to calibrate with.

Which rows serve: see the functions that make families. In short, experts and KV caches beyond what the last-level
cache holds (the tables repeat one input, steps do not), widths of products from 1024, up to 8192 tokens, grouped-query
attention without a window, experts of one device.
"""

import argparse
import itertools
import math
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import yaml
from accuracy.peer import VERSION, environment
from numpy.typing import NDArray
from scipy.optimize import least_squares

from planner.catalog.specs import load_efficiencies, load_hardware
from planner.columns.values import multiplies_in
from planner.microbench import work
from planner.schema.hardware import Hardware
from planner.schema.precision import FORMATS, Precision
from planner.table import Floats

Table = Mapping[str, NDArray[Any]]
Places = NDArray[np.intp]
Report = dict[str, Any]

READER = Path(__file__).with_name("operator_tables_read.py")
# AIConfigurator's systems, the data sheets they are compared with, and the byte of the last-level cache.
SYSTEMS: dict[str, tuple[str, float]] = {
    "h100_sxm": ("h100-sxm", 50e6), "h200_sxm": ("h200-sxm", 50e6), "b200_sxm": ("b200-sxm", 126e6),
    "b300_sxm": ("b300-sxm", 126e6), "gb200": ("gb200-nvl72", 126e6), "gb300": ("gb300-nvl72", 126e6),
    "a100_sxm": ("a100-80g-sxm", 40e6), "l40s": ("l40s", 96e6), "rtx_pro_6000_server": ("rtx-pro-6000-server", 128e6),
}  # fmt: skip
DETAILED = ("h100_sxm", "h200_sxm", "b200_sxm")  # of which more is told, to keep the file small
# Formats of the tables, as the planner knows them. Block-scaled and plain fp8 are one to it, as are nvfp4 and mxfp4.
FORMAT_OF: dict[str, Precision] = {
    "bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "nvfp4": "fp4", "w4a16_mxfp4": "fp4",
    "w4a8_mxfp4_mxfp8": "fp4", "int4_wo": "int4", "sq": "int8",
}  # fmt: skip
_ACTIVATION = FORMATS["bf16"].bytes_per_value
_MAPPING = "tag:yaml.org,2002:map"
_NORM = 3.0
_SOFTMAX_FLOPS = 5  # per score, planner/costs/operators/attention.py
_SOFT = 0.1  # log error beyond which a row counts less
_LEAST_SHARE, _LEAST_SECONDS, _MOST_SECONDS = 1e-3, 1e-8, 1e-2
_LEAST_WIDTH, _MOST_TOKENS = 1024, 8192
_FEWEST = 40  # rows worth fitting
TEXTBOOK = load_efficiencies("textbook").value
TILE, LEAST_TILE = TEXTBOOK.compute.tile_rows.value, TEXTBOOK.compute.least_tile_rows.value


class Line(dict[str, Any]):
    """A mapping that is written on one line."""


class Dumper(yaml.SafeDumper):
    """Writes lines as lines."""


Dumper.add_representer(Line, lambda dumper, line: dumper.represent_mapping(_MAPPING, line, flow_style=True))


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


class Solution(NamedTuple):
    """Fitted values, and standard errors of their logarithms."""

    values: Floats
    errors: Floats


def is_share(name: str) -> bool:
    return not name.endswith(("floor", "latency"))


def solve(family: Family, chosen: Places) -> Solution:
    """Fit the chosen rows; a value at its bound has an infinite error."""
    observed = np.log(family.times[chosen])
    shares = np.array([is_share(name) for name in family.names])
    low = np.log(np.where(shares, _LEAST_SHARE, _LEAST_SECONDS))
    high = np.log(np.where(shares, 1.0, _MOST_SECONDS))

    def residuals(logarithms: Floats) -> Floats:
        return np.asarray(np.log(family.seconds(np.exp(logarithms), chosen)) - observed)

    start = np.clip(np.log(family.start), low + 1e-3, high - 1e-3)
    found = least_squares(residuals, start, bounds=(low, high), loss="soft_l1", f_scale=_SOFT)
    errors = residuals(found.x)
    weights = (1 + (errors / _SOFT) ** 2) ** -0.5  # first derivative of the loss
    slopes = np.stack([(residuals(found.x + step) - errors) / 1e-4 for step in 1e-4 * np.eye(len(found.x))], axis=1)
    bread = np.linalg.pinv(slopes.T @ (weights[:, None] * slopes))
    _, groups = np.unique(family.shapes[chosen], return_inverse=True)
    scores = np.zeros((groups.max() + 1, len(found.x)))
    np.add.at(scores, groups, (weights * errors)[:, None] * slopes)
    correction = len(scores) / max(len(scores) - 1, 1)
    spread = np.sqrt(np.diag(bread @ (correction * scores.T @ scores) @ bread))
    return Solution(np.exp(found.x), np.where(found.active_mask != 0, np.inf, spread))


def fitted(family: Family) -> Line:
    """Return parameters with standard errors, and errors of the times: fitted, and of shapes held out."""
    everything = np.arange(len(family.times))
    solution = solve(family, everything)
    _, order = np.unique(family.shapes, return_inverse=True)
    kept, left = everything[order % 2 == 0], everything[order % 2 == 1]
    report = Line()
    for name, value, error in zip(family.names, solution.values, solution.errors, strict=True):
        scale = 1.0 if is_share(name) else 1e6
        key = name if is_share(name) else f"{name}_us"
        report[key] = [_digits(value * scale), None if not error < 1 else _digits(value * scale * error, 2)]
    report["error"] = _errors(family, solution.values, everything)
    if min(len(kept), len(left)) > len(family.names):
        report["held_out"] = _errors(family, solve(family, kept).values, left)
    report["rows"] = len(everything)
    report["shapes"] = int(order.max()) + 1
    return report


def _errors(family: Family, values: Floats, chosen: Places) -> list[float]:
    """Return median and mean relative error of times [%]."""
    apart = np.abs(family.seconds(values, chosen) / family.times[chosen] - 1)
    return [round(100 * float(np.median(apart)), 1), round(100 * float(np.mean(apart)), 1)]


def _digits(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")


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


def _experts_of(table: Table, kept: NDArray[np.bool_]) -> Experts:
    names = ("num_tokens", "hidden_size", "inter_size", "num_experts", "topk")
    tokens, hidden, inter, experts, topk = (table[name][kept].astype(float) for name in names)
    return Experts(tokens, hidden, inter / table["moe_tp_size"][kept], experts, topk)


def _gated(table: Table, dtype: str, backend: str) -> NDArray[np.bool_]:
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
    kept = _gated(table, dtype, backend) & (table["distribution"] == "balanced")
    of = _experts_of(table, kept)
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


MODELS: dict[str, tuple[int, int, int, int]] = {  # hidden, width of an expert, experts, per token
    "gpt-oss-120b": (2880, 2880, 128, 4),
    "MiniMax-M2.5": (3072, 1536, 256, 8),
    "GLM-5": (6144, 2048, 256, 8),
    "Qwen3.5-397B-A17B": (4096, 1024, 512, 10),
    "DeepSeek-V3": (7168, 2048, 256, 8),
}
TOKENS = (1, 4, 16, 64, 256)
_PROFILES = {"balanced": ("balanced",), "power_law": ("power_law_1.01", "power_law_1.2")}


def bias(table: Table, dtype: str, values: Sequence[float], backend: str, system: System) -> Report:
    """Return measured over modelled time of the experts of a layer, by model and tokens, a mean over splits up to 8.

    ``balanced`` rows against the experts they touch; ``power_law`` rows against those the planner expects with its
    own profile. Without values: fewer bytes than the cache holds, or no such rows.
    """
    compute, bandwidth, floor = values
    report: Report = {}
    for model, (hidden, width, count, per_token) in MODELS.items():
        mine = (table["hidden_size"] == hidden) & (table["inter_size"] == width)
        mine &= (table["num_experts"] == count) & (table["topk"] == per_token) & _gated(table, dtype, backend)
        found = Line()
        for profile, distributions in _PROFILES.items():
            kept = mine & np.isin(table["distribution"], distributions)
            of = _experts_of(table, kept)
            touched = of.balanced() if profile == "balanced" else of.expected()
            matrix, memory, vector = of.ideal(touched, dtype, system)
            modelled = both(both(matrix / compute, memory / bandwidth), vector) + floor
            ratio = np.log(table["seconds"][kept] / modelled)
            large = memory * system.hardware.memory.bandwidth.value > system.cache
            chosen = [large & (of.tokens == tokens) for tokens in TOKENS]
            if any(rows.any() for rows in chosen):
                found[profile] = [round(float(np.exp(ratio[r].mean())), 2) if r.any() else None for r in chosen]
        if found:
            report[model] = found
    return report


def report_of(system: System, folder: Path, *, detailed: bool) -> Report:
    """Fit every table in a folder; ``detailed``: with more terms, and the bias for some models."""
    operators: Report = {}
    longer: Report = {}
    biases: Report = {}
    for path in sorted(folder.glob("*.npz")):
        operator, backend, version = path.stem.split("@")
        table = dict(np.load(path))
        for dtype, family in families(operator, backend, table, system):
            result = fitted(family)
            operators.setdefault(operator, {}).setdefault(f"{backend} {version}", {})[dtype] = result
            if detailed and family.longer is not None:
                more = fitted(family.longer)
                more = Line({key: value for key, value in more.items() if key not in ("error", "rows", "shapes")})
                longer.setdefault(operator, {}).setdefault(f"{backend} {version}", {})[dtype] = more
            if detailed and operator == "experts":
                values = [result["compute"][0], result["bandwidth"][0], result["floor_us"][0] / 1e6]
                found = bias(table, dtype, values, backend, system)
                if found:
                    biases.setdefault(backend, {})[dtype] = found
    report: Report = {"hardware": system.hardware.name, "central": central(operators), "operators": operators}
    if detailed:
        report |= {"with_more_terms": longer, "experts_bias": {"tokens": list(TOKENS), **biases}}
    return report


# Field of a calibration: operator, formats, parameter, and, for factors, the formats it is relative to.
_FIELDS: dict[str, tuple[str, tuple[str, ...], str, tuple[str, ...]]] = {
    "compute.gemm_bf16": ("gemm", ("bfloat16",), "compute", ()),
    "compute.gemm_fp8": ("gemm", ("fp8", "fp8_block"), "compute", ()),
    "compute.gemm_int8": ("gemm", ("sq",), "compute", ()),
    "compute.gemm_fp4": ("gemm", ("nvfp4",), "compute", ()),
    "compute.attention": ("attention_prefill", ("bfloat16",), "compute", ()),
    "compute.attention, latent prompts": ("mla_prefill", ("bfloat16",), "compute", ()),
    "compute.attention, latent decode": ("mla_decode", ("bfloat16",), "compute", ()),
    "compute.experts, bf16": ("experts", ("bfloat16",), "compute", ()),
    "compute.experts, fp8": ("experts", ("fp8",), "compute", ()),
    "compute.experts, fp8 in blocks": ("experts", ("fp8_block",), "compute", ()),
    "compute.experts, nvfp4": ("experts", ("nvfp4",), "compute", ()),
    "compute.experts, mxfp4 unpacked": ("experts", ("w4a16_mxfp4",), "compute", ()),
    "compute.experts, mxfp4 by mxfp8": ("experts", ("w4a8_mxfp4_mxfp8",), "compute", ()),
    "bandwidth.weights": ("gemm", ("bfloat16",), "bandwidth", ()),
    "bandwidth.fp8_weights": ("gemm", ("fp8", "fp8_block"), "bandwidth", ("bfloat16",)),
    "bandwidth.fp4_weights": ("gemm", ("nvfp4",), "bandwidth", ("bfloat16",)),
    "bandwidth.int4_weights": ("gemm", ("int4_wo",), "bandwidth", ("bfloat16",)),
    "bandwidth.experts": ("experts", ("bfloat16",), "bandwidth", ()),
    "bandwidth.fp8_weights, experts": ("experts", ("fp8",), "bandwidth", ("bfloat16",)),
    "bandwidth.fp8_weights, experts in blocks": ("experts", ("fp8_block",), "bandwidth", ("bfloat16",)),
    "bandwidth.fp4_weights, nvfp4 experts": ("experts", ("nvfp4",), "bandwidth", ("bfloat16",)),
    "bandwidth.fp4_weights, mxfp4 experts unpacked": ("experts", ("w4a16_mxfp4",), "bandwidth", ("bfloat16",)),
    "bandwidth.fp4_weights, mxfp4 experts by mxfp8": ("experts", ("w4a8_mxfp4_mxfp8",), "bandwidth", ("bfloat16",)),
    "bandwidth.int4_weights, experts": ("experts", ("int4_wo",), "bandwidth", ("bfloat16",)),
    "bandwidth.kv_cache": ("attention_decode", ("bfloat16",), "bandwidth", ()),
    "bandwidth.kv_cache, latent": ("mla_decode", ("bfloat16",), "bandwidth", ()),
    "fp8 over bf16 kv_cache": ("attention_decode", ("fp8",), "bandwidth", ("bfloat16",)),
    "bandwidth.link": ("all_reduce", ("bf16",), "link", ()),
    "latency.collective [us]": ("all_reduce", ("bf16",), "latency_us", ()),
    "observed floor of a product [us]": ("gemm", ("bfloat16",), "floor_us", ()),
    "observed floor of prompt attention [us]": ("attention_prefill", ("bfloat16",), "floor_us", ()),
    "observed floor of decode attention [us]": ("attention_decode", ("bfloat16",), "floor_us", ()),
    "observed floor of experts [us]": ("experts", ("bfloat16", "fp8_block", "nvfp4"), "floor_us", ()),
}  # fmt: skip
_LEAST_UNCERTAINTY = 0.05


def central(operators: Report) -> Report:
    """Return one value per efficiency: the median over backends and formats, and how far these lie apart (in logs).

    The uncertainty is their median distance from the median, scaled to a standard deviation, together with the median
    standard error, never below 5 %; a lone value has 20 %. Factors are relative to the same backend's bf16. Values that
    the rows do not determine are left out.
    """
    found: Report = {}
    for field, (operator, dtypes, parameter, base) in _FIELDS.items():
        logs, errors = [], []
        for fits in operators.get(operator, {}).values():
            below = [fits[dtype][parameter][0] for dtype in base if dtype in fits]
            for dtype in dtypes:
                if dtype not in fits or (base and not below):
                    continue
                value, error = fits[dtype][parameter]
                if error is not None:
                    logs.append(math.log(value / below[0]) if base else math.log(value))
                    errors.append(error / value)
        if logs:
            apart = np.abs(np.array(logs) - np.median(logs))
            spread = 1.4826 * float(np.median(apart)) if len(logs) > 1 else 0.2
            uncertainty = max(math.hypot(spread, float(np.median(errors))), _LEAST_UNCERTAINTY)
            value = math.exp(float(np.median(logs)))
            low, high = (math.exp(bound) for bound in (min(logs), max(logs)))
            found[field] = Line(value=_digits(value), uncertainty=_digits(uncertainty, 2))
            found[field] |= {"range": [_digits(low), _digits(high)], "fits": len(logs)}
    return found


_HEAD = """\
# Efficiencies fitted to measured operators, by benchmarks/operator_tables.py, which tells how.
# central: median over backends and formats of what a calibration holds, its relative uncertainty, least and most.
# Parameters: [value, standard error], null where the rows do not tell; error, held_out: [median, mean] of times in %.
# Floors are of single kernels and do not add up to a step's. experts_bias: measured over modelled time.
# with_more_terms: with terms that the cost model lacks; see with_passes and _prefill in the script.
"""


def python_of(folder: Path) -> Path:
    """Return the Python of AIConfigurator's environment, which is built only where there is none."""
    python = folder / "bin" / "python"
    return python if python.exists() else environment(folder)


def main() -> None:
    """Fit all systems and write the file."""
    default = Path(platformdirs.user_cache_dir("llm-deployment-planner"), f"aiconfigurator-{VERSION}")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, default=default, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.yaml")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="default: all, with commas")
    options = parser.parse_args()
    python = python_of(options.environment)
    systems: Report = {}
    for name in options.systems.split(","):
        hardware, cache = SYSTEMS[name]
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([python, READER, name, folder], check=True)
            systems[name] = report_of(
                System(load_hardware(hardware).value, cache), Path(folder), detailed=name in DETAILED
            )
        print(name, *itertools.chain.from_iterable((k, v["value"]) for k, v in systems[name]["central"].items()))
    document = {
        "source": "operator tables of NVIDIA AIConfigurator (aiconfigurator-core on PyPI)",
        "licence": "Apache-2.0",
        "version": VERSION,
        "systems": systems,
    }
    body = yaml.dump(document, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=10_000)
    options.out.write_text(_HEAD + body, encoding="utf-8")


if __name__ == "__main__":
    main()
