"""The replay on silicon: its parts, on a small group whose answers are known."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "tuning"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks" / "accuracy"))
pytest.importorskip("optuna")
import held_out
import peers
import replay

from planner.posterior.joint import Joint

CONCURRENCY = (8, 16, 32, 64)


@pytest.fixture
def task():
    """Four deployments under four loads; the model is right about all but one deployment, which is twice as slow."""
    rows, modelled, measured = [], [], []
    for number, tp in enumerate((1, 2, 4, 8)):
        for clients in CONCURRENCY:
            rows.append({
                "id": f"r{number}-{clients}", "backend": "vllm", "precision": "fp8", "devices": str(tp), "tp": str(tp),
                "pp": "1", "attention_dp": "1", "moe_tp": str(tp), "ep": "1", "concurrency": str(clients), "osl": "100",
            })  # fmt: skip
            tpot = 0.01 * (1 + clients / 64) / tp**0.9
            modelled.append((0.1, tpot))
            measured.append((0.1, tpot * (2 if tp == 1 else 1)))
    times = np.array(measured).T
    rows = [{**row, "ttft_ms": str(1e3 * t), "tpot_ms": str(1e3 * p)} for row, t, p in zip(rows, *times, strict=True)]
    same = np.array([[a["tp"] == b["tp"] for b in rows] for a in rows], dtype=float)
    covariance = 0.3**2 * same + 0.01**2 * np.eye(len(rows))
    joint = Joint(np.zeros((2, len(rows))), np.array([0.05**2 * np.eye(len(rows)), covariance]))
    group = held_out.Group("g", [row["id"] for row in rows], np.array(modelled).T, joint)
    return replay._task(group, rows, None)


def test_one_trial_of_the_deployment_that_misleads_is_enough(task):
    found = list(replay.ours(task))
    assert found[0] == task.truth[3], "tp1 under most clients promises most"
    assert max(found[:3]) == task.truth.max()
    assert sorted(found) == sorted(task.truth)


@pytest.mark.parametrize("method", [peers.random_order, peers.tpe, peers.swarm])
def test_every_peer_reveals_every_row_once_and_the_same_ones_for_the_same_seed(task, method):
    def run(seed):
        return list(method(task.rows, lambda i: float(task.truth[i]), seed))

    assert sorted(run(0)) == sorted(task.truth)
    assert run(0) == run(0)
    assert run(0) != run(1)


def test_regret_falls_to_zero_and_trials_are_counted(task):
    regret = replay.regrets(task, "random order", 0, 20)
    assert (np.diff(regret) <= 0).all()
    assert regret[-1] == 0
    assert replay.trials_until_found(np.array([0.5, 0.03, 0.019, 0.0])) == 3
    assert replay.trials_until_found(np.array([0.5, 0.4])) == 3


def test_the_page_says_what_was_asked_for():
    """Median of at most three trials, and on average fewer than every other way."""
    page = (Path(replay.PAGE)).read_text()
    lines = [line.split("|")[3:6] for line in page.splitlines() if line.startswith("| all |")]
    figures = {name.strip(): (float(median), float(mean)) for name, median, mean in lines}
    assert set(figures) == set(replay.METHODS)
    assert figures["planner tune"][0] <= 3
    assert figures["planner tune"][1] <= min(mean for _, mean in figures.values())
