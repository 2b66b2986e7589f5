"""What may be tried: configurations of a case's grid, each under a few loads around the one the model finds best."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog import Case
from planner.columns.closed_loop import closed_loop
from planner.columns.enumerate import grid_table
from planner.columns.grid import sequence_limits
from planner.columns.setting import Setting, ideal, settings
from planner.columns.values import exchanges_all_to_all
from planner.decode import stocks
from planner.errors import InputError
from planner.posterior import Place
from planner.schema.scenario import Workload
from planner.studies.tuning.outcomes import TPOT, TTFT, Outcomes
from planner.table import FORMAT_NAMES, POLICIES, ColumnTable, Configuration, Floats, Ints

_CONFIGURATIONS = 16  # tried at most: trials cost hours, and the model rules out worse ones before any
_PER_DEGREES = 2  # configurations of the same degrees, which differ in token budgets only
_LOADS = (0.5, 1 / np.sqrt(2), 1.0, np.sqrt(2), 2.0)  # of the load that the model would run a configuration at
_SLACK = 1.5  # times a latency limit, what the model may predict of a candidate: it may be wrong by as much
_DEGREES = ("tp", "pp", "attention_dp", "ep", "weight_precision", "kv_precision", "speculative_tokens")
_LOAD_UNITS = {"requests": "request/s", "tokens": "token/s"}
_PER = {"devices": "device", "cost": "USD/h", "power": "W"}


class Candidate(NamedTuple):
    """A configuration of one replica and the clients of a closed loop that load it."""

    configuration: Configuration
    clients: int

    @property
    def label(self) -> str:
        """Short form for people."""
        return f"{self.replica} on {self.configuration.inventory}"

    @property
    def replica(self) -> str:
        """Short form without the inventory."""
        c = self.configuration
        return f"{c.label().removesuffix(f' on {c.inventory}')}, {self.clients} clients"


class Candidates(NamedTuple):
    """C candidates.

    ``modelled``, ``least`` (2, C): TTFT and TPOT by the cost model, and the least that data sheets allow a request
    alone [s]. ``most_rate`` (C,): requests per second that a replica of perfect software would complete. ``outcomes``
    tells what latencies are worth.
    """

    every: tuple[Candidate, ...]
    places: tuple[Place, ...]
    modelled: Floats
    least: Floats
    most_rate: Floats
    outcomes: Outcomes
    workload: Workload

    def place_of(self, candidate: Candidate) -> int | None:
        """Return where a candidate stands, None where it is none of these."""
        return self.every.index(candidate) if candidate in self.every else None


def candidates_of(case: Case) -> Candidates:
    """Return what trials of a case may try: replicas that serve requests alone, with the engine's default scheduling.

    Raises:
        InputError: several workloads, a goal of several metrics, or nothing that can run.
    """
    workload = _only_workload(case)
    table = _promising(case, grid_table(case))
    if not len(table):
        message = "no configuration of a replica that serves requests alone can run: `planner solve` says why"
        raise InputError.single("", message)
    by_pool = {setting.pool: setting for setting in settings(case)}
    parts = [
        _loaded(by_pool[pool], table.take(np.nonzero(table.pool == number)[0]))
        for number, pool in enumerate(table.pools)
        if (table.pool == number).any()
    ]
    every = tuple(candidate for part in parts for candidate in part.every)
    modelled, least = (np.concatenate([getattr(p, name) for p in parts], axis=1) for name in ("modelled", "least"))
    most_rate = np.concatenate([part.most_rate for part in parts])
    places = tuple(place for part in parts for place in part.places)
    return Candidates(every, places, modelled, least, most_rate, _outcomes(case, every, workload), workload)


def _only_workload(case: Case) -> Workload:
    names = list(case.scenario.workloads)
    if len(names) > 1:
        message = f"trials tune one workload at a time (here: {', '.join(names)}); leave the others out"
        raise InputError.single("", message, "workloads")
    if case.scenario.objective[0].weighted:
        raise InputError.single("", "trials need a goal of one metric, not a weighted one", "objective")
    return case.scenario.workloads[names[0]]


def _promising(case: Case, table: ColumnTable) -> ColumnTable:
    """Return the best configurations by the model, at the load it would run each at."""
    policies = {s.pool: POLICIES.index(s.engine.scheduling.policies.value[0]) for s in settings(case)}
    usual = np.array([policies[pool] for pool in table.pools])[table.pool] if len(table) else table.pool
    plain = table.where(role="mixed") & (table.axes["prefill_policy"] == usual) & (table.axes["overlaps"] == 0)
    plain &= (table.axes["context_parallel"] == 1) & (table.axes["redundant_experts"] == 0)
    table = table.take(np.nonzero(plain)[0])
    if not len(table):
        return table
    slo = next(iter(case.scenario.workloads.values())).slo
    near = _excess(table.figures["ttft"], slo.ttft) * _excess(table.figures["tpot"], slo.tpot)
    scale = _scale(case, [table.configuration(i) for i in range(len(table))])
    return table.take(_best(table, table.figures["rate"] * scale / near))


def _excess(values: Floats, limit: float | None) -> Floats:
    """Return a penalty on what the model predicts far beyond a limit; 1 within the slack."""
    return np.ones(len(values)) if limit is None else np.maximum(values / (_SLACK * limit), 1.0) ** 4


def _best(table: ColumnTable, value: Floats) -> Ints:
    """Return the best load of each configuration, and of these the best, a few of each degrees."""
    chosen: list[int] = []
    taken: dict[tuple[int, ...], list[int]] = {}
    columns = np.stack([table.pool, *(table.axes[name] for name in _DEGREES)], axis=1).tolist()
    budgets = table.axes["max_num_batched_tokens"].tolist()
    for i in np.lexsort((np.arange(len(value)), -value)).tolist():
        before = taken.setdefault(tuple(columns[i]), [])
        if budgets[i] in before or len(before) == _PER_DEGREES:
            continue
        before.append(budgets[i])
        chosen.append(i)
        if len(chosen) == _CONFIGURATIONS:
            break
    return np.array(chosen, dtype=np.int64)


def _scale(case: Case, configurations: Sequence[Configuration]) -> Floats:
    """Return what a replica's request rate is multiplied by, for a plan of it alone to be compared with others."""
    goal = case.scenario.objective[0]
    limits, room = case.scenario.limits, stocks(case)
    found = []
    for c in configurations:
        price, power = case.scenario.inventory[c.inventory].price, case.hardware[c.inventory].power
        each = {"devices": 1.0, "cost": price, "power": None if power is None else power.value}
        if goal.minimize in _PER:
            per_device = each[goal.minimize]
            if not per_device:
                message = f"the goal needs a {goal.minimize} above zero of a device of '{c.inventory}'"
                raise InputError.single("", message, f"inventory.{c.inventory}")
            found.append(1 / (c.devices * per_device))
            continue
        most = [room[c.inventory].replicas(c.devices)]
        for name, per_device in each.items():
            limit = getattr(limits, name)
            if limit is not None and per_device:
                most.append(int(limit // (c.devices * per_device)))
        found.append(float(min(most)))
    return np.array(found)


def _outcomes(case: Case, every: Sequence[Candidate], workload: Workload) -> Outcomes:
    goal, slo = case.scenario.objective[0], workload.slo
    scale = _scale(case, [candidate.configuration for candidate in every])
    if goal.maximize == "tokens":
        scale = scale * workload.output_tokens
    latency = {"ttft": TTFT, "tpot": TPOT}.get(goal.minimize or "")
    unit = _LOAD_UNITS.get(goal.maximize or "") or f"request/s per {_PER.get(goal.minimize or '', '')}"
    return Outcomes(
        clients=np.array([float(candidate.clients) for candidate in every]),
        scale=scale,
        osl=np.full(len(every), float(workload.output_tokens)),
        limits=(slo.ttft or np.inf, slo.tpot or np.inf),
        latency=latency,
        unit="1/s" if latency is not None else unit,
        demand=workload.requests.value if workload.requests.kind == "rate" else 0.0,
    )


class _Part(NamedTuple):
    """Candidates of one setting."""

    every: list[Candidate]
    places: list[Place]
    modelled: Floats
    least: Floats
    most_rate: Floats


def _loaded(setting: Setting, table: ColumnTable) -> _Part:
    """Return the configurations of a table under several loads, with what the model says of each."""
    wanted: dict[Candidate, None] = {}
    for i in range(len(table)):
        usual = float(table.figures["in_flight"][i])
        for load in sorted({max(1, round(usual * share)) for share in _LOADS}):
            wanted.setdefault(Candidate(_with_room(setting, table.configuration(i), load), load))
    every = list(wanted)
    axes, one = _axes(setting, every), np.ones(len(every))
    clients = np.array([float(candidate.clients) for candidate in every])
    slots = np.array([float(candidate.configuration.max_num_seqs) for candidate in every])
    found = closed_loop(setting, axes, clients, slots, one)
    perfect = ideal(setting)
    alone = closed_loop(perfect, axes, one, slots, one)
    crowd = closed_loop(perfect, axes, clients, slots, one)
    runs = np.nonzero(np.isfinite(found.ttft + found.tpot) & (found.admitted >= 1))[0]
    most = clients / (crowd.ttft + (setting.workload.output_tokens - 1) * crowd.tpot)
    return _Part(
        [every[i] for i in runs],
        [_place(setting, every[i]) for i in runs],
        np.array([found.ttft, found.tpot])[:, runs],
        np.array([alone.ttft, alone.tpot])[:, runs],
        most[runs],
    )


def _with_room(setting: Setting, configuration: Configuration, clients: int) -> Configuration:
    """Return the configuration with the least max_num_seqs that admits all clients at once, else the most there is."""
    limits, each = sequence_limits(setting.search), clients / configuration.attention_dp
    enough = [limit for limit in limits if limit >= each]
    return configuration._replace(max_num_seqs=min(enough, default=max(limits)), mean_running=0)


def _axes(setting: Setting, every: Sequence[Candidate]) -> Mapping[str, Floats]:
    def column(name: str) -> Floats:
        return np.array([float(getattr(candidate.configuration, name)) for candidate in every])

    names = ("tp", "pp", "ep", "attention_dp", "max_num_batched_tokens", "speculative_tokens", "block_size")
    formats = {
        name: np.array([float(FORMAT_NAMES.index(getattr(c.configuration, name))) for c in every])
        for name in ("weight_precision", "kv_precision")
    }
    lengths = {"isl": setting.workload.input_tokens, "osl": setting.workload.output_tokens}
    return {
        **{name: column(name) for name in names},
        **formats,
        **{name: np.full(len(every), float(length)) for name, length in lengths.items()},
        "all_to_all": np.full(len(every), exchanges_all_to_all(setting.engine, "")),
    }


def _place(setting: Setting, candidate: Candidate) -> Place:
    c, load = candidate.configuration, setting.workload
    return Place(
        setting.hardware.name, setting.engine.name, setting.architecture.name, c.weight_precision, c.tp, c.pp,
        c.attention_dp, c.ep, float(candidate.clients), float(load.input_tokens), float(load.output_tokens),
    )  # fmt: skip
