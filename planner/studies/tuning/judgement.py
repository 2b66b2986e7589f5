"""Whether what a trial measured can be: of the load that was asked for, and not beyond the data sheet."""

import math

from planner.constants import MILLISECONDS_PER_SECOND
from planner.importers import Measured
from planner.studies.tuning.candidates import Candidates
from planner.studies.tuning.outcomes import TPOT, TTFT

_OTHER_LOAD = 0.1  # relative difference of lengths from which a run measured another load
_ROUNDING = 0.95  # of a physical bound, what a measured time may lie at: clocks and mean lengths are not exact
_FASTER = (
    "more than the data sheet allows. Either caches of earlier prompts answered (turn prefix caching off or use random "
    "prompts), drafts were accepted (turn speculation off or state it in the scenario), another model, precision or "
    "device ran, or the client counts tokens wrong"
)


def unfit(candidates: Candidates, index: int, run: Measured) -> str:
    """Return why a run says nothing about the candidate at an index; empty where it does."""
    wanted, asked = candidates.every[index].clients, candidates.workload
    if run.open_loop:
        return f"it is no closed loop: {run.open_loop}"
    if run.concurrency not in (0, wanted):
        return f"it ran with {run.concurrency} clients instead of {wanted}"
    for name, got, length in (("input", run.isl, asked.input_tokens), ("output", run.osl, asked.output_tokens)):
        if not abs(got - length) <= _OTHER_LOAD * length:
            return f"its requests had {got:.4g} {name} tokens on average instead of {length:g}"
    if run.failed:
        every = run.completed + run.failed
        return f"{run.failed} of {every} requests failed, so the load was smaller than asked"
    if run.completed < wanted:
        return f"{run.completed} requests cannot keep {wanted} clients busy"
    return ""


def impossible(candidates: Candidates, index: int, ttft: float, tpot: float) -> str:
    """Return how measured times [s] contradict physics; empty where they do not.

    A lone request on perfect software is the least of both times; requests that share steps are not faster.
    """
    least = candidates.least[:, index]
    for name, seconds, bound in (("TTFT", ttft, least[TTFT]), ("TPOT", tpot, least[TPOT])):
        if not math.isfinite(seconds) or seconds <= 0:
            return f"{name} is {seconds}, which is no time"
        if seconds < _ROUNDING * bound:
            shown, limit = (value * MILLISECONDS_PER_SECOND for value in (seconds, float(bound)))
            return (
                f"{name} of {shown:.4g} ms is less than the {limit:.4g} ms of a lone request at full rates: {_FASTER}"
            )
    outcomes = candidates.outcomes
    rate = outcomes.clients[index] / (ttft + (outcomes.osl[index] - 1) * tpot)
    if rate * _ROUNDING > candidates.most_rate[index]:
        most = float(candidates.most_rate[index])
        return f"{rate:.4g} request/s are more than the {most:.4g} of a replica at full rates: {_FASTER}"
    return ""
