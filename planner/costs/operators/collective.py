"""Collectives in the alpha-beta model, over the scale-up domain and, where a group is larger, between domains."""

from dataclasses import replace

import sympy

from planner.costs import symbols as s
from planner.costs.functions import Larger, either
from planner.costs.groups import EXPERT_GROUP, TENSOR_GROUP, Group
from planner.costs.work import ONE, Operator, Traffic


def one_shot_pays(size: sympy.Expr, group: Group) -> sympy.Expr:
    """Return a value above zero where sending everything to everybody at once beats two rounds of shares.

    One shot sends (n−1)·size in one round, two shots 2·(n−1)/n·size in two: the first wins while the extra
    (n−1)(n−2)/n·size byte take less than a round's latency. Only within one domain.
    """
    n = group.near
    extra = (n - 1) * (n - 2) / n * size / (group.near_rate * s.link_efficiency)
    return either(group.domains - 1, 0, either(group.latency() - extra, 1, 0))


def all_reduce(name: str, size: sympy.Expr, group: Group = TENSOR_GROUP) -> Operator:
    """All-reduce of ``size`` byte: one-shot or two-shot, whichever is faster, within a domain; hierarchical beyond.

    Two-shot, a reduce-scatter and an all-gather, sends 2·(n−1)/n·size byte per device (Thakur et al., IJHPCA 2005,
    §4.3). Over d domains each device also exchanges its share between them: 2·(d−1)/d·size/n. Nothing is sent in a
    group of one: there α is 0 and n − 1 is 0.
    """
    n, d = group.near, group.domains
    one_shot = one_shot_pays(size, group)
    near = (n - 1) * size * either(one_shot, 1, 2 / n)
    far = 2 * (d - 1) / d * size / n
    return Operator(name=name, traffic=group.traffic(near, far, either(one_shot, 1, 2)))


def all_gather(name: str, size: sympy.Expr, group: Group = TENSOR_GROUP) -> Operator:
    """All-gather to ``size`` byte on every device: (n−1)/n·size byte sent (Thakur et al., §4.1), far shares once."""
    n, d = group.near, group.domains
    return Operator(name=name, traffic=group.traffic((n - 1) / n * size, (d - 1) / d * size / n, ONE))


def one_of(flag: sympy.Expr, yes: Operator, no: Operator) -> Operator:
    """Return a collective that is ``yes`` where ``flag`` is above zero, and ``no`` elsewhere, over the same links."""
    names = ("near_bytes", "far_bytes", "latency")
    chosen = {name: either(flag, getattr(yes.traffic, name), getattr(no.traffic, name)) for name in names}
    return replace(no, traffic=replace(no.traffic, **chosen))


def where(flag: sympy.Expr, operator: Operator) -> Operator:
    """Return a collective that is there where ``flag`` is 1, and not where it is 0."""
    names = ("near_bytes", "far_bytes", "latency")
    return replace(
        operator, traffic=replace(operator.traffic, **{n: flag * getattr(operator.traffic, n) for n in names})
    )


def send(name: str, size: sympy.Expr) -> Operator:
    """Hand-over of ``size`` byte to the next pipeline stage; nothing with one stage, where α is 0."""
    moved = either(s.pp - 1, size, 0)
    return Operator(name=name, traffic=Traffic(moved, s.pp_bandwidth, latency=s.pp_latency))


def exchange(name: str, value_bytes: sympy.Expr, group_tokens: sympy.Expr, width: sympy.Expr) -> Operator:
    """Tokens of every attention rank on their way to the experts, or back; nothing where all ranks hold all tokens.

    With ``all_to_all`` (1) each token goes to the distinct devices that own one of its k experts, on average
    e·(1 − (1 − 1/e)^k) of e; between domains it is sent once per domain, to (D − 1)·(1 − (1 − 1/D)^k) others, and
    handed on there (DeepSeek-V3, arXiv 2412.19437, §3.2.2; CloudMatrix384, arXiv 2506.12708, §4.2.1). Otherwise an
    all-gather brings every token to every device, and a reduce-scatter back.
    """
    group, k = EXPERT_GROUP, s.experts_per_token
    near, domains = group.near, group.domains
    own = group_tokens / group.size * width * value_bytes * either(s.dp - 1, 1, 0)
    # Experts split over several devices need the token on each of them.
    owners = s.ep * (1 - (1 - 1 / s.ep) ** k) * group.size / s.ep
    far = (domains - 1) * either(s.all_to_all, 1 - (1 - 1 / domains) ** k, 1)
    latency = either(s.dp - 1, Larger(s.exchange_latency, group.near_latency) + group.far_latency, 0)
    return Operator(
        name=name,
        traffic=Traffic(
            near_bytes=own * either(s.all_to_all, owners * (near - 1) / near, domains * (near - 1)),
            near_rate=group.near_rate,
            far_bytes=own * far,
            far_rate=group.far_rate,
            latency=latency,
        ),
    )
