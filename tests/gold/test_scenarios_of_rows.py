"""Every scenario of a published system: solved from the command line, verified, and equal to enumeration when small."""

import ast
import importlib.util
import itertools
import math
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from planner import api
from planner.catalog.scenario import scenario_names
from planner.cli import app
from planner.columns.pairs import routes_of
from planner.columns.pricing import price
from planner.columns.setting import settings
from planner.decode import stocks
from planner.errors import EXIT_PLAN
from planner.table import FORMAT_NAMES, Configuration

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCENARIOS = sorted((ROOT / "scenarios" / "rows").rglob("*.yaml"))
TABLES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("row*.yaml"))}
TAGS = {"P", "2", "R", "D"}  # in the paper's text, in a secondary source, recomputed, derived
KINDS = {"identity", "fit", "out-of-sample", "ordering"}
SMALL = {"tp": (1, 2, 4), "pp": (1,), "ep": (1,), "mean_running": (2, 12, 48), "max_num_batched_tokens": (512, 4096)}
SEQUENCES = (4, 8, 16, 32, 64)
BUSY = (30, 75)
DRAFTS = (0, 2, 5)
ROLES = ("mixed", "prefill", "decode")
# Scenarios in which replicas may part, and changes that make instances of them small and use the choice.
STRICT = ("inventory.h100.nodes=1", "workloads.chat.slo.tpot=20 ms")
PARTED = {
    "distserve": [()],
    "disaggregation_crossing": [STRICT, (*STRICT, "links=[{between: [h100, h100], bandwidth: 2 GB/s}]")],
}
INSTANCES = [(path, changes) for path in SCENARIOS for changes in PARTED.get(path.stem, [()])]

_spec = importlib.util.spec_from_file_location("brute_force_rows", ROOT / "tests" / "equivalence" / "brute_force.py")
brute_force = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(brute_force)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_is_solved_and_its_plan_verified(path, tmp_path):
    out = tmp_path / "plan.json"
    result = CliRunner().invoke(app, ["solve", str(path), "--out", str(out)])
    assert result.exit_code == EXIT_PLAN, result.output
    plan = api.read_plan(out)
    assert plan.termination.reason == "optimal"
    assert not api.verify_plan(plan, path.parent).reasons


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_it_says_what_it_shows(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert "?" in text.splitlines()[0]
    assert f"rows/{path.stem}" in scenario_names()


def points(case, role):
    """Yield every point of a small grid for one role."""
    use, (workload,) = case.engines[0], case.scenario.workloads
    model = case.model(workload)
    loads = BUSY if role == "prefill" else SMALL["mean_running"]
    # The budget of a decode replica follows from its requests: here the smallest is enough.
    budgets = SMALL["max_num_batched_tokens"][: 1 if role == "decode" else None]
    drafts = DRAFTS if model.speculative and role != "prefill" else (0,)
    formats = model.precisions or (case.architecture(workload).precision,)
    axes = (case.scenario.inventory, formats, SMALL["tp"], SMALL["pp"], SMALL["ep"], loads, budgets, drafts)
    for name, precision, tp, pp, ep, load, tokens, k in itertools.product(*axes):
        assert precision in FORMAT_NAMES
        yield Configuration(
            inventory=name, role=role, weight_precision=precision, kv_precision="bf16", tp=tp, pp=pp, ep=ep,
            mean_running=0 if role == "prefill" else load, prefill_utilisation=load if role == "prefill" else 0,
            max_num_batched_tokens=tokens, max_num_seqs=SEQUENCES[-1], speculative_tokens=k,
            block_size=use.engine.block_size.value, prefill_policy=use.engine.scheduling.policies.value[0],
            workload=workload, engine=use.engine.name, engine_version=use.version,
        )  # fmt: skip


def priced(case, role):
    """Price every point alone; of the limits on requests a point takes the first that suffices."""
    for point in points(case, role):
        for seqs in SEQUENCES:
            table, refused = price(case, [point._replace(max_num_seqs=seqs)])
            if not refused or refused[0].rule != "too_few_sequences":
                break
        if len(table) and table.meets_limits[0]:
            yield table.configuration(0), table.figures["rate"].item()


def partners(case, columns):
    """Return which columns may serve a request together, and the bytes of its cache.

    The links of replicas are idle enough in these instances: only those between inventories can be short.
    """
    table, refused = price(case, [point for point, _ in columns])
    assert not refused
    routes = routes_of(settings(case), table)
    for side in (routes.prefill, routes.decode):
        assert (routes.seconds * table.figures["rate"][side]).max(initial=0) < 0.5
    return set(zip(routes.prefill.tolist(), routes.decode.tolist(), strict=True)), routes.bytes.max(initial=1)


def carried(columns, counts, pairs, most):
    """Requests per second: what replicas carry alone, and what flows between the others: the least cut, or ``most``."""
    able = [count * rate for count, (_, rate) in zip(counts, columns, strict=True)]
    used = {role: [i for i, (p, _) in enumerate(columns) if p.role == role and counts[i]] for role in ROLES}
    cuts = [
        sum(able[p] for p in used["prefill"] if p not in open_)
        + sum(able[d] for d in used["decode"] if any((p, d) in pairs for p in open_))
        for size in range(len(used["prefill"]) + 1)
        for open_ in itertools.combinations(used["prefill"], size)
    ]
    return sum(able[i] for i in used["mixed"]) + min(*cuts, most, most)


@pytest.mark.parametrize(("path", "changes"), INSTANCES, ids=[f"{path.stem}{len(c)}" for path, c in INSTANCES])
def test_a_small_instance_equals_enumeration(path, changes):
    roles = ROLES if path.stem in PARTED else ROLES[:1]
    policy = api.load_scenario(path).engines[0].engine.scheduling.policies.value[0]
    search = {name: list(values) for name, values in SMALL.items()} | {
        "max_num_seqs": list(SEQUENCES),
        "prefill_policies": policy,
        "roles": list(roles),
        "prefill_utilisation": list(BUSY),
        "speculative_tokens": list(DRAFTS) if path.stem == "speculative_sampling" else 0,
    }
    case = api.load_scenario(path, [f"search={search}", *changes])
    columns = [column for role in roles for column in priced(case, role)]
    pairs, size = partners(case, columns)
    most = min((link.bandwidth / size for link in case.scenario.links), default=math.inf)
    (stock,) = stocks(case).values()
    sizes = [{"devices": point.devices} for point, _ in columns]
    counts = brute_force.fillings(sizes, stock.nodes, stock.devices_per_node)
    expected = max(carried(columns, count, pairs, most) for count in counts)
    plan = api.solve(case).plan
    assert [goal.metric for goal in case.scenario.objective] == ["requests"]
    assert plan.objective.value == pytest.approx(expected, rel=2e-8)  # what later goals may cost the first
    assert bool(plan.routes) == (STRICT[0] in changes)


def test_every_scenario_has_a_table():
    named = {name for table in TABLES.values() for name in (table["scenario"], *table.get("also", ()))}
    assert named == {f"rows/{path.stem}" for path in SCENARIOS}


def checked_names(source):
    """Yield a pattern for the name of every figure that a test checks."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "check":
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            yield "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_complete_and_its_figures_are_checked(name):
    (test,) = HERE.glob(f"test_{name}_*.py")
    patterns = list(checked_names(test.read_text(encoding="utf-8")))
    table = TABLES[name]
    assert table["row"] == int(name.removeprefix("row"))
    assert table["ablations"]
    for key, figure in table["figures"].items():
        assert figure["tag"] in TAGS, key
        assert figure["kind"] in KINDS, key
        assert {"published", "unit", "tolerance", "reason"} <= set(figure), key
        assert any(re.fullmatch(pattern, key) for pattern in patterns), key
