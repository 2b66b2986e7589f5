"""Why-not and alternatives equal plain enumeration of every plan of a small search."""

import functools
import importlib.util
import sys
from pathlib import Path

import pytest

from planner import load_scenario, pipeline
from planner.columns.enumerate import grid_table
from planner.columns.restriction import Restriction
from planner.decode import stocks
from planner.studies.why_not import why_not

_spec = importlib.util.spec_from_file_location("brute_force_why_not", Path(__file__).with_name("brute_force.py"))
brute_force = importlib.util.module_from_spec(_spec)
sys.modules["brute_force_why_not"] = brute_force
_spec.loader.exec_module(brute_force)

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "inventory.h100={hardware: h100-sxm, devices: 4, price: 2 USD/h}",
    "search={roles: [mixed], tp: [1, 2, 4], pp: [1, 2], mean_running: [2, 16, 40], prefill_policies: [mixed_chunked], "
    "max_num_batched_tokens: [512, 2048]}",
]
GOALS = ("{maximize: requests}", "[{maximize: requests}, {minimize: devices}]", "{minimize: devices}")


@functools.cache
def case_of(goal, demand):
    changes = [*SMALL, f"objective={goal}", f"workloads.chat.requests={demand}"]
    return load_scenario(ROOT / "scenarios" / "quickstart.yaml", changes)


@functools.cache
def columns_of(case_key):
    """Return every column within the limits of the small search, of equal ones the first, and the fillings of them."""
    case = case_of(*case_key)
    table = grid_table(case, within_limits=True)
    columns = []
    for i in range(len(table)):
        configuration, f = table.configuration(i), {name: float(v[i]) for name, v in table.figures.items()}
        columns.append({"configuration": configuration, "devices": int(f["devices"]), "rate": f["rate"]})
    (stock,) = stocks(case).values()
    return columns, stock


def enumerated(case_key, such, *, at_least_one, replicas=None):
    """Return the best goal values of plans that have what ``such`` tells of columns, or None."""
    case = case_of(*case_key)
    columns, stock = columns_of(case_key)
    mine = columns if at_least_one else [c for c in columns if such(c["configuration"])]
    # Of columns that are alike in all that counts here, the quickest stands for all.
    best = {}
    for c in mine:
        key = (such(c["configuration"]), c["devices"])
        best[key] = max(best.get(key, c), c, key=lambda one: one["rate"])
    kept = list(best.values())
    (demand,) = {w.requests.value if w.requests.kind == "rate" else None for w in case.scenario.workloads.values()}
    found = None
    for counts in brute_force.fillings(kept, stock.nodes, stock.devices_per_node):
        chosen = [(c, n) for c, n in zip(kept, counts, strict=True) if n]
        number = sum(n for c, n in chosen if such(c["configuration"]))
        rate = sum(n * c["rate"] for c, n in chosen)
        if not number or (replicas is not None and number != replicas):
            continue
        if demand is not None and rate < demand * (1 - 1e-9):
            continue
        devices = sum(n * c["devices"] for c, n in chosen)
        values = tuple(-rate if g.metric == "requests" else devices for g in case.scenario.objective)
        found = values if found is None else min(found, values)
    return found


QUESTIONS = [
    {"tp": 1}, {"tp": 2}, {"tp": 4}, {"pp": 2}, {"tp": 2, "pp": 2}, {"mean_running": 2}, {"mean_running": 40, "tp": 1},
    {"max_num_batched_tokens": 2048}, {"tp": 2, "replicas": 1}, {"pp": 1, "replicas": 2}, {"moe_tp": 4},
]  # fmt: skip


@pytest.mark.parametrize("at_least_one", [False, True])
@pytest.mark.parametrize("question", QUESTIONS, ids=str)
@pytest.mark.parametrize("key", [(GOALS[0], "max"), (GOALS[1], "max"), (GOALS[2], "2 /s"), (GOALS[2], "3 /s")], ids=str)
def test_the_best_such_plan_equals_enumeration(key, question, at_least_one):
    case = case_of(*key)
    plan = pipeline.solve(case).plan
    replicas = question.get("replicas")
    fields = {name: value for name, value in question.items() if name != "replicas"}

    def such(configuration):
        return all(getattr(configuration, name) == value for name, value in fields.items())

    expected = enumerated(key, such, at_least_one=at_least_one, replicas=replicas)
    found = why_not(case, plan, Restriction(**question), at_least_one=at_least_one)
    assert (found.other is None) == (expected is None)
    if expected is not None:
        goals = [found.other.objective, *found.other.later_objectives]
        values = tuple(-g.value if g.sense == "maximize" else g.value for g in goals)
        assert values == pytest.approx(expected, rel=1e-6)
    else:
        assert found.obstacles or found.reasons
