"""Columns priced over and over with other numbers: the grid is walked a few times, and what may matter is priced again.

What a grid holds does not change with a bandwidth, an efficiency or a load; only its figures do. A *line* is all that
differs in load alone. How hard the best replica of a line is run moves with the numbers, between the ends that it
reaches where the grid was walked.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.columns.engine_rules import LegalityRule
from planner.columns.enumerate import setting_table
from planner.columns.evaluate import figures_of_each
from planner.columns.grid import encode, searched_values, sequence_limits
from planner.columns.mesh import Context, Tally, by_load, costed, evaluated
from planner.columns.setting import Setting
from planner.table import AXES, STRUCTURE, ColumnTable, Floats, Ints, codes

_NEAR = 0.9  # of the best rate of its size somewhere: a line that never comes near it is never the best of its size
_BEST = 0.999  # of the best rate of a line: as good as the best load
_LOADS = ("mean_running", "prefill_utilisation")  # one of them is searched for a role, the other is 0
_LINE = tuple(axis for axis in AXES if axis not in _LOADS)

Tables = tuple[ColumnTable, ...]  # one per setting


class Candidates(NamedTuple):
    """Of one setting, the axes of configurations that may matter, shape (C,) each, and the rules to check."""

    axes: dict[str, Floats]
    allowed: Floats
    budgets: Floats
    rules: tuple[LegalityRule, ...]

    def of_structures(self, structures: Iterable[tuple[int, ...]]) -> "Candidates":
        """Return those that are built in certain ways, values of ``STRUCTURE``."""
        built = np.stack([self.axes[axis] for axis in STRUCTURE], axis=1)
        kept = np.zeros(len(built), dtype=bool)
        for structure in structures:
            kept |= (built == np.array(structure)).all(axis=1)
        return self._replace(axes={axis: values[kept] for axis, values in self.axes.items()})

    def with_more(self, others: "Candidates") -> "Candidates":
        """Return these and others, each once."""
        rows = np.concatenate([_rows(self.axes), _rows(others.axes)])
        _, once = np.unique(codes(list(rows.astype(np.int64).T)), return_index=True)
        return self._replace(axes=_axes(rows[once]))


class Chosen(NamedTuple):
    """Of one setting, what may be the fastest of its size (``near``), and what may matter at all (``every``)."""

    near: Candidates
    every: Candidates


def walked(settings: Sequence[Setting]) -> Tables:
    """Return the columns of each setting that are legal and within all limits: a walk of the whole grid."""
    return tuple(setting_table(setting, within_limits=True) for setting in settings)


def chosen(settings: Sequence[Setting], walks: Sequence[Tables]) -> tuple[Chosen, ...]:
    """Return, per setting, the configurations that may matter between some walks.

    Of replicas that work alone only the fastest of a line can; of parts of pairs, of which more is read than the rate,
    all that are legal and within all limits in any walk, too. The walks are of settings that differ in numbers only:
    they search the same grid.
    """
    by_setting = zip(*walks, strict=True)
    return tuple(_chosen(setting, tables) for setting, tables in zip(settings, by_setting, strict=True))


def _chosen(setting: Setting, tables: Sequence[ColumnTable]) -> Chosen:
    near, lines = (_between(setting, tables, least) for least in (_NEAR, 0.0))
    if setting.role != "mixed":
        legal = np.concatenate([_rows(table.axes) for table in tables])
        lines = lines.with_more(lines._replace(axes=_axes(legal)))
    return Chosen(near, lines)


def _between(setting: Setting, tables: Sequence[ColumnTable], least: float) -> Candidates:
    """Return the lines that come near the best of their size in some table, over the loads that are best in any.

    And over all that are harder, up to the hardest that is legal anywhere, since that may lie between. A line that
    some table lacks is searched from its lowest load on.
    """
    axis = "prefill_utilisation" if setting.role == "prefill" else "mean_running"
    loads = np.array(sorted({int(value) for value in searched_values(setting)[axis]}))
    every = np.concatenate([np.stack([table.axes[name] for name in _LINE]) for table in tables], axis=1)
    _, once, which = np.unique(codes(list(every)), return_index=True, return_inverse=True)
    lines = every[:, once].T
    low, high = np.full(len(lines), len(loads)), np.full(len(lines), -1)
    near = np.zeros(len(lines), dtype=bool)
    ends = np.cumsum([len(table) for table in tables])[:-1]
    for table, line in zip(tables, np.split(which, ends), strict=True):
        rate, at = table.figures["rate"], np.searchsorted(loads, table.axes[axis])
        best = np.zeros(len(lines))
        np.maximum.at(best, line, rate)
        good = rate >= _BEST * best[line]
        np.minimum.at(low, line[good], at[good])
        np.maximum.at(high, line, at)
        low[best == 0] = 0
        near[line[rate >= least * _of_size(table)]] = True
    place = np.arange(len(loads))
    number, load = np.nonzero(near[:, None] & (place >= low[:, None]) & (place <= high[:, None]))
    rows = {name: lines[number, k] for k, name in enumerate(_LINE)} | dict.fromkeys(_LOADS, np.zeros(len(number)))
    return Candidates(
        axes=_axes(_rows(rows | {axis: loads[load]})),
        allowed=np.array(sequence_limits(setting.search), dtype=np.float64),
        budgets=np.array(
            [encode("max_num_batched_tokens", v) for v in searched_values(setting)["max_num_batched_tokens"]]
        ),
        rules=tuple(by_load(setting)),
    )


def _of_size(table: ColumnTable) -> Floats:
    """Return, for every column, the highest rate of any of its size."""
    _, size = np.unique(table.figures["devices"], return_inverse=True)
    best = np.zeros(size.max(initial=-1) + 1)
    np.maximum.at(best, size, table.figures["rate"])
    found: Floats = best[size]
    return found


def _rows(axes: Mapping[str, Floats] | Mapping[str, Ints]) -> Floats:
    return np.stack([axes[axis] for axis in AXES], axis=1).astype(np.float64)


def _axes(rows: Floats) -> dict[str, Floats]:
    return {axis: rows[:, k] for k, axis in enumerate(AXES)}


def priced_again(settings: Sequence[Setting], mine: Candidates) -> list[ColumnTable]:
    """Return columns among candidates that are legal and within limits, in each of settings alike but for numbers."""
    count = len(mine.axes["tp"])
    if not count:
        return [Tally(setting, count).table([]) for setting in settings]
    each = figures_of_each(settings, costed(settings[0].role, mine.budgets, mine.axes))
    return [_priced(setting, mine, found) for setting, found in zip(settings, each, strict=True)]


def _priced(setting: Setting, mine: Candidates, found: Mapping[str, Floats]) -> ColumnTable:
    count = len(mine.axes["tp"])
    tally = Tally(setting, count)
    context = Context(setting, mine.allowed, mine.budgets, within_limits=True)
    part = evaluated(context, mine.axes, np.arange(count), mine.rules, found)
    tally.add(part)
    return tally.table(part.columns)
