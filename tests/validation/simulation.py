"""Discrete-event simulations of one replica, to hold the closed forms against: mixed, prefill only, decode only.

Steps follow each other: every running request gets a token, then prompts in order of arrival get what is left of
the token budget, as long as fewer than max_num_seqs requests run. Arrivals are Poisson. The time of a step comes from
the same expressions the closed form uses, evaluated at the step's own batch: this checks scheduling, not kernels.
"""

import functools
import math
import types
from collections import deque
from typing import NamedTuple

import numpy as np
import sympy

from planner.columns import evaluate
from planner.columns.grid import encode
from planner.costs.codegen import _Printer
from planner.costs.step import stage_step
from planner.costs.structure import Structure
from planner.costs.work import Batch
from planner.table import AXES

_BATCH = Batch(*(sympy.Symbol(f"batch_{name}", nonnegative=True) for name in Batch.__dataclass_fields__))
# Both branches of a choice are computed: without requests or prompts, one of them divides by a number of rounds.
_PLAIN = {"ceil": lambda x: math.ceil(x) or 1e-300}
_PLAIN |= {"maximum": max, "minimum": min, "sqrt": math.sqrt, "cbrt": math.cbrt, "log": math.log}
_PLAIN |= {"where": lambda flag, yes, no: yes if flag else no}


class Outcome(NamedTuple):
    """Means over requests [s], share of time at max_num_seqs with requests waiting, and mean requests decoding."""

    ttft: float
    tpot: float
    capped: float
    decoding: float


def step_functions(setting, configuration):
    """Return seconds of a step in a captured graph and of one without, as plain functions of a batch's fields."""
    given = configuration._asdict() | {"overlaps": 0}
    values = evaluate.symbol_values(setting, {axis: np.array([encode(axis, given[axis])]) for axis in AXES})
    numbers = {sympy.Symbol(k, nonnegative=True): sympy.Float(float(np.ravel(v)[0])) for k, v in values.items()}
    structure = Structure(*evaluate.structure_of(setting)[:3])
    totals = (stage_step(structure, _BATCH, captured=sympy.Integer(captured)).total for captured in (1, 0))
    return [_plain_function(total.xreplace(numbers)) for total in totals]


def _plain_function(expr):
    """A function of floats; NumPy's would take ten times as long on single numbers."""
    printer = _Printer({"fully_qualified_modules": True})
    common, (result,) = sympy.cse([expr], order="none")
    lines = [f"def step({', '.join(f'batch_{name}' for name in Batch.__dataclass_fields__)}):"]
    lines += [f"    {symbol} = {printer.doprint(part)}" for symbol, part in common]
    namespace = {"numpy": types.SimpleNamespace(**_PLAIN), "cube": lambda x: x * x * x}
    exec("\n".join([*lines, f"    return {printer.doprint(result)}"]), namespace)
    return namespace["step"]


def simulate(setting, configuration, rate, requests=3000, seed=1):
    """Simulate one replica at a rate [request/s]; the first fifth and last twentieth of requests are not counted."""
    assert configuration.pp == configuration.attention_dp == 1
    graph, eager = step_functions(setting, configuration)
    ladder = setting.engine.graph_capture_sizes.value
    isl, osl = int(setting.workload.input_tokens), int(setting.workload.output_tokens)
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))
    first, done = np.zeros(requests), np.zeros(requests)
    waiting, prefilling = deque(), deque()
    ids, left = np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    now, arrived, finished, capped, area, cached = 0.0, 0, 0, 0.0, 0.0, 0
    while finished < requests:
        while arrived < requests and arrivals[arrived] <= now:
            waiting.append(arrived)
            arrived += 1
        decoding, budget = len(ids), configuration.max_num_batched_tokens - len(ids)
        tokens, attended, read, ready = 0, 0.0, 0, []
        while budget > 0 and (
            prefilling or (waiting and decoding + len(prefilling) + len(ready) < configuration.max_num_seqs)
        ):
            request, computed = prefilling.popleft() if prefilling else (waiting.popleft(), 0)
            part = min(budget, isl - computed)
            tokens, budget = tokens + part, budget - part
            attended, read = attended + part * (computed + part / 2), read + computed + part
            if computed + part == isl:
                ready.append(request)
            else:
                prefilling.append((request, computed + part))
        if not decoding and not tokens:
            now = arrivals[arrived]
            continue
        context = cached / decoding if decoding else 0.0
        if tokens:
            mean, sampled, every = attended / tokens, decoding + len(ready), decoding + tokens
            took = eager(every, decoding, 1.0, context, tokens, mean, read, sampled, every, 0.0)
        else:
            rows = next((size for size in ladder if size >= decoding), decoding)
            step = graph if decoding <= ladder[-1] else eager
            took = step(rows, decoding, 1.0, context, 0.0, 0.0, 0.0, rows, rows, 0.0)
        if waiting and decoding + len(prefilling) + len(ready) >= configuration.max_num_seqs:
            capped += took
        now, area = now + took, area + decoding * took
        cached += decoding
        left = left - 1
        over = left == 0
        done[ids[over]] = now
        finished += int(over.sum())
        cached -= int(over.sum()) * (isl + osl - 1)
        first[ready] = now
        ids = np.concatenate([ids[~over], np.array(ready, dtype=int)])
        left = np.concatenate([left[~over], np.full(len(ready), osl - 1)])
        cached += len(ready) * isl
    counted = slice(requests // 5, math.floor(requests * 0.95))
    host = setting.efficiencies.host
    before = host.request.value + host.prompt_token.value * isl
    ttft = float((first - arrivals)[counted].mean()) + before
    return Outcome(ttft, float((done - first)[counted].mean()) / (osl - 1), capped / now, area / now)


def host_time(setting):
    """Seconds before a request reaches the queue."""
    host = setting.efficiencies.host
    return host.request.value + host.prompt_token.value * setting.workload.input_tokens


def simulate_prefill(setting, configuration, rate, requests=20_000, seed=1):
    """Simulate prompts alone; return the mean TTFT [s] of the counted ones, and the share of time spent on steps.

    Prompts in order of arrival fill the token budget of every step; they are cut where they do not fit, as long as the
    engine cuts them. A step goes through the stages one after the other, each of which works on one step at a time.
    """
    assert configuration.attention_dp == 1
    _, eager = step_functions(setting, configuration)
    isl, budget = int(setting.workload.input_tokens), configuration.max_num_batched_tokens
    cut = configuration.prefill_policy.endswith("chunked")
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))
    first = np.zeros(requests)
    seconds = functools.cache(lambda *batch: eager(*batch))
    now, busy, finished, computed = 0.0, 0.0, 0, 0
    free = [0.0] * configuration.pp
    while finished < requests:
        if arrivals[finished] > now:
            now = arrivals[finished]
        left, tokens, attended, read, ready, place, done = budget, 0, 0.0, 0, 0, finished, computed
        while place < requests and arrivals[place] <= now and left > 0:
            part = min(left, isl - done)
            if not cut and part < isl and tokens:
                break
            part = part if cut else isl
            tokens, left = tokens + part, left - part
            attended, read = attended + part * (done + part / 2), read + done + part
            ready, place, done = (ready + 1, place + 1, 0) if done + part == isl else (ready, place, done + part)
        took = seconds(tokens, 0.0, 1.0, 0.0, tokens, attended / tokens, read, ready, tokens, 0.0)
        done_at = now
        for stage, since in enumerate(free):
            done_at = free[stage] = max(done_at, since) + took
        now, busy = free[0], busy + took
        first[finished : finished + ready] = done_at
        finished, computed = finished + ready, done
    counted = slice(requests // 5, math.floor(requests * 0.95))
    return float((first - arrivals)[counted].mean()) + host_time(setting), busy / now


def simulate_decode(setting, configuration, rate, requests=4000, seed=1):
    """Simulate requests whose caches arrive as a Poisson stream; each joins at the end of the step that is running."""
    assert configuration.pp == configuration.attention_dp == 1
    graph, eager = step_functions(setting, configuration)
    ladder = setting.engine.graph_capture_sizes.value
    isl, osl = int(setting.workload.input_tokens), int(setting.workload.output_tokens)
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, requests))
    first, done = np.zeros(requests), np.zeros(requests)
    ids, left = np.zeros(0, dtype=int), np.zeros(0, dtype=int)
    now, arrived, finished, area, cached = 0.0, 0, 0, 0.0, 0
    while finished < requests:
        if not len(ids) and arrivals[arrived] > now:
            now = arrivals[arrived]
        until = int(np.searchsorted(arrivals, now, side="right"))
        new = np.arange(arrived, until)
        ids, left = np.concatenate([ids, new]), np.concatenate([left, np.full(len(new), osl)])
        cached, arrived = cached + len(new) * isl, until
        decoding = len(ids)
        rows = next((size for size in ladder if size >= decoding), decoding)
        step = graph if decoding <= ladder[-1] else eager
        took = step(rows, decoding, 1.0, cached / decoding, 0.0, 0.0, 0.0, rows, rows, 0.0)
        now, area, cached = now + took, area + decoding * took, cached + decoding
        first[ids[left == osl]] = now
        left = left - 1
        over = left == 0
        done[ids[over]] = now
        finished += int(over.sum())
        cached -= int(over.sum()) * (isl + osl)
        ids, left = ids[~over], left[~over]
    counted = slice(requests // 5, math.floor(requests * 0.95))
    tpot = float((done - first)[counted].mean()) / (osl - 1)
    return Outcome(float((first - arrivals)[counted].mean()), tpot, 0.0, area / now)
