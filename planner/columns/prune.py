"""Drops columns that no optimal plan needs."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from planner.milp.stock import Stock
from planner.table import ColumnTable, Floats, Ints, codes

# What decides how a cache moves between two columns, and whether they may be paired at all.
_AT_ONCE = 64  # columns compared with all others at a time
PAIRING = (
    "weight_precision", "kv_precision", "tp", "pp", "attention_dp", "context_parallel", "block_size",
    "speculative_tokens",
)  # fmt: skip


def prune(
    table: ColumnTable,
    value: Floats,
    stocks: Mapping[str, Stock],
    *,
    ttft_limited: bool = True,
    ttft: str = "ttft_allotted",
) -> ColumnTable:
    """Keep, of the columns that meet all limits, those that none other replaces in every plan.

    Safe for the `serving` formulation. Of a mixed column it reads the workload, the inventory, the devices (which fix
    node use, price and power) and its ``value`` toward the load, shape (C,). Of a part of a pair it reads, besides,
    what decides the transfer of a cache, and latencies that add up over the pair (``ttft_limited``: whether anything
    limits the TTFT; ``ttft``: the figure that counts then). A column that is no better in any of these can be exchanged
    for the other, or for several smaller ones, of its own mark. Among equals the lowest tpot stays, then the lowest
    ttft, then the first of the grid.
    """
    kept = [_front(table, value, columns, ttft=ttft if ttft_limited else "") for columns in _alike(table)]
    rows = np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)
    left = table.take(rows)
    return left.take(np.nonzero(~_outnumbered(left, value[rows], stocks))[0])


def _outnumbered(table: ColumnTable, value: Floats, stocks: Mapping[str, Stock]) -> NDArray[np.bool_]:
    """Tell which mixed columns several smaller ones replace, shape (C,): they fit there and carry more together."""
    f, gone = table.figures, np.zeros(len(table), dtype=bool)
    mixed = np.nonzero(table.where(role="mixed"))[0]
    group = codes([_places(table)[table.pool[mixed]], table.marked[mixed]])
    for number in np.unique(group).tolist():
        mine = mixed[group == number]
        for i in mine.tolist():
            stock, size = stocks[table.pools[table.pool[i]].inventory], int(f["devices"][i])
            for k in mine.tolist():
                small = int(f["devices"][k])
                if small < size and fits_instead(size, small, stock) and value[k] * (size // small) > value[i]:
                    gone[i] = True
    return gone


def fits_instead(size: int, smaller: int, stock: Stock) -> bool:
    """Tell whether replicas of a smaller size fill the place of one of ``size`` devices, wherever that is."""
    if size % smaller or smaller >= size:
        return False
    if stock.domain and size > stock.domain and smaller % stock.domain and stock.domain % smaller:
        return False
    return (
        size <= stock.devices_per_node or smaller % stock.devices_per_node == 0 or stock.devices_per_node % smaller == 0
    )


def _alike(table: ColumnTable) -> Iterator[Ints]:
    """Yield the columns within the limits that may replace each other, the likely best ones first."""
    f = table.figures
    mine = np.nonzero(table.meets_limits)[0]
    if not len(mine):
        return
    apart = np.array([pool.role != "mixed" for pool in table.pools], dtype=bool)[table.pool[mine]]
    place = _places(table)[table.pool[mine]]
    keys = [place, table.marked[mine], f["devices"][mine].astype(np.int64)]
    keys += [np.where(apart, table.axes[axis][mine], 0) for axis in PAIRING]
    group = codes(keys)
    order = np.argsort(group, kind="stable")
    cuts = np.nonzero(np.diff(group[order]))[0] + 1
    for part in np.split(order, cuts):
        yield mine[part]


def _places(table: ColumnTable) -> Ints:
    """Number the pools: mixed ones by workload and inventory, parts of pairs by engine, too."""
    keys = [
        (pool.workload, pool.inventory, "" if pool.role == "mixed" else pool.role + pool.engine + pool.engine_version)
        for pool in table.pools
    ]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)


def _front(table: ColumnTable, value: Floats, columns: Ints, *, ttft: str) -> Ints:
    """Return the columns that no other is at least as good as, in everything that is read."""
    f = table.figures
    role = table.pools[table.pool[columns[0]]].role
    better = [] if role == "prefill" else [value[columns]]
    if role != "mixed":
        better += [f["rate"][columns], f["hold_seconds"][columns]]
        # What a unit of flow counts: 1, or where requests in flight are asked for, the time each stays.
        better += [value[columns] / f["rate"][columns]] if role == "decode" else []
        pushed = [f["ttft"][columns] - f["prompt_seconds"][columns]] if role == "prefill" else []
        better += [-part for part in (f[ttft][columns], *pushed)] if ttft else []
    order = np.lexsort((columns, f["ttft"][columns], f["tpot"][columns], -value[columns]))
    scores = np.stack([score[order] for score in better])
    return columns[order[undominated(scores)]]


def undominated(scores: Floats) -> NDArray[np.bool_]:
    """Tell which columns of scores, shape (K, C), no other column matches or beats in all, shape (C,).

    Larger is better. Columns come in an order in which, of equal ones, the first is to stay.
    """
    keep = np.zeros(scores.shape[1], dtype=bool)
    # The largest first score, then the largest next: nothing after it in this order beats it in all.
    left = np.lexsort(tuple(-scores[::-1]))
    while len(left):
        first, left = left[:_AT_ONCE], left[_AT_ONCE:]
        before = np.triu(np.ones((len(first), len(first)), dtype=bool), 1)
        best = first[~(_matched(scores[:, first], scores[:, first]) & before).any(axis=0)]
        keep[best] = True
        left = left[~_matched(scores[:, best], scores[:, left]).any(axis=0)]
    return keep


def _matched(scores: Floats, others: Floats) -> NDArray[np.bool_]:
    """Tell which columns of scores are at least others in all, shape (columns, other columns)."""
    found = np.ones((scores.shape[1], others.shape[1]), dtype=bool)
    for mine, theirs in zip(scores, others, strict=True):
        found &= mine[:, None] >= theirs[None, :]
    return found
