"""The figures of benchmarks/accuracy on rows whose answer is known by hand."""

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy" / "scores.py"


@pytest.fixture(scope="module")
def scores():
    spec = importlib.util.spec_from_file_location("scores", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(name, tp, tpot_ms, clients=10, **changes):
    """A row without TTFT to speak of, so that throughput is clients/(TPOT·devices)."""
    return {
        "id": name, "model": "m", "system": "s", "backend": "b", "precision": "fp8", "devices": str(tp), "tp": str(tp),
        "pp": "1", "attention_dp": "1", "moe_tp": "1", "ep": "1", "isl": "100", "osl": "1000",
        "concurrency": str(clients), "maybe_speculative": "False", "anomalous": "False", "ttft_ms": "0.001",
        "tpot_ms": str(tpot_ms),
    } | changes  # fmt: skip


ROWS = [row("one", 1, 20.0), row("two", 2, 8.0)]


def guess(scores, tpot, spread=1.0):
    return scores.Guess(0.001, tpot, 0.001, 0.001, tpot / spread, tpot * spread)


def test_a_right_choice_loses_nothing_and_a_wrong_one_what_it_loses(scores):
    """At 15 ms only the second runs. At 25, 50 and 100 ms it has 625 tokens/s per device, the first 500."""
    right = {"one": guess(scores, 20.0), "two": guess(scores, 8.0)}
    wrong = {"one": guess(scores, 9.0), "two": guess(scores, 12.0)}
    assert scores.measured_throughput(ROWS[0]) == pytest.approx(500, rel=1e-6)
    assert scores.measured_throughput(ROWS[1]) == pytest.approx(625, rel=1e-6)
    assert scores.regret(ROWS, right) == pytest.approx(0)
    # at 15 ms the first is chosen, which cannot run there; then a fifth is lost three times
    assert scores.regret(ROWS, wrong) == pytest.approx(100 * (1 + 3 * 0.2) / 4, rel=1e-5)


def test_errors_count_rows_without_an_answer_whole(scores):
    found = scores.errors(ROWS, {"one": guess(scores, 22.0)})
    assert found["tpot_mean"] == pytest.approx((10 + 100) / 2)


def test_picks_are_optimistic_where_they_were_promised_more(scores):
    wrong = {"one": guess(scores, 10.0), "two": guess(scores, 30.0)}
    picks = scores.selected(ROWS, wrong)
    assert {p.row["id"] for p in picks} == {"one"}
    assert len(picks) == len(scores.LIMITS_MS)
    assert scores.optimism(picks) == pytest.approx(100, rel=1e-5)
    assert scores.violations(picks) == pytest.approx(25)  # 20 ms at a limit of 15


def test_a_careful_choice_keeps_its_upper_end_below_the_limit(scores):
    unsure = {"one": guess(scores, 20.0, spread=2.0), "two": guess(scores, 8.0, spread=2.0)}
    assert [p.limit for p in scores.selected(ROWS, unsure, upper=True)] == [25, 50, 100]
    pairs = [(r, unsure[r["id"]]) for r in ROWS]
    assert scores.coverage(pairs, "tpot") == 100
    assert scores.coverage([(row("one", 1, 50.0), unsure["one"])], "tpot") == 0
