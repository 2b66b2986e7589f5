"""Predictions with textbook efficiencies against measured serving runs (benchmarks/data/silicon_dev.csv)."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "silicon_accuracy.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("silicon_accuracy", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def found(benchmark):
    return benchmark.accuracy()


def test_nearly_every_row_is_answered(found):
    assert len(found.errors) >= 0.97 * found.measured


def test_tpot_of_core_rows_is_within_16_percent_in_the_median(benchmark, found):
    """What textbook efficiencies are worth without any fit (docs/reference/silicon-accuracy.md)."""
    core = [e for e in found.errors if e.core]
    assert len(core) > 1300
    assert benchmark.median([e.tpot for e in core]) <= 16


@pytest.mark.parametrize("backend", ["vllm", "sglang", "trtllm"])
def test_no_backend_is_off_by_more_than_a_quarter_in_the_median(benchmark, found, backend):
    assert benchmark.median([e.tpot for e in found.errors if e.core and e.row["backend"] == backend]) <= 25


def test_the_page_has_the_figures_of_today(benchmark, found):
    """The page is written by the script; a cost that changes must change it."""
    written = benchmark.PAGE.read_text(encoding="utf-8").splitlines()
    for line in benchmark.lines(found):
        assert "| " + " | ".join(line) + " |" in written
