"""Plain enumeration of every plan: no pruning, no solver, its own bin packing."""

import itertools
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from planner.levels import level


def packs(sizes, nodes, whole, domain=0):
    """Tell whether replicas (a tuple of sizes) fit into nodes, trying every node and domain for every replica.

    A replica larger than a node takes whole nodes of one domain, one larger than a domain takes domains whole. Full
    nodes fill domains in their order; without domains all of them are one.
    """
    items = tuple(sorted(sizes, reverse=True))
    each = domain // whole if domain else len(nodes) + 1
    full = nodes.count(whole)
    of_nodes = tuple(each for _ in range(full // each)) + ((full % each,) if full % each else ())

    @cache
    def place(index, free):
        """``free``: untouched nodes of each domain."""
        if index == len(items) or items[index] <= whole:
            rooms = (*(node for node in nodes if node != whole), *((whole,) * sum(free)))
            return inside(index, tuple(sorted(rooms)))
        size = items[index]
        need = size // whole
        if size % whole:
            return False
        if need > each:
            count = need // each
            empty = [i for i, left in enumerate(free) if left == each]
            if need % each or len(empty) < count:
                return False
            return place(index + 1, tuple(sorted(0 if i in empty[:count] else left for i, left in enumerate(free))))
        return any(
            place(index + 1, tuple(sorted((*free[:i], left - need, *free[i + 1 :]))))
            for i, left in enumerate(free)
            if left >= need
        )

    @cache
    def inside(index, rooms):
        if index == len(items):
            return True
        size = items[index]
        return any(
            inside(index + 1, tuple(sorted((*rooms[:i], room - size, *rooms[i + 1 :]))))
            for i, room in enumerate(rooms)
            if room >= size and room not in rooms[:i]
        )

    return place(0, of_nodes)


def replica_counts(sizes, total):
    """Yield every vector of replicas that uses at most ``total`` devices."""
    if not sizes:
        yield ()
        return
    for count in range(total // sizes[0] + 1):
        for rest in replica_counts(sizes[1:], total - count * sizes[0]):
            yield (count, *rest)


def fillings(columns, nodes, whole, domain=0):
    """Yield (replicas per column) of every placeable combination on one inventory."""
    sizes = [column["devices"] for column in columns]
    for counts in replica_counts(sizes, sum(nodes)):
        chosen = [size for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
        if packs(chosen, nodes, whole, domain):
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


# --- mixed, prefill and decode replicas together ------------------------------------------------------------------


class Plan(NamedTuple):
    """Replicas of each column, and which pairs may pass requests."""

    replicas: tuple[int, ...]
    pairs: tuple[int, ...]


class Instance(NamedTuple):
    """A whole problem in exact numbers.

    columns: dicts with workload, inventory, role, devices, rate, in_flight, price, power, ttft, tpot, lanes.
    pairs: dicts with prefill, decode (columns), seconds, bytes, ttft, tpot. loads: workload -> (kind, demand or None,
    tokens). stocks: name -> (nodes, devices of a full node, devices of a domain or 0). limits: metric -> most.
    links: pairs of inventories -> bytes per second. goals: dicts of weights by metric, of a single metric too.
    """

    columns: list
    pairs: list
    loads: dict
    stocks: dict
    limits: dict
    links: dict
    link_load: Fraction
    goals: list


LARGER = ("requests", "tokens")
SOMETHING = Fraction(1, 10_000)  # of the largest replica's rate


def maximum(gain, rows):
    """Return the most gain·x with x ≥ 0 and coefficients·x ≤ bound for every row; None where nothing is feasible.

    The simplex method on a dictionary with Bland's rule, exact in fractions. Rows: (coefficients, bound).
    """
    count = len(gain)
    if any(bound < 0 for _, bound in rows):
        # Phase one: as little slack as possible, by an artificial variable that relaxes every row.
        relaxed = _Dictionary([0] * count + [-1], [([*c, -1], bound) for c, bound in rows])
        worst = min(range(len(rows)), key=lambda i: rows[i][1])
        relaxed.pivot(worst, count)
        if relaxed.climb() < 0:
            return None
        tableau = relaxed.without(count, gain)
    else:
        tableau = _Dictionary(gain, rows)
    return tableau.climb()


class _Dictionary:
    """Basic variables in terms of the others; slack of row i is variable count + i."""

    def __init__(self, gain, rows):
        count = len(gain)
        self.free = list(range(count))
        self.basic = [count + i for i in range(len(rows))]
        self.rows = [[Fraction(bound), *(-Fraction(c) for c in coefficients)] for coefficients, bound in rows]
        self.goal = [Fraction(0), *map(Fraction, gain)]

    def pivot(self, leaving, entering):
        row = self.rows[leaving]
        factor = -1 / row[entering + 1]
        solved = [value * factor for value in row]
        solved[entering + 1] = -factor
        self.basic[leaving], self.free[entering] = self.free[entering], self.basic[leaving]
        self.rows = [
            solved if i == leaving else self._put(other, entering, solved) for i, other in enumerate(self.rows)
        ]
        self.goal = self._put(self.goal, entering, solved)

    @staticmethod
    def _put(row, entering, solved):
        times = row[entering + 1]
        if not times:
            return row
        return [
            times * new if place == entering + 1 else old + times * new
            for place, (old, new) in enumerate(zip(row, solved, strict=True))
        ]

    def climb(self):
        while True:
            rising = [j for j in range(len(self.free)) if self.goal[j + 1] > 0]
            if not rising:
                return self.goal[0]
            entering = min(rising, key=lambda j: self.free[j])
            steps = [
                (row[0] / -row[entering + 1], self.basic[i], i)
                for i, row in enumerate(self.rows)
                if row[entering + 1] < 0
            ]
            assert steps, "unbounded"
            self.pivot(min(steps)[2], entering)

    def without(self, artificial, gain):
        """Return the dictionary for the real goal, once the artificial variable is zero."""
        if artificial in self.basic:
            i = self.basic.index(artificial)
            self.pivot(i, next(j for j, value in enumerate(self.rows[i][1:]) if value))
        at = self.free.index(artificial) + 1
        self.rows = [[v for j, v in enumerate(row) if j != at] for row in self.rows]
        self.free.remove(artificial)
        self.goal = [Fraction(0)] * (len(self.free) + 1)
        for variable, value in enumerate(gain):
            if variable in self.free:
                self.goal[self.free.index(variable) + 1] += value
            else:
                row = self.rows[self.basic.index(variable)]
                self.goal = [a + value * b for a, b in zip(self.goal, row, strict=True)]
        return self


class BruteForce:
    """Tries every vector of replicas; flows between them are a small linear problem each."""

    def __init__(self, instance):
        self.of = instance
        self.reads_latency = any({"ttft", "tpot"} & set(goal) for goal in instance.goals)
        self.least = {name: self._least(name) for name in instance.loads}

    def _least(self, workload):
        """What "as much as fits" must carry to count as something; None where nothing serves a workload."""
        rates = [c["rate"] for c in self.of.columns if c["workload"] == workload]
        return SOMETHING * max(rates) if rates else None

    def plans(self):
        """Yield every placeable choice within the limits; where latencies count, with every set of pairs in use."""
        columns = self.of.columns
        each = []
        for name, stock in self.of.stocks.items():
            mine = [i for i, c in enumerate(columns) if c["inventory"] == name]
            chosen = [{"devices": columns[i]["devices"]} for i in mine]
            each.append([(mine, counts) for counts in fillings(chosen, *stock)])
        for combination in itertools.product(*each):
            replicas = [0] * len(columns)
            for mine, counts in combination:
                for i, count in zip(mine, counts, strict=True):
                    replicas[i] = count
            if any(self._bought(metric, replicas) > most for metric, most in self.of.limits.items()):
                continue
            able = [r for r, p in enumerate(self.of.pairs) if replicas[p["prefill"]] and replicas[p["decode"]]]
            sizes = range(len(able) + 1) if self.reads_latency else [len(able)]
            for size in sizes:
                for pairs in itertools.combinations(able, size):
                    yield Plan(tuple(replicas), pairs)

    def _bought(self, metric, replicas):
        each = {"devices": lambda c: 1, "cost": lambda c: c["price"], "power": lambda c: c["power"]}[metric]
        return sum((n * c["devices"] * each(c) for n, c in zip(replicas, self.of.columns, strict=True)), Fraction(0))

    def rows(self, plan):
        """Return the rows that flows must keep, over the pairs of a plan."""
        found = []
        pairs = [self.of.pairs[r] for r in plan.pairs]
        for side in ("prefill", "decode"):
            for column in {pair[side] for pair in pairs}:
                count, c = plan.replicas[column], self.of.columns[column]
                mine = [pair[side] == column for pair in pairs]
                found.append(([int(m) for m in mine], count * c["rate"]))
                busy = [m * pair["seconds"] for m, pair in zip(mine, pairs, strict=True)]
                found.append((busy, self.of.link_load * count * c["lanes"]))
        for ends, most in self.of.links.items():
            between = [sorted(self._ends(pair)) == sorted(ends) for pair in pairs]
            found.append(([m * pair["bytes"] for m, pair in zip(between, pairs, strict=True)], most))
        for workload, (kind, demand, _) in self.of.loads.items():
            needed = demand if demand is not None else self.least[workload]
            if needed is None:
                return None  # nothing could ever serve it
            gains, constant = self._carried(plan, workload, kind)
            found.append(([-gain for gain in gains], constant - needed))
        return found

    def _ends(self, pair):
        return [self.of.columns[pair[side]]["inventory"] for side in ("prefill", "decode")]

    def _carried(self, plan, workload, kind):
        """Return what a unit of every flow counts for a workload, and what its mixed replicas carry."""
        columns = self.of.columns
        gains = []
        for r in plan.pairs:
            decode = columns[self.of.pairs[r]["decode"]]
            gains.append(decode[kind] / decode["rate"] if decode["workload"] == workload else Fraction(0))
        mixed = (
            n * c[kind]
            for n, c in zip(plan.replicas, columns, strict=True)
            if c["role"] == "mixed" and c["workload"] == workload
        )
        return gains, sum(mixed, Fraction(0))

    def metric(self, name, plan):
        """Return a metric as the coefficients of flows and a constant, smaller being better."""
        none = [Fraction(0)] * len(plan.pairs)
        if name in LARGER:
            total, gains = Fraction(0), none
            for workload, (_, _, tokens) in self.of.loads.items():
                each = tokens if name == "tokens" else 1
                mine, constant = self._carried(plan, workload, "rate")
                gains = [a - each * b for a, b in zip(gains, mine, strict=True)]
                total -= each * constant
            return gains, total
        if name in ("ttft", "tpot"):
            used = [self.of.pairs[r][name] for r in plan.pairs]
            used += [c[name] for c, n in zip(self.of.columns, plan.replicas, strict=True) if n and c["role"] == "mixed"]
            return none, Fraction(float(level(float(max(used, default=Fraction(0))))))
        return none, self._bought(name, plan.replicas)

    def goal(self, weights, scale, plan):
        """Return a weighted sum of metrics, each over its scale."""
        parts = [(weight / scale[name], self.metric(name, plan)) for name, weight in weights.items()]
        gains = [sum(w * g[i] for w, (g, _) in parts) for i in range(len(plan.pairs))]
        return gains, sum(w * constant for w, (_, constant) in parts)

    def least_of(self, weights, scale, plan, held):
        """Return the smallest value of a goal for some replicas, None where the demands cannot be met."""
        rows = self.rows(plan)
        if rows is None:
            return None
        gains, constant = self.goal(weights, scale, plan)
        best = maximum([-gain for gain in gains], [*rows, *held])
        return None if best is None else constant - best

    def at_least(self, weights, scale, plan):
        """Return what a goal cannot fall below: as much flow as the replicas of one side could take."""
        gains, constant = self.goal(weights, scale, plan)
        sides = []
        for side in ("prefill", "decode"):
            columns = {self.of.pairs[r][side] for r in plan.pairs}
            sides.append(sum((plan.replicas[c] * self.of.columns[c]["rate"] for c in columns), Fraction(0)))
        return constant + min(0, *gains) * min(sides) if gains else constant

    def best(self, weights, scale, plans):
        """Return the smallest value of a goal and the plans (with the rows that hold earlier goals) that reach it."""
        ranked = sorted(
            ((self.at_least(weights, scale, plan), number) for number, (plan, _) in enumerate(plans)),
        )
        top, reached = None, []
        for bound, number in ranked:
            if top is not None and bound > top:
                break
            plan, held = plans[number]
            value = self.least_of(weights, scale, plan, held)
            if value is None or (top is not None and value > top):
                continue
            if top is None or value < top:
                top, reached = value, []
            reached.append((plan, held))
        return top, reached

    def values(self):
        """Return the best goal values in order, as they are reported; None where nothing is feasible."""
        plans = [(plan, []) for plan in self.plans()]
        found = []
        for weights in self.of.goals:
            scale = {name: Fraction(1) for name in weights}
            if len(weights) > 1:
                everything = [(plan, []) for plan in self.plans()]
                for name in weights:
                    top, _ = self.best({name: Fraction(1)}, scale, everything)
                    if top is None:
                        return None
                    scale |= {name: abs(top) or Fraction(1)}
            top, reached = self.best(weights, scale, plans)
            if top is None:
                return None
            single = next(iter(weights)) if len(weights) == 1 else ""
            found.append(-top if single in LARGER else top)
            plans = []
            for plan, held in reached:
                gains, constant = self.goal(weights, scale, plan)
                plans.append((plan, [*held, (gains, top - constant)]))
        return tuple(found)
