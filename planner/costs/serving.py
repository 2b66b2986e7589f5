"""From steps to what a user feels: rate, TTFT and TPOT of one replica.

Requests arrive as a Poisson stream. A step carries one token (with drafts, a few) of each of the b decoding requests
and, while a prompt waits, prompt tokens up to the token budget; engines that do not mix run the prompts in a step of
their own. b is given; rate, latencies and the room that b needs follow in closed form. All quantities are means;
docs/explanation/serving-model.md derives them.
"""

from dataclasses import dataclass

import sympy

from planner.costs import batching
from planner.costs import symbols as s
from planner.costs.functions import Larger, Smaller, either
from planner.costs.memory import activations, kv_cache, weights
from planner.costs.step import (
    Step,
    busiest_rank,
    chunk_batch,
    decode_batch,
    draft_seconds,
    rank_running,
    stage_step,
)
from planner.costs.structure import Structure
from planner.costs.work import ONE, ZERO, Batch, Definitions, Expressions
from planner.table import RESOURCES


def expressions(structure: Structure) -> Expressions:
    """Return every figure of a replica by name; times in s, sizes in byte, rates in request/s."""
    define = Definitions()
    outputs = _latencies(structure, define) | memory_of(structure)
    return Expressions(define.items, outputs)


def bounding_expressions(structure: Structure) -> Expressions:
    """Return ``decode_seconds`` [s] and sizes in memory: no prompt makes a token come sooner, or a cache smaller."""
    define = Definitions()
    draft = define("draft_step", s.drafts * draft_seconds(structure))
    decode = step_of(structure, decode_batch(s.padded_batch, s.running), "decode", define, s.captured, draft)
    return Expressions(define.items, {"decode_seconds": s.pp * decode.total / s.accepted} | memory_of(structure))


def _batched(
    structure: Structure,
    figures: dict[str, sympy.Expr],
    decoding: sympy.Expr,
    first: "FirstToken",
    define: Definitions,
) -> dict[str, sympy.Expr]:
    """Return the figures with those of request-level batching, where that is the policy."""
    pace = batching.Pace(decoding, first.prefill, first.service, first.host)
    changed = batching.figures(structure, pace, define)
    chosen = {name: either(s.request_batches, changed.get(name, figure), figure) for name, figure in figures.items()}
    return chosen | {
        "batch_efficiency": batching.efficiency(),
        "cache_use": batching.use_of_cache(),
        "preempts": either(s.whole_reserved, 0, 1),
    }


def _latencies(structure: Structure, define: Definitions) -> dict[str, sympy.Expr]:
    load = load_of(define)
    steps = steps_of(structure, load, define)
    decode, mixed = steps.decode, steps.mixed

    fluid = mean_step(load, steps, define)
    spread = spread_of(structure, define("stretch", fluid / decode.total), define)
    preempted, swaps = preemption(structure, steps.full, load.budget, define)
    tpot_fluid = s.pp * fluid / s.accepted
    tpot = define("tpot_mean", tpot_fluid + s.pp * decode.total / s.accepted * spread.slowdown + preempted)
    rate = define("replica_rate", s.running / (tpot * (s.osl - 1)))

    first = first_token(load, steps, rate, define)
    prefilling = define("prefilling", Larger(1, rate / s.dp * first.prefill))
    slots = define("slots", slots_for(prefilling, spread.dispersion))
    figures = {
        "rate": rate,
        "tpot": tpot,
        "ttft": first.total,
        "itl": s.pp * steps.worst,
        "swaps": swaps,
        "in_flight": rate * (first.total + (s.osl - 1) * tpot),
        "prefill_load": first.load,
        "prefill_inflow": load.inflow,
        "prefill_budget": load.budget,
        "slots_needed": slots,
        "prompt_seconds": first.prefill,
        "kv_likely_bytes": kv_cache.needed_bytes(structure, slots, prefilling, spread.dispersion),
        # Parts that a closed loop of clients puts together in its own way (planner/columns/closed_loop.py).
        "tpot_steady": tpot_fluid,
        "decode_seconds": s.pp * decode.total / s.accepted,
        "residual_seconds": first.residual,
        "host_request_seconds": first.host,
        "prompt_service_seconds": first.service,
        **average_resources(decode, mixed, load.mixed_share),
    }
    return _batched(structure, figures, s.pp * decode.total, first, define)


def mean_step(load: "Load", steps: "Steps", define: Definitions) -> sympy.Expr:
    """Time of the mean step [s].

    With p stages, p micro-batches go round and none overtakes: a round takes p times its longest step, so one prompt
    slows all of them (the bubbles of Sarathi-Serve, OSDI 2024, §3.3). So do d attention ranks in lock step.
    """
    slowed = s.prompt_interference * (1 - (1 - load.mixed_share) ** (s.pp * s.dp))
    return define("fluid_step", steps.decode.total + slowed * (steps.mixed.total - steps.decode.total))


@dataclass(frozen=True, slots=True)
class FirstToken:
    """Parts of TTFT [s], and the share of its time that a rank works on prompts.

    ``service``: of one prompt among many; ``residual``: of the step that is running; ``prefill``: of one prompt alone.
    """

    total: sympy.Expr
    load: sympy.Expr
    service: sympy.Expr
    residual: sympy.Expr
    prefill: sympy.Expr
    host: sympy.Expr


def first_token(load: "Load", steps: "Steps", rate: sympy.Expr, define: Definitions) -> FirstToken:
    """What a request waits for.

    Prompts queue for the budget of their rank: M/D/1 with the service time of a prompt at full budget (DistServe,
    OSDI 2024, §3.1, eq. 1), after the step that is running, which is a long one more often than not.
    """
    decode, mixed = steps.decode, steps.mixed
    service = define("prompt_service", s.isl / load.budget * steps.full)
    busy = define("prompt_load", rate / s.dp * service)
    squares = load.mixed_share * mixed.total**2 + (1 - load.mixed_share) * decode.total**2
    residual = define(
        "residual_time", squares / (2 * (load.mixed_share * mixed.total + (1 - load.mixed_share) * decode.total))
    )
    # Behind another prompt, a prompt starts inside a step and ends half a step later than its own tokens take.
    straddle = busy * mixed.total / 2
    wait = busy * service / (2 * (1 - busy)) + residual + straddle
    prefill = define("prefill_time", Larger(1, s.isl / load.chunk) * mixed.total * s.pp)
    host = define("host_time", s.host_request + s.host_prompt_token * s.isl)
    return FirstToken(
        define("ttft_mean", s.ttft_scale * (host + wait + prefill)), busy, service, residual, prefill, host
    )


@dataclass(frozen=True, slots=True)
class Load:
    """Prompt tokens of a step on one stage of one attention rank.

    ``budget``: room beside the decoding requests. ``inflow``: what must be prefilled per step so that as many
    requests start as finish. ``chunk``: what a step with a prompt carries. ``mixed_share``: share of such steps.
    ``group``: prompt tokens over all attention ranks in a step in which any of them has a prompt.
    """

    budget: sympy.Expr
    inflow: sympy.Expr
    chunk: sympy.Expr
    mixed_share: sympy.Expr
    group: sympy.Expr


def load_of(define: Definitions) -> Load:
    """Return the prompt tokens of a step."""
    decoding = rank_running()
    rows = decoding * (1 + s.drafts)
    room = s.token_budget - either(s.mixed_steps, rows, 0)
    whole = s.isl * sympy.floor(room / s.isl)
    budget = define("prompt_budget", either(s.chunked, room, whole))
    inflow = define("prompt_inflow", decoding * s.isl * s.accepted / (s.osl - 1))
    # A prompt, or what has come in meanwhile, or the whole budget: the next prompt fills up what is left, unless the
    # engine does not cut prompts.
    filled = Smaller(budget, Larger(s.isl, inflow))
    prompts = Larger(1, Smaller(sympy.ceiling(inflow / s.isl), budget / s.isl))
    chunk = define("chunk", either(s.chunked, filled, s.isl * prompts))
    share = define("mixed_share", Smaller(1, inflow / chunk))
    group = define("group_chunk", s.dp * inflow / (1 - (1 - share) ** s.dp))
    return Load(budget, inflow, chunk, share, group)


@dataclass(frozen=True, slots=True)
class Steps:
    """A decode step, a step with the usual chunk, and times of a full step and of the worst one."""

    decode: Step
    mixed: Step
    full: sympy.Expr
    worst: sympy.Expr


def steps_of(structure: Structure, load: Load, define: Definitions) -> Steps:
    """Return the steps that a replica runs."""
    draft = define("draft_step", s.drafts * draft_seconds(structure))
    decode = step_of(structure, decode_batch(s.padded_batch, s.running), "decode", define, s.captured, draft)
    chunk = step_of(structure, prompt_batch(load.chunk, load.group), "chunk", define, ZERO, s.mixed_steps * draft)
    full = step_of(structure, prompt_batch(load.budget, None), "full", define, ZERO, s.mixed_steps * draft)
    crowd = define("crowded_chunk", _crowded(load))
    worst = step_of(structure, prompt_batch(crowd, None, last=True), "worst", define, ZERO, s.mixed_steps * draft)

    def stalled(step: sympy.Expr) -> sympy.Expr:
        """A prompt's step, no shorter than its decodes; where prompts do not share it, the decode step that waits."""
        return either(s.mixed_steps, Larger(step, decode.total), decode.total + step)

    mixed = Step(
        define("mixed_step", stalled(chunk.total)),
        {name: stalled_resource(chunk.resources[name], decode.resources[name]) for name in RESOURCES},
        stalled_resource(chunk.attention, decode.attention),
    )
    return Steps(decode, mixed, full.total, define("worst_token_step", stalled(worst.total)))


def _crowded(load: Load) -> sympy.Expr:
    """Prompt tokens of a crowded step, within the budget: z standard deviations of the prompts that come per step."""
    likely = load.inflow + s.occupancy_sigmas * sympy.sqrt(load.inflow * s.isl)
    return Larger(load.chunk, Smaller(load.budget, likely))


def stalled_resource(prompt: sympy.Expr, decode: sympy.Expr) -> sympy.Expr:
    """Time of a resource in a step that carries a prompt, and in the decode step that waits for it."""
    return either(s.mixed_steps, prompt, prompt + decode)


def prompt_batch(tokens: sympy.Expr, group: sympy.Expr | None, *, last: bool = False) -> Batch:
    """Prompt tokens with the rank's decoding requests, or without them where the engine does not mix."""
    return chunk_batch(tokens, group, decoding=either(s.mixed_steps, busiest_rank(), 0), last=last)


def step_of(
    structure: Structure, batch: Batch, name: str, define: Definitions, captured: sympy.Expr, draft: sympy.Expr
) -> Step:
    """Return a step whose parts are names."""
    step = stage_step(structure, batch, captured=captured, draft=draft)
    resources = {key: define(f"{name}_{key}", value) for key, value in step.resources.items()}
    return Step(define(f"{name}_step", step.total), resources, define(f"{name}_attention_time", step.attention))


def preemption(
    structure: Structure, full: sympy.Expr, budget: sympy.Expr, define: Definitions
) -> tuple[sympy.Expr, sympy.Expr]:
    """What preemption adds to TPOT [s], and 1 where it swaps, 0 where it computes a request's tokens again.

    The cache holds z standard deviations above the mean, so it is short in a share Φ(−z) of the time. The cheaper of
    recomputing at full budget and of moving the cache out and in (PagedAttention, Kwon et al., SOSP 2023, §4.5).
    A cache that is reserved whole is never short.
    """
    again = define("recompute_time", kv_cache.mean_tokens() / budget * full)
    swap = define("swap_time", 2 * kv_cache.request_bytes(structure, kv_cache.mean_tokens()) / s.host_link)
    each = either(s.whole_reserved, 0, Smaller(again, swap))
    return define("preemption_time", s.overflow_share * each / s.osl), either(again - swap, 1, 0)


@dataclass(frozen=True, slots=True)
class Spread:
    """How the number of running requests spreads around its mean, and what that adds to TPOT (relative)."""

    dispersion: sympy.Expr
    slowdown: sympy.Expr


def spread_of(structure: Structure, stretch: sympy.Expr, define: Definitions) -> Spread:
    """Variance over mean of the running requests, and the second-order term of TPOT.

    Were step times constant, the number would be Poisson (M/G/∞). Two effects widen it. Steps grow with the
    batch, with elasticity ε (processor sharing: variance × 1/(1−ε)); and prompts hold up decoding, ``stretch`` r
    times, so that requests finish late and together (arrivals during prefill form Borel batches: × r²).
    TPOT is E[b·S(b)]/E[b], which exceeds S(E[b]) by ε·variance/b² of a decode step, to first order in 1/b. Where r is
    large the term overstates: short outputs after long prompts come out too slow, never too fast.
    tests/validation/test_simulation.py holds the outcome against a simulation.
    """
    whole, half = (
        define(name, stage_step(structure, decode_batch(running / (s.pp * s.dp), running), captured=ONE).total)
        for name, running in (("smooth_step", s.running), ("smooth_half_step", s.running / 2))
    )
    elasticity = define("elasticity", 2 * (1 - half / whole))
    dispersion = define("dispersion", stretch**2 / Larger(1 - elasticity, sympy.Rational(1, 10)))
    return Spread(dispersion, elasticity * dispersion * s.dp / s.running)


def slots_for(prefilling: sympy.Expr, dispersion: sympy.Expr) -> sympy.Expr:
    """Requests an attention rank must be allowed to run so that the limit is rarely reached.

    Mean decoding and prefilling, and z standard deviations of their number; but once the token budget is full of
    decodes and the prompts they need, no more can be running whatever the limit: b_s = p·M·(n_o−1)/(n_i+n_o−1), for one
    token per step.
    """
    running = s.running / s.dp
    rows = (1 + s.drafts) * (s.osl - 1) + s.accepted * s.isl
    saturated = s.pp * s.token_budget * (s.osl - 1) / rows
    deviations = s.occupancy_sigmas * sympy.sqrt(running * dispersion + prefilling)
    least = s.occupancy_sigmas * sympy.sqrt(prefilling)
    return running + prefilling + Larger(least, Smaller(deviations, saturated - running))


def average_resources(decode: Step, mixed: Step, mixed_share: sympy.Expr) -> dict[str, sympy.Expr]:
    """Parts of the average step [s]: a share of steps carries a prompt.

    The time each resource alone would need; and the share [1] of attention kernels in the whole.
    """

    def mean(prompt: sympy.Expr, other: sympy.Expr) -> sympy.Expr:
        return mixed_share * prompt + (1 - mixed_share) * other

    attention = mean(mixed.attention, decode.attention) / mean(mixed.total, decode.total)
    alone = {f"{name}_seconds": mean(mixed.resources[name], decode.resources[name]) for name in RESOURCES}
    return {**alone, "attention_share": attention}


def memory_of(structure: Structure) -> dict[str, sympy.Expr]:
    """Return sizes on the fullest device [byte], and the counts of the model [1]."""
    reserved = kv_cache.reserved_bytes(structure)
    return {
        "weights_bytes": weights.device_bytes(structure),
        "activations_bytes_per_token": activations.bytes_per_token(structure),
        "context_workspace_bytes": activations.context_bytes(structure),
        "activations_bytes_per_request": activations.bytes_per_request(),
        "kv_bytes_per_token": kv_cache.token_bytes(structure),
        "kv_prompt_bytes": kv_cache.request_bytes(structure, kv_cache.blocks(s.isl)),
        "kv_mean_request_bytes": either(
            s.whole_reserved, reserved, kv_cache.request_bytes(structure, kv_cache.mean_tokens())
        ),
        "kv_request_bytes": reserved,
        "kv_longest_request_bytes": kv_cache.request_bytes(structure, kv_cache.blocks(s.longest)),
        "parameters": weights.total_parameters(structure),
        "active_parameters": weights.active_parameters(structure),
    }
