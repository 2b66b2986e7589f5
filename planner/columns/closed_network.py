"""The fixed point of prefill and decode pools under a closed loop of clients.

The expressions are those of ``planner.costs.closed_network``; the requests decoding are found as in a closed loop of
replicas that do both phases.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from planner.columns.closed_loop import Latencies, latencies, loop_of
from planner.columns.evaluate import bounding_figures, figures
from planner.columns.memory import ledger
from planner.columns.setting import Setting
from planner.columns.transfer import transfer_figures
from planner.costs.compile import compiled
from planner.schema.engine import Disaggregation
from planner.table import Floats


class PoolRows(NamedTuple):
    """One side of rows: what stays fixed, configurations, replicas, and the requests a rank admits, shape (C,).

    ``axes`` as ``evaluate.figures`` takes them, without ``mean_running``.
    """

    setting: Setting
    axes: Mapping[str, Floats]
    replicas: Floats
    max_num_seqs: Floats

    @property
    def devices(self) -> Floats:
        """Devices of the pool."""
        found: Floats = self.replicas * self.axes["tp"] * self.axes["pp"] * self.axes["attention_dp"]
        return found


class Prompts(NamedTuple):
    """What the prefill side and the way to the decode side take of a prompt, shape (C,).

    ``alone``: seconds of a prompt while no other rank works, ``crowded``: while all do; ``host``: those of the host.
    ``pace``: least seconds between two that leave a rank. ``exposed``: what a request waits for the move of its cache
    [s]. ``rooms``: prompts whose cache a rank can hold.
    """

    alone: Floats
    crowded: Floats
    host: Floats
    pace: Floats
    exposed: Floats
    rooms: Floats


def closed_network(
    prefill: PoolRows, decode: PoolRows, separate: Disaggregation, clients: Floats, lockstep: Floats
) -> tuple[Latencies, Floats]:
    """Return the latencies that ``clients`` see, and the prompts that fit a prefill rank, shape (C,) each.

    Args:
        prefill: the prefill side.
        decode: the decode side; ``running`` and ``admitted`` of the answer are those of one of its replicas.
        separate: how the engine moves caches.
        clients: requests outstanding at any time, of all replicas together.
        lockstep: 1 where all requests have the same length, else 0.
    """
    prompts = prompts_of(prefill, decode, separate)
    # Decode replicas never prefill, so waves of prompts and decodes do not form.
    loop = loop_of(decode.setting, decode.axes, clients, decode.max_num_seqs, np.zeros_like(clients))
    values = loop.values | {
        "lockstep": lockstep,
        "clients": clients,
        "prefill_ranks": prefill.replicas * prefill.axes["attention_dp"],
        "decode_replicas": decode.replicas,
        "prefill_alone": prompts.alone,
        "prefill_crowded": prompts.crowded,
        "prefill_host": prompts.host,
        "prompt_pace": prompts.pace,
        "transfer_exposed": prompts.exposed,
    }
    return latencies(loop, compiled(*loop.structure, "network"), values), prompts.rooms


def prompts_of(prefill: PoolRows, decode: PoolRows, separate: Disaggregation) -> Prompts:
    """Return what comes before decoding.

    Prompts leave a rank one after the other, so their caches queue for links only where these are slower than the
    rank; then the links set the pace. A decode rank takes the caches of as many prefill ranks as there are for each.
    """
    setting, axes, dp = prefill.setting, prefill.axes, prefill.axes["attention_dp"]
    idle = {**axes, "mean_running": np.zeros(1)}
    found = figures(setting, idle)
    moved = transfer_figures(
        setting, decode.setting, separate, (idle, decode.axes), together=_together(prefill, decode)
    )
    crowded, alone = found["prompt_seconds"], found["lone_prompt_seconds"]
    exposed = np.maximum(moved["least"], moved["seconds"] - moved["behind"] * alone)
    senders = prefill.replicas * dp / (decode.replicas * decode.axes["attention_dp"])
    pace = np.maximum(found["prompt_service_seconds"], moved["seconds"] * np.maximum(1.0, senders))
    sizes = bounding_figures(setting, idle)
    free = ledger(setting, sizes, axes, prefill.max_num_seqs)["kv_cache_bytes"]
    rooms = free / found["kv_request_bytes"]
    parts = (alone, crowded, found["host_request_seconds"], pace, exposed, rooms)
    return Prompts(*(np.broadcast_to(part, dp.shape) for part in parts))


def _together(prefill: PoolRows, decode: PoolRows) -> np.ndarray:
    """Tell where all devices of both sides fit into one scale-up domain."""
    same = prefill.setting.hardware.name == decode.setting.hardware.name
    return np.asarray(same & (prefill.devices + decode.devices <= prefill.setting.hardware.domain))
