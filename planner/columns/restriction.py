"""Replicas that are asked for by some of their fields: which settings and columns are such, and how to search them."""

from typing import Any, NamedTuple

import numpy as np

from planner.columns.grid import searched_values, sequence_limits
from planner.columns.setting import Setting
from planner.plan import Deployment
from planner.schema.search import Search
from planner.table import ColumnTable, Configuration

# Fields that the search has a list for, by the name of that list.
SEARCHED = {
    "tp": "tp", "pp": "pp", "attention_dp": "attention_dp", "ep": "ep", "context_parallel": "context_parallel",
    "redundant_experts": "redundant_experts", "block_size": "block_size", "prefill_policy": "prefill_policies",
    "mean_running": "mean_running", "prefill_utilisation": "prefill_utilisation", "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens", "speculative_tokens": "speculative_tokens",
    "kv_precision": "kv_precisions",
}  # fmt: skip
FOLLOWS = ("moe_tp", "overlaps")  # what a column has that the search has no list for
_OF_COLUMNS = (*SEARCHED, "weight_precision", "moe_tp")
# Fields that mean nothing in a role: there every replica will do.
_NOT_OF = {
    "mixed": ("prefill_utilisation",),
    "prefill": ("mean_running", "speculative_tokens", "context_parallel"),
    "decode": ("prefill_utilisation", "prefill_policy"),
}


class Restriction(NamedTuple):
    """What replicas are asked to be, by the names of a plan file; what is left out may be anything.

    ``replicas``: how many such replicas run, together. ``overlaps``: those that are on, at least.
    """

    workload: str | None = None
    role: str | None = None
    inventory: str | None = None
    hardware: str | None = None
    engine: str | None = None
    tp: int | None = None
    pp: int | None = None
    attention_dp: int | None = None
    ep: int | None = None
    moe_tp: int | None = None
    weight_precision: str | None = None
    kv_precision: str | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    mean_running: int | None = None
    prefill_utilisation: int | None = None
    prefill_policy: str | None = None
    overlaps: tuple[str, ...] = ()
    context_parallel: int | None = None
    redundant_experts: int | None = None
    block_size: int | None = None
    speculative_tokens: int | None = None
    replicas: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What was asked for, by name."""
        return {name: value for name, value in self._asdict().items() if value not in (None, ())}

    def words(self) -> str:
        """Say what such replicas are."""
        shown = {name: value for name, value in self.given.items() if name not in ("role", "workload", "replicas")}
        parts = [f"{name} {', '.join(value) if isinstance(value, tuple) else value}" for name, value in shown.items()]
        count = "" if self.replicas is None else f"{self.replicas} "
        role = f"{self.role} " if self.role else ""
        replicas = "replica" if self.replicas == 1 else "replicas"
        whose = f" of {self.workload}" if self.workload else ""
        return f"{count}{role}{replicas}{whose}" + (f" with {', '.join(parts)}" if parts else "")

    def concerns(self, workload: str) -> bool:
        """Tell whether replicas of a workload are restricted."""
        return self.workload in (None, workload)

    def fits(self, setting: Setting) -> bool:
        """Tell whether columns of a setting can be such replicas."""
        return (
            self.concerns(setting.workload_name)
            and self.role in (None, setting.role)
            and self.inventory in (None, setting.inventory)
            and self.hardware in (None, setting.hardware.name)
            and self.engine in (None, setting.engine.name)
        )

    def matches(self, column: Configuration) -> bool:
        """Tell whether a column of a setting that fits is such a replica."""
        asked = [name for name in self.given if name in _OF_COLUMNS and name not in _NOT_OF[column.role]]
        return all(getattr(column, name) == self.given[name] for name in asked) and set(self.overlaps) <= set(
            column.overlaps
        )

    def deployed_by(self, d: Deployment) -> bool:
        """Tell whether a deployment consists of such replicas."""
        named = {"workload": d.workload, "role": d.role, "inventory": d.inventory, "hardware": d.hardware}
        named["engine"] = d.engine.name
        return all(self.given.get(n, value) == value for n, value in named.items()) and self.matches(d.configuration())


def searched(setting: Setting, name: str) -> tuple[Any, ...]:
    """Return the values that a setting searches of a field in ``SEARCHED``."""
    return sequence_limits(setting.search) if name == "max_num_seqs" else searched_values(setting)[name]


def widened(search: Search, settings: list[Setting], asked: Restriction) -> Search:
    """Return a search that has what was asked for, besides all that the settings search."""
    fields: dict[str, Any] = {}
    for name, field in SEARCHED.items():
        if name in asked.given:
            every = dict.fromkeys(value for setting in settings for value in searched(setting, name))
            fields[field] = tuple(dict.fromkeys((*every, asked.given[name])))
    if asked.overlaps:
        fields["overlaps"] = "any"
    if asked.role and search.roles is not None:
        roles = ("mixed",) if asked.role == "mixed" else ("prefill", "decode")
        fields["roles"] = tuple(dict.fromkeys((*search.roles, *roles)))
    return search.model_copy(update=fields)


def narrowed(setting: Setting, asked: Restriction) -> Setting:
    """Return a setting that searches only what was asked for."""
    fields = {field: (asked.given[name],) for name, field in SEARCHED.items() if name in asked.given}
    search, model = setting.search.model_copy(update=fields), setting.model
    if asked.weight_precision and model is not None:
        model = model.model_copy(update={"precisions": (asked.weight_precision,)})
    return setting._replace(search=search, model=model)


def such(table: ColumnTable, asked: Restriction, *, wanted: bool = True) -> ColumnTable:
    """Return the columns that are such replicas, also in what the search has no list for, or those that are not."""
    fine = np.array([asked.matches(table.configuration(i)) == wanted for i in range(len(table))], dtype=bool)
    return table if fine.all() else table.take(np.nonzero(fine)[0])
