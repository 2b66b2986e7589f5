"""The plans next to the best equal enumeration, with pruning between them as `planner alternatives` does it."""

import dataclasses
import functools
import importlib.util
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from formulations import FORMULATIONS
from planner import load_scenario, pipeline
from planner.columns.enumerate import grid_table
from planner.decode import stocks
from planner.milp.fewer import with_fewer
from planner.milp.model import Weighted
from planner.optimizers.lexicographic import lexicographic
from planner.solvers import SOLVERS
from planner.studies.alternatives import alternatives

HERE = Path(__file__).parent
EXAMPLES = 60
PLANS = 3


def _module(name):
    spec = importlib.util.spec_from_file_location(f"alternatives_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[f"alternatives_{name}"] = module
    spec.loader.exec_module(module)
    return module


serving = _module("test_serving_brute_force")
brute_force = serving.brute_force


class Without(brute_force.BruteForce):
    """Enumeration of the plans that contain none of some plans, given as replicas by class."""

    def __init__(self, instance, classes, before):
        super().__init__(instance)
        self.classes, self.before = classes, before

    def plans(self):
        for plan in super().plans():
            mine = by_class(plan.replicas, self.classes)
            if not any(all(mine.get(c, 0) >= n for c, n in other.items()) for other in self.before):
                yield plan


def by_class(replicas, classes):
    found = {}
    for count, name in zip(replicas, classes, strict=True):
        if count:
            found[name] = found.get(name, 0) + count
    return found


def class_of(rng, column):
    """Columns that are built alike may still be told apart, or not."""
    built = (column["workload"], column["inventory"], column["role"], column["devices"], column["kind"])
    return (*built, rng.randint(1, 2))


def next_values(problem, cuts, best):
    """Return goal values and replicas of the best plan beyond cuts; goals are weighted by the first plan's best."""
    encoded = FORMULATIONS["serving"].build(problem)
    goals = tuple(g.combined(best) if isinstance(g, Weighted) and best else g for g in encoded.milp.objectives)
    milp = encoded.milp._replace(objectives=goals)
    for number, parts in enumerate(cuts):
        milp = with_fewer(milp, parts, str(number))
    result = lexicographic(milp, SOLVERS["highs"].solve, 60.0, 0.0)
    if result.point is None:
        assert result.termination.reason == "infeasible"
        return None, None
    values = {goal.name: goal.value(result.point) for goal in milp.objectives}
    return tuple(values[goal.metric] for goal in problem.goals), encoded.replicas(result.point)


_seen = {"several": 0, "ended": 0}


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_the_next_plans_equal_enumeration(seed):
    case = serving.random_case(1000 + seed)
    if any(len(goal) > 1 for goal in case.rest[-1]):
        case.rest = (*case.rest[:-1], [{"devices": 1}, {"cost": 1}])
    rng = random.Random(seed)
    kept = [c for c in case.columns if c["meets"]]
    names = {id(c): class_of(rng, c) for c in case.columns}
    classes, every = [names[id(c)] for c in kept], [names[id(c)] for c in case.columns]
    before = []
    for _ in range(PLANS):
        expected = Without(case.instance(), classes, before).values()
        marks = {name: mark for mark, name in enumerate(dict.fromkeys(c for p in before for c in p), start=1)}
        problem = case.problem()
        marked = np.array([marks.get(name, 0) for name in every], dtype=np.int64)
        problem = problem._replace(table=dataclasses.replace(problem.table, marks=marked))
        small = serving.pruned(case, problem)
        cuts = [[(np.nonzero(small.table.marked == marks[c])[0].tolist(), n) for c, n in p.items()] for p in before]
        values, replicas = next_values(small, cuts, {})
        assert (values is None) == (expected is None)
        if expected is None:
            _seen["ended"] += 1
            break
        assert values == pytest.approx(tuple(map(float, expected)), rel=1e-6, abs=1e-7)
        places = small.table.axes["max_num_seqs"].tolist()
        before.append(by_class(replicas, [every[i] for i in places]))
        _seen["several"] += len(before) > 1


def test_a_good_part_of_these_instances_had_several_plans_and_some_ran_out_of_them():
    if not _seen["several"]:
        pytest.skip("they did not run in this process")
    assert _seen["several"] > EXAMPLES / 2
    assert _seen["ended"] > EXAMPLES / 10


# --- whole scenarios --------------------------------------------------------------------------------------------------

SMALL = [
    "inventory.h100={hardware: h100-sxm, devices: 4, price: 2 USD/h}",
    "search={roles: [mixed], tp: [1, 2, 4], pp: [1, 2], mean_running: [2, 16, 40], prefill_policies: [mixed_chunked], "
    "max_num_batched_tokens: [512, 2048]}",
]
KEYS = [
    ("{maximize: requests}", "max", "shape"),
    ("{maximize: requests}", "max", "settings"),
    ("[{minimize: devices}, {maximize: requests}]", "1 /s", "shape"),
    ("{minimize: cost}", "2 /s", "settings"),
]
_IGNORED = {
    "shape": ("mean_running", "max_num_seqs", "max_num_batched_tokens", "block_size", "prefill_policy", "overlaps"),
    "settings": ("mean_running",),
}


@functools.cache
def case_of(goal, demand):
    changes = [*SMALL, f"objective={goal}", f"workloads.chat.requests={demand}"]
    return load_scenario(HERE.parents[1] / "scenarios" / "quickstart.yaml", changes)


def identity(configuration, distinct):
    return configuration._replace(**dict.fromkeys(_IGNORED[distinct], 0))


def enumerated(case, distinct, count):
    """Return the goal values of the best plans in order, none of which contains one before it."""
    table = grid_table(case, within_limits=True)
    best = {}
    for i in range(len(table)):
        key = identity(table.configuration(i), distinct)
        rate, devices = float(table.figures["rate"][i]), int(table.figures["devices"][i])
        best[key] = max(best.get(key, (0.0, devices)), (rate, devices))
    columns = [{"key": key, "rate": rate, "devices": devices} for key, (rate, devices) in best.items()]
    (stock,) = stocks(case).values()
    (load,) = case.scenario.workloads.values()
    demand = load.requests.value if load.requests.kind == "rate" else 0.0
    plans = []
    for counts in brute_force.fillings(columns, stock.nodes, stock.devices_per_node):
        parts = {c["key"]: n for c, n in zip(columns, counts, strict=True) if n}
        rate = sum(n * c["rate"] for c, n in zip(columns, counts, strict=True))
        devices = sum(n * c["devices"] for c, n in zip(columns, counts, strict=True))
        if parts and rate >= demand * (1 - 1e-9):
            each = {"requests": -rate, "devices": devices, "cost": 2 * devices}
            plans.append((tuple(each[g.metric] for g in case.scenario.objective), devices, -rate, parts))
    chosen = []
    for plan in sorted(plans, key=lambda plan: plan[:3]):
        if not any(all(plan[3].get(key, 0) >= n for key, n in other[3].items()) for other in chosen):
            chosen.append(plan)
    return [plan[0] for plan in chosen[:count]]


@pytest.mark.parametrize(("goal", "demand", "distinct"), KEYS)
def test_alternatives_of_a_scenario_equal_enumeration(goal, demand, distinct):
    case = case_of(goal, demand)
    found = alternatives(case, pipeline.solve(case).plan, count=6, distinct=distinct)
    signs = [-1 if g.sense == "maximize" else 1 for g in case.scenario.objective]
    values = [
        tuple(sign * g.value for sign, g in zip(signs, (one.plan.objective, *one.plan.later_objectives), strict=True))
        for one in found.plans
    ]
    expected = enumerated(case, distinct, 6)
    assert len(values) == len(expected)
    for mine, theirs in zip(values, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert [one.rank for one in found.plans] == list(range(1, len(values) + 1))


def test_a_distance_ends_the_list_where_the_next_plan_is_beyond_it():
    case = case_of(*KEYS[0][:2])
    plan = pipeline.solve(case).plan
    every = alternatives(case, plan, count=6)
    changes = [abs(one.trades[0].change) for one in every.plans]
    far = (changes[2] + changes[3]) / 2
    assert changes[2] < changes[3]
    near = alternatives(case, plan, count=6, within=far)
    assert [one.plan.deployments for one in near.plans] == [one.plan.deployments for one in every.plans[:3]]
    assert near.complete
