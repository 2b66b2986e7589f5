"""Columns priced without latency limits, looked at under some: limits change what is kept, and no cost."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from planner.columns.mesh import allotted
from planner.table import ColumnTable


def under_limits(table: ColumnTable, limits: Mapping[str, Mapping[str, float]]) -> ColumnTable:
    """Return the columns that meet latency limits [s], given by workload and figure; ``table`` was priced without any.

    They are those that pricing within these limits gives, with the same figures.
    """
    if not len(table):
        return table
    every = [limits[pool.workload] for pool in table.pools]
    meets = np.ones(len(table), dtype=bool)
    for name in {name for asked in every for name in asked}:
        most = np.array([asked.get(name, np.inf) for asked in every])[table.pool]
        meets &= table.figures[name] <= most
    kept = table.take(np.nonzero(meets)[0])
    ttft = np.array([asked.get("ttft", np.inf) for asked in every])
    decode = np.array([pool.role == "decode" for pool in table.pools], dtype=bool)
    f = kept.figures
    shares = f["ttft_allotted"].copy()
    for number in np.nonzero(decode & np.isfinite(ttft))[0].tolist():
        mine = kept.pool == number
        shares[mine] = allotted(f["ttft"][mine], float(ttft[number]))
    held = np.minimum(f["hold_seconds"], ttft[kept.pool])
    return dataclasses.replace(
        kept,
        figures={**f, "ttft_allotted": shares, "hold_seconds": held},
        meets_limits=np.ones(len(kept), dtype=bool),
        meeting=len(kept),
    )
