"""Why a plan is what it is: where its time goes, what holds it back, and what each parameter is worth.

Field names carry their unit; times are milliseconds, as in the plan file.
"""

from typing import NamedTuple

from planner.plan import Plan


class Part(NamedTuple):
    """What one operator, or one overhead, adds to the average step of a deployment.

    ``step``: decode, or prompt where prompts share it. ``layer`` is "" for what belongs to the step as a whole.
    ``ms``: its part of the average step; ``by_resource_ms``: what each resource alone would need for it.
    ``bound_by``: the resource that would need longest, or the overhead's own name.
    """

    step: str
    layer: str
    operator: str
    ms: float
    share: float
    by_resource_ms: dict[str, float]
    bound_by: str


class RooflinePoint(NamedTuple):
    """An operator on the roofline of its device, in the step it is in.

    ``flop_per_byte`` of device memory; ``reached_flop_per_s`` over its whole time; ``compute_roof_flop_per_s`` and
    ``memory_roof_byte_per_s`` are what matrix units and memory reach for it, efficiencies included.
    """

    step: str
    layer: str
    operator: str
    share: float
    flop_per_byte: float
    reached_flop_per_s: float
    compute_roof_flop_per_s: float
    memory_roof_byte_per_s: float


class Roofline(NamedTuple):
    """The operators of a deployment with matrix work, and the data sheet of their device: its bf16 rate and memory."""

    points: tuple[RooflinePoint, ...]
    peak_flop_per_s: dict[str, float]
    bandwidth_byte_per_s: float


class Obstacle(NamedTuple):
    """What stands in the way of a configuration: a rule or limit, with the number and the limit in words."""

    name: str
    meaning: str
    detail: str


class Lever(NamedTuple):
    """What a better parameter gives a deployment: relative changes.

    ``factor``: how many times better it is (a time: that much shorter), from ``value`` to ``changed_to`` in ``unit``.
    ``tpot``, ``ttft``: change at the same load, null where the figure does not apply. ``load``: change of the most
    requests/s that a replica of this shape carries within the limits; ``then``: what stops it there.
    """

    resource: str
    parameter: str
    unit: str
    value: float
    changed_to: float
    factor: float
    ttft: float | None
    tpot: float | None
    load: float | None
    then: tuple[str, ...]


class Rung(NamedTuple):
    """A step of the bottleneck ladder: the levers pulled so far, and what binds next.

    ``binds``: the resource that takes longest before; ``next``: the one that does after. ``levers`` are relative to the
    device as it is, each with the effect of all of this rung together.
    """

    binds: tuple[str, ...]
    next: str
    levers: tuple[Lever, ...]


class Elasticity(NamedTuple):
    """Relative change of a metric over that of a symbol, d ln(metric)/d ln(symbol), at the point of the plan.

    ``within_step``: the derivative; between the steps of staircases (tiles, captured graphs) nothing moves them.
    ``across_steps``: over ±5 %, which crosses them. ``smooth``: whether both agree; if not, trust the second for
    changes that large.
    """

    symbol: str
    meaning: str
    unit: str
    value: float
    metric: str
    within_step: float
    across_steps: float
    smooth: bool


class LatencyParts(NamedTuple):
    """What a mean latency is made of [ms], in the order a request meets it."""

    metric: str
    total_ms: float
    parts_ms: dict[str, float]


class DeploymentExplained(NamedTuple):
    """One deployment: its average step, latencies, what binds, and what would change it.

    ``step_ms``: the average step of a pipeline stage. ``by_resource``: share of each resource in it, were they used one
    after the other, as in the plan; ``by_layer`` that of each kind of layer, one after the other indeed. ``bound_by``
    and ``bound_by_engine`` name the largest resource. ``stops``: what the next larger load of the grid would break;
    ``limited_by``: what stops the load of its shape. ``ladder`` and ``levers`` say what to improve first; ``first``
    follows the first lever until something else stops the load.
    """

    name: str
    what: str
    step_ms: float
    steps: dict[str, float]
    by_layer: dict[str, float]
    parts: tuple[Part, ...]
    latencies: tuple[LatencyParts, ...]
    by_resource: dict[str, float]
    bound_by: str
    bound_by_engine: str
    stops: tuple[Obstacle, ...]
    limited_by: tuple[str, ...]
    ladder: tuple[Rung, ...]
    levers: tuple[Lever, ...]
    first: Lever | None
    elasticities: tuple[Elasticity, ...]
    roofline: Roofline


class Constraint(NamedTuple):
    """A requirement of the plan with what it uses of it; it binds where there is no slack to speak of."""

    kind: str
    what: str
    value: float
    limit: float
    unit: str
    binds: bool
    detail: str = ""


class Explanation(NamedTuple):
    """The whole of it, for the plan of one scenario."""

    name: str
    objective: str
    deployments: tuple[DeploymentExplained, ...]
    constraints: tuple[Constraint, ...]
    notes: tuple[str, ...] = ()


class Trade(NamedTuple):
    """One metric of the best plan and of another; ``change`` is relative to the best, null where either is unknown."""

    metric: str
    unit: str
    best: float | None
    other: float | None
    change: float | None


class WhyNot(NamedTuple):
    """Why a plan is not another one: what was asked for, the best plan that has it, and what that costs.

    ``asked`` as read; ``meaning`` in a sentence. ``outside``: what of it the scenario does not search, and was tried
    all the same. ``deployed``: the plan has it already. ``trades`` compare the best plan with the best that has it,
    ``other``; where there is none, ``obstacles`` say what stands in the way, the configuration that comes closest
    first, and ``reasons`` what else.
    """

    asked: dict[str, str | int | list[str]]
    meaning: str
    outside: tuple[str, ...]
    deployed: bool
    trades: tuple[Trade, ...]
    other: Plan | None
    obstacles: tuple[Obstacle, ...]
    reasons: tuple[str, ...]


class Alternative(NamedTuple):
    """Another plan: its rank, what sets it apart from the best, and what it trades."""

    rank: int
    plan: Plan
    trades: tuple[Trade, ...]


class Alternatives(NamedTuple):
    """The best plans in order, the best among them first.

    ``distinct``: what sets two of them apart, shape or settings. ``complete``: whether there are no more within the
    asked distance; ``detail`` says so in a sentence, and what is proven.
    """

    name: str
    objective: str
    distinct: str
    plans: tuple[Alternative, ...]
    complete: bool
    detail: str
