"""Every scenario of a published system: solved from the command line, verified, and equal to enumeration when small."""

import ast
import importlib.util
import itertools
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from planner import api, pipeline
from planner.catalog.scenario import scenario_names
from planner.cli import app
from planner.columns.enumerate import price
from planner.errors import EXIT_PLAN
from planner.table import FORMAT_NAMES, Configuration

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SCENARIOS = sorted((ROOT / "scenarios" / "rows").rglob("*.yaml"))
TABLES = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("row*.yaml"))}
TAGS = {"P", "2", "R", "D"}  # in the paper's text, in a secondary source, recomputed, derived
KINDS = {"identity", "fit", "out-of-sample", "ordering"}
SMALL = {"tp": (1, 2, 4), "pp": (1,), "ep": (1,), "mean_running": (2, 5, 12), "max_num_batched_tokens": (512, 4096)}
SEQUENCES = (4, 8, 16, 32, 64)

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


def priced(case):
    """Price every point of a small grid alone; of the limits on requests a point takes the first that suffices."""
    model = case.model.precisions or (case.architecture.precision,)
    for name, precision in itertools.product(case.scenario.inventory, model):
        for tp, pp, ep, running, tokens in itertools.product(*SMALL.values()):
            for seqs in SEQUENCES:
                point = Configuration(name, "mixed", precision, "bf16", tp, pp, ep, running, tokens, seqs)
                assert precision in FORMAT_NAMES
                table, refused = price(case, [point])
                if not refused or refused[0].rule != "too_few_sequences":
                    break
            if len(table):
                figures = {key: float(values[0]) for key, values in table.figures.items()}
                meets = bool(table.meets_limits[0])
                yield {**figures, "devices": int(figures["devices"]), "inventory": name, "meets": meets}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_small_instance_equals_enumeration(path):
    search = {**{name: list(values) for name, values in SMALL.items()}, "max_num_seqs": list(SEQUENCES)}
    case = api.load_scenario(path, [f"search={search}"])
    stocks = {name: (stock.nodes, stock.devices_per_node) for name, stock in pipeline.stocks(case).items()}
    goals = [(goal.metric, goal.sense) for goal in case.scenario.objective]
    expected = brute_force.best_plan(list(priced(case)), stocks, None, goals)
    plan = api.solve(case).plan
    assert expected is not None
    assert [goal.value for goal in (plan.objective, *plan.later_objectives)] == pytest.approx(expected, rel=1e-9)


def test_every_scenario_has_a_table():
    assert {table["scenario"] for table in TABLES.values()} == {f"rows/{path.stem}" for path in SCENARIOS}


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
