"""Rows that say which replicas fit into nodes."""

import itertools
from collections.abc import Sequence

import numpy as np

from planner.milp.model import INFINITY, Row, Variable, row
from planner.milp.stock import Stock


def node_rows(inventory: str, stock: Stock, sizes: Sequence[int], offset: int) -> tuple[list[Variable], list[Row]]:
    """Return extra variables and rows for one inventory.

    Args:
        inventory: its name.
        stock: its nodes and domains. A replica larger than a node takes several full nodes of one domain, one larger
            than a domain several whole domains.
        sizes: devices per replica of each variable; 0 for variables of other inventories.
        offset: variables so far, which is the index the first extra one will have.

    Exact in all forms. Sizes that divide each other need no extra variable: the largest replicas can
    be placed first, so replicas of at least s devices fit if they fit the slots of s devices
    (Σ_{size ≥ s} size·n ≤ s·Σ_nodes ⌊node/s⌋). In a single node anything fits that is not too much. Other sizes choose
    a filling pattern for every node and every domain.
    """
    nodes, whole = stock.nodes, stock.devices_per_node
    used = sorted({size for size in sizes if size})
    domain = stock.domain if max(used) > whole else 0
    ladder = [*used, domain] if domain else used
    if all(large % small == 0 for small, large in itertools.pairwise(sorted(ladder))) and _nests(used, whole):
        return [], _slot_rows(inventory, stock, used, sizes)
    if len(nodes) == 1 and max(used) <= whole:
        return [], [_single_row(inventory, nodes[0], sizes)]
    variables, rows = _pattern_rows(inventory, nodes, whole, used, sizes, offset)
    spanning = sorted({size for size in used if size > whole})
    if domain and len(stock.domains) > 1 and spanning:
        more, further = _domain_rows(inventory, stock, spanning, sizes, offset + len(variables))
        return variables + more, rows + further
    return variables, rows


def _nests(used: Sequence[int], whole: int) -> bool:
    """Tell whether replicas inside a node also nest in the nodes that larger replicas take whole."""
    return all(whole % size == 0 for size in used if size <= whole) or not any(size > whole for size in used)


def _slot_rows(inventory: str, stock: Stock, used: Sequence[int], sizes: Sequence[int]) -> list[Row]:
    return [
        row(
            f"node_capacity[{inventory},{size}]",
            [s if s >= size else 0 for s in sizes],
            (-INFINITY, float(_slots(stock, size) * size)),
            "device",
            f"replicas of at least {size} devices fit into the nodes of {inventory}",
        )
        for size in used
    ]


def _single_row(inventory: str, node: int, sizes: Sequence[int]) -> Row:
    meaning = f"replicas fit into the only node of {inventory}"
    return row(f"node_capacity[{inventory}]", sizes, (-INFINITY, float(node)), "device", meaning)


def _slots(stock: Stock, size: int) -> int:
    """Return how many replicas of one size have a place."""
    whole = stock.devices_per_node
    if size <= whole:
        return sum(node // size for node in stock.nodes)
    if stock.domain and size > stock.domain:
        full = sum(1 for nodes in stock.domains if nodes * whole == stock.domain)
        return full // (size // stock.domain)
    return sum(nodes // (size // whole) for nodes in stock.domains)


def _domain_rows(
    inventory: str, stock: Stock, spanning: Sequence[int], sizes: Sequence[int], offset: int
) -> tuple[list[Variable], list[Row]]:
    """Choose a filling pattern of several nodes' replicas for every domain; larger replicas take domains whole."""
    whole, domains = stock.devices_per_node, list(stock.domains)
    full = stock.domain // whole
    inside = [size // whole for size in spanning if size <= stock.domain]
    variables: list[Variable] = []
    patterns: list[tuple[int, tuple[int, ...]]] = []
    for capacity in sorted(set(domains), reverse=True):
        for pattern in maximal_patterns(capacity, inside):
            filling = "+".join(str(s) for s, n in zip(inside, pattern, strict=True) for _ in range(n)) or "empty"
            name = f"domains[{inventory},{capacity}:{filling}]"
            meaning = f"domains of {capacity} nodes filled as {filling}"
            variables.append(Variable(name, 0, domains.count(capacity), integer=True, meaning=meaning))
            patterns.append((capacity, pattern))
    width = offset + len(variables)
    rows = []
    for place, nodes in enumerate(inside):
        coefficients = np.zeros(width)
        coefficients[: len(sizes)] = [float(s == nodes * whole) for s in sizes]
        for position, (_, pattern) in enumerate(patterns):
            coefficients[offset + position] = -float(pattern[place])
        meaning = f"replicas of {nodes} nodes have a place in a domain of {inventory}"
        rows.append(row(f"domain_capacity[{inventory},{nodes}]", coefficients, (-INFINITY, 0.0), "replica", meaning))
    for capacity in sorted(set(domains), reverse=True):
        coefficients = np.zeros(width)
        for position, (of, _) in enumerate(patterns):
            coefficients[offset + position] = float(of == capacity)
        if capacity == full:
            for index, size in enumerate(sizes):
                coefficients[index] += size // stock.domain if size > stock.domain else 0
        meaning = f"domains of {capacity} nodes in {inventory}"
        bounds = (-INFINITY, float(domains.count(capacity)))
        rows.append(row(f"domain_count[{inventory},{capacity}]", coefficients, bounds, "domain", meaning))
    return variables, rows


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
