"""Columns: configurations a plan may buy, with their figures. Physics ends here; after it there are only numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.schema.precision import FORMATS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FORMAT_NAMES: tuple[str, ...] = tuple(FORMATS)
AXES = (
    "weight_precision",
    "kv_precision",
    "tp",
    "pp",
    "ep",
    "mean_running",
    "max_num_batched_tokens",
    "speculative_tokens",
)
DECIDED = (*AXES, "max_num_seqs")  # what a column fixes: the searched values and the limit that follows
RESOURCES = ("compute", "vector", "hbm_bandwidth", "link_bandwidth", "latency", "host")
FIGURES = (
    "devices", "rate", "ttft", "tpot", "itl", "in_flight", "attention_share", "batch_efficiency",
    "cache_use", "preempts", "swaps",
    "price", "power", "capacity_bytes", "weights_bytes", "kv_cache_bytes", "activations_bytes", "graphs_bytes",
    "communication_bytes", "runtime_bytes",
    *(f"{name}_seconds" for name in RESOURCES),
)  # fmt: skip


class Configuration(NamedTuple):
    """One way to run a replica, and how hard; degrees and limits carry the engines' names.

    ``mean_running`` is the number of requests decoding on average when the replica carries its full rate.
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
    speculative_tokens: int = 0
    attention_dp: int = 1

    @property
    def moe_tp(self) -> int:
        """Devices that share one expert."""
        return self.tp * self.attention_dp // self.ep

    @property
    def devices(self) -> int:
        """Devices of one replica."""
        return self.tp * self.pp * self.attention_dp

    def label(self) -> str:
        """Short form for people."""
        ep = f" ep{self.ep}" if self.ep > 1 else ""
        drafts = f", {self.speculative_tokens} drafts" if self.speculative_tokens else ""
        degrees = f"tp{self.tp} pp{self.pp}{ep} {self.weight_precision}{drafts}"
        return f"{degrees}, {self.max_num_seqs} seqs, {self.max_num_batched_tokens} tokens on {self.inventory}"


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

    ``inventory`` (C,) indexes ``inventories``. ``axes`` holds the searched values and max_num_seqs, arrays of shape
    (C,), with precisions as indices into ``FORMATS``. ``figures`` holds arrays of shape (C,): devices; rate
    [request/s]; ttft, tpot, itl [s]; in_flight [request]; attention_share, batch_efficiency and cache_use [1]; preempts
    and swaps (1 or 0: short of cache, a request gives way, and its cache is moved rather than computed again); price
    [USD/h] and power [W] of one device (price is NaN where unknown); sizes on the fullest device [byte]; and the
    seconds per step that each resource alone would need.
    ``meets_limits`` (C,) tells whether the latency limits hold.
    """

    inventories: tuple[str, ...]
    inventory: Ints
    axes: Mapping[str, Ints]
    figures: Mapping[str, Floats]
    meets_limits: NDArray[np.bool_]
    searched: int
    rejected: tuple[Rejection, ...]

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.inventory)

    def configuration(self, column: int) -> Configuration:
        """Return what one column stands for."""
        values = {axis: int(self.axes[axis][column]) for axis in DECIDED}
        return Configuration(
            inventory=self.inventories[self.inventory[column]],
            role="mixed",
            weight_precision=FORMAT_NAMES[values.pop("weight_precision")],
            kv_precision=FORMAT_NAMES[values.pop("kv_precision")],
            **values,
        )

    def of(self, inventory: str) -> NDArray[np.bool_]:
        """Return which columns stand on an inventory, shape (C,)."""
        return np.equal(self.inventory, self.inventories.index(inventory))

    def take(self, columns: Ints) -> "ColumnTable":
        """Return some columns, in the order given."""
        return replace(
            self,
            inventory=self.inventory[columns],
            axes={name: values[columns] for name, values in self.axes.items()},
            figures={name: values[columns] for name, values in self.figures.items()},
            meets_limits=self.meets_limits[columns],
        )
