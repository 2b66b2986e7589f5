"""Latencies of prefill and decode pools under a closed loop: clients move between prompts, transfer and decoding.

A closed queueing network with one kind of customer. Prefill ranks are queues, each with its share of the clients;
decode replicas are batches, which slow down as they fill but turn nobody away until their cache is full; the move of
the cache lies between. Both pools must carry the same rate, so clients gather in front of the slower one by
themselves: that is the rate matching. As in ``closed_loop``, the requests decoding are found outside.
"""

import sympy

from planner.costs import symbols as s
from planner.costs.closed_loop import LEAST
from planner.costs.functions import Larger, Smaller, either
from planner.costs.serving import step_of
from planner.costs.step import decode_batch, draft_seconds
from planner.costs.structure import Structure
from planner.costs.work import Definitions, Expressions


def network_expressions(structure: Structure) -> Expressions:
    """Return TTFT and TPOT [s] that clients see, and the requests decoding in a replica by Little's law, by name.

    ``running`` are those of one decode replica; what prefill and transfer take are symbols, given by the other pool.
    A request joins a decode batch when the step that is running ends, has its first token a step later, and stays for
    n_o steps, as in ``disaggregated.decode_expressions``.
    """
    define = Definitions()
    draft = define("draft_step", s.drafts * draft_seconds(structure))
    decode = step_of(structure, decode_batch(s.padded_batch, s.running), "decode", define, s.captured, draft)
    round_time = define("round_time", s.pp * decode.total)
    each = define("network_tpot_mean", round_time / s.accepted)
    decoding = define("decoding_time", (s.osl - 1) * each)
    stay = define("decode_stay_time", s.osl * each)
    host = s.host_request + s.host_prompt_token * s.isl
    # Experts of a rank that is alone at work have its tokens only; those of busy ranks, the tokens of all.
    busy = define("prefill_busy", Smaller(1, s.decode_replicas * s.running / stay * s.prompt_pace / s.prefill_ranks))
    prefill = s.prefill_alone + busy * (s.prefill_crowded - s.prefill_alone)
    # The servers of both sides take the request up.
    passed = define("passing_time", s.prefill_host + prefill + s.transfer_exposed + host + 3 * round_time / 2)
    wait = define("prompt_wait_time", prompt_wait(passed + decoding, define))
    started = either(s.lockstep, s.equal_burst_share, s.burst_share)
    # Clients all start at once, and the first requests of a run wait longer than later ones, unless all always do.
    burst = Larger(0, peers() ** s.burst_growth * s.prompt_pace / 2 - wait)
    ready = define("ready_time", s.ttft_scale * (passed + wait + started * burst))
    # Beyond what the caches of all decode replicas hold, requests wait until one is answered.
    full = define("full_time", s.clients * stay / (s.decode_replicas * s.admitted))
    ttft = define("network_ttft_mean", Larger(ready, full - decoding))
    everywhere = define("decoding_everywhere", s.clients * stay / (ttft + decoding))
    here = Larger(everywhere / s.decode_replicas, Smaller(1, everywhere))
    return Expressions(
        define.items,
        {"ttft": ttft, "tpot": each, "next_running": Larger(LEAST, Smaller(s.admitted, here))},
    )


def peers() -> sympy.Expr:
    """Other clients of a prefill rank; clients are dealt out evenly."""
    return Larger(0, s.clients / s.prefill_ranks - 1)


def prompt_wait(passed: sympy.Expr, define: Definitions) -> sympy.Expr:
    """Time a prompt waits for those before it [s], where a client takes ``passed`` for all the rest of its round.

    A prompt finds what n clients leave behind who are n − 1 (the arrival theorem: Reiser and Lavenberg, JACM 27(2),
    1980, eq. 3.1, with Schweitzer's estimate, n − 1 of n parts of the mean queue). With services of one length D
    the wait is that of M/D/1, W = αUD/(2(1 − αU)), with U = nD/(W + T) and αn = n − 1: a quadratic equation, solved
    by

        W = ½ ((n − 1)·D − T + √(((n − 1)·D − T)² + 2·(n − 1)·D²)).

    And no rank serves faster than one after the other: W + T ≥ n·D (the asymptotic bound of Denning and Buzen, ACM
    Computing Surveys 10(3), 1978). One client alone waits for nobody.
    """
    others = define("peers", peers())
    over = define("crowding_time", others * s.prompt_pace - passed)
    random = (over + sympy.sqrt(over**2 + 2 * others * s.prompt_pace**2)) / 2
    return Larger(random, either(others, over + s.prompt_pace, 0))
