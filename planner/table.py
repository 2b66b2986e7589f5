"""Columns: configurations a plan may buy, with their figures. Physics ends here; after it there are only numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.schema.precision import FORMATS, KV_FORMATS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORMAT_NAMES: tuple[str, ...] = tuple(FORMATS)
# How a replica is built ...
STRUCTURE = (
    "weight_precision",
    "kv_precision",
    "tp",
    "pp",
    "attention_dp",
    "ep",
    "context_parallel",
    "redundant_experts",
    "block_size",
    "prefill_policy",
    "overlaps",
    "speculative_tokens",
)
# ... and how hard it is run.
LOAD = ("mean_running", "prefill_utilisation", "max_num_batched_tokens")
AXES = (*STRUCTURE, *LOAD)
DECIDED = (*AXES, "max_num_seqs")  # what a column fixes: the searched values and the limit that follows
_MOST_CODES = 1 << 62  # as far as whole numbers of 64 bit count
POLICIES = ("mixed_chunked", "separate_chunked", "separate_whole", "mixed_whole")
_DEGREES = {"tp": "tp", "pp": "pp", "attention_dp": "dp", "ep": "ep", "context_parallel": "cp"}
RESOURCE_NAMES = {  # in words
    "compute": "compute",
    "vector": "element-wise work",
    "hbm_bandwidth": "memory bandwidth",
    "link_bandwidth": "links",
    "latency": "launch and link latency",
    "host": "host",
}
RESOURCES = tuple(RESOURCE_NAMES)
FIGURES = (
    "devices", "rate", "ttft", "tpot", "itl", "in_flight", "attention_share", "batch_efficiency",
    "cache_use", "preempts", "swaps", "prompt_seconds", "hold_seconds", "ttft_allotted",
    "price", "power", "capacity_bytes", "weights_bytes", "kv_cache_bytes", "activations_bytes", "graphs_bytes",
    "communication_bytes", "runtime_bytes",
    *(f"{name}_seconds" for name in RESOURCES),
)  # fmt: skip


class Pool(NamedTuple):
    """Where replicas stand and what for: one workload on one inventory, under one engine, in one role.

    ``optional``: fusions and overlaps that the engine has and leaves off; a bit of the axis ``overlaps`` turns on each.
    """

    workload: str
    inventory: str
    engine: str
    engine_version: str
    role: str
    optional: tuple[str, ...] = ()

    def holds(self, c: "Configuration") -> bool:
        """Tell whether a configuration is of this pool."""
        return self[:-1] == (c.workload, c.inventory, c.engine, c.engine_version, c.role)


class Configuration(NamedTuple):
    """One way to run a replica, and how hard; degrees and limits carry the engines' names.

    ``mean_running`` is the number of requests decoding on average when the replica carries its full rate, and
    ``prefill_utilisation`` the share of time [%] that a replica which only prefills works then; each is 0 where it does
    not apply. ``overlaps`` are the fusions that are on although the engine leaves them off.
    """

    inventory: str
    role: str
    weight_precision: str
    kv_precision: str
    tp: int
    pp: int
    ep: int
    mean_running: int
    max_num_batched_tokens: int
    max_num_seqs: int
    block_size: int
    prefill_policy: str
    speculative_tokens: int = 0
    attention_dp: int = 1
    context_parallel: int = 1
    redundant_experts: int = 0
    prefill_utilisation: int = 0
    overlaps: tuple[str, ...] = ()
    workload: str = ""
    engine: str = ""
    engine_version: str = ""

    @property
    def moe_tp(self) -> int:
        """Devices that share one expert."""
        return self.tp * self.attention_dp // self.ep

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.tp * self.pp * self.attention_dp

    def label(self) -> str:
        """Short form for people, which tells what the model is split over, the formats and the limits."""
        role = "" if self.role == "mixed" else f"{self.role} "
        split = degrees(self._asdict(), always=("tp", "pp"))
        drafts = f", {drafts_of(self.speculative_tokens)}" if self.speculative_tokens else ""
        cache = f", {self.kv_precision} cache" if self.kv_precision != KV_FORMATS[0] else ""
        limits = f"{self.max_num_seqs} seqs, {self.max_num_batched_tokens} tokens on {self.inventory}"
        return f"{role}{split} {self.weight_precision}{drafts}{cache}, {limits}"


def degrees(of: Mapping[str, Any], always: Sequence[str] = ("tp",)) -> str:
    """Return what the model is split over, in short, from values by name; a degree of one only where ``always``."""
    shown = [f"{short}{of[name]}" for name, short in _DEGREES.items() if of[name] > 1 or name in always]
    redundant = of["redundant_experts"]
    shown += [f"{redundant} redundant expert{'s' if redundant > 1 else ''}"] if redundant else []
    return " ".join(shown)


def of_role(label: str, role: str) -> str:
    """Return a label that tells the role of a replica, too."""
    return label if role == "mixed" or label.startswith(role) else f"{role} {label}"


def drafts_of(tokens: int) -> str:
    """Return how many draft tokens a step checks, in words."""
    return f"{tokens} draft{'s' if tokens > 1 else ''}"


class Rejection(NamedTuple):
    """Configurations that fell to one rule (the first they break).

    ``structural``: the rule holds whatever the load, like degrees that must divide each other.
    """

    rule: str
    meaning: str
    configurations: int
    structural: bool


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """Legal configurations and their figures per replica, C columns in the order of the grid.

    ``pool`` (C,) indexes ``pools``. ``axes`` holds the searched values and max_num_seqs, arrays of shape (C,), with
    precisions as indices into ``FORMATS``, policies as indices into ``POLICIES`` and overlaps as bits. ``figures``
    holds arrays of shape (C,): devices; rate [request/s]; ttft, tpot, itl [s], of a part of a pair its own share of
    them; in_flight [request]; attention_share, batch_efficiency and cache_use [1]; preempts and swaps (1 or 0: short of
    cache, a request gives way, and its cache is moved rather than computed again); prompt_seconds, the prefill of a
    prompt alone [s]; hold_seconds, how long each prompt's cache may wait for its transfer [s]; ttft_allotted, what of a
    TTFT limit is set aside for this part of a pair [s]; price [USD/h] and power [W] of one device (price is NaN where
    unknown); sizes on the fullest device [byte]; and the seconds per step that each resource alone would need.
    ``meets_limits`` (C,) tells whether the latency limits hold, for a part of a pair as far as it alone can tell.
    ``searched`` counts all configurations, ``legal`` those found to break no rule, columns or not, ``meeting`` those of
    them that meet every latency limit, and ``missed`` how many miss each. ``labels`` name columns that a user listed,
    which have no configuration. ``marks`` (C,): columns that a question tells apart, so that none may stand in for one
    with another mark; all alike where there are none.
    """

    pools: tuple[Pool, ...]
    pool: Ints
    axes: Mapping[str, Ints]
    figures: Mapping[str, Floats]
    meets_limits: NDArray[np.bool_]
    searched: int
    legal: int
    meeting: int
    missed: Mapping[str, int]
    rejected: tuple[Rejection, ...]
    labels: tuple[str, ...] = ()
    marks: Ints | None = None

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.pool)

    def configuration(self, column: int) -> Configuration:
        """Return what one column stands for."""
        pool = self.pools[self.pool[column]]
        values = {axis: int(self.axes[axis][column]) for axis in DECIDED}
        bits = values.pop("overlaps")
        return Configuration(
            workload=pool.workload,
            inventory=pool.inventory,
            engine=pool.engine,
            engine_version=pool.engine_version,
            role=pool.role,
            weight_precision=FORMAT_NAMES[values.pop("weight_precision")],
            kv_precision=FORMAT_NAMES[values.pop("kv_precision")],
            prefill_policy=POLICIES[values.pop("prefill_policy")],
            overlaps=tuple(name for i, name in enumerate(pool.optional) if bits >> i & 1),
            **values,
        )

    @property
    def marked(self) -> Ints:
        """The mark of each column, 0 where there are none, shape (C,)."""
        return np.zeros(len(self), dtype=np.int64) if self.marks is None else self.marks

    def label(self, column: int) -> str:
        """Return a column's short form for people: its own name where it has one."""
        if self.labels:
            return of_role(self.labels[column], self.pools[int(self.pool[column])].role)
        return self.configuration(column).label()

    def where(self, **wanted: str) -> NDArray[np.bool_]:
        """Return which columns belong to pools with these fields, like ``where(inventory="h100")``, shape (C,)."""
        fits = [all(getattr(pool, name) == value for name, value in wanted.items()) for pool in self.pools]
        return np.array(fits, dtype=bool)[self.pool] if len(self) else np.zeros(0, dtype=bool)

    def take(self, columns: Ints) -> "ColumnTable":
        """Return some columns, in the order given."""
        return replace(
            self,
            pool=self.pool[columns],
            axes={name: values[columns] for name, values in self.axes.items()},
            figures={name: values[columns] for name, values in self.figures.items()},
            meets_limits=self.meets_limits[columns],
            labels=tuple(self.labels[i] for i in columns.tolist()) if self.labels else (),
            marks=None if self.marks is None else self.marks[columns],
        )


def codes(keys: Sequence[Ints]) -> Ints:
    """Number C columns of whole numbers: equal ones share a number, and numbers keep their order.

    Numbers are found without comparing columns, which makes ``np.unique`` many times faster than along an axis.

    Args:
        keys: what sets columns apart, shape (C,) each, the first counting most.
    """
    code, span = np.zeros(len(keys[0]), dtype=np.int64), 1
    for key in keys if len(code) else ():
        low, values = int(key.min()), int(key.max()) - int(key.min()) + 1
        if span * values > _MOST_CODES:
            (_, code), (_, key) = (np.unique(part, return_inverse=True) for part in (code, key))
            low, values, span = 0, len(key), len(code)
        code, span = code * values + (key - low), span * values
    return code
