"""A prompt's KV cache on its way from a prefill pool to a decode pool.

The cache is held on both sides until the last byte has arrived. Devices of the two sides hold different shares where
their tensor-parallel degrees differ, so one device may have to send to several, or receive from several.
"""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, either
from planner.costs.memory.kv_cache import blocks, request_bytes
from planner.costs.structure import Structure
from planner.costs.work import ONE


@dataclass(frozen=True, slots=True)
class Transfer:
    """Moving the cache of one prompt.

    ``sent``, ``received``: bytes per device of each side. ``seconds``: until the last byte has arrived, alone on the
    links. ``exposed``: what of that a request waits for after its prefill [s]: at least ``least``, and what is left
    when it starts ``behind`` the beginning of the prefill by so much of the prefill's time [1]. ``held``: bytes that
    transfers in flight occupy on a device, on each side.
    """

    sent: sympy.Expr
    received: sympy.Expr
    seconds: sympy.Expr
    exposed: sympy.Expr
    least: sympy.Expr
    behind: sympy.Expr
    held_prefill: sympy.Expr
    held_decode: sympy.Expr


def transfer(structure: Structure, prefill_seconds: sympy.Expr, prompts_per_second: sympy.Expr) -> Transfer:
    """Return what moving one prompt's cache costs.

    Heads are split over tensor-parallel devices, so a decode device receives its own heads; a latent is whole on every
    one of them, so each receives all of it (CloudMatrix384, arXiv 2506.12708, §4.3.3; DistServe, OSDI 2024, §3.3). The
    slower of sending and receiving counts; where ``senders`` prefill replicas feed a decode replica at once, they share
    its links (incast). A layout that differs (block size, format) is rewritten in memory on arrival.

    Pulled after prefill, all of it is exposed; pushed layer by layer, only what outlasts the prefill, and at least the
    last layer (Splitwise, ISCA 2024, §4.2).

    Args:
        structure: the model's kinds of layers.
        prefill_seconds: time of the prompt's prefill [s].
        prompts_per_second: prompts one replica of each side handles [1/s].
    """
    cache = request_bytes(structure, blocks(s.isl))
    here = cache.xreplace({s.tp: s.prefill_tp, s.pp: s.prefill_pp, s.cp: ONE})
    there = cache.xreplace({s.tp: s.decode_tp, s.pp: s.decode_pp})
    sent = there * (s.decode_tp * s.decode_pp) / (s.prefill_tp * s.prefill_pp)
    slowest = Larger(sent, there * s.senders)
    rewritten = either(s.relayout, 2 * there / (s.hbm_bandwidth * s.mbu_kv_cache), 0)
    seconds = s.transfer_latency + slowest / (s.transfer_bandwidth * s.link_efficiency) + rewritten
    behind = either(s.layerwise, 1 - 1 / s.layers, 0)
    least = either(s.layerwise, seconds / s.layers, seconds)
    return Transfer(
        sent=sent,
        received=there,
        seconds=seconds,
        exposed=Larger(least, seconds - prefill_seconds * behind),
        least=least,
        behind=behind,
        held_prefill=prompts_per_second * seconds * here,
        held_decode=prompts_per_second * seconds * there,
    )
