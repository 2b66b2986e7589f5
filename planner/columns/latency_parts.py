"""What TTFT and TPOT of one configuration are made of."""

from collections.abc import Iterator, Mapping

import numpy as np

from planner.columns.evaluate import accepted_tokens
from planner.columns.setting import Setting
from planner.constants import MILLISECONDS_PER_SECOND
from planner.explanation import LatencyParts


def latency_parts(setting: Setting, figures: Mapping[str, float], step: float) -> tuple[LatencyParts, ...]:
    """Return the parts of each mean latency.

    Args:
        setting: what stays fixed.
        figures: those of the configuration, with its axes and symbols.
        step: its average step [s].
    """
    made = {"mixed": _mixed, "prefill": _prefill, "decode": _decode}[setting.role](setting, figures, step)
    return tuple(
        LatencyParts(name, figures[name] * MILLISECONDS_PER_SECOND, _milliseconds(parts)) for name, parts in made
    )


def _milliseconds(parts: Mapping[str, float]) -> dict[str, float]:
    return {name: value * MILLISECONDS_PER_SECOND for name, value in parts.items()}


def _mixed(setting: Setting, f: Mapping[str, float], step: float) -> Iterator[tuple[str, dict[str, float]]]:
    """Whole requests: the queue is what no other part explains, the prompts of others ahead in the rank among it."""
    scale = f["ttft_scale"]
    known = {
        "host": f["host_request_seconds"],
        "rest of the running step": f["residual_seconds"],
        "prefill": f["prompt_seconds"],
    }
    first = {name: value * scale for name, value in known.items()}
    yield "ttft", first | {"queue": f["ttft"] - sum(first.values())}
    decode = f["decode_seconds"]
    yield (
        "tpot",
        {
            "decode steps": decode,
            "prompts in between": f["tpot_steady"] - decode,
            "fuller batches and preemption": f["tpot"] - f["tpot_steady"],
        },
    )


def _prefill(setting: Setting, f: Mapping[str, float], step: float) -> Iterator[tuple[str, dict[str, float]]]:
    host = setting.efficiencies.host
    known = {
        "host": host.request.value + host.prompt_token.value * setting.workload.input_tokens,
        "prefill": f["prompt_seconds"],
    }
    yield "ttft", known | {"queue": f["ttft"] - sum(known.values())}


def _decode(setting: Setting, f: Mapping[str, float], step: float) -> Iterator[tuple[str, dict[str, float]]]:
    tokens = accepted_tokens(setting.speculative.acceptance, np.array([f["speculative_tokens"]]))
    round_time = f["pp"] * step
    yield "ttft", {"rest of the running step": round_time / 2, "first step": f["ttft"] - round_time / 2}
    steady = round_time / float(tokens[0])
    yield "tpot", {"decode steps": steady, "fuller batches and preemption": f["tpot"] - steady}
