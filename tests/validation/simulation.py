"""A discrete-event simulation of one replica, to hold the closed form against.

Steps follow each other: every running request gets a token, then prompts in order of arrival get what is left of
the token budget, as long as fewer than max_num_seqs requests run. Arrivals are Poisson. The time of a step comes from
the same expressions the closed form uses, evaluated at the step's own batch: this checks scheduling, not kernels.
"""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import sympy

from planner.columns import evaluate
from planner.columns.topology import links
from planner.costs.step import stage_step
from planner.costs.structure import Structure
from planner.costs.work import Batch
from planner.table import FORMAT_NAMES

_BATCH = sympy.symbols("tokens decoding context prefill prefill_context prefill_cached rows", nonnegative=True)


class Outcome(NamedTuple):
    """Means over requests [s], share of time at max_num_seqs with requests waiting, and mean requests decoding."""

    ttft: float
    tpot: float
    capped: float
    decoding: float


def step_functions(setting, configuration):
    """Return seconds of a decode step (rows, decoding, context) and of a mixed step, as plain functions."""
    tp, pp, ep = (np.array([float(x)]) for x in (configuration.tp, configuration.pp, configuration.ep))
    weight, kv = (
        np.array([FORMAT_NAMES.index(x)]) for x in (configuration.weight_precision, configuration.kv_precision)
    )
    values = {
        **evaluate.architecture_values(setting.architecture, pp),
        **evaluate._efficiencies(setting.efficiencies, ep),
        **evaluate._precisions(setting, weight, kv),
        **links(setting, tp, pp),
        "tp": tp,
        "pp": pp,
        "ep": ep,
        "hbm_bandwidth": setting.hardware.memory.bandwidth.value,
    }
    numbers = {sympy.Symbol(k, nonnegative=True): float(np.ravel(v)[0]) for k, v in values.items()}
    structure = Structure(setting.architecture.attention, setting.architecture.ffn)
    functions = []
    for captured in (1, 0):
        total = stage_step(structure, Batch(*_BATCH), captured=sympy.Integer(captured)).total
        functions.append(sympy.lambdify(_BATCH, total.xreplace(numbers), modules="math", cse=True))
    return functions


def simulate(case, setting, configuration, rate, requests=3000, seed=1):
    """Simulate one replica at a rate [request/s]; the first fifth and last twentieth of requests are not counted."""
    assert configuration.pp == 1
    graph, eager = step_functions(setting, configuration)
    ladder = setting.engine.graph_capture_sizes.value
    isl, osl = int(case.workload.input_tokens), int(case.workload.output_tokens)
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
            took = eager(decoding + tokens, decoding, context, tokens, attended / tokens, read, decoding + len(ready))
        else:
            rows = next((size for size in ladder if size >= decoding), decoding)
            took = (graph if decoding <= ladder[-1] else eager)(rows, decoding, context, 0.0, 0.0, 0.0, rows)
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
