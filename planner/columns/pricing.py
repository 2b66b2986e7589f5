"""Configurations priced one by one, and why those that break a rule do."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog.case import Case
from planner.columns.enumerate import merged
from planner.columns.grid import encode, searched_values, sequence_limits
from planner.columns.legality import limits, rules
from planner.columns.mesh import Context, Tally, first_broken, taken, values_of
from planner.columns.setting import Setting, settings
from planner.table import AXES, ColumnTable, Configuration, Floats, Pool


class Refusal(NamedTuple):
    """Why one configuration was rejected, with its numbers."""

    rule: str
    meaning: str
    detail: str


def price(case: Case, configurations: Sequence[Configuration]) -> tuple[ColumnTable, dict[int, Refusal]]:
    """Evaluate given configurations; those that break a rule are returned by index with the reason.

    Configurations that the scenario does not search are refused as well.
    """
    refusals: dict[int, Refusal] = {}
    tables: list[ColumnTable] = []
    order: list[int] = []
    for setting in settings(case):
        mine = [i for i, c in enumerate(configurations) if setting.pool.holds(c)]
        indices = []
        for i in mine:
            outside = _outside(setting, configurations[i])
            if outside:
                refusals[i] = Refusal("outside_search", "the scenario does not allow this", outside)
            else:
                indices.append(i)
        table, refused = _priced(setting, [configurations[i] for i in indices])
        refusals |= {indices[position]: refusal for position, refusal in refused.items()}
        order += [i for position, i in enumerate(indices) if position not in refused]
        tables.append(table)
    known = set(order) | set(refusals)
    for i, configuration in enumerate(configurations):
        if i not in known:
            detail = f"{configuration.role} with {configuration.engine} on {configuration.inventory}"
            refusals[i] = Refusal("outside_search", "the scenario does not allow this", detail)
    return merged(tables).take(np.argsort(np.array(order, dtype=np.int64), kind="stable")), refusals


def _outside(setting: Setting, configuration: Configuration) -> str:
    """Return which value of a configuration is not searched, "" where all are."""
    values: dict[str, Iterable[object]] = {
        **searched_values(setting),
        "max_num_seqs": sequence_limits(setting.search),
        "overlaps": [_names(setting.pool, int(bits)) for bits in searched_values(setting)["overlaps"]],
    }
    wrong = [
        f"{name} {getattr(configuration, name)}" for name in values if getattr(configuration, name) not in values[name]
    ]
    return ", ".join(wrong)


def _names(pool: Pool, bits: int) -> tuple[str, ...]:
    return tuple(name for i, name in enumerate(pool.optional) if bits >> i & 1)


def _priced(setting: Setting, configurations: Sequence[Configuration]) -> tuple[ColumnTable, dict[int, Refusal]]:
    """Evaluate configurations of one setting, one by one."""
    tally = Tally(setting, len(configurations))
    if not configurations:
        return tally.table([]), {}
    values = figures_of(setting, axes_of(setting, configurations))
    applied = list(rules(setting))
    reason, _ = first_broken(setting, values, applied)
    refused = {}
    for position in np.nonzero(reason)[0].tolist():
        rule = applied[int(reason[position]) - 1]
        at = {name: float(np.broadcast_to(v, reason.shape)[position]) for name, v in values.items()}
        refused[position] = Refusal(rule.name, rule.meaning, rule.detail(setting, at))
        tally.reject(rule.name, rule.meaning, 1, structural=rule.structural)
    meets = np.ones(reason.shape, dtype=bool)
    for name, limit in limits(setting.workload).items():
        meets &= np.broadcast_to(values[name] <= limit, reason.shape)
    legal = reason == 0
    tally.legal, tally.meeting = int(legal.sum()), int((legal & meets).sum())
    return tally.table([taken(values, legal, meets, np.arange(len(legal)))]), refused


def axes_of(setting: Setting, configurations: Sequence[Configuration]) -> dict[str, Floats]:
    """Return the values of configurations as numbers, max_num_seqs among them, shape (C,) each."""
    axes = {axis: np.array([_encoded(setting, axis, c) for c in configurations]) for axis in AXES}
    return axes | {"max_num_seqs": np.array([float(c.max_num_seqs) for c in configurations])}


def figures_of(setting: Setting, axes: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the figures of configurations at their own limits, and what follows from both; see ``mesh.values_of``."""
    smallest = float(min(int(v) for v in searched_values(setting)["max_num_batched_tokens"]))
    context = Context(setting, axes["max_num_seqs"], np.array([smallest]), within_limits=False, mesh=False)
    return values_of(context, {axis: value for axis, value in axes.items() if axis != "max_num_seqs"})


def _encoded(setting: Setting, axis: str, configuration: Configuration) -> float:
    if axis == "overlaps":
        return float(sum(1 << setting.pool.optional.index(name) for name in configuration.overlaps))
    return encode(axis, getattr(configuration, axis))
