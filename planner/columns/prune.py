"""Drops columns that no optimal plan needs."""

import numpy as np

from planner.table import ColumnTable, Floats


def prune(table: ColumnTable, value: Floats) -> ColumnTable:
    """Keep, of the columns that meet all limits, the best per inventory and replica size.

    Safe for the `serving` formulation: of a column it reads the inventory, the devices (which fix node use,
    price and power) and its ``value`` toward the load, shape (C,). A column with less value on the same
    devices can be exchanged for the best one in any plan. Among equals the lowest tpot stays, then the lowest
    ttft, then the first of the grid.
    """
    f = table.figures
    order = np.lexsort((f["ttft"], f["tpot"], -value, f["devices"], table.inventory))
    order = order[table.meets_limits[order]]
    key = np.stack([table.inventory[order], f["devices"][order]], axis=1)
    first = np.ones(len(order), dtype=bool)
    first[1:] = (key[1:] != key[:-1]).any(axis=1)
    return table.take(np.sort(order[first]))
