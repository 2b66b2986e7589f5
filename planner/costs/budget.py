"""Where the average step goes: the parts of its time by step, layer and operator.

The sum over all parts is the mean step of ``serving`` and ``disaggregated``, whose resources stand in the plan. A step
without prompts (``decode``) and one with them (``prompt``) each count by their weight.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import sympy

from planner.costs import symbols as s
from planner.costs.disaggregated import filled_tokens
from planner.costs.functions import Larger, either
from planner.costs.serving import load_of, prompt_batch
from planner.costs.step import chunk_batch, decode_batch, draft_seconds, stage_step, timed_layers
from planner.costs.structure import Structure
from planner.costs.work import ONE, ZERO, Batch, Definitions, Expressions

SEPARATOR = "__"
RESOURCES = ("compute", "vector", "hbm", "link", "latency")


class _Weighted(NamedTuple):
    """A step of the mix: how often it comes, whether it is a captured graph, and its drafts [s]."""

    name: str
    weight: sympy.Expr
    batch: Batch
    captured: sympy.Expr
    draft: sympy.Expr


def mixed_expressions(structure: Structure) -> Expressions:
    """Return the parts of the average step of a replica that serves whole requests; see ``_parts``."""
    define = Definitions()
    draft = _draft(structure, define)
    load = load_of(define)
    # Where prompts do not share steps with decodes, the decode step comes as well.
    without = either(s.mixed_steps, 1 - load.mixed_share, 1)
    decode = _Weighted("decode", without, decode_batch(s.padded_batch, s.running), s.captured, draft)
    prompts = prompt_batch(load.chunk, load.group)
    return _parts(
        structure, define, [decode, _Weighted("prompt", load.mixed_share, prompts, ZERO, s.mixed_steps * draft)]
    )


def prefill_expressions(structure: Structure) -> Expressions:
    """Return the parts of a full step of a replica that only prefills; see ``_parts``."""
    define = Definitions()
    full = chunk_batch(define("filled", filled_tokens()), None, decoding=ZERO)
    return _parts(structure, define, [_Weighted("prompt", ONE, full, ZERO, ZERO)])


def decode_expressions(structure: Structure) -> Expressions:
    """Return the parts of a step of a replica that only decodes; see ``_parts``."""
    define = Definitions()
    draft = _draft(structure, define)
    batch = decode_batch(s.padded_batch, s.running)
    return _parts(structure, define, [_Weighted("decode", ONE, batch, s.captured, draft)])


def _draft(structure: Structure, define: Definitions) -> sympy.Symbol:
    return define("draft_step", s.drafts * draft_seconds(structure))


def _parts(structure: Structure, define: Definitions, steps: Sequence[_Weighted]) -> Expressions:
    """Return the parts of an average step by name, and the step itself.

    Names are joined by two underscores. ``step__weight`` [1]; ``step__layer__layers`` [1], ``step__layer__saved`` and
    ``step__layer__floor`` [s], of one layer; ``step__layer__operator__field`` of one operator of one layer, where the
    field is seconds or a resource [s], flops, vector_flops [flop], bytes, link_bytes [byte], or a rate that bounds it:
    peak [flop/s] and bandwidth [byte/s], as far as they are reached; ``step__overhead__name`` [s]. ``mean_step`` [s] is
    the whole, ``remainder`` [s] what a step with prompts waits for its decodes beyond its own time.
    """
    outputs: dict[str, sympy.Expr] = {}
    totals = {}
    for step in steps:
        whole = stage_step(structure, step.batch, captured=step.captured, draft=step.draft)
        totals[step.name] = define(f"{step.name}_total", whole.total)
        outputs[_name(step.name, "weight")] = step.weight
        outputs |= {_name(step.name, "overhead", name): value for name, value in whole.overheads.items()}
        outputs |= dict(_layers(structure, step))
    mean = sum((step.weight * totals[step.name] for step in steps), ZERO)
    left = _remainder(steps, totals)
    return Expressions(define.items, outputs | {"mean_step": mean + left, "remainder": left})


def _remainder(steps: Sequence[_Weighted], totals: dict[str, sympy.Symbol]) -> sympy.Expr:
    """A step with prompts is no shorter than its decodes alone."""
    if len(steps) == 1:
        return ZERO
    (prompt,) = [step for step in steps if step.name == "prompt"]
    short = either(s.mixed_steps, Larger(0, totals["decode"] - totals["prompt"]), 0)
    return prompt.weight * short


def _layers(structure: Structure, step: _Weighted) -> Iterator[tuple[str, sympy.Expr]]:
    for timed in timed_layers(structure, step.batch):
        layer = timed.layer.name
        yield _name(step.name, layer, "layers"), timed.layers
        yield _name(step.name, layer, "saved"), timed.saved
        # Launched one by one, layers still have their floors: see ``stage_step``.
        yield _name(step.name, layer, "floor"), timed.layer.launch_floor()
        for operator, time in timed.operators:
            traffic = operator.traffic
            fields = {
                "seconds": time.total,
                **{resource: getattr(time, resource) for resource in RESOURCES},
                "flops": operator.flops,
                "vector_flops": operator.vector_flops,
                "bytes": operator.hbm_bytes,
                "link_bytes": traffic.near_bytes + traffic.far_bytes,
                "peak": operator.part.rate * operator.part.mfu * operator.occupancy,
                "bandwidth": s.hbm_bandwidth * operator.part.mbu,
            }
            yield from ((_name(step.name, layer, operator.name, field), value) for field, value in fields.items())


def _name(*parts: str) -> str:
    return SEPARATOR.join(parts)
