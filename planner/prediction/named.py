"""The specifications that rows name, and what cannot run."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np

from planner.catalog import load_architecture, load_engine, load_hardware
from planner.catalog.rows import Row
from planner.columns.deployable import Degrees, why_not
from planner.columns.setting import Setting, lone_setting, optional_of
from planner.columns.values import exchanges_all_to_all
from planner.errors import InputError
from planner.posterior import Place, Posterior
from planner.schema.architecture import Architecture
from planner.schema.engine import Engine, Scheduling
from planner.schema.hardware import Hardware
from planner.schema.precision import FORMATS, KV_FORMATS, KvPrecision, Precision
from planner.table import FORMAT_NAMES, Floats

T = TypeVar("T")
_SHORTEST = 2
_WIDE = 8  # devices; wide expert parallelism is run with all-to-all kernels, since gathering sends all to all of them


class Named(NamedTuple):
    """The specifications a row names."""

    architecture: Architecture
    precision: Precision
    hardware: Hardware
    engine: Engine


class RefusedError(Exception):
    """A row that the cost model cannot express; the message says why."""


class Finder:
    """Finds the specifications that rows name, each only once."""

    def __init__(self) -> None:
        self.architectures: dict[str, Architecture | RefusedError] = {}
        self.hardware: dict[str, Hardware | RefusedError] = {}
        self.engines: dict[str, Engine | RefusedError] = {}

    def __call__(self, row: Row) -> Named:
        """Return what a row names.

        Raises:
            RefusedError: a name that nothing has.
        """
        architecture = _once(self.architectures, "model", row.model, lambda name: load_architecture(name).value)
        hardware = _once(self.hardware, "system", row.system, lambda name: load_hardware(name).value)
        engine = _once(self.engines, "backend", row.backend, lambda name: load_engine(name).value)
        if row.precision not in FORMATS:
            msg = f"precision '{row.precision}' is none of {', '.join(FORMATS)}"
            raise RefusedError(msg)
        precision: Precision = next(name for name in FORMATS if name == row.precision)
        return Named(architecture, precision, hardware, engine)


def _once(known: dict[str, T | RefusedError], field: str, name: str, load: Callable[[str], T]) -> T:
    """Return what a name stands for, loaded the first time; the same refusal each time where it is not known."""
    if name not in known:
        try:
            known[name] = load(name)
        except InputError as error:
            known[name] = RefusedError(f"{field}: {'; '.join(p.message for p in error.problems)}")
    value = known[name]
    if isinstance(value, RefusedError):
        raise value
    return value


def group_of(row: Row, named: Named) -> tuple[str, ...]:
    """Return what rows of one setting have in common."""
    drafts = ",".join(f"{share:g}" for share in row.acceptance)
    here = (named.architecture.name, named.hardware.name, named.engine.name, row.backend_version)
    return (*here, drafts, row.role, row.expert_load)


def check(row: Row, named: Named, posterior: Posterior, role: str = "mixed") -> None:
    """Refuse what cannot run, and what rows cannot say.

    Raises:
        RefusedError: with the first reason.
    """
    if row.kv_precision not in ("", *KV_FORMATS):
        msg = f"kv_precision '{row.kv_precision}' is none of {', '.join(KV_FORMATS)}"
        raise RefusedError(msg)
    if row.role != "prefill" and row.osl * row.length_factor < _SHORTEST:
        msg = f"osl must be at least {_SHORTEST}: with one token there is no decode"
        raise RefusedError(msg)
    if row.acceptance and row.drafter != "eagle" and not named.architecture.num_nextn_predict_layers:
        msg = "the model has no draft module of its own; the drafter may be eagle"
        raise RefusedError(msg)
    unknown = [name for name in row.overlaps if name not in named.engine.fusions or named.engine.fusions[name].value]
    if unknown:
        msg = f"{named.engine.name} has no overlap '{unknown[0]}' that could be turned on"
        raise RefusedError(msg)
    longest = (row.isl + row.osl) * max(1.0, row.length_factor)
    degrees = Degrees(
        row.tp, row.pp, row.attention_dp, row.ep, row.moe_tp, row.precision, kv_precision(row, named),
        row.redundant_experts,
    )  # fmt: skip
    reason = why_not(setting_of(row, named, posterior, int(longest), role), degrees, longest)
    if reason:
        raise RefusedError(reason)


def setting_of(row: Row, named: Named, posterior: Posterior, longest: int, role: str = "mixed") -> Setting:
    """Return what stays fixed of a replica in a role; ``longest``: longest request [token]."""
    return lone_setting(
        named.architecture,
        named.hardware,
        named.engine,
        row.backend_version,
        posterior.efficiencies(named.hardware.name, named.engine.name),
        longest=longest,
        acceptance=row.acceptance,
        role=row.role or role,
        even_experts=row.expert_load == "even",
    )


def place_of(row: Row, named: Named, replicas: int = 1) -> Place:
    """Return what a calibration knows a replica by, one of several that share the row's clients."""
    return Place(
        named.hardware.name, named.engine.name, named.architecture.name, row.precision, row.tp, row.pp,
        row.attention_dp, row.ep, row.concurrency / replicas, row.isl * row.length_factor, row.osl * row.length_factor,
    )  # fmt: skip


def axes_of(rows: Iterable[Row], named: Named) -> dict[str, Floats]:
    """Return configurations and lengths of rows of one setting, as ``columns.evaluate.figures`` takes them."""
    given, scheduling = list(rows), named.engine.scheduling
    return {
        "weight_precision": array(FORMAT_NAMES.index(row.precision) for row in given),
        "kv_precision": array(FORMAT_NAMES.index(kv_precision(row, named)) for row in given),
        "tp": array(row.tp for row in given),
        "pp": array(row.pp for row in given),
        "ep": array(row.ep for row in given),
        "attention_dp": array(row.attention_dp for row in given),
        "isl": array(row.isl * row.length_factor for row in given),
        "osl": array(row.osl * row.length_factor for row in given),
        "max_num_batched_tokens": array(
            row.max_num_batched_tokens or _default_budget(scheduling, row.isl) for row in given
        ),
        "all_to_all": array(exchanges_all_to_all(named.engine, row.expert_exchange or _usual(row)) for row in given),
        "speculative_tokens": array(len(row.acceptance) for row in given),
        "redundant_experts": array(row.redundant_experts for row in given),
        "overlaps": array(_bits(row, named.engine) for row in given),
    }


def _bits(row: Row, engine: Engine) -> int:
    """Return the overlaps that a row turned on, in the order of ``Pool.optional``."""
    return sum(1 << optional_of(engine).index(name) for name in row.overlaps)


def _usual(row: Row) -> str:
    """Return how experts are reached where a row leaves it open and the engine's default is meant for a node."""
    return "all_to_all" if row.ep > _WIDE else ""


def admitted_of(rows: Iterable[Row], named: Named) -> Floats:
    """Return the requests that a rank of each row admits."""
    usual = named.engine.scheduling.default_max_seqs.value
    return array(row.max_num_seqs or max(row.concurrency, usual) for row in rows)


def _default_budget(scheduling: Scheduling, isl: int) -> int:
    """Return the token budget of a server that nobody has tuned: one that takes the prompt, where it is not cut."""
    usual = int(scheduling.default_token_budget.value)
    return usual if scheduling.chunked_prefill.value else max(usual, isl)


def kv_precision(row: Row, named: Named) -> KvPrecision:
    """Return the format of the KV cache: as the row says, else bf16 unless weights are narrower and the device has fp8.

    Benchmark recipes pair fp8 and fp4 weights with an fp8 cache, except on Hopper outside of TensorRT-LLM.
    """
    if row.kv_precision:
        return next(name for name in KV_FORMATS if name == row.kv_precision)
    narrow = named.precision in ("fp8", "fp4") and "fp8" in named.hardware.peak_flops
    recipe = named.engine.name == "trtllm" or "fp4" in named.hardware.peak_flops
    return "fp8" if narrow and recipe and "fp8" in named.engine.kv_precisions.value else "bf16"


def array(values: Iterable[float]) -> Floats:
    """Return values as an array."""
    return np.array(list(values), dtype=np.float64)
