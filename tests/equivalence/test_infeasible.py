"""Random scenarios without a plan: what conflicts is irreducible, and what is proposed solves, through whole solves."""

import pkgutil
import random
from pathlib import Path

import numpy as np
import pytest

import formulations
from planner import pipeline
from planner.catalog import load_scenario
from planner.columns.enumerate import grid_table
from planner.columns.legality import limits
from planner.columns.relimit import under_limits
from planner.problems import planning_problem, reduced
from planner.schema.scenario import Slo
from planner.studies.infeasible import infeasible, infeasible_migration, study
from planner.studies.infeasible.requirements import Knob, requirements

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
EXAMPLES = 100


def drawn(rng):
    """Settings of a small scenario that asks for much."""
    two = rng.random() < 0.25
    inventory = {"h100": {"hardware": "h100-sxm", "devices": rng.randint(1, 6), "price": "2.50 USD/h"}}
    if rng.random() < 0.3:
        inventory["more"] = {"hardware": rng.choice(("h200-sxm", "l40s")), "nodes": 1, "price": "3 USD/h"}
        inventory["more"]["reserved_devices"] = rng.choice((0, 4))
    workloads = {}
    for name in ("chat", "code")[: 2 if two else 1]:
        slo = {"ttft": f"{rng.choice((20, 60, 200, 600))} ms", "tpot": f"{rng.choice((3, 8, 12, 25, 60))} ms"}
        if rng.random() < 0.2:
            slo["itl"] = f"{rng.choice((10, 40, 200))} ms"
        rate = f"{rng.choice((1, 8, 40, 200))} /s"
        workloads[name] = {
            "model": "chat",
            "requests": rng.choice((rate, rate, {"concurrency": rng.choice((20, 400, 3000))})),
            "input_tokens": f"{rng.choice((200, 2000, 6000))} token",
            "output_tokens": f"{rng.choice((30, 200, 600))} token",
            "slo": slo if rng.random() < 0.8 else {},
        }
    search = {
        "tp": sorted(rng.sample((1, 2, 4), rng.randint(1, 2))),
        "pp": [1],
        "mean_running": sorted(rng.sample((2, 9, 30, 80), 2)),
        "prefill_utilisation": [20, 60],
        "max_num_batched_tokens": [rng.choice((512, 8192))],
        "max_num_seqs": [16, 64, 128],
        "prefill_policies": ["mixed_chunked"],
        "context_parallel": [1],
        "roles": rng.choice((["mixed"], ["mixed"], ["mixed", "prefill", "decode"])),
    }
    settings = [
        "models.chat.architecture=" + rng.choice(("Llama-3.1-8B", "Llama-3.1-8B", "Qwen3-32B")),
        f"inventory={inventory}",
        f"workloads={workloads}",
        f"search={search}",
        "objective={minimize: devices}",
    ]
    for limit, values in (("devices", (1, 2, 4)), ("cost", (2, 6)), ("power", (500, 2000))):
        if rng.random() < 0.15:
            unit = {"devices": "", "cost": " USD/h", "power": " W"}[limit]
            settings.append(f"limits.{limit}={rng.choice(values)}{unit}")
    return settings


def believed(seed):
    """Return settings of what times are planned with: measured runs, more or less surely, or efficiencies alone."""
    return (["confidence=null"], ["confidence=0.5"], ["confidence=0.9"], ["calibration=textbook"])[seed % 4]


def random_infeasible(seed):
    """Return the settings and the case of the first scenario of a seed that has no plan, and would if it asked less."""
    rng = random.Random(seed)
    while True:
        settings = [*drawn(rng), *believed(seed)]
        case = load_scenario(QUICKSTART, settings)
        fields = [".".join(map(str, r.path)) for r in asked_of(case) if r.binds and not r.leaves_out]
        if not has_a_plan(settings, [], case) and has_a_plan(settings, fields, case):
            return settings, case


def aside(case, field):
    """Return settings that a user would write to do without a requirement."""
    if field == "confidence":
        return ["confidence=0.5"]
    group, name, *rest = field.split(".")
    if group == "limits":
        return [f"{field}=null"]
    if group == "inventory":
        many = 10_000 if rest == ["devices"] else 1250
        return [f"{field}=0"] if rest == ["reserved_devices"] else [f"{field}={many}"]
    if group == "models":
        served = [w for w in case.scenario.workloads.values() if w.model == name]
        longest = max(w.input_tokens + w.output_tokens for w in served)
        formats = "[bf16, fp8, int8, int4, fp4]"  # vLLM serves all, unpacked where a device does not multiply in them
        return [f"{field}={longest:.0f} token"] if rest == ["max_model_len"] else [f"{field}={formats}"]
    if rest[:1] == ["slo"]:
        return [f"{field}=null"]
    if rest == ["requests"]:
        return [f"{field}=0.05 /s"]
    return None  # a workload as a whole


@pytest.fixture(autouse=True)
def small_grids(monkeypatch):
    """Leave the grid as small as the scenarios make it: whole solves over the published one would take hours."""
    monkeypatch.setattr(study, "requirements", asked_of)


def asked_of(case):
    return [r for r in requirements(case) if r.path[0] != "search"]


def has_a_plan(settings, fields, case):
    """Solve a scenario without some requirements."""
    gone = [field.split(".")[1] for field in fields if aside(case, field) is None]
    changes = [change for field in fields for change in aside(case, field) or []]
    kept = [change for change in changes if not any(change.startswith(f"workloads.{name}.") for name in gone)]
    if gone:
        left = {name: w for name, w in case.scenario.workloads.items() if name not in gone}
        if not left:
            return True
        written = {name: w.model_dump(mode="json", exclude_none=True) for name, w in left.items()}
        kept.insert(0, f"workloads={written}")
    return solves([*settings, *kept])


def solves(settings):
    """Search for the best plan, without what `planner solve` adds where there is none."""
    case = load_scenario(QUICKSTART, settings)
    small = reduced(case, planning_problem(case, pipeline.search(case)))
    ended = pipeline.optimise(case, small, 60.0)[1].termination.reason
    assert ended in ("optimal", "infeasible")
    return ended == "optimal"


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_conflicts_are_irreducible_and_relaxations_solve(seed):
    settings, case = random_infeasible(seed)
    found = infeasible(case, lambda more: load_scenario(QUICKSTART, [*settings, *more]))
    assert not found.feasible
    assert found.conflicts
    fields = [".".join(map(str, r.path)) for r in asked_of(case) if r.binds]
    for conflict in found.conflicts:
        members = [member.field for member in conflict.members]
        others = [field for field in fields if field not in members]
        assert not has_a_plan(settings, others, case)
        for member in members:
            assert has_a_plan(settings, [*others, member], case)
    assert found.relaxations
    for relaxation in found.relaxations:
        assert solves([*settings, *relaxation.settings])


@pytest.mark.parametrize("seed", range(0, EXAMPLES, 9))
def test_nothing_smaller_than_a_relaxation_solves(seed):
    settings, case = random_infeasible(seed)
    found = infeasible(case)
    knobs = {".".join(map(str, r.path)): r.loosened for r in requirements(case)}
    for relaxation in found.relaxations:
        if len(relaxation.settings) > 1 or relaxation.values[0] is None:
            continue
        (setting,), (value,) = relaxation.settings, relaxation.values
        knob = knobs[setting.partition("=")[0] if "links" not in setting else "links.0.bandwidth"]
        assert isinstance(knob, Knob)
        unit = 10.0 ** (np.floor(np.log10(abs(value))) + 1 - knob.digits)
        closer = value - knob.looser * (max(unit, 1.0) if knob.whole else unit)
        if (closer - knob.asked) * knob.looser > 0:
            assert not solves([*settings, *knob.change(closer).settings])


@pytest.mark.parametrize("limit", [(0.9, 0.04), (0.3, 0.02), (1.4, 0.05)])
def test_columns_under_limits_are_those_priced_within_them(limit):
    case = load_scenario(QUICKSTART)
    workload = case.scenario.workloads["chat"]

    def asking(slo):
        scenario = case.scenario.model_copy(update={"workloads": {"chat": workload.model_copy(update={"slo": slo})}})
        return case._replace(scenario=scenario)

    within = asking(Slo(ttft=f"{limit[0]} s", tpot=f"{limit[1]} s"))
    expected = grid_table(within, within_limits=True)
    asked = limits(within.scenario.workloads["chat"])
    table = under_limits(grid_table(asking(Slo())), {"chat": asked})
    assert len(table) == len(expected) > 0
    for name, values in expected.axes.items():
        np.testing.assert_array_equal(table.axes[name], values)
    for name, values in expected.figures.items():
        np.testing.assert_array_equal(table.figures[name], values)
    np.testing.assert_array_equal(table.meets_limits, expected.meets_limits)


def test_every_formulation_has_its_study():
    """A formulation that is added needs one, too."""
    studies = {"serving": infeasible, "migration": infeasible_migration}
    assert {module.name for module in pkgutil.iter_modules(formulations.__path__)} == set(studies)


def test_a_table_of_columns_without_a_plan_is_explained():
    table = QUICKSTART.with_name("column_table.yaml")
    largest = ["workloads.chat.requests=max", "objective={maximize: requests}"]
    most = pipeline.solve(load_scenario(table, largest)).plan.predicted.requests_per_s
    asking = [f"workloads.chat.requests={1.5 * most} /s"]
    found = infeasible(load_scenario(table, asking), lambda more: load_scenario(table, [*asking, *more]))
    (conflict,) = found.conflicts
    assert [member.field for member in conflict.members] == ["workloads.chat.requests", "inventory.h200.devices"]
    assert float(conflict.members[0].best_alone.split()[0]) == pytest.approx(most, rel=1e-3)
    assert len(found.relaxations) == 2
    for relaxation in found.relaxations:
        assert pipeline.solve(load_scenario(table, [*asking, *relaxation.settings])).plan.deployments


def test_where_no_wish_alone_is_enough_wishes_are_loosened_together_beside_devices():
    settings = [
        "search={tp: [2], pp: [1], roles: [mixed], prefill_policies: [mixed_chunked]}",
        "objective={minimize: devices}",
        "workloads.chat.requests=40 /s",
        "workloads.second={model: chat, requests: 300 /s, input_tokens: 500 token, output_tokens: 100 token}",
    ]
    case = load_scenario(QUICKSTART, settings)
    found = infeasible(case, lambda more: load_scenario(QUICKSTART, [*settings, *more]))
    fields = [[setting.partition("=")[0] for setting in relaxation.settings] for relaxation in found.relaxations]
    assert ["inventory.h100.nodes"] in fields
    assert ["workloads.chat.requests", "workloads.second.requests"] in fields
    wishes = [m for conflict in found.conflicts for m in conflict.members if m.field.endswith(".requests")]
    assert wishes
    assert all(member.best_alone for member in wishes)
    for relaxation in found.relaxations:
        assert solves([*settings, *relaxation.settings])
