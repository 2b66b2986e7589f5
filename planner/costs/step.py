"""One engine step on one pipeline stage."""

from dataclasses import dataclass

import sympy

from planner.costs import symbols as s
from planner.costs.devices.roofline import overlap, seconds
from planner.costs.layers import head
from planner.costs.memory.weights import stage_layers
from planner.costs.operators.collective import send
from planner.costs.structure import Structure
from planner.costs.work import ZERO, Batch, Layer
from planner.table import RESOURCES


@dataclass(frozen=True, slots=True)
class Step:
    """Time of a step [s], and the time each resource alone would need [s], by name in ``table.RESOURCES``."""

    total: sympy.Expr
    resources: dict[str, sympy.Expr]


def decode_batch(rows: sympy.Expr, running: sympy.Expr) -> Batch:
    """Each of the running requests produces one token; ``rows`` counts the padding to a captured graph."""
    return Batch(
        tokens=rows,
        decoding=running / s.pp,
        decode_context=s.isl + s.osl / 2,
        prefill=ZERO,
        prefill_context=ZERO,
        prefill_cached=ZERO,
        logit_rows=rows,
    )


def chunk_batch(tokens: sympy.Expr) -> Batch:
    """``tokens`` of prompts join the decoding requests of a step (Sarathi-Serve, OSDI 2024, §4.2).

    A prompt token attends to half its prompt on average, and each chunk reads the keys and values before it.
    """
    decoding = s.running / s.pp
    return Batch(
        tokens=decoding + tokens,
        decoding=decoding,
        decode_context=s.isl + s.osl / 2,
        prefill=tokens,
        prefill_context=s.isl / 2,
        prefill_cached=sympy.Max(tokens, (s.isl + tokens) / 2),
        logit_rows=decoding + sympy.Max(1, tokens / s.isl),
    )


def stage_step(structure: Structure, batch: Batch, *, captured: sympy.Expr) -> Step:
    """Time of a step on the slowest stage: its layers, the head, the hand-over, and the host.

    In a captured graph (``captured`` is 1) every layer takes its floor on top of its work; launched one by one
    (0), the stage takes at least its layers' launches. Host time adds up (synchronous scheduling).
    """
    layers = [structure.attention.layer(batch), structure.ffn.layer(batch)]
    ends = [
        head.layer(batch),
        Layer("hand_over", (send("send", batch.tokens * s.hidden * s.activation_bytes),)),
    ]
    timed = [(stage_layers(), op) for layer in layers for op in layer.operators]
    timed += [(sympy.Integer(1), op) for layer in ends for op in layer.operators]
    parts = [(count, seconds(op)) for count, op in timed]
    device = sum((count * part.total for count, part in parts), ZERO)
    floors = stage_layers() * sum((layer.floor for layer in layers), ZERO)
    launches = stage_layers() * s.eager_floor
    host = s.host_step + s.host_sequence * batch.decoding
    latency = sum((count * part.latency for count, part in parts), ZERO)
    floored = device + floors
    return Step(
        total=_either(captured, floored, overlap(floored, launches)) + host,
        resources=dict(
            zip(
                RESOURCES,
                (
                    sum((count * part.compute for count, part in parts), ZERO),
                    sum((count * part.hbm for count, part in parts), ZERO),
                    sum((count * part.link for count, part in parts), ZERO),
                    latency + _either(captured, floors, sympy.Max(floors, launches)),
                    host,
                ),
                strict=True,
            )
        ),
    )


def _either(condition: sympy.Expr, yes: sympy.Expr, no: sympy.Expr) -> sympy.Expr:
    """Return one of two expressions by a symbol that is 1 or 0."""
    return sympy.Piecewise((yes, condition > 0), (no, True)) if condition.free_symbols else (yes if condition else no)
