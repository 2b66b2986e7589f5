"""Latencies of a replica under a closed loop: N clients that send their next request when the last one is answered.

Benchmarks load engines so. Requests decoding at once follow from Little's law, b = N·R/(TTFT + R) with R the time of
decoding, and both times depend on b: a fixed point, reached by damped steps. The steps are those of the open loop; only
the waiting differs.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.columns.evaluate import figures
from planner.columns.memory import ledger
from planner.columns.setting import Setting
from planner.table import Floats

_MOST_ROUNDS = 100
_DAMPING = 0.5
_CLOSE = 1e-7  # relative change of the requests decoding at which the fixed point is reached
_LEAST = 1e-3  # requests decoding: keeps the steps defined where hardly any do
_SATURATED = 0.95  # load at which a mean wait stops to grow: the clients are not endless


class Latencies(NamedTuple):
    """Means over requests [s], the requests decoding on average, and those admitted at once, shape (C,) each."""

    ttft: Floats
    tpot: Floats
    running: Floats
    admitted: Floats


def closed_loop(
    setting: Setting, axes: Mapping[str, Floats], clients: Floats, max_num_seqs: Floats, lockstep: Floats
) -> Latencies:
    """Return the latencies that ``clients`` see.

    Args:
        setting: what stays fixed.
        axes: as for ``figures`` without mean_running, arrays of shape (C,); attention_dp and osl among them.
        clients: requests outstanding at any time, shape (C,).
        max_num_seqs: requests an attention rank admits, shape (C,).
        lockstep: 1 where all requests have the same length, else 0, shape (C,).
    """
    axes = {**axes, "batch_varies": np.zeros(1)}
    running = np.maximum(np.minimum(clients, max_num_seqs * axes["attention_dp"]), _LEAST)
    waves = (lockstep > 0) & (setting.engine.scheduling.prefill.value == "separate")
    with np.errstate(all="ignore"):  # what makes no sense comes out as NaN
        return _settled(setting, axes, clients, max_num_seqs, running, waves)


def _settled(
    setting: Setting,
    axes: Mapping[str, Floats],
    clients: Floats,
    max_num_seqs: Floats,
    running: Floats,
    waves: NDArray[np.bool_],
) -> Latencies:
    """Step to the fixed point from ``running`` requests."""
    dp, osl = axes["attention_dp"], axes["osl"]
    for _ in range(_MOST_ROUNDS):
        found = figures(setting, {**axes, "mean_running": running})
        each = np.where(waves, found["kv_request_bytes"], found["kv_mean_request_bytes"])
        room = _held(setting, axes, found, max_num_seqs, each) * dp
        admitted = np.minimum(np.minimum(clients, max_num_seqs * dp), room)
        # In waves everyone decodes at once, whatever the mean over time.
        crest = figures(setting, {**axes, "mean_running": np.maximum(admitted, _LEAST)}) if waves.any() else found
        ttft, tpot = _latencies(setting, found, crest["decode_seconds"], axes, admitted, waves)
        decoding = (osl - 1) * tpot
        target = np.maximum(admitted * decoding / (ttft + decoding), _LEAST)
        moved = np.nanmax(np.abs(target - running) / running, initial=0.0)
        running = _DAMPING * running + (1 - _DAMPING) * target
        if moved < _CLOSE:
            break
    turned_away = (clients / np.maximum(admitted, _LEAST) - 1) * (ttft + decoding)
    return Latencies(ttft + turned_away, tpot, running, admitted)


def _held(
    setting: Setting, axes: Mapping[str, Floats], found: Mapping[str, Floats], max_num_seqs: Floats, each: Floats
) -> Floats:
    """Requests of ``each`` byte that fit an attention rank at once: none where the weights leave no room."""
    free = ledger(setting, found, axes, max_num_seqs)["kv_cache_bytes"]
    return np.maximum(free, 0.0) / each


def _latencies(
    setting: Setting,
    found: Mapping[str, Floats],
    crest: Floats,
    axes: Mapping[str, Floats],
    admitted: Floats,
    waves: NDArray[np.bool_],
) -> tuple[Floats, Floats]:
    """TTFT and TPOT [s] of the admitted requests.

    TTFT is the host's time, prefill, the step that is running, and the prompts before it. Prompts of other clients come
    before this one as in M/D/1; and clients that started together, or were answered together, come back together: a
    share of the wait that all of them in one burst would see, (N − 1)/2 services.

    Where prompts go before decodes and all requests have one length, the burst never dissolves: all are prefilled,
    then all decode, then all are answered at once (``waves``). A request then waits for half of the others' prompts
    before its first token, and its decoding for the other half; ``crest`` is a decode step with all of them [s].
    """
    scheduling = setting.efficiencies.scheduling
    service, prefill = found["prompt_service_seconds"], found["prompt_seconds"]
    alone = found["host_request_seconds"] + prefill + found["residual_seconds"]
    tpot = found["tpot_steady"] * np.ones_like(admitted)
    peers = np.maximum(admitted / axes["attention_dp"] - 1, 0.0)
    # A client has one request at a time, so those of the others load the rank.
    busy = np.minimum(peers * service / (alone + (axes["osl"] - 1) * tpot + peers * service), _SATURATED)
    queue = np.minimum(busy / (2 * (1 - busy)), peers) * service
    together = (scheduling.closed_loop_burst.value + scheduling.closed_loop_waves.value * busy) * peers / 2 * service
    half = peers / 2 * service
    in_waves = found["host_request_seconds"] + prefill + half, crest + half / axes["osl"]
    steady = alone + queue + together, tpot
    ttft, tpot = (np.where(waves, wave, usual) for wave, usual in zip(in_waves, steady, strict=True))
    return ttft, tpot
