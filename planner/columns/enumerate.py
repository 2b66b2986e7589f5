"""From a case to its table of columns: every configuration of the grid, or a given list of them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog.case import Case
from planner.columns.evaluate import Axes, figures
from planner.columns.grid import searched_values, sequence_limits
from planner.columns.legality import LegalityRule, limits, rules
from planner.columns.memory import ledger
from planner.columns.setting import Setting, settings
from planner.table import (
    AXES,
    DECIDED,
    FIGURES,
    FORMAT_NAMES,
    ColumnTable,
    Configuration,
    Floats,
    Ints,
    Rejection,
)


class Refusal(NamedTuple):
    """Why one configuration was rejected, with its numbers."""

    rule: str
    meaning: str
    detail: str


def grid_table(case: Case) -> ColumnTable:
    """Evaluate the whole search grid of a case."""
    values = searched_values(case.scenario.search, case.model, case.architecture)
    encoded = [np.array([_encode(axis, value) for value in values[axis]], dtype=np.float64) for axis in AXES]
    mesh = dict(zip(AXES, np.ix_(*encoded), strict=True))
    allowed = np.array(sequence_limits(case.scenario.search), dtype=np.float64)
    return _merge([_part(setting, mesh, allowed)[0] for setting in settings(case)])


def price(case: Case, configurations: Sequence[Configuration]) -> tuple[ColumnTable, dict[int, Refusal]]:
    """Evaluate given configurations; those that break a rule are returned by index with the reason.

    Configurations that the scenario does not search are refused as well.
    """
    searched: dict[str, tuple[int | str, ...]] = {
        **searched_values(case.scenario.search, case.model, case.architecture),
        "inventory": tuple(case.scenario.inventory),
        "max_num_seqs": sequence_limits(case.scenario.search),
        "attention_dp": (1,),
    }
    refusals = {
        index: Refusal("outside_search", "the scenario does not allow this", f"{name} {getattr(configuration, name)}")
        for index, configuration in enumerate(configurations)
        for name, values in searched.items()
        if getattr(configuration, name) not in values
    }
    tables: list[ColumnTable] = []
    order: list[int] = []
    for setting in settings(case):
        mine = [i for i, c in enumerate(configurations) if c.inventory == setting.inventory]
        indices = [i for i in mine if i not in refusals]
        axes, allowed = (
            {axis: np.array([_encode(axis, getattr(configurations[i], axis)) for i in indices]) for axis in names}
            for names in (AXES, ("max_num_seqs",))
        )
        table, reasons, found = _part(setting, axes, allowed["max_num_seqs"])
        for position, index in enumerate(indices):
            if reasons[position]:
                refusals[index] = found(position)
            else:
                order.append(index)
        tables.append(table)
    return _merge(tables).take(np.argsort(np.array(order, dtype=np.int64), kind="stable")), refusals


def _encode(axis: str, value: object) -> float:
    if axis.endswith("_precision"):
        return float(FORMAT_NAMES.index(str(value)))
    return float(str(value))


def _part(setting: Setting, axes: Axes, allowed: Floats) -> tuple[ColumnTable, Ints, "_Explainer"]:
    """Evaluate configurations on one inventory item; also the broken rule of each (0 = none), flattened.

    ``allowed`` are the values max_num_seqs may take, ascending: for an open mesh any of them, for configurations
    given one by one (axes of one dimension) the value of each.
    """
    shape = np.broadcast_shapes(*(axis.shape for axis in axes.values()))
    values = _values(setting, axes, allowed)
    applied = rules(setting)
    reason = np.zeros(shape, dtype=np.int64)
    with np.errstate(all="ignore"):
        for number, rule in enumerate(applied, start=1):
            broken = np.broadcast_to(rule.broken(setting, values), shape)
            reason[(reason == 0) & broken] = number
    counts = np.bincount(reason.ravel(), minlength=len(applied) + 1)
    rejected = [
        Rejection(rule.name, rule.meaning, int(count), rule.structural)
        for rule, count in zip(applied, counts[1:], strict=True)
        if count
    ]
    table = _table(setting, values, np.nonzero(reason == 0), reason.size, rejected)
    return table, reason.ravel(), _Explainer(setting, values, applied, reason)


class _Explainer(NamedTuple):
    """Fills in the numbers of a broken rule for one configuration."""

    setting: Setting
    values: Mapping[str, Floats]
    applied: tuple[LegalityRule, ...]
    reason: Ints

    def __call__(self, position: int) -> Refusal:
        rule = self.applied[int(self.reason.ravel()[position]) - 1]
        shape = self.reason.shape
        at = {name: float(np.broadcast_to(v, shape).ravel()[position]) for name, v in self.values.items()}
        return Refusal(rule.name, rule.meaning, rule.detail(self.setting, at))


def _values(setting: Setting, axes: Axes, allowed: Floats) -> dict[str, Floats]:
    """Return axes, figures, and what follows from both."""
    found = figures(setting, axes)
    needed = found["slots_needed"]
    given = allowed if needed.ndim == 1 else _smallest(allowed, needed)
    with np.errstate(all="ignore"):
        kv_needed = np.minimum(found["kv_likely_bytes"], found["kv_request_bytes"] * given)
        parts = ledger(setting, found, axes, given)
    return {
        **axes,
        **found,
        "max_num_seqs": given,
        "devices": axes["tp"] * axes["pp"],
        **parts,
        "kv_needed_bytes": kv_needed,
        "capacity_bytes": np.array(setting.hardware.memory.capacity.value),
        "price": np.array(np.nan if setting.item.price is None else setting.item.price),
        "power": np.array(np.nan if setting.hardware.power is None else setting.hardware.power.value),
    }


def _smallest(allowed: Floats, needed: Floats) -> Floats:
    """Return the smallest allowed value that suffices, or 0 where none does."""
    index = np.searchsorted(allowed, needed)
    return np.where(index < len(allowed), allowed[np.minimum(index, len(allowed) - 1)], 0.0)


def _table(
    setting: Setting,
    values: Mapping[str, Floats],
    legal: tuple[Ints, ...],
    searched: int,
    rejected: Iterable[Rejection],
) -> ColumnTable:
    shape = np.broadcast_shapes(*(values[axis].shape for axis in AXES))
    axes = {name: np.broadcast_to(values[name], shape)[legal].astype(np.int64) for name in DECIDED}
    figures_of = {name: np.broadcast_to(values[name], shape)[legal] for name in FIGURES}
    meets = np.ones(len(legal[0]), dtype=bool)
    for name, limit in limits(setting.workload).items():
        meets &= figures_of[name] <= limit
    inventory = np.zeros(len(meets), dtype=np.int64)
    return ColumnTable((setting.inventory,), inventory, axes, figures_of, meets, searched, tuple(rejected))


def _merge(tables: Sequence[ColumnTable]) -> ColumnTable:
    """Put the tables of several inventory items one after the other."""
    rejected: dict[str, Rejection] = {}
    for rejection in itertools.chain.from_iterable(table.rejected for table in tables):
        before = rejected.get(rejection.rule)
        count = rejection.configurations + (before.configurations if before else 0)
        rejected[rejection.rule] = rejection._replace(configurations=count)
    return ColumnTable(
        inventories=tuple(table.inventories[0] for table in tables),
        inventory=np.repeat(np.arange(len(tables)), [len(table) for table in tables]),
        axes={axis: np.concatenate([table.axes[axis] for table in tables]) for axis in DECIDED},
        figures={name: np.concatenate([table.figures[name] for table in tables]) for name in FIGURES},
        meets_limits=np.concatenate([table.meets_limits for table in tables]),
        searched=sum(table.searched for table in tables),
        rejected=tuple(rejected.values()),
    )
