"""Plans over random tables of columns against enumeration: every number of replicas of every row on every inventory."""

import importlib.util
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner

_spec = importlib.util.spec_from_file_location("brute_force_tables", Path(__file__).with_name("brute_force.py"))
brute_force = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(brute_force)

EXAMPLES = 200
NODE = 8  # devices of an H200 node
WATTS = 700.0
TOKENS = 50.0
GOALS = {
    "max": [
        [{"maximize": "requests"}],
        [{"maximize": "tokens"}, {"minimize": "cost"}],
        [{"maximize": "requests"}, {"minimize": "devices"}],
        [{"weighted": {"requests": 0.75, "devices": 0.25}}],
    ],
    "rate": [
        [{"minimize": "devices"}],
        [{"minimize": "cost"}, {"maximize": "requests"}],
        [{"minimize": "devices"}, {"minimize": "cost"}, {"maximize": "requests"}],
        [{"weighted": {"cost": 0.5, "requests": 1.5}}],
    ],
}
_seen = {"feasible": 0, "infeasible": 0, "paired": 0}


@st.composite
def scenarios(draw):
    """A scenario over a small table; a good part of those with a rate cannot carry it."""
    two = draw(st.booleans())
    inventory = {"a": {"devices": draw(st.integers(1, 4 if two else 11)), "price": "2 USD/h"}}
    if two:
        inventory["b"] = {"devices": draw(st.integers(1, 4)), "price": "3 USD/h"}
    for item in inventory.values():
        if draw(st.booleans()):
            item["hardware"] = "h200-sxm"
    pair = ["prefill", "decode"] if draw(st.integers(0, 2)) else []
    more = st.lists(st.sampled_from(("mixed", "prefill", "decode")), min_size=1, max_size=(4 if two else 5) - len(pair))
    rows = [
        {
            "role": role,
            "devices_per_replica": draw(st.sampled_from((1, 1, 1, 2, 2, 3, 4, 5, 9))),
            # Whole numbers scaled, so that sums are exact and ties are common.
            "requests_per_s_per_replica": draw(st.integers(1, 8 if role == "mixed" else 40)) / 4,
            "rate_matching_factor": draw(st.sampled_from((1.0, 0.5, 0.75))),
            "hardware": draw(st.sampled_from(("", *inventory))),
        }
        for role in (*pair, *draw(more))
    ]
    kind = draw(st.sampled_from(("max", "rate")))
    limits = draw(st.sampled_from(({}, {}, {}, {"devices": 3}, {"cost": "9 USD/h"})))
    return {
        "schema_version": 1,
        "name": "random",
        "columns": rows,
        "inventory": inventory,
        "limits": limits,
        "workloads": {
            "w": {
                "requests": "max" if kind == "max" else f"{draw(st.integers(1, 80)) / 4} /s",
                "output_tokens": f"{TOKENS:g} token",
            }
        },
        "objective": draw(st.sampled_from(GOALS[kind])),
    }


def fits(item, sizes):
    """Tell whether replicas have a place: in nodes where the hardware is named, else beside each other."""
    if "hardware" not in item:
        return sum(sizes) <= item["devices"]
    whole, rest = divmod(item["devices"], NODE)
    return brute_force.packs(tuple(sizes), (NODE,) * whole + ((rest,) if rest else ()), NODE)


def fleets(scenario):
    """Yield the metrics of everything that can be deployed and serves something, within the limits of the scenario."""
    names = list(scenario["inventory"])
    choices = []
    for name in names:
        item = scenario["inventory"][name]
        rows = [row for row in scenario["columns"] if row["hardware"] in ("", name)]
        mine = []
        for counts in brute_force.replica_counts([row["devices_per_replica"] for row in rows], item["devices"]):
            sizes = [row["devices_per_replica"] for row, n in zip(rows, counts, strict=True) for _ in range(n)]
            if fits(item, sizes):
                able = dict.fromkeys(("mixed", "prefill", "decode"), 0.0)
                for row, n in zip(rows, counts, strict=True):
                    able[row["role"]] += n * row["requests_per_s_per_replica"] * row["rate_matching_factor"]
                mine.append((sum(sizes), able))
        choices.append(mine)
    prices = [float(scenario["inventory"][name]["price"].split()[0]) for name in names]
    for parts in itertools.product(*choices):
        total = {role: sum(able[role] for _, able in parts) for role in ("mixed", "prefill", "decode")}
        requests = min(total["prefill"], total["decode"]) + total["mixed"]
        found = {
            "requests": requests,
            "tokens": requests * TOKENS,
            "devices": float(sum(devices for devices, _ in parts)),
            "cost": sum(price * devices for price, (devices, _) in zip(prices, parts, strict=True)),
        }
        limits = {name: float(str(most).split()[0]) for name, most in scenario["limits"].items()}
        if requests > 0 and all(found[name] <= most for name, most in limits.items()):
            yield found


def best_of(found, goals):
    """Return the best value of every goal in order, or None where nothing is feasible."""
    left = list(found)
    if not left:
        return None
    values = []
    for goal in goals:
        score = scorer(goal, found)
        top = min(score(fleet) for fleet in left)
        left = [fleet for fleet in left if score(fleet) <= top + 1e-9 * max(1.0, abs(top))]
        values.append(-top if "maximize" in goal else top)
    return values


def scorer(goal, found):
    """Return a function of a fleet that is smaller where the goal is better met."""
    if "maximize" in goal:
        return lambda fleet: -fleet[goal["maximize"]]
    if "minimize" in goal:
        return lambda fleet: fleet[goal["minimize"]]
    sign = {name: -1.0 if name in ("requests", "tokens") else 1.0 for name in goal["weighted"]}
    alone = {name: abs(min(sign[name] * fleet[name] for fleet in found)) for name in goal["weighted"]}
    return lambda fleet: sum(sign[n] * weight * fleet[n] / alone[n] for n, weight in goal["weighted"].items())


@settings(max_examples=EXAMPLES)
@given(scenarios())
def test_plans_over_tables_equal_enumeration(scenario):
    asked = scenario["workloads"]["w"]["requests"]
    least = 0.0 if asked == "max" else float(asked.split()[0])
    found = [fleet for fleet in fleets(scenario) if fleet["requests"] >= least * (1 - 1e-9)]
    expected = best_of(found, scenario["objective"])
    plan = planner.solve(planner.load_scenario(scenario)).plan
    if expected is None:
        _seen["infeasible"] += 1
        assert plan.termination.reason == "infeasible"
        assert plan.deployments == ()
        return
    _seen["feasible"] += 1
    _seen["paired"] += bool(plan.routes)
    assert plan.termination.reason == "optimal"
    values = [goal.value for goal in (plan.objective, *plan.later_objectives)]
    assert values == pytest.approx(expected, rel=1e-8)
    assert plan.objective.bound == pytest.approx(expected[0], rel=1e-6)
    able = {role: sum(d.requests_per_s for d in plan.deployments if d.role == role) for role in ("prefill", "decode")}
    mixed = sum(d.requests_per_s for d in plan.deployments if d.role == "mixed")
    assert plan.predicted.requests_per_s == pytest.approx(min(able.values()) + mixed, rel=1e-12)


def test_the_tables_were_of_every_kind():
    total = _seen["feasible"] + _seen["infeasible"]
    assert total >= EXAMPLES
    assert 0.15 < _seen["infeasible"] / total < 0.85
    assert _seen["paired"] > 0.1 * EXAMPLES
