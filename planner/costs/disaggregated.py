"""Replicas that only prefill or only decode, and the cache that moves between them.

The prefill side is a queue of prompts, the decode side a batch of requests: the two halves of DistServe (OSDI 2024,
§3). The first token is taken to reach the user from the decode side, which is the later of the two.
"""

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, Smaller, either
from planner.costs.memory import kv_cache
from planner.costs.serving import average_resources, memory_of, preemption, spread_of, step_of
from planner.costs.step import chunk_batch, decode_batch, draft_seconds
from planner.costs.structure import Structure
from planner.costs.transfer import transfer
from planner.costs.work import ONE, ZERO, Definitions, Expressions


def decode_expressions(structure: Structure) -> Expressions:
    """Return every figure of a replica that only decodes: names and units as in ``serving.expressions``.

    A request joins at the end of the step that is running and has its first token a step later; it stays for n_o steps
    (its rate is b/(n_o·TPOT) by Little's law). Without prompts nothing stretches a step.
    """
    define = Definitions()
    draft = define("draft_step", s.drafts * draft_seconds(structure))
    decode = step_of(structure, decode_batch(s.padded_batch, s.running), "decode", define, s.captured, draft)
    again = step_of(structure, chunk_batch(s.token_budget, None, decoding=ZERO), "full", define, ZERO, ZERO)
    spread = spread_of(structure, ONE, define)
    preempted, swaps = preemption(structure, again.total, s.token_budget, define)
    round_time = s.pp * decode.total
    tpot = define("tpot_mean", round_time / s.accepted * (1 + spread.slowdown) + preempted)
    running = s.running / s.dp
    slots = define("slots", running + s.occupancy_sigmas * sympy.sqrt(running * spread.dispersion))
    figures = {
        "rate": s.running / (s.osl * tpot),
        "tpot": tpot,
        "ttft": 3 * round_time / 2,
        "itl": round_time * (1 + spread.slowdown),
        "swaps": swaps,
        "in_flight": s.running,
        "prefill_load": ZERO,
        "prefill_inflow": ZERO,
        "prefill_budget": s.token_budget,
        "prompt_seconds": ZERO,
        "slots_needed": slots,
        "kv_likely_bytes": kv_cache.needed_bytes(structure, slots, ZERO, spread.dispersion),
        "batch_efficiency": ONE,
        "cache_use": ONE,
        "preempts": either(s.whole_reserved, 0, 1),
        **average_resources(decode, decode, ZERO),
    }
    return Expressions(define.items, figures | memory_of(structure))


def prefill_expressions(structure: Structure) -> Expressions:
    """Return every figure of a replica that only prefills: names and units as in ``serving.expressions``.

    A rank works a share ρ of its time. Prompts queue for it as in M/D/1 (DistServe, OSDI 2024, §3.1, eq. 1 to 3): with
    D of one prompt alone, p stages take D/p each, and the wait is that of a service of D/p. Where a step holds several
    prompts, the service is a prompt's share of a full step, and what is left of the step that is running comes on top.
    ``slots_needed`` are the prompts in the rank, waiting ones included, and so many spreads above.
    """
    define = Definitions()
    chunk = define("chunk", either(s.chunked, Smaller(s.token_budget, s.isl), s.isl))
    filled = define("filled", filled_tokens())
    alone = step_of(structure, chunk_batch(chunk, None, decoding=ZERO), "chunk", define, ZERO, ZERO)
    full = step_of(structure, chunk_batch(filled, None, decoding=ZERO), "full", define, ZERO, ZERO)
    lone = step_of(structure, chunk_batch(chunk, chunk, decoding=ZERO), "lone", define, ZERO, ZERO)
    service = define("prompt_service", s.isl / filled * full.total)
    first, later = _company(filled, alone.total, full.total, service, define)
    prefill = define("prefill_time", s.isl / chunk * alone.total)
    rate = define("replica_rate", s.dp * s.busy / service)
    # What is left of the step that runs; where prompts are cut, they share steps with the end of the one before.
    cut = either(Larger(0, 1 - filled / s.isl), full.total / 2, 0)
    left = s.busy * (Larger(0, prefill + first - service) / 2 + cut)
    # Ranks that step together wait for each other: a rank without a prompt is still busy while another has one.
    together = ((1 - (1 - s.busy) ** s.dp) - s.busy) * (prefill + later) / 2
    passed = s.pp * prefill + first + (s.pp - 1) * later
    wait = define("wait", s.busy * service / (2 * (1 - s.busy)) + left + together)
    host = define("host_time", s.host_request + s.host_prompt_token * s.isl)
    ttft = define("ttft_mean", host + wait + passed)
    inside = define("prompts_inside", s.busy / service * (wait + passed))
    slots = define("slots", Larger(1, inside + s.occupancy_sigmas * sympy.sqrt(inside)))
    prompt = kv_cache.request_bytes(structure, kv_cache.blocks(s.isl))
    figures = {
        "rate": rate,
        "tpot": ZERO,
        "ttft": ttft,
        "itl": ZERO,
        "swaps": ZERO,
        "in_flight": rate * ttft,
        "prefill_load": s.busy,
        "prefill_inflow": ZERO,
        "prefill_budget": s.token_budget,
        "prompt_seconds": s.pp * prefill,
        # Parts that pools under a closed loop put together in their own way (planner/costs/closed_network.py).
        "prompt_service_seconds": service,
        "lone_prompt_seconds": s.pp * s.isl / chunk * lone.total,
        "host_request_seconds": host,
        "slots_needed": slots,
        "kv_likely_bytes": slots * prompt,
        "batch_efficiency": ONE,
        "cache_use": ONE,
        "preempts": ZERO,
        **average_resources(full, full, ZERO),
    }
    return Expressions(define.items, figures | memory_of(structure) | {"kv_request_bytes": prompt})


def filled_tokens() -> sympy.Expr:
    """Prompt tokens of a full step: all the budget, or as many whole prompts as it holds, and one at least."""
    whole = s.isl * sympy.floor(s.token_budget / s.isl)
    return either(s.chunked, s.token_budget, Larger(s.isl, whole))


def _company(
    filled: sympy.Expr, alone: sympy.Expr, full: sympy.Expr, service: sympy.Expr, define: Definitions
) -> tuple[sympy.Expr, sympy.Expr]:
    """Return what other prompts in the same step add to a prompt's own [s]: in the first stage, and in each later one.

    A prompt is ready when its step is, not when its own tokens are. As many join it as wait in M/D/1, ρ²/(2(1−ρ)): in
    the first stage half of them, those after it, come on top of the wait; in later stages all, and there short steps
    queue behind long ones, so that the longest of about p in a row sets the pace (1 + ln p times the mean, where their
    number is exponential). Or, where a step hardly grows with its prompts, as many as arrive during a step:
    n = λa/(1−λb) for a step of a + b·n at λ prompts per second. Where a step holds one prompt, nothing.
    tests/validation holds it against a simulation; across many stages, mixtures of experts with short prompts come out
    up to 40 % too low, since their steps are no straight line of their prompts.
    """
    prompts = define("prompts_in_full", filled / s.isl)
    most = Larger(prompts - 1, sympy.Rational(1, 10**9))
    each = define("each_prompt_time", Larger(0, full - alone) / most)
    arriving = s.busy / service
    fluid = arriving * (alone - each) / (1 - arriving * each)
    crowd = define("fluid_company_time", Larger(0, Smaller(prompts, fluid) - 1) * each)
    waiting = s.busy**2 / (2 * (1 - s.busy))
    queued = Smaller(prompts - 1, waiting)
    longest = Smaller(prompts - 1, waiting * (1 + sympy.log(s.pp)))
    several = Larger(0, prompts - 1)
    first = either(several, Larger(crowd, queued / 2 * service), 0)
    return define("first_company_time", first), define(
        "later_company_time", either(several, Larger(crowd, longest * each), 0)
    )


def transfer_expressions(structure: Structure) -> Expressions:
    """Return figures of moving a prompt's cache: ``seconds``, ``least`` and ``behind`` as in ``transfer.Transfer``.

    And its ``bytes`` over all links [byte].
    """
    moved = transfer(structure, ZERO, ZERO)
    every = moved.sent * s.prefill_tp * s.prefill_pp
    return Expressions({}, {"seconds": moved.seconds, "least": moved.least, "behind": moved.behind, "bytes": every})
