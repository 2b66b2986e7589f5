"""Whether replicas fit into nodes: an exact search, independent of the rows a solver sees."""

import functools
from collections.abc import Mapping, Sequence

from planner.milp.stock import Stock


def fits(replicas: Mapping[int, int], stock: Stock) -> bool:
    """Tell whether replicas, as counts by size [device], can be placed.

    A replica larger than a full node takes several full nodes of one domain, one larger than a domain several whole
    domains; the others share what is left.
    """
    nodes, whole = stock.nodes, stock.devices_per_node
    full = sum(1 for node in nodes if node == whole)
    spanning = {size: count for size, count in replicas.items() if size > whole and count}
    taken = sum(count * (size // whole) for size, count in spanning.items())
    if any(size % whole for size in spanning) or taken > full or not _in_domains(spanning, stock):
        return False
    rest = (*(node for node in nodes if node != whole), *((whole,) * (full - taken)))
    return _packed({size: count for size, count in replicas.items() if size <= whole}, rest)


def _in_domains(spanning: Mapping[int, int], stock: Stock) -> bool:
    """Tell whether replicas of several nodes each find a domain, or whole domains."""
    whole, domains = stock.devices_per_node, list(stock.domains)
    over = {size: count for size, count in spanning.items() if stock.domain and size > stock.domain}
    if any(size % stock.domain for size in over):
        return False
    for _ in range(sum(count * (size // stock.domain) for size, count in over.items())):
        if stock.domain // whole not in domains:
            return False
        domains.remove(stock.domain // whole)
    return _packed({size // whole: count for size, count in spanning.items() if size not in over}, domains)


def _packed(replicas: Mapping[int, int], bins: Sequence[int]) -> bool:
    inside = tuple(sorted(((s, n) for s, n in replicas.items() if n), reverse=True))
    return _first_fit(inside, bins) or _search(inside, tuple(sorted(bins, reverse=True)))


def _first_fit(items: Sequence[tuple[int, int]], nodes: Sequence[int]) -> bool:
    """Largest first into the first node with room: if it works, it is a placement."""
    left = list(nodes)
    for size, count in items:
        unplaced = count
        for i, room in enumerate(left):
            taken = min(unplaced, room // size)
            left[i] -= taken * size
            unplaced -= taken
        if unplaced:
            return False
    return True


def _search(items: tuple[tuple[int, int], ...], nodes: tuple[int, ...]) -> bool:
    """Fill node after node in every way; equal states are visited once."""
    sizes = tuple(size for size, _ in items)

    @functools.cache
    def place(counts: tuple[int, ...], node: int) -> bool:
        if not any(counts):
            return True
        if node == len(nodes) or sum(s * n for s, n in zip(sizes, counts, strict=True)) > sum(nodes[node:]):
            return False
        return any(place(left, node + 1) for left in _fillings(sizes, counts, nodes[node]))

    return place(tuple(count for _, count in items), 0)


def _fillings(sizes: tuple[int, ...], counts: tuple[int, ...], room: int) -> list[tuple[int, ...]]:
    """Return what is left of the counts after each way to fill a node."""
    if not sizes:
        return [()]
    found = []
    for take in range(min(counts[0], room // sizes[0]), -1, -1):
        rest = _fillings(sizes[1:], counts[1:], room - take * sizes[0])
        found += [(counts[0] - take, *left) for left in rest]
    return found
