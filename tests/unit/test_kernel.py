"""The compiled kernel against SymPy, against itself in other shapes, and the folder it is cached in."""

import math
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy

from planner.catalog import load_scenario
from planner.columns import evaluate
from planner.columns.enumerate import setting_table
from planner.columns.pricing import price
from planner.columns.setting import settings
from planner.costs import codegen, disaggregated
from planner.costs import compile as compiler
from planner.costs import symbols as s
from planner.costs.functions import Larger
from planner.costs.serving import expressions
from planner.costs.structure import Structure
from planner.costs.tiles import Tiled
from planner.costs.work import Expressions
from planner.errors import InternalError
from planner.table import AXES, FIGURES

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "scenarios" / "quickstart.yaml"
POINTS = 2
APART = ("Qwen3-32B", "Qwen3-30B-A3B", "gpt-oss-20b")  # whose prefill and decode replicas are tried, too
STRANGER = sympy.Symbol("stranger", nonnegative=True)
CASES = {
    "Qwen3-32B": ["models.chat.precisions=[bf16, fp8, int4]"],
    "Qwen3-30B-A3B": ["search.kv_precisions=[bf16, fp8]"],
    "DeepSeek-V3": ["models.chat.precisions=[fp8]", "search.tp=[8, 16]"],
    "gpt-oss-20b": ["inventory.h100.hardware=ascend-910b3", "engine={name: vllm-ascend}"],
    "Qwen3.5-397B-A17B": ["inventory.h100.hardware=h200-sxm", "search.tp=[8, 16]"],
}
ROLES = {
    "mixed": expressions,
    "prefill": disaggregated.prefill_expressions,
    "decode": disaggregated.decode_expressions,
}


TRIED = [(name, role) for name in CASES for role in ROLES if role == "mixed" or name in APART]


@pytest.fixture(params=TRIED, ids=" ".join)
def case_and_setting(request):
    name, role = request.param
    changes = [
        "calibration=textbook",
        "models.chat.precisions=[bf16]",
        *CASES[name],
        f"models.chat.architecture={name}",
    ]
    case = load_scenario(QUICKSTART, [*changes, "inventory.h100.nodes=2", "workloads.chat.slo={}"])
    (setting,) = [setting for setting in settings(case) if setting.role == role]
    return case, setting


def flat_axes(table):
    return {axis: table.axes[axis].astype(np.float64) for axis in AXES}


def test_kernel_equals_sympy(case_and_setting):
    _, setting = case_and_setting
    table = setting_table(setting)
    chosen = table.take(np.random.default_rng(7).choice(len(table), POINTS, replace=False))
    axes = flat_axes(chosen)
    found = evaluate.figures(setting, axes)
    arguments = evaluate.symbol_values(setting, axes)
    symbolic = ROLES[setting.role](Structure(*evaluate.structure_of(setting)[:3]))
    assert set(found) == set(symbolic.outputs)
    for point in range(POINTS):
        known = {sympy.Symbol(n, nonnegative=True): sympy.Float(at(v, point), 30) for n, v in arguments.items()}
        for symbol, definition in symbolic.definitions.items():
            known[symbol] = substituted(definition, known)
        for name, expr in symbolic.outputs.items():
            expected = float(substituted(expr, known))
            assert at(found[name], point) == pytest.approx(expected, rel=1e-9), name


def substituted(expr, known):
    """``expr.subs(known).evalf(30)`` with common parts done once, which takes milliseconds instead of a minute."""
    if expr not in known:
        args = [substituted(arg, known) for arg in expr.args]
        if isinstance(expr, Tiled):
            known[expr] = sympy.Float(whole_tiles(*map(float, args)))
        else:
            known[expr] = expr.func(*args) if args else expr
    return known[expr]


def whole_tiles(rows, largest, least):
    """Decided on doubles, like the kernel: with 30 digits, 256 rows would be 256 and a bit."""
    tile = min(largest, 2 ** math.ceil(math.log2(max(rows, least))))
    return tile * math.ceil(rows / tile)


def at(values, point):
    return float(np.broadcast_to(values, (POINTS,))[point])


def test_open_mesh_equals_flat_evaluation(case_and_setting):
    _, setting = case_and_setting
    values = {
        "weight_precision": [0.0, 1.0, 3.0],
        "kv_precision": [0.0, 1.0],
        "tp": [1.0, 4.0, 16.0],
        "pp": [1.0, 3.0],
        "attention_dp": [1.0, 2.0],
        "ep": [1.0, 4.0],
        "context_parallel": [1.0, 2.0],
        "redundant_experts": [0.0, 32.0],
        "block_size": [16.0, 128.0],
        "prefill_policy": [0.0, 3.0],
        "overlaps": [0.0, 1.0],
        "speculative_tokens": [0.0, 2.0],
        "mean_running": [3.0, 8.0, 200.0, 1100.0],
        "prefill_utilisation": [50.0],
        "max_num_batched_tokens": [512.0, 8192.0],
    }
    mesh = dict(zip(AXES, np.ix_(*(np.array(values[axis]) for axis in AXES)), strict=True))
    shape = np.broadcast_shapes(*(axis.shape for axis in mesh.values()))
    flat = {axis: np.broadcast_to(array, shape).ravel() for axis, array in mesh.items()}
    open_found, flat_found = evaluate.figures(setting, mesh), evaluate.figures(setting, flat)
    assert set(open_found) == set(flat_found)
    for name, array in open_found.items():
        left, right = np.broadcast_to(array, shape).ravel(), np.broadcast_to(flat_found[name], left_shape(shape))
        np.testing.assert_allclose(left, right, rtol=1e-13, err_msg=name)
        assert np.isfinite(left).any(), name


def left_shape(shape):
    return (int(np.prod(shape)),)


def test_pricing_given_configurations_equals_the_grid(case_and_setting):
    case, setting = case_and_setting
    table = setting_table(setting)
    chosen = np.sort(np.random.default_rng(11).choice(len(table), 40, replace=False))
    configurations = [table.configuration(column) for column in chosen]
    together, refused = price(case, configurations)
    assert not refused
    for name in FIGURES:
        np.testing.assert_allclose(together.figures[name], table.figures[name][chosen], rtol=1e-12, err_msg=name)
    assert together.meets_limits.tolist() == table.meets_limits[chosen].tolist()
    assert [together.configuration(i) for i in range(40)] == configurations
    for position in (0, 20, 39):
        alone, refused = price(case, [configurations[position]])
        assert not refused
        for name in FIGURES:
            np.testing.assert_allclose(alone.figures[name][0], together.figures[name][position], rtol=1e-12)


def test_price_keeps_the_order_it_is_given(case_and_setting):
    case, setting = case_and_setting
    table = setting_table(setting)
    columns = [len(table) - 1, 0, len(table) // 2]
    priced, refused = price(case, [table.configuration(column) for column in columns])
    assert not refused
    assert [priced.configuration(i) for i in range(3)] == [table.configuration(column) for column in columns]


def test_a_symbol_outside_the_table_is_refused():
    with pytest.raises(InternalError, match="stranger"):
        codegen.source(Expressions({}, {"x": STRANGER + s.isl}))
    with pytest.raises(InternalError, match="stranger"):
        codegen.source(Expressions({sympy.Symbol("known", nonnegative=True): STRANGER + 1}, {"x": s.isl}))


def test_a_definition_is_computed_once_and_before_its_use():
    first, second = sympy.symbols("first second", nonnegative=True)
    definitions = {first: sympy.sqrt(s.isl) + s.osl, second: first**2 + Larger(first, s.osl)}
    text = codegen.source(Expressions(definitions, {"first": first, "sum": first + second}))
    assert text.count("numpy.sqrt") == 1
    found = compiler._execute(text)(**dict.fromkeys(s.ARGUMENTS, 4.0) | {"isl": 9.0})
    assert found == {"first": 7, "sum": 7 + 49 + 7}


def test_definitions_that_need_each_other_are_refused():
    first, second = sympy.symbols("first second", nonnegative=True)
    with pytest.raises(InternalError, match="first, second"):
        codegen.source(Expressions({first: second + 1, second: first + 1}, {"x": first}))


# --- the cache

SOLVE = f"""
import sys
from planner import load_scenario, solve
report = solve(load_scenario({str(QUICKSTART)!r}))
print("sympy" in sys.modules, repr(report.plan.objective.value))
"""
EXPLAIN = f"""{SOLVE}
from planner.studies.explain import explain
explain(report.plan)
print("sympy" in sys.modules)
"""
KERNEL = """
import sys
from planner.costs.compile import compiled
compiled(("gqa",), ("dense",), "roofline", "bounds")
print("sympy" in sys.modules)
"""


def start(code, folder):
    environment = os.environ | {"PLANNER_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    return out.split()


def run(code, folder):
    return finish(start(code, folder))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_cold_run_generates_and_a_warm_run_never_imports_sympy(tmp_path):
    folder = tmp_path / "cache"
    cold = run(SOLVE, folder)
    written = files(folder)
    warm = run(SOLVE, folder)
    assert (cold[0], warm[0]) == ("True", "False")
    assert cold[1] == warm[1]
    assert float(warm[1]) > 0
    assert files(folder) == written
    assert run(EXPLAIN, folder)[-1] == "False"
    roles = {name.removeprefix("costs_").split("_gqa")[0] for name in written if name.startswith("costs")}
    explained = {f"budget_{role}" for role in ("mixed", "prefill", "decode")}
    assert roles == {"bounds", "decode", "mixed", "prefill", "transfer"} | explained
    assert {Path(name).suffix for name in written} == {".py", ".pyc"}
    assert not folder.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="permissions are POSIX")
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_others_may_write_to_is_not_used(tmp_path, mode):
    """Code planted there must not run: the kernel is generated in memory instead."""
    donor, open_to_all = tmp_path / "donor", tmp_path / "open"
    run(KERNEL, donor)
    (code,) = donor.glob("*.py")
    open_to_all.mkdir()
    shutil.copy(code, open_to_all)
    (open_to_all / code.name).write_text("raise SystemExit('planted code ran')")
    open_to_all.chmod(mode)
    assert run(KERNEL, open_to_all) == ["True"]
    assert files(open_to_all) == [code.name]


def test_without_a_folder_it_still_works(tmp_path):
    """The place asked for lies below a file, so it cannot even be made."""
    (tmp_path / "file").write_text("")
    assert run(KERNEL, tmp_path / "file" / "cache") == ["True"]
    assert files(tmp_path) == ["file"]


def test_an_unwritable_folder_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PLANNER_CACHE_DIR", str(tmp_path))
    assert compiler._cache_folder() == tmp_path
    # asked of os.access rather than of the file system, where the superuser may write anywhere
    monkeypatch.setattr(compiler.os, "access", lambda path, mode: mode != os.W_OK)
    assert compiler._cache_folder() is None
    kernel = compiler.compiled.__wrapped__(("gqa",), ("dense",), "roofline")
    assert set(kernel(**dict.fromkeys(s.ARGUMENTS, 2.0))) == set(expressions(Structure(("gqa",), ("dense",))).outputs)
    assert files(tmp_path) == []


def test_two_processes_at_once_do_not_disturb_each_other(tmp_path):
    folder = tmp_path / "cache"
    results = [finish(process) for process in [start(KERNEL, folder), start(KERNEL, folder)]]
    assert all(result in (["True"], ["False"]) for result in results)
    assert ["True"] in results
    assert sum(name.endswith(".py") for name in files(folder)) == 1
    assert run(KERNEL, folder) == ["False"]


def test_other_sources_get_another_file(tmp_path, monkeypatch):
    """The name holds a digest of everything that decides what is generated."""
    before = compiler._fingerprint()
    copy = tmp_path / "costs"
    shutil.copytree(Path(compiler.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(compiler, "__file__", str(copy / "compile.py"))
    compiler._fingerprint.cache_clear()
    assert compiler._fingerprint() == before
    with (copy / "operators" / "gemm.py").open("a") as stream:
        stream.write("\n")
    compiler._fingerprint.cache_clear()
    try:
        assert compiler._fingerprint() != before
    finally:
        compiler._fingerprint.cache_clear()
