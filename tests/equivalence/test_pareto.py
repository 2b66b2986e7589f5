"""The frontier against enumeration: every choice of replicas of every column of a small grid, none pruned."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest

from planner.catalog import load_scenario
from planner.columns.enumerate import grid_table
from planner.errors import InputError
from planner.studies.pareto import pareto, search

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
LARGER = ("requests", "tokens")
CHOICES = (
    ("cost", "ttft"), ("ttft", "cost"), ("devices", "requests"), ("requests", "ttft"), ("ttft", "tpot"),
    ("cost", "requests", "tpot"), ("power", "ttft", "tpot"), ("tokens", "devices", "ttft"),
)  # fmt: skip


def drawn(rng, metrics):
    """Settings of a small scenario whose replicas all work alone."""
    search = {
        "roles": ["mixed"],
        "tp": [1, 2],
        "pp": [1],
        "mean_running": sorted(rng.sample((1, 2, 4, 9, 16, 30), 2)),
        "max_num_batched_tokens": sorted(rng.sample((512, 2048, 8192), rng.randint(1, 2))),
        "prefill_policies": ["mixed_chunked"],
        "context_parallel": [1],
    }
    inventory = {"h100": {"hardware": "h100-sxm", "devices": rng.randint(2, 3), "price": "2.50 USD/h"}}
    if rng.random() < 0.4:
        inventory["l40s"] = {"hardware": "l40s", "devices": 1, "price": "0.90 USD/h"}
    free = bool(set(LARGER) & set(metrics))
    return [
        "models.chat.architecture=Llama-3.1-8B",
        f"inventory={inventory}",
        f"search={search}",
        f"workloads.chat.requests={'max' if free else f'{rng.choice((1, 4, 8))} /s'}",
        f"workloads.chat.input_tokens={rng.choice((400, 2000))} token",
        f"workloads.chat.slo.ttft={rng.choice((300, 1500))} ms",
        f"objective={'{maximize: requests}' if free else '{minimize: cost}'}",
    ]


def enumerated(case, metrics):
    """Return the frontier of every choice of replicas that fits, by the first metric."""
    table = grid_table(case)
    table = table.take(np.nonzero(table.meets_limits)[0])
    f, demand = table.figures, case.scenario.workloads["chat"].requests
    tokens = case.scenario.workloads["chat"].output_tokens
    room = {name: item.devices for name, item in case.scenario.inventory.items()}
    places = [table.pools[p].inventory for p in table.pool]
    most = [range(room[place] // int(size) + 1) for place, size in zip(places, f["devices"], strict=True)]
    found = set()
    for counts in itertools.product(*most):
        used = [i for i, n in enumerate(counts) if n]
        taken = {name: sum(counts[i] * f["devices"][i] for i in used if places[i] == name) for name in room}
        rate = sum(counts[i] * f["rate"][i] for i in used)
        if not used or any(taken[name] > room[name] for name in room) or rate < demand.value * (1 - 1e-9):
            continue
        values = {
            "requests": rate,
            "tokens": rate * tokens,
            "devices": sum(counts[i] * f["devices"][i] for i in used),
            "cost": sum(counts[i] * f["devices"][i] * f["price"][i] for i in used),
            "power": sum(counts[i] * f["devices"][i] * f["power"][i] for i in used),
            "ttft": max(f["ttft"][i] for i in used),
            "tpot": max(f["tpot"][i] for i in used),
        }
        found.add(tuple(float(values[metric]) * (-1 if metric in LARGER else 1) for metric in metrics))
    kept = []
    for point in sorted(found):
        scores = np.array(point)
        if not any((np.array(other) <= scores + 1e-7 * np.abs(scores)).all() for other in kept):
            kept.append(point)
    return sorted(tuple(abs(value) for value in point) for point in kept)


@pytest.mark.parametrize(("seed", "metrics"), [(s, m) for s in range(4) for m in CHOICES])
def test_the_frontier_equals_enumeration(seed, metrics):
    case = load_scenario(QUICKSTART, drawn(random.Random(seed), metrics))
    frontier = pareto(case, metrics)
    expected = enumerated(case, metrics)
    assert frontier.complete
    assert len(frontier.points) == len(expected)
    for point, values in zip(frontier.points, expected, strict=True):
        assert point.values == pytest.approx(values, rel=1e-6)


def test_plans_inside_the_convex_hull_are_found_and_named():
    frontier = pareto(load_scenario(QUICKSTART), ("cost", "requests"))
    inside = [point for point in frontier.points if not point.supported]
    assert inside
    assert all(frontier.points[i].supported for i in (0, -1))
    for point in inside:  # a plan on either side, mixed, does more for the same
        assert any(
            a.values[1] + (b.values[1] - a.values[1]) * (point.values[0] - a.values[0]) / (b.values[0] - a.values[0])
            > point.values[1]
            for a, b in itertools.combinations(frontier.points, 2)
            if a.values[0] < point.values[0] < b.values[0]
        )


def test_what_a_case_has_no_figures_for_is_refused_all_at_once():
    with pytest.raises(InputError) as caught:
        pareto(load_scenario(QUICKSTART, ["inventory.h100={hardware: h100-sxm, nodes: 1}"]), ("cots", "cost"))
    assert len(caught.value.problems) == 3


def test_a_frontier_may_be_cut_off():
    frontier = pareto(load_scenario(QUICKSTART), ("cost", "requests"), most=3)
    assert len(frontier.points) == 3
    assert not frontier.complete


@pytest.mark.parametrize("ticks", [0, 15, 30])
def test_a_frontier_that_is_cut_off_is_exact_up_to_the_gap_it_names(monkeypatch, ticks):
    settings = ["calibration=textbook", "search.roles=[mixed]", "search.tp=[1, 2]", "search.pp=[1]"]
    case = load_scenario(QUICKSTART, [*settings, "search.mean_running=[2, 4, 6, 8, 12, 16, 24, 32, 48]"])
    whole = pareto(case, ["requests", "ttft"])
    assert whole.complete
    clock = itertools.count()
    monkeypatch.setattr(search.time, "monotonic", lambda: float(next(clock)))  # a second each time it is asked
    cut = pareto(case, ["requests", "ttft"], time_limit=ticks)
    assert not cut.complete
    assert len(cut.points) < len(whole.points)
    plans = {point.values: point.plan for point in whole.points}
    assert all(plans[point.values] == point.plan for point in cut.points)
    if not ticks:
        assert cut.gap == "stopped after 0 s: no plan is known; there may be some"
        return
    last = min(point.values[1] for point in cut.points)
    assert {point.values for point in whole.points if point.values[1] >= last} == {p.values for p in cut.points}
    assert f"stopped after {ticks} s: plans with ttft less than" in cut.gap


def test_what_is_known_beyond_the_most_plans_is_said():
    case = load_scenario(QUICKSTART, ["calibration=textbook", "search.roles=[mixed]", "search.tp=[1, 2]"])
    cut = pareto(case, ["requests", "ttft", "tpot"], most=2)
    assert "stopped after 2 plans" in cut.gap
    assert "nor are those with a better tpot than these" in cut.gap
    assert cut.as_data()["complete"] is False
