"""What runs behind what: the time [s] a layer saves where an engine overlaps two of its operators.

Each is a named switch of an engine (planner/engines), a symbol that is 1 or 0. A fusion changes bytes or launches and
stands with its operator; an overlap changes only what is exposed and stands here.
"""

import itertools
from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType

import sympy

from planner.costs import symbols as s
from planner.costs.devices.seconds import Seconds
from planner.costs.functions import Larger, Smaller
from planner.costs.fusions import half_batches, matmul_behind_all_reduce, shared_beside_routed
from planner.costs.work import ZERO, Batch, Operator

Timed = list[tuple[Operator, Seconds]]
_EXCHANGE = ("dispatch", "combine")


def saved(timed: Timed, batch: Batch, machine: ModuleType) -> sympy.Expr:
    """Return the time a layer saves in a step by all overlaps [s]; each has its switch as a factor.

    What one overlap has hidden, the next cannot hide again.
    """
    behind_products = matmul_behind_all_reduce(batch) * _matmul(timed)
    fetched = s.weight_prefetch * _prefetch(timed, behind_products, machine)
    exchanged = half_batches(batch) * _dual_batch(timed, behind_products + fetched)
    beside = shared_beside_routed(batch) * _shared(timed, exchanged)
    return behind_products + fetched + exchanged + beside


def _matmul(timed: Timed) -> sympy.Expr:
    """An all-reduce runs behind the product before it, piece by piece; the first piece is exposed.

    T = max(product, all-reduce) + a piece (MegaScale, NSDI 2024, §3.2).
    """
    pairs = [
        (before, after)
        for (product, before), (reduce, after) in itertools.pairwise(timed)
        if reduce.name.endswith("all_reduce") and product.weight_bytes != ZERO
    ]
    hidden = _sum(Smaller(before.device, after.link) for before, after in pairs)
    return (1 - 1 / s.overlap_chunks) * hidden


def _prefetch(timed: Timed, hidden: sympy.Expr, machine: ModuleType) -> sympy.Expr:
    """The first weights after a collective are fetched while it runs (CloudMatrix384, arXiv 2506.12708).

    A product saves at most what its weights add to its time; ``hidden`` of the collectives is behind products already.
    """
    collective = _sum(t.link + t.latency for o, t in timed if o.name.endswith("all_reduce"))
    first = next(((o, t) for o, t in timed if o.weight_bytes != ZERO), None)
    if first is None or collective == ZERO:
        return ZERO
    operator, time = first
    without = replace(operator, hbm_bytes=operator.hbm_bytes - operator.weight_bytes, weight_bytes=ZERO)
    return Smaller(Larger(0, collective - hidden), time.device - machine.seconds(without).device)


def _shared(timed: Timed, hidden: sympy.Expr) -> sympy.Expr:
    """Shared experts run beside dispatch, routed experts and combine, as far as these leave a resource free.

    Two streams on one device share its units: together they take at least what the fullest resource needs for both.
    ``hidden`` of the exchange is behind another half batch already.
    """
    shared = [t for o, t in timed if o.name.startswith("shared_")]
    both = shared + [t for o, t in timed if o.name in (*_EXCHANGE, "routed_experts")]
    if not shared:
        return ZERO
    alone = _sum(t.total for t in both)
    fullest = _sum(t.compute for t in both)
    for resource in (_sum(t.hbm for t in both), _sum(t.vector for t in both), _sum(t.link + t.latency for t in both)):
        fullest = Larger(fullest, resource)
    return Smaller(_sum(t.device for t in shared), Larger(0, alone - hidden - fullest))


def _dual_batch(timed: Timed, hidden: sympy.Expr) -> sympy.Expr:
    """Two half batches hide each other's exchange behind their own work, and read the weights twice.

    T = max(exchange, work + the second reading) (DeepSeek-V3, arXiv 2412.19437, §3.4; where there is little to hide it
    would lose time, so engines ask for a least number of tokens). ``hidden`` of the work stands beside something else.
    """
    exchange = _sum(t.link + t.latency for o, t in timed if o.name in _EXCHANGE)
    if exchange == ZERO:
        return ZERO
    work = _sum(t.device for o, t in timed)
    again = _sum(_reading(o) for o, _ in timed)
    return Larger(0, Smaller(work - hidden, exchange - again))


def _reading(operator: Operator) -> sympy.Expr:
    return operator.weight_bytes / (s.hbm_bandwidth * operator.part.mbu)


def _sum(terms: Iterable[sympy.Expr]) -> sympy.Expr:
    return sum(terms, ZERO)
