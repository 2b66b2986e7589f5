"""What an infeasible scenario could reach instead, in the user's words."""

from collections.abc import Mapping

import numpy as np

from planner.constants import MILLISECONDS_PER_SECOND
from planner.table import ColumnTable
from planner.text import figure


def latency_shortfall(table: ColumnTable, limits: Mapping[str, float]) -> list[str]:
    """Explain why no column meets the latency limits [s].

    Gives the best value of each limit alone; where each can be met alone but not together, the best of one
    while the other holds.
    """
    if not len(table):
        return ["no configuration is legal: see the rules they break"]
    missed = [name for name, limit in limits.items() if table.figures[name].min() > limit]
    if missed:
        return [_closest(table, name, limits[name], np.ones(len(table), dtype=bool)) for name in missed]
    return [
        _closest(table, name, limits[name], table.figures[other] <= limits[other], f" while {other} holds")
        for name in limits
        for other in limits
        if other != name and _least(table, name, other, limits[other]) > limits[name]
    ]


def _least(table: ColumnTable, name: str, other: str, limit: float) -> float:
    """Return the least of a figure while another is within its limit, infinite where it never is."""
    among = table.figures[other] <= limit
    return float(table.figures[name][among].min(initial=np.inf))


def _closest(table: ColumnTable, name: str, limit: float, among: np.ndarray, condition: str = "") -> str:
    values = np.where(among, table.figures[name], np.inf)
    at = int(np.argmin(values))
    best, wanted = (f"{figure(x * MILLISECONDS_PER_SECOND)} ms" for x in (float(values[at]), limit))
    what = f"{name} ≤ {wanted} cannot be met{condition}"
    return f"{what}: the closest that any replica comes at any load is {best} ({table.configuration(at).label()})"


def load_shortfall(demand: float, reach: Mapping[str, float], unit: str) -> list[str]:
    """Explain a demand beyond what the inventory carries within the limits.

    ``reach`` is the most load with all limits (under "") and without each of them (under its name).
    """
    lines = [
        f"the load of {demand:g} {unit} is too much for this inventory: "
        f"the most that fits within the limits is {reach['']:.4g} {unit}"
    ]
    lines += [f"without the {name} limit it would be {most:.4g}" for name, most in reach.items() if name]
    return lines
