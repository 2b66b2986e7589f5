"""Migrations against breadth-first search over all orders, on small random instances, some of them infeasible."""

import itertools

import numpy as np
import pytest

from formulations import migration as formulation
from planner.migration import Arriving, Kind, Migration, Node, Standing
from planner.optimizers.migration import shortest
from planner.solvers import solver
from planner.studies.infeasible import infeasible_migration
from planner.verify.migration import migration_violations

INSTANCES = 200
_RATES = (1.0, 2.0, 3.0, 5.0)


def instance(seed):
    """One or two nodes, up to three replicas that leave and three that arrive, of up to two kinds each."""
    rng = np.random.default_rng(seed)
    nodes = tuple(Node("h100", i + 1, int(rng.integers(2, 6))) for i in range(rng.integers(1, 3)))
    left = [node.devices for node in nodes]

    def kind(name, role="mixed"):
        return Kind(name, "chat", role, int(rng.integers(1, 4)), float(rng.choice(_RATES)), int(rng.integers(1, 3)))

    paired = rng.random() < 0.25
    roles = ("prefill", "decode") if paired else ("mixed", "mixed")
    leaving, staying = [], []
    for number, role in enumerate(roles):
        k = kind(f"old-{number}", role)
        fitting = [n for n, room in enumerate(left) if room >= k.devices]
        if not fitting:
            continue
        n = int(rng.choice(fitting))
        count = min(int(rng.integers(1, 3)), left[n] // k.devices)
        left[n] -= count * k.devices
        (staying if rng.random() < 0.2 else leaving).append(Standing(k, (n,), count))
    arriving = []
    for number, role in enumerate(roles):
        k = kind(f"new-{number}", role)
        places = tuple((n,) for n, node in enumerate(nodes) if node.devices >= k.devices)
        if places:
            arriving.append(Arriving(k, int(rng.integers(1, 3)) if number == 0 else 1, places))
    move = Migration(nodes, tuple(leaving), tuple(staying), tuple(arriving), {})
    start = rate_of(move, [1] * len(units(move)[0]), [0] * len(units(move)[1]))
    return move._replace(needs={"chat": float(rng.uniform(0, 1.0) * start)})


def units(move):
    """Replicas one by one: those that leave with their place, those that arrive with the places they may take."""
    old = [(part.kind, part.place) for part in move.leaving for _ in range(part.replicas)]
    new = [(part.kind, part.places) for part in move.arriving for _ in range(part.replicas)]
    return old, new


def rate_of(move, old_serves, new_serves):
    rates = dict.fromkeys(("mixed", "prefill", "decode"), 0.0)
    old, new = units(move)
    for (kind, _), serves in (*zip(old, old_serves, strict=True), *zip(new, new_serves, strict=True)):
        rates[kind.role] += serves * kind.rate
    for part in move.staying:
        rates[part.kind.role] += part.replicas * part.kind.rate
    return rates["mixed"] + min(rates["prefill"], rates["decode"])


def searched(move):
    """The fewest ticks of any order, None where there is none: a state is what every replica does, and where.

    Replicas that leave: None before, then ticks left to drain, 0 when gone. Those that arrive: None before, then (ticks
    left to load, node).
    """
    old, new = units(move)
    start = ((None,) * len(old), (None,) * len(new))
    seen, front, ticks = {start}, [start] if allowed(move, start) else [], 0
    while front:
        if any(all(left == 0 for left in leave) and all(at and at[0] == 0 for at in come) for leave, come in front):
            return ticks
        started = {state for before in front for state in choices(move, before) if allowed(move, state)}
        front = [state for state in map(later, started) if state not in seen and allowed(move, state)]
        front, ticks = list(dict.fromkeys(front)), ticks + 1
        seen.update(front)
    return None


def allowed(move, state):
    """Whether nodes have room for what is on them, and what serves is enough."""
    (old, new), (leave, come) = units(move), state
    room = [node.devices for node in move.nodes]
    for part in move.staying:
        room[part.place[0]] -= part.replicas * part.kind.devices
    for (kind, place), left in zip(old, leave, strict=True):
        room[place[0]] -= kind.devices if left != 0 else 0
    for (kind, _), at in zip(new, come, strict=True):
        if at is not None:
            room[at[1]] -= kind.devices
    serves = rate_of(move, [left is None for left in leave], [at is not None and at[0] == 0 for at in come])
    return min(room) >= 0 and serves >= move.needs["chat"] * (1 - 1e-9)


def choices(move, state):
    """All ways to begin draining or loading some replicas now."""
    (old, new), (leave, come) = units(move), state
    drains = [(None, kind.ticks) if left is None else (left,) for (kind, _), left in zip(old, leave, strict=True)]
    loads = [
        (None, *((kind.ticks, place[0]) for place in places)) if at is None else (at,)
        for (kind, places), at in zip(new, come, strict=True)
    ]
    for chosen in itertools.product(*drains, *loads):
        yield chosen[: len(old)], chosen[len(old) :]


def later(state):
    """The state one tick on."""
    leave, come = state
    return (
        tuple(left if left is None else max(left - 1, 0) for left in leave),
        tuple(at if at is None else (max(at[0] - 1, 0), at[1]) for at in come),
    )


@pytest.fixture(scope="module")
def answers():
    return [
        (move, searched(move), shortest(move, formulation.build, solver("cp-sat").solve, 60.0))
        for move in map(instance, range(INSTANCES))
    ]


def test_the_shortest_order_is_that_of_exhaustive_search(answers):
    for seed, (_, ticks, order) in enumerate(answers):
        expected = ("infeasible", 0) if ticks is None else ("optimal", ticks)
        assert (order.reason, order.ticks) == expected, seed


def test_replayed_steps_never_breach_capacity_or_nodes(answers):
    for seed, (move, ticks, order) in enumerate(answers):
        if ticks is not None:
            assert migration_violations(move, order.starts, order.ticks) == [], seed


def test_a_good_part_is_infeasible_and_a_good_part_is_not_trivial(answers):
    infeasible = sum(ticks is None for _, ticks, _ in answers)
    assert INSTANCES // 10 < infeasible < INSTANCES // 2 + INSTANCES // 4
    assert sum(ticks is not None and ticks > 2 for _, ticks, _ in answers) > INSTANCES // 10


def test_the_devices_named_as_missing_make_it_possible_and_fewer_do_not(answers):
    """Where no devices help, as where the plan arrived at carries too little, none are named."""
    helped = 0
    for seed, (move, ticks, order) in enumerate(answers):
        if ticks is not None or not order.missing:
            continue
        helped += 1
        for removed in (None, *order.missing):
            added = {n: count - (n == removed) for n, count in order.missing.items()}
            nodes = tuple(node._replace(devices=node.devices + added.get(n, 0)) for n, node in enumerate(move.nodes))
            again = searched(move._replace(nodes=nodes))
            assert (again is not None) == (removed is None), seed
    assert helped > 5


def asked(move, kept):
    """A migration that asks for some of its requirements only: a node that is set aside is large."""
    nodes = tuple(
        node if f"nodes.{n}.devices" in kept else node._replace(devices=50) for n, node in enumerate(move.nodes)
    )
    return move._replace(nodes=nodes, needs=move.needs if "needs.chat" in kept else {"chat": 0.0})


def relaxed(move, relaxation):
    """A migration as the words of a relaxation change it."""
    nodes, need = list(move.nodes), move.needs["chat"]
    for words, value in zip(relaxation.words, relaxation.values, strict=True):
        label = words.partition(":")[0]
        if label.startswith("at any time"):
            need = value
        else:
            nodes = [node._replace(devices=int(value)) if node.label == label else node for node in nodes]
    return move._replace(nodes=tuple(nodes), needs={"chat": need})


def test_what_conflicts_is_irreducible_and_what_is_proposed_is_enough(answers):
    """By exhaustive search: each conflict has no order, any part of it has one, and each proposal brings one about."""
    looked_at = 0
    for seed, (move, ticks, _) in enumerate(answers):
        if ticks is not None or seed % 2:
            continue
        looked_at += 1
        found = infeasible_migration(move)
        assert found.conflicts, seed
        for conflict in found.conflicts:
            members = {member.field for member in conflict.members}
            assert searched(asked(move, members)) is None, seed
            for member in members:
                assert searched(asked(move, members - {member})) is not None, (seed, member)
        assert found.relaxations, seed
        for relaxation in found.relaxations:
            assert searched(relaxed(move, relaxation)) is not None, (seed, relaxation.words)
    assert looked_at > INSTANCES // 20


def test_what_breaks_an_order_is_told():
    """Draining first where everything is needed, and loading where there is no room."""
    old, new = Kind("old", "chat", "mixed", 2, 1.0, 1), Kind("new", "chat", "mixed", 2, 1.0, 1)
    move = Migration((Node("h100", 1, 2),), (Standing(old, (0,), 1),), (), (Arriving(new, 1, ((0,),)),), {"chat": 1.0})
    order = shortest(move, formulation.build, solver("cp-sat").solve, 10.0)
    assert (order.reason, order.missing) == ("infeasible", {0: 2})
    wide = move._replace(nodes=(Node("h100", 1, 4),))
    order = shortest(wide, formulation.build, solver("cp-sat").solve, 10.0)
    assert (order.reason, order.ticks) == ("optimal", 2)
    late, early = sorted(order.starts, key=lambda start: start.action)
    assert (late.action, late.tick, early.action, early.tick) == ("drain", 1, "load", 0)
    assert migration_violations(move, order.starts, 2) == [
        f"tick {t}: h100 node 1 has 2 devices, 4 are in use" for t in (0, 1)
    ]
    swapped = [late._replace(tick=0), early._replace(tick=1)]
    assert migration_violations(move, swapped, 2) == [
        f"tick {t}: chat is served at 0 request/s, needed are 1" for t in (0, 1)
    ]
    assert any("not all of new" in line for line in migration_violations(move, [late], 2))
