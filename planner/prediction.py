"""Predicts deployments under a closed loop of clients, many rows at a time."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from planner.catalog import load_architecture, load_engine, load_hardware
from planner.catalog.rows import Row
from planner.columns.closed_loop import closed_loop
from planner.columns.deployable import Degrees, why_not
from planner.columns.setting import Setting, lone_setting
from planner.columns.values import exchanges_all_to_all
from planner.constants import MILLISECONDS_PER_SECOND
from planner.errors import InputError
from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine, Scheduling
from planner.schema.hardware import Hardware
from planner.schema.precision import FORMATS, KV_FORMATS, KvPrecision, Precision
from planner.table import FORMAT_NAMES, Floats

T = TypeVar("T")
_SHORTEST = 2


class Prediction(NamedTuple):
    """What clients of one row see on average [ms]; ``reason`` says why a row is refused."""

    id: str
    ttft_ms: float | None
    tpot_ms: float | None
    status: str
    reason: str


class _Named(NamedTuple):
    """The specifications a row names."""

    architecture: Architecture
    precision: Precision
    hardware: Hardware
    engine: Engine


class _RefusedError(Exception):
    """A row that the cost model cannot express; the message says why."""


def _silent(stage: str) -> None:
    """Ignore progress."""


def predict_rows(
    rows: Sequence[Row], efficiencies: Efficiencies, on_stage: Callable[[str], None] = _silent
) -> list[Prediction]:
    """Predict every row, or say why it is refused; the answer has the rows' order."""
    find = _Finder()
    found: dict[str, Prediction] = {}
    legal: list[tuple[Row, _Named]] = []
    for row in rows:
        try:
            named = find(row)
            _check(row, named, efficiencies)
        except _RefusedError as refusal:
            found[row.id] = Prediction(row.id, None, None, "refused", str(refusal))
        else:
            legal.append((row, named))
    # Rows of one setting are evaluated together.
    legal.sort(key=lambda pair: _group(*pair))
    for _, members in itertools.groupby(legal, key=lambda pair: _group(*pair)):
        pairs = list(members)
        on_stage(f"{len(found)} of {len(rows)} rows")
        for prediction in _evaluate([row for row, _ in pairs], pairs[0][1], efficiencies):
            found[prediction.id] = prediction
    return [found[row.id] for row in rows]


def _group(row: Row, named: _Named) -> tuple[str, ...]:
    drafts = ",".join(f"{share:g}" for share in row.acceptance)
    return (named.architecture.name, named.hardware.name, named.engine.name, row.backend_version, drafts)


class _Finder:
    """Finds the specifications that rows name, each only once."""

    def __init__(self) -> None:
        self.architectures: dict[str, Architecture | _RefusedError] = {}
        self.hardware: dict[str, Hardware | _RefusedError] = {}
        self.engines: dict[str, Engine | _RefusedError] = {}

    def __call__(self, row: Row) -> _Named:
        architecture = _once(self.architectures, "model", row.model, lambda name: load_architecture(name).value)
        hardware = _once(self.hardware, "system", row.system, lambda name: load_hardware(name).value)
        engine = _once(self.engines, "backend", row.backend, lambda name: load_engine(name).value)
        if row.precision not in FORMATS:
            msg = f"precision '{row.precision}' is none of {', '.join(FORMATS)}"
            raise _RefusedError(msg)
        precision: Precision = next(name for name in FORMATS if name == row.precision)
        return _Named(architecture, precision, hardware, engine)


def _once(known: dict[str, T | _RefusedError], field: str, name: str, load: Callable[[str], T]) -> T:
    """Return what a name stands for, loaded the first time; the same refusal each time where it is not known."""
    if name not in known:
        try:
            known[name] = load(name)
        except InputError as error:
            known[name] = _RefusedError(f"{field}: {'; '.join(p.message for p in error.problems)}")
    value = known[name]
    if isinstance(value, _RefusedError):
        raise value
    return value


def _check(row: Row, named: _Named, efficiencies: Efficiencies) -> None:
    """Refuse what cannot run, and what rows cannot say."""
    if row.kv_precision not in ("", *KV_FORMATS):
        msg = f"kv_precision '{row.kv_precision}' is none of {', '.join(KV_FORMATS)}"
        raise _RefusedError(msg)
    if row.osl * row.length_factor < _SHORTEST:
        msg = f"osl must be at least {_SHORTEST}: with one token there is no decode"
        raise _RefusedError(msg)
    if row.acceptance and not named.architecture.num_nextn_predict_layers:
        msg = "the model has no draft module of its own, and rows cannot name another"
        raise _RefusedError(msg)
    longest = (row.isl + row.osl) * max(1.0, row.length_factor)
    degrees = Degrees(row.tp, row.pp, row.attention_dp, row.ep, row.moe_tp, row.precision, kv_precision(row, named))
    reason = why_not(_setting(row, named, efficiencies, int(longest)), degrees, longest)
    if reason:
        raise _RefusedError(reason)


def _evaluate(rows: Sequence[Row], named: _Named, efficiencies: Efficiencies) -> Iterable[Prediction]:
    setting = _setting(rows[0], named, efficiencies, max(row.isl + row.osl for row in rows))
    scheduling = named.engine.scheduling
    axes = {
        "weight_precision": _array(FORMAT_NAMES.index(row.precision) for row in rows),
        "kv_precision": _array(FORMAT_NAMES.index(kv_precision(row, named)) for row in rows),
        "tp": _array(row.tp for row in rows),
        "pp": _array(row.pp for row in rows),
        "ep": _array(row.ep for row in rows),
        "attention_dp": _array(row.attention_dp for row in rows),
        "isl": _array(row.isl * row.length_factor for row in rows),
        "osl": _array(row.osl * row.length_factor for row in rows),
        "max_num_batched_tokens": _array(
            row.max_num_batched_tokens or _default_budget(scheduling, row.isl) for row in rows
        ),
        "all_to_all": _array(exchanges_all_to_all(named.engine, row.expert_exchange) for row in rows),
        "speculative_tokens": _array(len(row.acceptance) for row in rows),
    }
    clients = _array(row.concurrency for row in rows)
    admits = _array(row.max_num_seqs or max(row.concurrency, scheduling.default_max_seqs.value) for row in rows)
    found = closed_loop(setting, axes, clients, admits, _array(row.lockstep for row in rows))
    for row, ttft, tpot, admitted in zip(rows, found.ttft, found.tpot, found.admitted, strict=True):
        if admitted < 1:
            yield Prediction(row.id, None, None, "refused", "weights and buffers leave no room for one request")
        elif not np.isfinite(ttft + tpot):
            reason = "max_num_batched_tokens leaves no room for prompts beside the requests that decode"
            yield Prediction(row.id, None, None, "refused", reason)
        else:
            first, each = (float(seconds) * MILLISECONDS_PER_SECOND for seconds in (ttft, tpot))
            yield Prediction(row.id, first, each, "ok", "")


def _default_budget(scheduling: Scheduling, isl: int) -> int:
    """Return the token budget of a server that nobody has tuned: one that takes the prompt, where it is not cut."""
    usual = int(scheduling.default_token_budget.value)
    return usual if scheduling.chunked_prefill.value else max(usual, isl)


def kv_precision(row: Row, named: _Named) -> KvPrecision:
    """Return the format of the KV cache: as the row says, else bf16 unless weights are narrower and the device has fp8.

    Benchmark recipes pair fp8 and fp4 weights with an fp8 cache, except on Hopper outside of TensorRT-LLM.
    """
    if row.kv_precision:
        return next(name for name in KV_FORMATS if name == row.kv_precision)
    narrow = named.precision in ("fp8", "fp4") and "fp8" in named.hardware.peak_flops
    recipe = named.engine.name == "trtllm" or "fp4" in named.hardware.peak_flops
    return "fp8" if narrow and recipe and "fp8" in named.engine.kv_precisions.value else "bf16"


def _setting(row: Row, named: _Named, efficiencies: Efficiencies, longest: int) -> Setting:
    return lone_setting(
        named.architecture,
        named.hardware,
        named.engine,
        row.backend_version,
        efficiencies,
        longest=longest,
        acceptance=row.acceptance,
    )


def _array(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)
