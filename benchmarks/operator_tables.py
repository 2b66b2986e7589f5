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

Which rows serve: see operator_families.py. In short, experts and KV caches beyond what the last-level
cache holds (the tables repeat one input, steps do not), widths of products from 1024, up to 8192 tokens, grouped-query
attention without a window, experts of one device.
"""

import argparse
import itertools
import math
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
import yaml
from accuracy.peer import VERSION, environment
from operator_families import Family, Places, System, Table, both, experts_of, families, gated
from scipy.optimize import least_squares

from planner.catalog.specs import load_hardware
from planner.table import Floats

Report = dict[str, Any]
READER = Path(__file__).with_name("operator_tables_read.py")
# AIConfigurator's systems, the data sheets they are compared with, and the byte of the last-level cache.
SYSTEMS: dict[str, tuple[str, float]] = {
    "h100_sxm": ("h100-sxm", 50e6), "h200_sxm": ("h200-sxm", 50e6), "b200_sxm": ("b200-sxm", 126e6),
    "b300_sxm": ("b300-sxm", 126e6), "gb200": ("gb200-nvl72", 126e6), "gb300": ("gb300-nvl72", 126e6),
    "a100_sxm": ("a100-80g-sxm", 40e6), "l40s": ("l40s", 96e6), "rtx_pro_6000_server": ("rtx-pro-6000-server", 128e6),
}  # fmt: skip
DETAILED = ("h100_sxm", "h200_sxm", "b200_sxm")  # of which more is told, to keep the file small
_MAPPING = "tag:yaml.org,2002:map"
_SOFT = 0.1  # log error beyond which a row counts less
_LEAST_SHARE, _LEAST_SECONDS, _MOST_SECONDS = 1e-3, 1e-8, 1e-2


class Line(dict[str, Any]):
    """A mapping that is written on one line."""


class Dumper(yaml.SafeDumper):
    """Writes lines as lines."""


Dumper.add_representer(Line, lambda dumper, line: dumper.represent_mapping(_MAPPING, line, flow_style=True))


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
        mine &= (table["num_experts"] == count) & (table["topk"] == per_token) & gated(table, dtype, backend)
        found = Line()
        for profile, distributions in _PROFILES.items():
            kept = mine & np.isin(table["distribution"], distributions)
            of = experts_of(table, kept)
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
