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
from planner.posterior import Beliefs, Place, Posterior
from planner.schema.architecture import Architecture
from planner.schema.engine import Engine, Scheduling
from planner.schema.hardware import Hardware
from planner.schema.precision import FORMATS, KV_FORMATS, KvPrecision, Precision
from planner.table import FORMAT_NAMES, Floats

T = TypeVar("T")
_SHORTEST = 2


class Prediction(NamedTuple):
    """What clients of one row see on average [ms]; ``reason`` says why a row is refused.

    A tenth of measurements is expected below ``p10``, and a tenth above ``p90``; ``basis`` is the nearest thing that
    was measured: deployment, system+backend, system or none. Without a calibration there are no intervals.
    """

    id: str
    ttft_ms: float | None
    tpot_ms: float | None
    status: str
    reason: str
    ttft_ms_p10: float | None = None
    ttft_ms_p90: float | None = None
    tpot_ms_p10: float | None = None
    tpot_ms_p90: float | None = None
    basis: str = ""


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
    rows: Sequence[Row], posterior: Posterior, on_stage: Callable[[str], None] = _silent
) -> list[Prediction]:
    """Predict every row, or say why it is refused; the answer has the rows' order."""
    asked, refused = asked_of(rows, posterior)
    found = {place: _refused(rows[place].id, reason) for place, reason in refused.items()}
    places = {i: one.place(rows[i]) for one in asked for i in one.places}
    # One look at all measured rows for all predictions.
    beliefs, order = posterior.beliefs(list(places.values())), {i: number for number, i in enumerate(places)}
    for one in asked:
        on_stage(f"{len(found)} of {len(rows)} rows")
        for i, modelled in zip(one.places, _evaluate([rows[i] for i in one.places], one), strict=True):
            found[i] = modelled if beliefs is None else _believed(modelled, beliefs, order[i])
    return [found[i] for i in range(len(rows))]


def _refused(identity: str, reason: str) -> Prediction:
    return Prediction(identity, None, None, "refused", reason)


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


def _check(row: Row, named: _Named, posterior: Posterior) -> None:
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
    reason = why_not(_setting(row, named, posterior, int(longest)), degrees, longest)
    if reason:
        raise _RefusedError(reason)


def _evaluate(rows: Sequence[Row], asked: "Asked") -> Iterable[Prediction]:
    """Yield what is modelled, as if nothing had been measured."""
    found = closed_loop(asked.setting, asked.axes, asked.clients, asked.max_num_seqs, asked.lockstep)
    for row, ttft, tpot, admitted in zip(rows, found.ttft, found.tpot, found.admitted, strict=True):
        if admitted < 1:
            yield _refused(row.id, "weights and buffers leave no room for one request")
        elif not np.isfinite(ttft + tpot):
            yield _refused(row.id, "max_num_batched_tokens leaves no room for prompts beside the requests that decode")
        else:
            first, each = (float(seconds) * MILLISECONDS_PER_SECOND for seconds in (ttft, tpot))
            yield Prediction(row.id, first, each, "ok", "", basis="none")


def _believed(modelled: Prediction, beliefs: Beliefs, i: int) -> Prediction:
    """Return modelled times as what is believed after what was measured; a refusal as it is."""
    ttft, tpot = modelled.ttft_ms, modelled.tpot_ms
    if ttft is None or tpot is None:
        return modelled
    return modelled._replace(
        ttft_ms=ttft * float(beliefs.ttft[i]),
        tpot_ms=tpot * float(beliefs.tpot[i]),
        ttft_ms_p10=ttft * float(beliefs.ttft_p10[i]),
        ttft_ms_p90=ttft * float(beliefs.ttft_p90[i]),
        tpot_ms_p10=tpot * float(beliefs.tpot_p10[i]),
        tpot_ms_p90=tpot * float(beliefs.tpot_p90[i]),
        basis=beliefs.basis[i],
    )


class Asked(NamedTuple):
    """Rows of one setting, as ``closed_loop`` takes them; ``places`` are their indices among all rows."""

    setting: Setting
    axes: dict[str, Floats]
    clients: Floats
    max_num_seqs: Floats
    lockstep: Floats
    places: Sequence[int]

    def place(self, row: Row) -> Place:
        """Return what a calibration knows a row by."""
        setting = self.setting
        return Place(
            setting.hardware.name, setting.engine.name, setting.architecture.name, row.precision, row.tp, row.pp,
            row.attention_dp, row.ep, float(row.concurrency), row.isl * row.length_factor, row.osl * row.length_factor,
        )  # fmt: skip


def _asked(rows: Sequence[Row], named: _Named, posterior: Posterior, places: Sequence[int]) -> Asked:
    setting = _setting(rows[0], named, posterior, max(row.isl + row.osl for row in rows))
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
    return Asked(setting, axes, clients, admits, _array(row.lockstep for row in rows), places)


def asked_of(rows: Sequence[Row], posterior: Posterior) -> tuple[list[Asked], dict[int, str]]:
    """Return rows by setting, and why rows are refused, by index."""
    find, refused = _Finder(), {}
    legal: list[tuple[int, Row, _Named]] = []
    for place, row in enumerate(rows):
        try:
            named = find(row)
            _check(row, named, posterior)
        except _RefusedError as refusal:
            refused[place] = str(refusal)
        else:
            legal.append((place, row, named))
    legal.sort(key=lambda found: _group(*found[1:]))
    asked = []
    for _, members in itertools.groupby(legal, key=lambda found: _group(*found[1:])):
        found = list(members)
        asked.append(_asked([row for _, row, _ in found], found[0][2], posterior, [place for place, _, _ in found]))
    return asked, refused


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


def _setting(row: Row, named: _Named, posterior: Posterior, longest: int) -> Setting:
    return lone_setting(
        named.architecture,
        named.hardware,
        named.engine,
        row.backend_version,
        posterior.efficiencies(named.hardware.name, named.engine.name),
        longest=longest,
        acceptance=row.acceptance,
    )


def _array(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)
