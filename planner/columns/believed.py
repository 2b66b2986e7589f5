"""How sure the latencies of a configuration are, from what was measured."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.columns.setting import Setting
from planner.posterior import Place, Replica
from planner.table import Configuration

SHARES = (0.1, 0.5, 0.9)


class Believed(NamedTuple):
    """What is known of a configuration's latencies beside their planned values.

    ``confidence``: share of such deployments that are expected to be no slower than planned. ``ttft`` and ``tpot``:
    factors on the planned values that give the tenth, the fiftieth and the ninetieth percentile. ``basis`` and
    ``outside`` are those of ``posterior.Support``; without a fitted calibration nothing is known but its kind.
    """

    basis: str
    outside: tuple[str, ...] = ()
    confidence: float | None = None
    ttft: tuple[float, ...] | None = None
    tpot: tuple[float, ...] | None = None


def believed(setting: Setting, configuration: Configuration) -> Believed:
    """Return how sure the latencies of a configuration are."""
    replica = setting.believed
    if replica is None:
        return Believed(setting.efficiencies.basis)
    place = place_of(replica, configuration)
    support = replica.support(place)
    ttft, tpot = over_planned(replica, place, SHARES)
    return Believed(support.basis, support.outside, replica.share(support), ttft, tpot)


def over_planned(
    replica: Replica, place: Place, shares: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return TTFT and TPOT that shares of such deployments do not exceed, over the planned ones."""
    running = np.array([place.concurrency])
    planned = replica.factors(place, running)
    asked = [replica.factors(place, running, share) for share in shares]
    ttft, tpot = (
        tuple(float(getattr(each, name)[0] / getattr(planned, name)[0]) for each in asked) for name in planned._fields
    )
    return ttft, tpot


def place_of(replica: Replica, c: Configuration) -> Place:
    """Return what a calibration knows a configuration by."""
    return replica.at(c.weight_precision, (c.tp, c.pp, c.attention_dp, c.ep), float(c.mean_running * c.attention_dp))
