"""Holds benchmark results against a plan: predicted and measured side by side, causes, and how to calibrate."""

import math
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import NamedTuple

from planner.catalog import Case
from planner.columns.setting import setting_of
from planner.comparison.attribution import Cause, Run, causes
from planner.comparison.operating import Load, Seen, Stream, names, seen, streams
from planner.constants import MILLISECONDS_PER_SECOND
from planner.errors import InputError, did_you_mean
from planner.importers.measured import FIXED, Measured, doubts
from planner.plan import Deployment, Plan

_LATENCIES = ("ttft", "tpot")


class Asked(NamedTuple):
    """A result and what it is held against: a name of the plan, and how many of its replicas took the load (0: all)."""

    run: Measured
    name: str
    replicas: int


class Row(NamedTuple):
    """One latency of one run [ms]; the interval is the plan's, moved to the run's load: None where it has none."""

    metric: str
    predicted: float
    p10: float | None
    p90: float | None
    measured: float

    @property
    def off(self) -> float:
        """How far measured is from predicted, in parts of it."""
        return self.measured / self.predicted - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured value is inside the interval; None without one."""
        return None if self.p10 is None or self.p90 is None else self.p10 <= self.measured <= self.p90


class Compared(NamedTuple):
    """One run beside its prediction; ``notes`` say why it may not be comparable."""

    source: str
    name: str
    load: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


class Comparison(NamedTuple):
    """Every run, what would explain them together, and the commands that calibrate with them."""

    runs: tuple[Compared, ...]
    causes: tuple[Cause, ...]
    commands: tuple[str, ...]


def compare(plan: Plan, case: Case, asked: Sequence[Asked], path: str) -> Comparison:
    """Hold results against a plan.

    Args:
        plan: the plan.
        case: what it was made from.
        asked: the results.
        path: the plan's file, for the commands.

    Raises:
        InputError: a name that the plan does not have, or a load that it says nothing of.
    """
    done, explained = [], []
    for one in asked:
        found, load = _found(plan, one), _load(one.run)
        base = seen(case, found, load)
        if not math.isfinite(base.ttft + base.tpot):
            raise InputError.single(one.run.source, f"{_words(load)}: more than {one.name} carries by the plan")
        measured = Seen(one.run.ttft_ms / MILLISECONDS_PER_SECOND, one.run.tpot_ms / MILLISECONDS_PER_SECOND)
        done.append(_compared(case, one, found, load, base))
        explained.append(Run(measured, lambda change, found=found, load=load: seen(case, found, load, change)))  # type: ignore[misc]
    first = _found(plan, asked[0])[0].parts[-1]
    return Comparison(
        tuple(done),
        tuple(causes(explained, setting_of(case, first.configuration()).efficiencies)),
        tuple(_commands(plan, asked, path)),
    )


def _found(plan: Plan, one: Asked) -> list[Stream]:
    """Return the streams a result is held against, with as many replicas as took the load."""
    found = streams(plan, one.name)
    if not found:
        known = names(plan)
        message = f"the plan has nothing called '{one.name}' that serves requests; {did_you_mean(one.name, known)}"
        raise InputError.single(one.run.source, message, "--of")
    if not one.replicas:
        return found
    if len(found) > 1 or len(found[0].parts) > 1:
        message = f"{one.name} is several deployments; --replicas is for one that serves requests alone"
        raise InputError.single(one.run.source, message, "--replicas")
    d = found[0].parts[0]
    share = one.replicas / d.replicas
    less = d._replace(replicas=one.replicas, requests_in_flight=d.requests_in_flight * share)
    return [Stream(found[0].rate * share, (less,))]


def _load(run: Measured) -> Load:
    """Return the load of a run; that of an open loop as it was served."""
    rate = run.completed / run.duration_s if run.open_loop else 0.0
    clients = float(run.concurrency or run.in_flight)
    return Load(rate, clients, run.isl, run.osl, run.length_spread in ("", FIXED))


def _words(load: Load) -> str:
    return f"{load.rate:.4g} request/s" if load.rate else f"{load.clients:.4g} clients"


def _compared(case: Case, one: Asked, found: Sequence[Stream], load: Load, base: Seen) -> Compared:
    rows = []
    for metric in _LATENCIES:
        predicted = getattr(base, metric) * MILLISECONDS_PER_SECOND
        rows.append(Row(metric, predicted, *interval(found, metric, predicted), getattr(one.run, f"{metric}_ms")))
    notes = [*doubts(one.run), *_another_model(case, one.run.model, found[0].parts[-1])]
    workload = case.scenario.workloads[found[0].parts[-1].workload]
    for said, lengths in (
        ("prompts", (load.isl, workload.input_tokens)),
        ("outputs", (load.osl, workload.output_tokens)),
    ):
        if abs(lengths[0] / lengths[1] - 1) > 0.02:
            notes.append(f"{said} of {lengths[0]:.4g} tokens instead of {lengths[1]:.4g}: predicted for what was sent")
    text = f"{_words(load)}, {load.isl:.4g} tokens in, {load.osl:.4g} out"
    return Compared(f"{one.run.source}, {one.run.run}", one.name, text, tuple(rows), tuple(notes))


def _another_model(case: Case, asked: str, d: Deployment) -> Iterator[str]:
    """Yield that a result is of another model than the plan's, as far as names tell: those of weights add to them."""
    planned = case.scenario.models[d.model].architecture
    path = PurePath(planned)
    folder = path.parent if path.suffix == ".json" else path
    ours = {name.lower() for name in (folder.name, setting_of(case, d.configuration()).architecture.name) if name}
    theirs = PurePath(asked).name.lower()
    if asked and not any(name in theirs or theirs in name for name in ours):
        yield f"the result is of {asked}, the plan of {planned}: nothing here can be held against it"


def interval(found: Sequence[Stream], metric: str, predicted: float) -> tuple[float | None, float | None]:
    """Return the ends of the plan's interval at another load, as far from the prediction as at the plan's own.

    Args:
        found: streams, whose ends are averaged by their rates.
        metric: ``ttft`` or ``tpot``.
        predicted: at the other load [ms].
    """
    total = sum(stream.rate for stream in found)
    ends: list[float | None] = []
    for end in ("p10", "p90"):
        parts = [(stream.rate, stream.parts[-1].predicted) for stream in found]
        stated = [getattr(p, f"{metric}_ms_{end}", None) for _, p in parts]
        planned = [getattr(p, f"{metric}_ms") for _, p in parts]
        known = [rate * s / p for (rate, _), s, p in zip(parts, stated, planned, strict=True) if s is not None]
        ends.append(predicted * sum(known) / total if len(known) == len(parts) else None)
    return ends[0], ends[1]


def _commands(plan: Plan, asked: Sequence[Asked], path: str) -> list[str]:
    """Return the commands that import closed loops of one deployment and calibrate with them."""
    ours = {d.name: d for d in plan.deployments if isinstance(d, Deployment) and d.role == "mixed"}
    lines = []
    for one in asked:
        d = ours.get(one.name)
        if d is None or one.run.open_loop or one.replicas != 1:
            continue
        said = {
            "model": plan.scenario.resolved["models"][d.model]["architecture"], "system": d.hardware,
            "backend": d.engine.name, "backend_version": d.engine.version, "precision": d.weight_precision, "tp": d.tp,
            "pp": d.pp, "attention_dp": d.attention_dp, "ep": d.ep, "kv_precision": d.kv_precision,
            "max_num_seqs": d.max_num_seqs, "max_num_batched_tokens": d.max_num_batched_tokens,
        }  # fmt: skip
        settings = " ".join(f"--set {name}={value}" for name, value in said.items())
        lines.append(f"planner import {one.run.source} {settings} --append runs.csv")
    if not lines:
        return []
    solve = f"planner solve SCENARIO --set calibration=mine.yaml --out {path}"
    return [*dict.fromkeys(lines), "planner calibrate runs.csv --out mine.yaml", solve]
