"""From a case to its table of columns: every configuration of the grid.

How a replica is built is decided first, without any cost; then the cost of what is left is computed over open meshes of
structures × load × token budget. Before a mesh is computed whole, bounds that hold for every token budget drop what
cannot fit or cannot meet the TPOT limit.
"""

import functools
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from planner.catalog.case import Case
from planner.columns.bounds import KV_CACHE_TOO_SMALL, Reach, allowed_budgets, most_running, within_reach
from planner.columns.grid import encode, searched_values, sequence_limits
from planner.columns.legality import rules
from planner.columns.mesh import Context, Part, Tally, evaluated, first_broken, structure_values
from planner.columns.setting import Setting, settings
from planner.table import AXES, DECIDED, FIGURES, STRUCTURE, ColumnTable, Floats, Ints, Rejection

T = TypeVar("T")
OUTDONE = "cannot beat another of the same size, whatever the token budget"
_MOST_THREADS = 8
_FIRST = 1 << 10  # rows that are computed before the first comparison
_BLOCK = 1 << 15  # configurations computed at a time: their arrays stay in the processor's cache


def grid_table(case: Case, *, within_limits: bool = False, best_only: bool = False) -> ColumnTable:
    """Evaluate the whole search grid of a case.

    ``within_limits``: leave out columns that miss a latency limit. ``best_only``: of mixed replicas keep the highest
    rate of each size, and do not compute what cannot beat it.
    """
    return merged(
        [setting_table(setting, within_limits=within_limits, best_only=best_only) for setting in settings(case)]
    )


def setting_table(setting: Setting, *, within_limits: bool = False, best_only: bool = False) -> ColumnTable:
    """Evaluate the grid of one setting; see ``grid_table``."""
    values = searched_values(setting)
    encoded = {axis: np.array([encode(axis, value) for value in values[axis]], dtype=np.float64) for axis in AXES}
    mesh = np.meshgrid(*(encoded[axis] for axis in STRUCTURE), indexing="ij")
    structures = {axis: part.ravel() for axis, part in zip(STRUCTURE, mesh, strict=True)}
    budgets = encoded["max_num_batched_tokens"]
    allowed = np.array(sequence_limits(setting.search), dtype=np.float64)
    context = Context(setting, allowed, budgets, within_limits, best_only)
    if setting.role == "decode":
        budgets = budgets[:1]
    loads = {axis: encoded[axis] for axis in ("mean_running", "prefill_utilisation")}
    each = len(loads["mean_running"]) * len(loads["prefill_utilisation"])
    tally = Tally(setting, each * len(budgets) * len(structures["tp"]))
    legal = _buildable(setting, structures, each * len(budgets), tally)
    parts: list[Part] = []
    for block, place, mine in _by_budgets(setting, {n: v[legal] for n, v in structures.items()}, budgets, each, tally):
        search = _rows if setting.role == "mixed" else _meshes
        parts += search(context, block, place, loads, mine)
    for part in parts:
        tally.add(part)
    return tally.table([columns for part in parts for columns in part.columns])


def _by_budgets(
    setting: Setting, structures: Mapping[str, Floats], budgets: Floats, loads: int, tally: Tally
) -> Iterator[tuple[dict[str, Floats], Ints, Floats]]:
    """Yield structures that may have the same token budgets, their places in the grid, and these budgets."""
    allowed, refused = allowed_budgets(setting, structures, budgets, loads)
    tally.add(Part([], 0, 0, {}, refused))
    for pattern in np.unique(allowed, axis=0):
        mine = np.nonzero((allowed == pattern).all(axis=1))[0]
        if pattern.any():
            yield {axis: part[mine] for axis, part in structures.items()}, mine, budgets[pattern]


def _meshes(
    context: Context, structures: Mapping[str, Floats], place: Ints, loads: Mapping[str, Floats], budgets: Floats
) -> list[Part]:
    """Evaluate structures, loads and token budgets as open meshes: costs that no load changes are computed once.

    Of a decode replica, loads that its cache cannot hold are left out first.
    """
    running, busy = loads["mean_running"], loads["prefill_utilisation"]
    inner = (np.arange(len(running) * len(busy))[:, None] * len(budgets) + np.arange(len(budgets)))[None]
    order, ends = np.arange(len(place)), np.full(len(place), len(running))
    if context.setting.role == "decode":
        ends = np.searchsorted(running, most_running(context, structures, budgets), side="right")
        order = np.argsort(ends, kind="stable")

    def mesh(start: int, end: int) -> Part:
        mine, most = order[start:end], int(ends[order[end - 1]])
        fallen = (len(running) - most) * len(busy) * len(budgets) * len(mine)
        beyond = [Rejection("kv_cache_too_small", KV_CACHE_TOO_SMALL, fallen, structural=False)] if fallen else []
        if not most:
            return Part([], 0, 0, {}, beyond)
        axes = {axis: part[mine][:, None, None] for axis, part in structures.items()}
        axes |= {"mean_running": running[None, :most, None], "prefill_utilisation": busy[None, :, None]}
        axes["max_num_batched_tokens"] = budgets[None, None, :]
        at = place[mine][:, None, None] * inner.size + inner[:, : most * len(busy)]
        part = evaluated(context, axes, at)
        return part._replace(rejected=[*beyond, *part.rejected])

    return _side_by_side(mesh, len(place), max(1, _BLOCK // max(1, inner.size)))


def _rows(
    context: Context, structures: Mapping[str, Floats], place: Ints, loads: Mapping[str, Floats], budgets: Floats
) -> list[Part]:
    """Evaluate the structures and loads within reach over all token budgets.

    Where only the best of a size counts, those that promise most come first, and what promises less than the best that
    was found is not computed any more.
    """
    running = loads["mean_running"]

    def bounded(start: int, end: int) -> Reach:
        return within_reach(context, {n: part[start:end] for n, part in structures.items()}, running, budgets)

    reaches = _side_by_side(bounded, len(place), max(1, _BLOCK // len(running)))
    parts = [Part([], 0, 0, {}, reach.fallen) for reach in reaches]
    structure, load = np.nonzero(np.concatenate([reach.within for reach in reaches]))
    most = np.concatenate([reach.most for reach in reaches])[structure, load]
    sizes = (structures["tp"] * structures["pp"] * structures["attention_dp"])[structure].astype(np.int64)
    inner = np.arange(len(budgets))[None, :]

    def rows(chosen: Ints) -> Part:
        axes = {axis: part[structure[chosen]][:, None] for axis, part in structures.items()}
        axes |= {"mean_running": running[load[chosen]][:, None], "prefill_utilisation": np.zeros((1, 1))}
        at = (place[structure[chosen]] * len(running) + load[chosen])[:, None] * len(budgets) + inner
        return evaluated(context, axes | {"max_num_batched_tokens": budgets[None, :]}, at)

    best = dict.fromkeys(np.unique(sizes).tolist(), -np.inf)
    left = np.argsort(-most, kind="stable") if context.best_only else np.arange(len(most))
    at_once = _FIRST if context.best_only else max(1, len(left))
    while len(left):
        chosen, left = np.sort(left[:at_once]), left[at_once:]
        found = _side_by_side(functools.partial(_some, rows, chosen), len(chosen), max(1, _BLOCK // len(budgets)))
        parts += found
        if context.best_only:
            left = _promising(left, most, sizes, best, found, len(budgets), parts)
            at_once *= 2
    return parts


def _some(rows: Callable[[Ints], Part], chosen: Ints, start: int, end: int) -> Part:
    return rows(chosen[start:end])


def _promising(
    left: Ints,
    most: Floats,
    sizes: Ints,
    best: dict[int, float],
    found: Sequence[Part],
    budgets: int,
    parts: list[Part],
) -> Ints:
    """Return what may still beat the best of its size, brought up to date with what was found; count what may not."""
    for columns in itertools.chain.from_iterable(part.columns for part in found):
        for size, rate in zip(columns.figures["devices"].tolist(), columns.figures["rate"].tolist(), strict=True):
            best[int(size)] = max(best[int(size)], rate)
    bar = np.array([best[size] for size in sizes[left].tolist()])
    stays = most[left] >= bar
    gone = int((~stays).sum()) * budgets
    if gone:
        parts.append(Part([], 0, 0, {}, [Rejection("outdone", OUTDONE, gone, structural=False)]))
    return left[stays]


def _side_by_side(work: Callable[[int, int], T], count: int, rows: int) -> list[T]:
    """Do work on ranges of rows, several at a time: NumPy leaves the interpreter to others meanwhile."""
    starts = range(0, count, rows)
    threads = min(len(starts), os.cpu_count() or 1, _MOST_THREADS)
    if threads <= 1:
        return [work(start, min(start + rows, count)) for start in starts]
    from concurrent.futures import ThreadPoolExecutor  # not loaded where there is nothing to share out

    with ThreadPoolExecutor(max_workers=threads) as pool:
        return list(pool.map(lambda start: work(start, min(start + rows, count)), starts))


def _buildable(setting: Setting, structures: Mapping[str, Floats], each: int, tally: Tally) -> Ints:
    """Return the structures that break no rule; ``each`` configurations fall with every other."""
    values = structure_values(structures)
    reason, applied = first_broken(setting, values, [rule for rule in rules(setting) if rule.structural])
    counts = np.bincount(reason, minlength=len(applied) + 1)
    for rule, count in zip(applied, counts[1:].tolist(), strict=True):
        tally.reject(rule.name, rule.meaning, count * each, structural=True)
    return np.nonzero(reason == 0)[0]


def merged(tables: Sequence[ColumnTable]) -> ColumnTable:
    """Put the tables of several settings one after the other; of none, a table without columns."""
    if not tables:
        none = np.zeros(0)
        empty = none.astype(np.int64)
        return ColumnTable(
            (), empty, dict.fromkeys(DECIDED, empty), dict.fromkeys(FIGURES, none), none > 0, 0, 0, 0, {}, ()
        )
    if len(tables) == 1:
        return tables[0]
    starts = np.cumsum([0, *(len(table.pools) for table in tables[:-1])])
    rejected: dict[str, Rejection] = {}
    missed: dict[str, int] = {}
    for table in tables:
        for name, count in table.missed.items():
            missed[name] = missed.get(name, 0) + count
    for rejection in itertools.chain.from_iterable(table.rejected for table in tables):
        before = rejected.get(rejection.rule)
        count = rejection.configurations + (before.configurations if before else 0)
        rejected[rejection.rule] = rejection._replace(configurations=count)
    return ColumnTable(
        pools=tuple(pool for table in tables for pool in table.pools),
        pool=np.concatenate([table.pool + start for table, start in zip(tables, starts.tolist(), strict=True)]),
        axes={axis: np.concatenate([table.axes[axis] for table in tables]) for axis in DECIDED},
        figures={name: np.concatenate([table.figures[name] for table in tables]) for name in FIGURES},
        meets_limits=np.concatenate([table.meets_limits for table in tables]),
        searched=sum(table.searched for table in tables),
        legal=sum(table.legal for table in tables),
        meeting=sum(table.meeting for table in tables),
        missed=missed,
        rejected=tuple(rejected.values()),
    )
