"""One engine step on one pipeline stage."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import sympy

from planner.costs import symbols as s
from planner.costs.devices.seconds import Seconds
from planner.costs.functions import Larger, Smaller, both, either
from planner.costs.layers import head
from planner.costs.memory.stage import stage_layers
from planner.costs.operators.collective import send
from planner.costs.overlaps import saved
from planner.costs.structure import Structure, in_stage
from planner.costs.work import ONE, ZERO, Batch, Layer, Operator
from planner.table import RESOURCES

ATTENTION_KERNELS = frozenset(
    ("attention_decode", "attention_prefill", "select_tokens", "linear_attention_decode", "linear_attention_prefill")
)


@dataclass(frozen=True, slots=True)
class Step:
    """Time of a step [s], and the time each resource alone would need [s], by name in ``table.RESOURCES``.

    ``attention``: time of the kernels that read the KV cache, part of the total [s]. ``overheads``: what the total
    holds beside its layers [s]: drafts, launches beyond the work, the host where it is waited for, and the measured
    step over the modelled one.
    """

    total: sympy.Expr
    resources: dict[str, sympy.Expr]
    attention: sympy.Expr
    overheads: dict[str, sympy.Expr] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TimedLayer:
    """``layers`` of one kind in a stage, the times of their operators, and what overlaps save in each [s]."""

    layer: Layer
    layers: sympy.Expr
    operators: tuple[tuple[Operator, Seconds], ...]
    saved: sympy.Expr

    @property
    def seconds(self) -> sympy.Expr:
        """Time of one layer on the device and its links, floors left out [s]."""
        return sum((time.total for _, time in self.operators), ZERO) - self.saved


def rank_running() -> sympy.Expr:
    """Requests decoding on one attention rank, in one of the micro-batches that go round its stages."""
    return s.running / (s.pp * s.dp)


def busiest_rank(running: sympy.Expr = s.running) -> sympy.Expr:
    """Requests on the rank and micro-batch that holds most: they are dealt out evenly, but come whole."""
    return Larger(running / (s.pp * s.dp), Smaller(1, running))


def queries() -> sympy.Expr:
    """Rows per decoding request: its last token, and the drafts to verify."""
    return 1 + s.drafts


def decode_context(requests: sympy.Expr) -> sympy.Expr:
    """Cached tokens per request of the attention rank that holds most, since all ranks step together.

    A request is at a random point of its output: mean n_i + n_o/2, variance n_o²/12. The largest of d sums over
    ``requests`` requests lies √(2·ln d)·σ above the mean (Gaussian bound), never above the whole length.
    """
    above = s.osl * sympy.sqrt(sympy.log(s.dp) / (6 * Larger(1, requests)))
    return s.isl + Smaller(s.osl, s.osl / 2 + above)


def decode_batch(rows: sympy.Expr, running: sympy.Expr) -> Batch:
    """Each of the running requests gains a token; ``rows`` requests count the padding to a captured graph.

    Where requests come at random, their number varies like a Poisson number at least.
    """
    requests = busiest_rank(running)
    return Batch(
        tokens=rows * queries(),
        decoding=requests,
        queries=queries(),
        decode_context=decode_context(requests),
        prefill=ZERO,
        prefill_context=ZERO,
        prefill_cached=ZERO,
        logit_rows=rows * queries(),
        group_tokens=s.dp * rows * queries(),
        spread=s.batch_varies * sympy.sqrt(rows) * queries(),
    )


def chunk_batch(
    tokens: sympy.Expr,
    group_prefill: sympy.Expr | None = None,
    *,
    decoding: sympy.Expr | None = None,
    last: bool = False,
) -> Batch:
    """``tokens`` of prompts join the decoding requests of a step (Sarathi-Serve, OSDI 2024, §4.2).

    A prompt token attends to half its prompt on average, and each chunk reads the keys and values before it; the
    ``last`` chunk of a prompt attends to nearly all of it, and takes longest. ``group_prefill``: prompt tokens over all
    attention ranks. ``decoding``: requests that decode beside it, all of the rank's where not given.
    """
    requests = busiest_rank() if decoding is None else decoding
    every = s.dp * tokens if group_prefill is None else group_prefill
    mean_cached = Larger(tokens, (s.isl + tokens) / 2)
    return Batch(
        tokens=requests * queries() + tokens,
        decoding=requests,
        queries=queries(),
        decode_context=decode_context(requests),
        prefill=tokens,
        prefill_context=Larger(s.isl / 2, s.isl - tokens / 2) if last else s.isl / 2,
        prefill_cached=Larger(tokens, s.isl) if last else mean_cached,
        logit_rows=requests * queries() + Larger(1, tokens / s.isl),
        group_tokens=s.dp * requests * queries() + every,
    )


def timed_layers(structure: Structure, batch: Batch) -> Iterator[TimedLayer]:
    """Yield every kind of layer of a stage, then its ends: the head and the hand-over to the next stage."""
    hand_over = Layer("hand_over", (send("send", batch.tokens * s.hidden * s.activation_bytes),))
    inner = [(kind.layer(batch), in_stage(kind)) for kind in structure.kinds]
    for layer, layers in [*inner, (head.layer(batch), ONE), (hand_over, ONE)]:
        timed = [(operator, structure.machine.seconds(operator)) for operator in layer.operators]
        yield TimedLayer(layer, layers, tuple(timed), saved(timed, batch, structure.machine))


def stage_step(structure: Structure, batch: Batch, *, captured: sympy.Expr, draft: sympy.Expr = ZERO) -> Step:
    """Time of a step on the slowest stage: its layers, the head, the hand-over, drafts, and the host.

    In a captured graph (``captured`` is 1) every layer takes its floor on top of its work; launched one by one
    (0), the stage takes at least its layers' launches. The host's time adds up where the engine schedules between
    steps, and hides behind the device's where it schedules ahead.
    """
    layers = list(timed_layers(structure, batch))
    device = sum((timed.layers * timed.seconds for timed in layers), draft)
    floors = sum((timed.layers * timed.layer.launch_floor() for timed in layers), ZERO)
    launches = stage_layers() * s.eager_floor
    host = s.host_step + s.host_sequence * batch.decoding
    busy = either(captured, device + floors, both(device + floors, launches))

    def alone(resource: str) -> sympy.Expr:
        return sum((timed.layers * getattr(time, resource) for timed in layers for _, time in timed.operators), ZERO)

    values = (
        alone("compute"), alone("vector"), alone("hbm"), alone("link"),
        alone("latency") + either(captured, floors, Larger(floors, launches)), host,
    )  # fmt: skip
    kernels = [(timed.layers, t) for timed in layers for o, t in timed.operators if o.name in ATTENTION_KERNELS]
    waited = either(s.host_overlap, Larger(busy + s.host_exposed * host, host), busy + host)
    return Step(
        total=s.step_scale * waited,
        resources=dict(zip(RESOURCES, values, strict=True)),
        attention=sum((count * time.total for count, time in kernels), ZERO),
        overheads={
            "drafts": draft,
            "launches": busy - device - floors,
            "host": waited - busy,
            "measured": (s.step_scale - 1) * waited,
        },
    )


def draft_seconds(structure: Structure) -> sympy.Expr:
    """Time of one draft token [s]: a pass of the model's own draft module (MTP), or of a separate draft model.

    The module is one more layer of the last kinds, with the head (DeepSeek-V3, arXiv 2412.19437, §2.2; so is a head
    trained for a model, EAGLE-3, arXiv 2503.01840, §3). Its passes follow one another, each launched and sampled from
    on its own (CloudMatrix384, arXiv 2506.12708, §4.2.4).
    """
    requests = busiest_rank()
    context = decode_context(requests)
    batch = Batch(s.padded_batch, requests, ONE, context, ZERO, ZERO, ZERO, s.padded_batch, s.dp * s.padded_batch)
    total = ZERO
    for layer in (structure.attention_kinds[-1].layer(batch), structure.ffn_kinds[-1].layer(batch), head.layer(batch)):
        total += sum((structure.machine.seconds(operator).total for operator in layer.operators), layer.floor)
    return either(s.draft_layers, total + s.draft_floor, 0) + s.draft_seconds
