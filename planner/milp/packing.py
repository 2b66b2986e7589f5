"""Rows that say which replicas fit into nodes."""

import itertools
from collections.abc import Sequence

import numpy as np

from planner.milp.model import INFINITY, Row, Variable, row


def node_rows(
    inventory: str, nodes: Sequence[int], whole: int, sizes: Sequence[int], offset: int
) -> tuple[list[Variable], list[Row]]:
    """Return extra variables and rows for one inventory.

    Args:
        inventory: its name.
        nodes: usable devices of each node.
        whole: devices of a full node. A replica larger than this takes several full nodes.
        sizes: devices per replica of each variable; 0 for variables of other inventories.
        offset: variables so far, which is the index the first extra one will have.

    Exact in both forms. Sizes that divide each other need no extra variable: the largest replicas can
    be placed first, so replicas of at least s devices fit if they fit the slots of s devices
    (Σ_{size ≥ s} size·n ≤ s·Σ_nodes ⌊node/s⌋). Other sizes choose a filling pattern for every node.
    """
    used = sorted({size for size in sizes if size})
    if all(large % small == 0 for small, large in itertools.pairwise(used)) and _nests(used, whole):
        return [], _slot_rows(inventory, nodes, whole, used, sizes)
    return _pattern_rows(inventory, nodes, whole, used, sizes, offset)


def _nests(used: Sequence[int], whole: int) -> bool:
    """Tell whether replicas inside a node also nest in the nodes that larger replicas take whole."""
    return all(whole % size == 0 for size in used if size <= whole) or not any(size > whole for size in used)


def _slot_rows(
    inventory: str, nodes: Sequence[int], whole: int, used: Sequence[int], sizes: Sequence[int]
) -> list[Row]:
    rows = []
    for size in used:
        inside = sum(node // size for node in nodes)
        slots = inside if size <= whole else list(nodes).count(whole) // (size // whole)
        rows.append(
            row(
                f"node_capacity[{inventory},{size}]",
                [s if s >= size else 0 for s in sizes],
                (-INFINITY, float(slots * size)),
                "device",
                f"replicas of at least {size} devices fit into the nodes of {inventory}",
            )
        )
    return rows


def _pattern_rows(
    inventory: str,
    nodes: Sequence[int],
    whole: int,
    used: Sequence[int],
    sizes: Sequence[int],
    offset: int,
) -> tuple[list[Variable], list[Row]]:
    inside = [size for size in used if size <= whole]
    spanning = [size for size in used if size > whole]
    variables: list[Variable] = []
    patterns: list[tuple[int, tuple[int, ...]]] = []
    for capacity in sorted(set(nodes), reverse=True):
        count = list(nodes).count(capacity)
        for pattern in maximal_patterns(capacity, inside):
            filling = "+".join(str(s) for s, n in zip(inside, pattern, strict=True) for _ in range(n)) or "empty"
            name = f"nodes[{inventory},{capacity}:{filling}]"
            variables.append(Variable(name, 0, count, integer=True, meaning=f"nodes of {capacity} filled as {filling}"))
            patterns.append((capacity, pattern))
    width = offset + len(variables)
    rows = [_supply_row(inventory, size, inside.index(size), patterns, sizes, offset, width) for size in inside]
    for capacity in sorted(set(nodes), reverse=True):
        coefficients = np.zeros(width)
        for position, (of, _) in enumerate(patterns):
            coefficients[offset + position] = float(of == capacity)
        if capacity == whole:
            for index, size in enumerate(sizes):
                coefficients[index] += size // whole if size in spanning else 0
        rows.append(
            row(
                f"node_count[{inventory},{capacity}]",
                coefficients,
                (-INFINITY, float(list(nodes).count(capacity))),
                "node",
                f"nodes of {capacity} devices in {inventory}",
            )
        )
    return variables, rows


def _supply_row(
    inventory: str,
    size: int,
    place: int,
    patterns: Sequence[tuple[int, tuple[int, ...]]],
    sizes: Sequence[int],
    offset: int,
    width: int,
) -> Row:
    coefficients = np.zeros(width)
    coefficients[: len(sizes)] = [float(s == size) for s in sizes]
    for position, (_, pattern) in enumerate(patterns):
        coefficients[offset + position] = -float(pattern[place])
    meaning = f"replicas of {size} devices have a place in a node of {inventory}"
    return row(f"node_capacity[{inventory},{size}]", coefficients, (-INFINITY, 0.0), "replica", meaning)


def maximal_patterns(capacity: int, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the fillings of a node, as counts per size, to which no further replica can be added."""
    found: list[tuple[int, ...]] = []

    def extend(position: int, left: int, counts: tuple[int, ...]) -> None:
        if position < 0:
            if not any(size <= left for size in sizes):
                found.append(tuple(reversed(counts)))
            return
        for count in range(left // sizes[position], -1, -1):
            extend(position - 1, left - count * sizes[position], (*counts, count))

    extend(len(sizes) - 1, capacity, ())
    return found
