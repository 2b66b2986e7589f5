"""Plain enumeration of every plan: no pruning, no solver, its own bin packing."""

import itertools
from functools import cache


def packs(sizes, nodes, whole):
    """Tell whether replicas (a tuple of sizes) fit into nodes, trying every node for every replica."""
    items = tuple(sorted(sizes, reverse=True))

    @cache
    def place(index, rooms):
        if index == len(items):
            return True
        size = items[index]
        if size > whole:
            full = [i for i, room in enumerate(rooms) if room == whole]
            need = size // whole
            if size % whole or len(full) < need:
                return False
            left = [0 if i in full[:need] else room for i, room in enumerate(rooms)]
            return place(index + 1, tuple(sorted(left)))
        tried = set()
        for i, room in enumerate(rooms):
            if room >= size and room not in tried:
                tried.add(room)
                if place(index + 1, tuple(sorted((*rooms[:i], room - size, *rooms[i + 1 :])))):
                    return True
        return False

    return place(0, tuple(sorted(nodes)))


def replica_counts(sizes, total):
    """Yield every vector of replicas that uses at most ``total`` devices."""
    if not sizes:
        yield ()
        return
    for count in range(total // sizes[0] + 1):
        for rest in replica_counts(sizes[1:], total - count * sizes[0]):
            yield (count, *rest)


def fillings(columns, nodes, whole):
    """Yield (replicas per column) of every placeable combination on one inventory."""
    sizes = [column["devices"] for column in columns]
    for counts in replica_counts(sizes, sum(nodes)):
        chosen = [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
        if packs(chosen, nodes, whole):
            yield counts


def best_plan(columns, stocks, demand, goals, load="rate"):
    """Return the best goal values in order, or None where nothing is feasible.

    columns: dicts with inventory, devices, rate, in_flight, price, power, meets.
    stocks: name -> (nodes, devices of a full node). goals: (metric, sense) pairs.
    """
    per_inventory = []
    for name, (nodes, whole) in stocks.items():
        mine = [c for c in columns if c["inventory"] == name and c["meets"]]
        per_inventory.append([(mine, counts) for counts in fillings(mine, nodes, whole)])
    best = None
    for combination in itertools.product(*per_inventory):
        chosen = [(c, n) for mine, counts in combination for c, n in zip(mine, counts, strict=True) if n]
        carried = sum(n * c[load] for c, n in chosen)
        if not chosen or (demand is not None and carried < demand * (1 - 1e-9)):
            continue
        values = tuple(_value(metric, chosen) * (1 if sense == "minimize" else -1) for metric, sense in goals)
        if best is None or values < best:
            best = values
    return None if best is None else tuple(v if s == "minimize" else -v for v, (_, s) in zip(best, goals, strict=True))


def _value(metric, chosen):
    per_replica = {
        "requests": lambda c: c["rate"],
        "devices": lambda c: c["devices"],
        "cost": lambda c: c["devices"] * c["price"],
        "power": lambda c: c["devices"] * c["power"],
    }[metric]
    return sum(n * per_replica(c) for c, n in chosen)
