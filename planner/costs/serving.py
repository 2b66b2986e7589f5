"""From steps to what a user feels: rate, TTFT and TPOT of one replica with chunked prefill.

Requests arrive as a Poisson stream. A step carries one token of each of the b decoding requests and, while a
prompt waits, prompt tokens up to the token budget. b is given; rate, latencies and the room that b needs follow
in closed form. All quantities are means; docs/explanation/serving-model.md derives them.
"""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.memory import activations, kv_cache, weights
from planner.costs.step import Step, chunk_batch, decode_batch, stage_step
from planner.costs.structure import Structure
from planner.costs.work import ZERO, Batch, Definitions, Expressions
from planner.table import RESOURCES


def expressions(structure: Structure) -> Expressions:
    """Return every figure of a replica by name; times in s, sizes in byte, rates in request/s."""
    define = Definitions()
    outputs = _latencies(structure, define) | _memory(structure)
    return Expressions(define.items, outputs)


def _latencies(structure: Structure, define: Definitions) -> dict[str, sympy.Expr]:
    load = _load(define)
    decode = _step(structure, decode_batch(s.padded_batch, s.running), s.captured, "decode", define)
    mixed = _step(structure, chunk_batch(load.chunk), ZERO, "mixed", define)
    full = define("full_step", stage_step(structure, chunk_batch(load.budget), captured=ZERO).total)

    # With p stages, p micro-batches go round and none overtakes: a round takes p times its longest step, so one
    # prompt slows all of them (the bubbles of Sarathi-Serve, OSDI 2024, §3.3).
    slowed = 1 - (1 - load.mixed_share) ** s.pp
    fluid = define("fluid_step", decode.total + slowed * (mixed.total - decode.total))
    spread = _spread(structure, define("stretch", fluid / decode.total), define)
    tpot = define("tpot_mean", s.pp * (fluid + decode.total * spread.slowdown))
    rate = define("replica_rate", s.running / (tpot * (s.osl - 1)))

    # Prompts queue for the budget: M/D/1 with the service time of a prompt at full budget (DistServe, OSDI
    # 2024, §3.1, eq. 1), after the step that is running, which is a long one more often than not.
    service = define("prompt_service", s.isl / load.budget * full)
    prefill_load = define("prompt_load", rate * service)
    squares = load.mixed_share * mixed.total**2 + (1 - load.mixed_share) * decode.total**2
    residual = squares / (2 * (load.mixed_share * mixed.total + (1 - load.mixed_share) * decode.total))
    # Behind another prompt, a prompt starts inside a step and ends half a step later than its own tokens take.
    straddle = prefill_load * mixed.total / 2
    wait = prefill_load * service / (2 * (1 - prefill_load)) + residual + straddle
    prefill = define("prefill_time", sympy.Max(1, s.isl / load.chunk) * mixed.total * s.pp)
    ttft = define("ttft_mean", s.host_request + s.host_prompt_token * s.isl + wait + prefill)
    prefilling = define("prefilling", sympy.Max(1, rate * prefill))
    return {
        "rate": rate,
        "tpot": tpot,
        "ttft": ttft,
        "in_flight": rate * (ttft + (s.osl - 1) * tpot),
        "prefill_load": prefill_load,
        "prefill_inflow": load.inflow,
        "prefill_budget": load.budget,
        "slots_needed": _slots(prefilling, spread.dispersion),
        "kv_likely_tokens": kv_cache.likely_tokens(prefilling, spread.dispersion),
        **_average_resources(decode, mixed, load.mixed_share),
    }


@dataclass(frozen=True, slots=True)
class _Load:
    """Prompt tokens of a step on one stage.

    ``budget``: room beside the decoding requests. ``inflow``: what must be prefilled per step so that as many
    requests start as finish. ``chunk``: what a step with a prompt carries. ``mixed_share``: share of such steps.
    """

    budget: sympy.Expr
    inflow: sympy.Expr
    chunk: sympy.Expr
    mixed_share: sympy.Expr


def _load(define: Definitions) -> _Load:
    decoding = s.running / s.pp
    budget = define("prompt_budget", s.token_budget - decoding)
    inflow = define("prompt_inflow", decoding * s.isl / (s.osl - 1))
    # A prompt, or what has come in meanwhile, or the whole budget: the next prompt fills up what is left.
    chunk = define("chunk", sympy.Min(budget, sympy.Max(s.isl, inflow)))
    return _Load(budget, inflow, chunk, define("mixed_share", inflow / chunk))


def _step(structure: Structure, batch: Batch, captured: sympy.Expr, name: str, define: Definitions) -> Step:
    """Return a step whose total and resources are names."""
    step = stage_step(structure, batch, captured=captured)
    resources = {key: define(f"{name}_{key}", value) for key, value in step.resources.items()}
    return Step(define(f"{name}_step", step.total), resources)


@dataclass(frozen=True, slots=True)
class _Spread:
    """How the number of running requests spreads around its mean, and what that adds to TPOT (relative)."""

    dispersion: sympy.Expr
    slowdown: sympy.Expr


def _spread(structure: Structure, stretch: sympy.Expr, define: Definitions) -> _Spread:
    """Variance over mean of the running requests, and the second-order term of TPOT.

    Were step times constant, the number would be Poisson (M/G/∞). Two effects widen it. Steps grow with the
    batch, with elasticity ε (processor sharing: variance × 1/(1−ε)); and prompts hold up decoding, ``stretch`` r
    times, so that requests finish late and together (arrivals during prefill form Borel batches: × r²).
    TPOT is E[b·S(b)]/E[b], which exceeds S(E[b]) by ε·variance/b² of a decode step, to first order in 1/b. Where r is
    large the term overstates: short outputs after long prompts come out too slow, never too fast.
    tests/validation/test_simulation.py holds the outcome against a simulation.
    """
    whole, half = (
        define(name, stage_step(structure, decode_batch(running / s.pp, running), captured=sympy.Integer(1)).total)
        for name, running in (("smooth_step", s.running), ("smooth_half_step", s.running / 2))
    )
    elasticity = define("elasticity", 2 * (1 - half / whole))
    dispersion = define("dispersion", stretch**2 / sympy.Max(1 - elasticity, sympy.Rational(1, 10)))
    return _Spread(dispersion, elasticity * dispersion / s.running)


def _slots(prefilling: sympy.Expr, dispersion: sympy.Expr) -> sympy.Expr:
    """Requests a replica must be allowed to run so that the limit is rarely reached.

    Mean decoding and prefilling, and z standard deviations of their number; but once the token budget is full of
    decodes and the prompts they need, no more can be running whatever the limit: b_s = p·M·(n_o−1)/(n_i+n_o−1).
    """
    saturated = s.pp * s.token_budget * (s.osl - 1) / (s.isl + s.osl - 1)
    deviations = s.occupancy_sigmas * sympy.sqrt(s.running * dispersion + prefilling)
    least = s.occupancy_sigmas * sympy.sqrt(prefilling)
    return s.running + prefilling + sympy.Max(least, sympy.Min(deviations, saturated - s.running))


def _average_resources(decode: Step, mixed: Step, mixed_share: sympy.Expr) -> dict[str, sympy.Expr]:
    """Time each resource alone would need in the average step [s]; a share of steps carries a prompt."""
    return {
        f"{name}_seconds": mixed_share * mixed.resources[name] + (1 - mixed_share) * decode.resources[name]
        for name in RESOURCES
    }


def _memory(structure: Structure) -> dict[str, sympy.Expr]:
    return {
        "weights_bytes": weights.device_bytes(structure),
        "activations_bytes_per_token": activations.bytes_per_token(structure),
        "activations_bytes_per_request": activations.bytes_per_request(),
        "kv_bytes_per_token": kv_cache.bytes_per_token(structure),
        "kv_tokens_per_request": kv_cache.blocks(s.isl + s.osl),
        "parameters": weights.total_parameters(structure),
        "active_parameters": weights.active_parameters(structure),
    }
