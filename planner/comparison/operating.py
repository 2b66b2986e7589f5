"""Latencies of a plan's deployments at another load than the planned one, with the cost model of the plan.

An open loop of a rate is priced as the plan is: requests decode, or prefills are busy, as much as carries that rate. A
closed loop of clients on mixed replicas is the fixed point that `planner predict` finds; through a pair, the rate at
which so many requests are under way.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog import Case
from planner.columns.closed_loop import closed_loop
from planner.columns.pricing import axes_of, figures_of
from planner.columns.setting import Setting, setting_of
from planner.constants import MILLISECONDS_PER_SECOND
from planner.plan import Deployment, Plan
from planner.table import Floats

_MOST = 256  # points of a curve over the load
_FEW = (0.05, 0.2, 0.5)  # requests decoding, below one
_OF_LOAD = ("mean_running", "max_num_seqs")  # what a closed loop is not given as axes
_ROUNDS = 40  # of a bisection
_REACHED = 0.99

Change = Callable[[Setting], Setting]


class Stream(NamedTuple):
    """Requests that take one way through a plan: a mixed deployment, or a prefill and a decode one.

    ``rate`` is the planned one of all replicas [request/s], ``transfer`` what a cache takes on its way [s].
    """

    rate: float
    parts: tuple[Deployment, ...]
    transfer: float = 0.0


class Load(NamedTuple):
    """What a benchmark sent: at a ``rate`` [request/s], or where that is 0 by ``clients`` in a loop; mean lengths."""

    rate: float
    clients: float
    isl: float
    osl: float
    same_lengths: bool


class Seen(NamedTuple):
    """Mean latencies of requests [s]; NaN where the load is more than the replicas carry."""

    ttft: float
    tpot: float


def streams(plan: Plan, name: str) -> list[Stream]:
    """Return the streams of a workload, a pair or a mixed deployment; none where nothing is called so."""
    ours = {d.name: d for d in plan.deployments if isinstance(d, Deployment)}
    found = [
        Stream(d.requests_per_s, (d,)) for d in ours.values() if d.role == "mixed" and name in (d.name, d.workload)
    ]
    for route in plan.routes:
        parts = (ours[route.prefill], ours[route.decode])
        if name in (parts[0].workload, parts[0].pair):
            transfer = (route.transfer_ms or 0.0) / MILLISECONDS_PER_SECOND
            found.append(Stream(route.requests_per_s, parts, transfer))
    return found


def names(plan: Plan) -> list[str]:
    """Return everything that ``streams`` knows by name: what serves whole requests."""
    ours = [d for d in plan.deployments if isinstance(d, Deployment)]
    found = [d.name for d in ours if d.role == "mixed"] + [d.pair for d in ours if d.pair] + [d.workload for d in ours]
    return list(dict.fromkeys(found))


def seen(case: Case, found: Sequence[Stream], load: Load, change: Change = lambda setting: setting) -> Seen:
    """Return what requests of some streams see on average, shared out as planned.

    ``load`` is on all replicas of these streams together; ``change`` moves what the settings believe.
    """
    if load.rate:
        return _at_rate(_Curves(case, load, change), found, load.rate)
    if all(len(stream.parts) == 1 for stream in found):
        return _closed(case, found, load, change)
    return _at_clients(_Curves(case, load, change), found, load)


def _closed(case: Case, found: Sequence[Stream], load: Load, change: Change) -> Seen:
    """Share clients out by planned requests under way, and weigh what each sees by what it completes."""
    under_way = [stream.parts[0].requests_in_flight for stream in found]
    ttft, tpot, weights = [], [], []
    for stream, share in zip(found, under_way, strict=True):
        d = stream.parts[0]
        setting = change(setting_of(case, d.configuration()))
        clients = np.array([load.clients * share / sum(under_way) / d.replicas])
        axes = {name: value for name, value in _axes(setting, d, load).items() if name not in _OF_LOAD}
        loop = closed_loop(
            setting, axes, clients, np.array([float(d.max_num_seqs)]), np.array([load.same_lengths * 1.0])
        )
        ttft.append(float(loop.ttft[0]))
        tpot.append(float(loop.tpot[0]))
        weights.append(share / (ttft[-1] + tpot[-1] * (load.osl - 1)))
    return Seen(float(np.average(ttft, weights=weights)), float(np.average(tpot, weights=weights)))


def _at_clients(curves: "_Curves", found: Sequence[Stream], load: Load) -> Seen:
    """Return what is seen at the rate that keeps as many requests under way as there are clients (Little's law)."""
    low, high, planned = 0.0, 1.0, sum(stream.rate for stream in found)

    def clients(scale: float) -> float:
        at = _at_rate(curves, found, planned * scale)
        return planned * scale * (at.ttft + at.tpot * (load.osl - 1))

    while clients(high) < load.clients:
        low, high = high, 2 * high
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if not clients(middle) < load.clients else (middle, high)
    full = clients(low) < _REACHED * load.clients  # more clients than these replicas can have under way
    return Seen(math.nan, math.nan) if full else _at_rate(curves, found, planned * low)


def _at_rate(curves: "_Curves", found: Sequence[Stream], rate: float) -> Seen:
    scale = rate / sum(stream.rate for stream in found)
    rates: dict[str, float] = {}
    for stream in found:
        for part in stream.parts:
            rates[part.name] = rates.get(part.name, 0.0) + stream.rate * scale
    ttft, tpot = [], []
    for stream in found:
        points = [curves.at(part, rates[part.name] / part.replicas) for part in stream.parts]
        ttft.append(sum(point.ttft for point in points) + stream.transfer)
        tpot.append(points[-1].tpot)
    weights = [stream.rate for stream in found]
    return Seen(float(np.average(ttft, weights=weights)), float(np.average(tpot, weights=weights)))


class _Curves:
    """Latencies over the rate of one replica, of each deployment once."""

    def __init__(self, case: Case, load: Load, change: Change) -> None:
        self._case, self._load, self._change = case, load, change
        self._known: dict[str, Mapping[str, Floats]] = {}

    def at(self, d: Deployment, rate: float) -> Seen:
        """Return the latencies of a replica at a rate [request/s]."""
        if d.name not in self._known:
            setting, loads = self._change(setting_of(self._case, d.configuration())), _loads(d)
            found = figures_of(setting, _axes(setting, d, self._load, loads))
            whole = {name: np.broadcast_to(found[name], len(loads)) for name in ("rate", "ttft", "tpot")}
            rising = np.concatenate([[True], np.diff(np.maximum.accumulate(whole["rate"])) > 0])
            usable = rising & np.isfinite(whole["rate"])
            self._known[d.name] = {name: values[usable] for name, values in whole.items()}
        curve = self._known[d.name]
        ttft, tpot = (float(np.interp(rate, curve["rate"], curve[name], right=np.nan)) for name in ("ttft", "tpot"))
        return Seen(ttft, tpot)


def _loads(d: Deployment) -> Floats:
    """Return the loads of a curve: utilisation [%] of a part that prefills, else requests decoding.

    Batches are padded to captured sizes, so latencies climb in steps from one whole number to the next.
    """
    if d.role == "prefill":
        return np.arange(1.0, 100.0)
    return np.concatenate([_FEW, np.unique(np.linspace(1, d.max_num_seqs, _MOST).round())])


def _axes(setting: Setting, d: Deployment, load: Load, loads: Floats | None = None) -> dict[str, Floats]:
    """Return a deployment's axes, over its whole range of load where ``loads`` are given."""
    count = 1 if loads is None else len(loads)
    axes = {name: np.full(count, float(value[0])) for name, value in axes_of(setting, [d.configuration()]).items()}
    if loads is not None:
        axes["prefill_utilisation" if d.role == "prefill" else "mean_running"] = loads
    return axes | {"isl": np.full(count, load.isl), "osl": np.full(count, load.osl)}
