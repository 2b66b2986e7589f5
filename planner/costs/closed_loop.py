"""Latencies under a closed loop: N clients that send their next request when the last one is answered.

Benchmarks load engines so. The steps are those of the open loop; only the waiting differs. Requests decoding at once
follow from Little's law, b = N·R/(TTFT + R) with R the time of decoding, and both times depend on b: ``next_running``
is that b, and the fixed point is found outside (planner/columns/closed_loop.py).
"""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, Smaller, either
from planner.costs.serving import first_token, load_of, mean_step, steps_of
from planner.costs.step import decode_batch, stage_step
from planner.costs.structure import Structure
from planner.costs.work import Definitions, Expressions

_SATURATED = sympy.Rational(19, 20)  # load at which a mean wait stops to grow: the clients are not endless
LEAST = sympy.Rational(1, 1000)  # requests decoding: keeps the steps defined where hardly any do


def loop_expressions(structure: Structure) -> Expressions:
    """Return TTFT and TPOT [s] that clients see, and the requests that decode at once by Little's law, by name.

    TTFT is the host's time, prefill, the step that is running, and the prompts before it. Prompts of other clients come
    before this one as in M/D/1; and clients that started together, or were answered together, come back together: a
    share of the wait that all of them in one burst would see, (N − 1)/2 services.

    Where prompts go before decodes and all requests have one length, the burst never dissolves (``in_waves``): all are
    prefilled, then all decode, then all are answered at once. A request then waits for half of the others' prompts
    before its first token, and its decoding for the other half.
    """
    define = Definitions()
    load = load_of(define)
    steps = steps_of(structure, load, define)
    tpot = define("tpot_steady_time", s.pp * mean_step(load, steps, define) / s.accepted)
    first = first_token(load, steps, s.running / (tpot * (s.osl - 1)), define)
    peers = define("peers", Larger(0, s.admitted / s.dp - 1))
    alone = define("alone_time", first.host + first.prefill + first.residual)
    everyone = define("peers_time", peers * first.service)
    # A client has one request at a time, so those of the others load the rank.
    busy = define("loop_load", Smaller(everyone / (alone + (s.osl - 1) * tpot + everyone), _SATURATED))
    queue = Smaller(busy / (2 * (1 - busy)), peers) * first.service
    crest = stage_step(structure, decode_batch(s.crest_batch, s.admitted), captured=s.crest_captured).total
    crested = s.pp * crest / s.accepted + everyone / (2 * s.osl)
    each = define("loop_tpot_mean", either(s.in_waves, crested, tpot))
    decoding = define("decoding_time", (s.osl - 1) * each)
    started = either(s.lockstep, s.equal_burst_share, s.burst_share)
    together = (started + s.return_share * busy) * peers**s.burst_growth * first.service / 2
    turn = either(s.lockstep, s.turn_share * decoding / s.admitted, 0)
    waiting = first.host + first.prefill + s.wave_share * everyone / 2
    ttft = define("loop_ttft_mean", s.ttft_scale * either(s.in_waves, waiting, alone + queue + together + turn))
    turned_away = (s.clients / s.admitted - 1) * (ttft + decoding)
    return Expressions(
        define.items,
        {
            "ttft": ttft + turned_away,
            "tpot": each,
            "next_running": Larger(LEAST, s.admitted * decoding / (ttft + decoding)),
        },
    )
