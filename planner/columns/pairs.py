"""Which prefill and decode columns may serve a request together, and what the move of its cache costs.

Pairs are many more than columns, so columns are compared first: by kinds (columns that transfers do not tell apart),
then by the partners each has.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.columns.legality import limits
from planner.columns.prune import PAIRING, fits_instead, undominated
from planner.columns.setting import Setting
from planner.columns.transfer import transfer_figures
from planner.milp.stock import Stock
from planner.problem import Routes, no_routes
from planner.schema.engine import Disaggregation
from planner.table import ColumnTable, Floats, Ints, codes

_SAME = ("weight_precision", "kv_precision", "block_size")  # what both sides must agree in


class Needs(NamedTuple):
    """What the formulation reads of a pair: TTFT where it is limited, bytes where a link between inventories is.

    ``in_flight``: and how long a request decodes, where the load is given as requests in flight.
    """

    stocks: Mapping[str, Stock]
    ttft_matters: bool
    bytes_matter: bool
    in_flight: bool


def routes_of(
    settings: Sequence[Setting], table: ColumnTable, needs: Needs | None = None, most: Mapping[str, float] | None = None
) -> Routes:
    """Return the pairs of columns that work and meet the latency limits; ``settings`` are those of the pools.

    The two sides run the same engine, weights and cache format, since a cache is of use only to the model that wrote
    it. With ``needs``, pairs of columns that others replace are left out. ``most``: limits of latencies [s] on top
    of the scenario's.
    """
    by_pool = {setting.pool: setting for setting in settings}
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, pool in enumerate(table.pools):
        if pool.role != "mixed" and pool in by_pool:
            groups.setdefault((pool.workload, pool.engine, pool.engine_version), []).append(number)
    found = []
    for numbers in groups.values():
        sides = [
            _side(table, {n: by_pool[table.pools[n]] for n in numbers if table.pools[n].role == role})
            for role in ("prefill", "decode")
        ]
        if all(len(side.columns) for side in sides):
            found.append(_Group(table, sides[0], sides[1], most or {}).routes(needs))
    parts = [part for part in found if len(part.prefill)]
    return Routes(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else no_routes()


class _Side(NamedTuple):
    """Columns of one role, the kind of each, a column of every kind, and the settings by pool."""

    columns: Ints
    kind: Ints
    example: Ints
    settings: Mapping[int, Setting]

    def some(self, wanted: NDArray[np.bool_]) -> "_Side":
        """Return some of the columns; kinds stay."""
        return self._replace(columns=self.columns[wanted], kind=self.kind[wanted])


def _side(table: ColumnTable, settings: Mapping[int, Setting]) -> _Side:
    columns = np.nonzero(np.isin(table.pool, list(settings)) & table.meets_limits)[0]
    keys = codes([table.pool[columns], *(table.axes[axis][columns] for axis in PAIRING)])
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    return _Side(columns, kind, columns[first], settings)


class _Kinds(NamedTuple):
    """Transfers between kinds, shape (prefill kinds, decode kinds).

    ``fits``: whether they may be paired. ``seconds``, ``waiting`` [s] and ``size`` [byte] of a cache's move; ``least``
    and ``behind`` as in ``costs.transfer``; ``held``: time a cache is held for it, rounded up to a power of two, since
    a request holds it much longer anyway [s].
    """

    fits: NDArray[np.bool_]
    seconds: Floats
    waiting: Floats
    least: Floats
    behind: Floats
    size: Floats
    held: Floats


class _Group:
    """The two sides of one workload under one engine."""

    def __init__(self, table: ColumnTable, prefill: _Side, decode: _Side, most: Mapping[str, float]) -> None:
        self.table = table
        self.prefill = prefill
        self.decode = decode
        some = next(iter(prefill.settings.values()))
        self.load = some.efficiencies.scheduling.link_load_limit.value
        self.limits = limits(some.workload)
        self.most = most
        self.decode_ttft = "ttft" if "ttft" in most else "ttft_allotted"
        self.kinds = self._transfers()

    def _transfers(self) -> _Kinds:
        shape = (len(self.prefill.example), len(self.decode.example))
        parts = {name: np.full(shape, np.nan) for name in ("seconds", "least", "behind", "bytes")}
        fits = np.zeros(shape, dtype=bool)
        pools = self.table.pool
        for (a, here), (b, there) in itertools.product(self.prefill.settings.items(), self.decode.settings.items()):
            i = np.nonzero(pools[self.prefill.example] == a)[0]
            j = np.nonzero(pools[self.decode.example] == b)[0]
            separate = here.engine.disaggregation
            if separate is None or not len(i) or not len(j):
                continue
            p, d = np.meshgrid(self.prefill.example[i], self.decode.example[j], indexing="ij")
            at = np.ix_(i, j)
            fits[at] = _compatible(separate, self.table, p, d)
            for name, values in _transfer(here, there, separate, self.table, p.ravel(), d.ravel()).items():
                parts[name][at] = values.reshape(p.shape)
        # Caches queue for the links as in M/D/1, at the highest load they may have.
        waiting = self.load / (2 * (1 - self.load)) * parts["seconds"]
        with np.errstate(all="ignore"):
            held = 2.0 ** np.ceil(np.log2(parts["seconds"] + waiting))
        return _Kinds(fits, parts["seconds"], waiting, parts["least"], parts["behind"], parts["bytes"], held)

    def routes(self, needs: Needs | None) -> Routes:
        """Return the pairs; where ``needs`` are given, without those that others replace."""
        if needs is not None:
            self.prefill = self._without_replaceable("prefill", needs)
            self.decode = self._without_replaceable("decode", needs)
        found = self._expanded()
        if needs is not None:
            for side in ("prefill", "decode"):
                found = _thinned(self.table, found, side, needs, self._idle_seconds())
        return found

    def _without_replaceable(self, role: str, needs: Needs) -> _Side:
        """Drop columns that one of their inventory and size replaces with partners of any kind.

        It has at least the rate, the lanes and the room, suits every kind of partner that the other suits, and there
        comes to no larger TTFT and no longer transfer.
        """
        side, k, f = self.prefill if role == "prefill" else self.decode, self.kinds, self.table.figures
        c, mine = side.columns, side.kind
        fits = k.fits if role == "prefill" else k.fits.T
        held, seconds, size = (p if role == "prefill" else p.T for p in (k.held, self._eff(k), k.size))
        scores = [f["rate"][c], self.table.axes["attention_dp"][c].astype(np.float64), f["hold_seconds"][c]]
        if role == "decode" and needs.in_flight:
            scores += [f["in_flight"][c], f["in_flight"][c] / f["rate"][c]]
        rows = [np.stack(scores)]
        read = [held, seconds, *([size] if needs.bytes_matter else [])]
        rows += [np.where(fits, -matrix, -np.inf)[mine].T for matrix in read]
        if needs.ttft_matters:
            rows.append(np.where(fits[mine], -self._ttft(role), -np.inf).T)
        scored = np.concatenate(rows)
        alike = codes([self.table.pool[c], self.table.marked[c], f["devices"][c].astype(np.int64)])
        keep = np.zeros(len(c), dtype=bool)
        for number in np.unique(alike).tolist():
            at = np.nonzero(alike == number)[0]
            keep[at[undominated(scored[:, at])]] = True
        return side.some(keep)

    def _ttft(self, role: str) -> Floats:
        """Return each column's own part of TTFT by kind of partner [s], shape (C, kinds)."""
        k, f = self.kinds, self.table.figures
        if role == "decode":
            own = f[self.decode_ttft][self.decode.columns][:, None]
            return np.broadcast_to(own, (len(self.decode.columns), k.fits.shape[0]))
        c, mine = self.prefill.columns, self.prefill.kind
        exposed = np.maximum(k.least[mine], k.seconds[mine] - k.behind[mine] * f["prompt_seconds"][c][:, None])
        total: Floats = f["ttft"][c][:, None] + exposed + k.waiting[mine]
        return total

    def _idle_seconds(self) -> float:
        """Return how long a transfer may take so that no column's links are ever too busy with them [s]."""
        f = self.table.figures
        busiest = max(
            float((f["rate"][side.columns] / self.table.axes["attention_dp"][side.columns]).max(initial=0.0))
            for side in (self.prefill, self.decode)
        )
        return self.load / busiest if busiest else np.inf

    def _eff(self, k: _Kinds) -> Floats:
        """Return transfers [s], 0 where neither side's links can ever be too busy, whomever it is paired with."""
        longest = np.where(k.fits, k.seconds, 0.0)
        here = longest.max(axis=1) * self._busiest(self.prefill, k.fits.shape[0]) <= self.load
        there = longest.max(axis=0) * self._busiest(self.decode, k.fits.shape[1]) <= self.load
        return np.where(here[:, None] & there[None, :], 0.0, k.seconds)

    def _busiest(self, side: _Side, kinds: int) -> Floats:
        """Return the most caches that a rank of each kind can be asked to move [1/s], shape (kinds,)."""
        found = np.zeros(kinds)
        rates = self.table.figures["rate"][side.columns] / self.table.axes["attention_dp"][side.columns]
        np.maximum.at(found, side.kind, rates)
        return found

    def _expanded(self) -> Routes:
        k, f = self.kinds, self.table.figures
        p, d = self.prefill, self.decode
        at = np.ix_(p.kind, d.kind)
        before = self._ttft("prefill")[:, d.kind]
        ttft, allotted = (before + f[name][d.columns][None, :] for name in ("ttft", "ttft_allotted"))
        tpot = np.broadcast_to(f["tpot"][d.columns], ttft.shape)
        good = k.fits[at] & (allotted <= self.limits.get("ttft", np.inf)) & (tpot <= self.limits.get("tpot", np.inf))
        good &= (ttft <= self.most.get("ttft", np.inf)) & (tpot <= self.most.get("tpot", np.inf))
        room = np.minimum(f["hold_seconds"][p.columns][:, None], f["hold_seconds"][d.columns][None, :])
        good &= k.held[at] <= room
        i, j = np.nonzero(good)
        seconds, size = (part[p.kind[i], d.kind[j]] for part in (k.seconds, k.size))
        return Routes(p.columns[i], d.columns[j], seconds, size, ttft[i, j], tpot[i, j])


def _compatible(separate: Disaggregation, table: ColumnTable, p: Ints, d: Ints) -> NDArray[np.bool_]:
    """Tell which pairs agree in what they must, and have degrees the connector can map."""
    agree = np.logical_and.reduce([table.axes[axis][p] == table.axes[axis][d] for axis in _SAME])
    here, there = table.axes["tp"][p], table.axes["tp"][d]
    ratio = {
        "equal": here == there,
        "decode_multiple": there % here == 0,
        "prefill_multiple": here % there == 0,
        "any": (there % here == 0) | (here % there == 0),
    }[separate.tp_ratio.value]
    return np.asarray(agree & ratio)


def _transfer(
    prefill: Setting, decode: Setting, separate: Disaggregation, table: ColumnTable, p: Ints, d: Ints
) -> Mapping[str, Floats]:
    """Return the figures of the transfer between columns, shape of ``p`` and ``d``.

    Devices of one inventory that all stand in one scale-up domain use its links.
    """
    together = prefill.inventory == decode.inventory and sum(prefill.nodes) <= prefill.hardware.domain
    here, there = ({name: values[c].astype(np.float64) for name, values in table.axes.items()} for c in (p, d))
    return transfer_figures(prefill, decode, separate, (here, there), together=together)


def _thinned(table: ColumnTable, routes: Routes, side: str, needs: Needs, idle_seconds: float) -> Routes:
    """Drop parts of pairs that others replace with all the partners they have.

    A column goes if one of the same inventory has at least its rate and link lanes, may be paired with all its
    partners, and keeps their links no longer busy. So it does if several of a smaller size fit in its place and do more
    together.
    """
    columns = np.unique(getattr(routes, side))
    group = codes([table.pool[columns], table.marked[columns]])
    kept = [
        column
        for number in np.unique(group).tolist()
        for column in _best(table, routes, side, columns[group == number], needs, idle_seconds)
    ]
    return routes.take(np.nonzero(np.isin(getattr(routes, side), kept))[0])


def _best(table: ColumnTable, routes: Routes, side: str, columns: Ints, needs: Needs, idle_seconds: float) -> list[int]:
    other = "decode" if side == "prefill" else "prefill"
    mine = np.nonzero(np.isin(getattr(routes, side), columns))[0]
    partners, at = np.unique(getattr(routes, other)[mine], return_inverse=True)
    row = np.searchsorted(columns, getattr(routes, side)[mine])

    def matrix(values: Floats) -> Floats:
        """Larger is better; without a route there is nothing worse."""
        filled = np.full((len(partners), len(columns)), -np.inf)
        filled[at, row] = values
        return filled

    f = table.figures
    # What grows with the number of replicas first, then what does not.
    growing = [f["rate"][columns], table.axes["attention_dp"][columns].astype(np.float64)]
    stays = side == "decode" and needs.in_flight
    growing += [f["in_flight"][columns]] if stays else []
    slow = routes.seconds > idle_seconds
    strained = np.isin(routes.prefill, routes.prefill[slow]) | np.isin(routes.decode, routes.decode[slow])
    busy = np.where(strained, routes.seconds, 0.0)[mine]
    size = [matrix(-routes.bytes[mine])] if needs.bytes_matter else []
    fixed = [matrix(-busy), *size]
    fixed += [(f["in_flight"][columns] / f["rate"][columns])[None, :]] if stays else []
    scores = np.concatenate([np.stack(growing), *fixed])
    sizes = f["devices"][columns].astype(np.int64)
    stock = needs.stocks[table.pools[table.pool[columns[0]]].inventory]
    kept: list[int] = []
    for size in np.unique(sizes).tolist():
        alike = np.nonzero(sizes == size)[0]
        alike = alike[np.argsort(-scores[0, alike], kind="stable")]
        for i in alike[undominated(scores[:, alike])].tolist():
            times = np.array([size // sizes[k] if fits_instead(size, int(sizes[k]), stock) else 0 for k in kept])
            several = scores[:, kept].copy()
            several[: len(growing)] *= times
            beaten = (several >= scores[:, [i]]).all(axis=0) & (several[0] > scores[0, i]) & (times > 0)
            if not beaten.any():
                kept.append(i)
    return [int(column) for column in columns[kept]]
