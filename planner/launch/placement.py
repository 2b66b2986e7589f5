"""Puts replicas on nodes: which devices of which node each of them gets."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

from planner.errors import InternalError
from planner.milp.stock import Stock


class Part(NamedTuple):
    """The share of a replica that one node carries: the node's number in its inventory, and its devices there."""

    node: int
    devices: tuple[int, ...]


def place(sizes: Sequence[int], stock: Stock) -> list[tuple[Part, ...]]:
    """Return the parts of each replica, given its size [device]; replicas of several nodes take whole nodes.

    Raises:
        InternalError: they do not fit, which no verified plan comes to.
    """
    whole = stock.devices_per_node
    order = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))
    spanning = [i for i in order if sizes[i] > whole]
    found: dict[int, tuple[Part, ...]] = {}
    taken: set[int] = set()
    rooms = _domain_rooms([sizes[i] // whole for i in spanning], stock)
    for i, nodes in zip(spanning, rooms, strict=True):
        taken.update(nodes)
        found[i] = tuple(Part(node, tuple(range(whole))) for node in nodes)
    inside = [i for i in order if sizes[i] <= whole]
    left = [node for node in range(len(stock.nodes)) if node not in taken]
    bins = _packed(tuple(sizes[i] for i in inside), tuple(stock.nodes[node] for node in left))
    used = [0] * len(stock.nodes)
    for i, chosen in zip(inside, bins, strict=True):
        node = left[chosen]
        found[i] = (Part(node, tuple(range(used[node], used[node] + sizes[i]))),)
        used[node] += sizes[i]
    return [found[i] for i in range(len(sizes))]


def _domain_rooms(counts: Sequence[int], stock: Stock) -> list[list[int]]:
    """Return the nodes of each replica of several nodes, inside one domain or whole domains, largest first."""
    free, first = [], 0
    for nodes in stock.domains:
        free.append(list(range(first, first + nodes)))
        first += nodes
    each = stock.domain // stock.devices_per_node if stock.domain else 0
    rooms: list[list[int]] = []
    within = [count for count in counts if not each or count <= each]
    for count in counts:
        if each and count > each:
            whole = [domain for domain in free if len(domain) == each][: count // each]
            rooms.append([node for domain in whole for node in domain])
            for domain in whole:
                free.remove(domain)
    for count, chosen in zip(within, _packed(tuple(within), tuple(map(len, free))), strict=True):
        rooms.append([free[chosen].pop(0) for _ in range(count)])
    return rooms


def _packed(sizes: tuple[int, ...], bins: tuple[int, ...]) -> list[int]:
    """Return the bin of each item, sizes falling: the first with room, or where that fails whatever works."""

    @functools.cache
    def put(item: int, left: tuple[int, ...]) -> tuple[int, ...] | None:
        if item == len(sizes):
            return ()
        tried = set()
        for chosen, room in enumerate(left):
            if room < sizes[item] or room in tried:
                continue
            tried.add(room)
            rest = put(item + 1, (*left[:chosen], room - sizes[item], *left[chosen + 1 :]))
            if rest is not None:
                return (chosen, *rest)
        return None

    found = put(0, bins)
    if found is None:
        msg = f"replicas of {sizes} devices do not fit into nodes of {bins}"
        raise InternalError(msg)
    return list(found)
