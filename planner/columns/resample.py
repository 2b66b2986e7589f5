"""Columns priced over and over with other numbers: the grid is walked once, and what may matter is priced again.

What a grid holds does not change with a bandwidth, an efficiency or a load; only its figures do. Configurations that
break a rule or miss a limit wherever the grid was walked whole are left out of what is priced again.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog.case import Case
from planner.columns.engine_rules import LegalityRule
from planner.columns.enumerate import merged, setting_table
from planner.columns.grid import encode, searched_values, sequence_limits
from planner.columns.mesh import Context, Tally, by_load, evaluated
from planner.columns.setting import Setting, settings
from planner.table import AXES, STRUCTURE, ColumnTable, Floats, Ints

_NEAR = 0.8  # of the best rate of its structure somewhere: what never comes near it is not priced again


class Candidates(NamedTuple):
    """Of one setting, the axes of configurations that may matter, shape (C,) each, and the rules to check."""

    axes: dict[str, Floats]
    allowed: Floats
    budgets: Floats
    rules: tuple[LegalityRule, ...]


def candidates(cases: Sequence[Case]) -> tuple[tuple[Candidates, ...], tuple[Candidates, ...]]:
    """Return, per setting, the configurations that are legal and within all limits in any of several cases.

    First those near the highest rate of their structure somewhere, which is all that is read of replicas that work
    alone; then, with parts of pairs, of which more is read, all of them. The cases differ in numbers only: they have
    the same settings, which search the same grid.
    """
    near, every = [], []
    for alike in zip(*(settings(case) for case in cases), strict=True):
        tables = [setting_table(setting, within_limits=True) for setting in alike]
        fast = [table.take(_near_best(table)) for table in tables]
        near.append(_united(alike[0], fast))
        every.append(near[-1] if alike[0].role == "mixed" else _united(alike[0], tables))
    return tuple(near), tuple(every)


def _united(setting: Setting, tables: Sequence[ColumnTable]) -> Candidates:
    """Return the configurations of several tables, each once."""
    rows = np.concatenate([np.stack([table.axes[axis] for axis in AXES], axis=1) for table in tables])
    unique = np.unique(rows, axis=0)
    budgets = [encode("max_num_batched_tokens", v) for v in searched_values(setting)["max_num_batched_tokens"]]
    return Candidates(
        axes={axis: unique[:, k].astype(np.float64) for k, axis in enumerate(AXES)},
        allowed=np.array(sequence_limits(setting.search), dtype=np.float64),
        budgets=np.array(budgets),
        rules=tuple(by_load(setting)),
    )


def _near_best(table: ColumnTable) -> Ints:
    """Return the columns that come near the highest rate of their structure."""
    structure = np.stack([table.axes[axis] for axis in STRUCTURE])
    _, group = np.unique(structure, axis=1, return_inverse=True)
    rate = table.figures["rate"]
    best = np.zeros(group.max(initial=-1) + 1)
    np.maximum.at(best, group.ravel(), rate)
    return np.nonzero(rate >= _NEAR * best[group.ravel()])[0]


def priced_again(case: Case, chosen: Sequence[Candidates]) -> ColumnTable:
    """Return the columns among candidates that are legal and within all limits of a case."""
    tables = []
    for setting, mine in zip(settings(case), chosen, strict=True):
        tally = Tally(setting, len(mine.axes["tp"]))
        parts = []
        if len(mine.axes["tp"]):
            context = Context(setting, mine.allowed, mine.budgets, within_limits=True)
            part = evaluated(context, mine.axes, np.arange(len(mine.axes["tp"])), mine.rules)
            tally.add(part)
            parts += part.columns
        tables.append(tally.table(parts))
    return merged(tables)
