"""Request-level batching: a batch starts together and runs until its longest request ends.

What engines did before Orca (OSDI 2022, §2 and §3.1): whoever ends early waits for the others, whoever comes late for
the next batch. A batch takes all requests that came during the one before, so at a rate λ its mean size is λ times the
cycle, and every size has a rate that keeps it.
"""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, either
from planner.costs.memory import kv_cache
from planner.costs.structure import Structure
from planner.costs.work import ZERO, Definitions


def longest_of(count: sympy.Expr) -> sympy.Expr:
    """Mean of the largest of ``count`` whole numbers, independent and uniform on n_o⁻ … n_o⁺.

    E = n_o⁺ − Σ_{j<m} (j/m)^count with m = n_o⁺ − n_o⁻ + 1 values; the sum by the Euler–Maclaurin formula, which leaves
    an error below 0.2 token for any count.
    """
    values = s.most_osl - s.least_osl + 1
    ends = Larger(0, sympy.Rational(1, 2) - count / (12 * values))
    return either(values - 1, s.most_osl - values / (count + 1) + ends, s.most_osl)


def efficiency() -> sympy.Expr:
    """Share of a batch's steps in which a request still generates: E[n_o]/E[largest of b]; 1 where requests leave."""
    batch = Larger(1, s.running / s.dp)
    return either(s.request_batches, (s.least_osl + s.most_osl) / 2 / longest_of(batch), 1)


@dataclass(frozen=True, slots=True)
class Pace:
    """What a cycle is made of [s].

    ``round``: a token for everyone; ``prefill``: of one prompt alone; ``service``: of one among many; ``host``: before.
    """

    round: sympy.Expr
    prefill: sympy.Expr
    service: sympy.Expr
    host: sympy.Expr


def figures(structure: Structure, pace: Pace, define: Definitions) -> dict[str, sympy.Expr]:
    """Return the figures of a replica that request-level batching changes, by name as in ``serving``.

    A cycle prefills b/d prompts per rank and decodes for the longest of them. A request waits half a cycle for the
    next one to start, and its answer is complete when the batch is.
    """
    batch = s.running / s.dp
    # The mean length of a batch's longest request, for any number of running ones: osl over the efficiency.
    rounds = (s.osl / efficiency() - 1) / s.accepted
    prefill = define("batch_prefill_time", Larger(pace.prefill, batch * pace.service))
    decoding = define("batch_decoding_time", rounds * pace.round)
    cycle = define("batch_cycle_time", prefill + decoding)
    rate, tpot = s.running / cycle, decoding / (s.osl - 1)
    ttft = pace.host + cycle / 2 + prefill
    slots = batch + s.occupancy_sigmas * sympy.sqrt(batch)
    return {
        "rate": rate,
        "tpot": tpot,
        "ttft": ttft,
        "itl": pace.round,
        "in_flight": rate * (ttft + decoding),
        "prefill_load": prefill / cycle,
        "prefill_inflow": ZERO,
        "slots_needed": slots,
        "kv_likely_bytes": slots * kv_cache.reserved_bytes(structure),
        "tpot_steady": tpot,
        "residual_seconds": cycle / 2,
        "prompt_seconds": prefill,
    }


def use_of_cache() -> sympy.Expr:
    """Share of the cache that requests hold in which there are tokens (PagedAttention, SOSP 2023, §3.1, fig. 2)."""
    tokens = s.isl + s.osl / 2
    return tokens / either(s.whole_reserved, Larger(s.longest, tokens), kv_cache.mean_tokens())
