"""Studies on other processes: a Dask cluster that loses a worker, and a run that is killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from planner.catalog import load_scenario
from planner.errors import InputError
from planner.studies.sensitivity import Backend, sensitivity

QUICKSTART = Path(__file__).parents[2] / "scenarios" / "quickstart.yaml"
SMALL = [
    "calibration=textbook",
    "search.tp=[1, 2, 4]",
    "search.pp=[1]",
    "search.roles=[mixed]",
    "search.mean_running=[4, 8, 16, 24, 32, 40, 48, 64]",
]
RANGES = ("hardware.h100.memory.bandwidth=0.7..1.4", "calibration.compute.gemm_bf16=0.7..1.3")
SAMPLES = 256
KILLED_AFTER = 40  # lines of results
CHILD = f"""
import sys
from pathlib import Path
from planner.catalog import load_scenario
from planner.studies.sensitivity import sensitivity, study, sweep

scenario, file, solved = map(Path, sys.argv[1:])
solve = study.Evaluator.__call__

def counted(self, points):
    for factors, outcome in zip(points, solve(self, points)):
        with solved.open("a") as stream:
            stream.write(sweep.key_of(factors) + chr(10))
        yield outcome

study.Evaluator.__call__ = counted
sensitivity(load_scenario(scenario, {SMALL}), {RANGES}, {SAMPLES}, file=file)
"""


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture
def cluster():
    distributed = pytest.importorskip("distributed")
    config = {"distributed.worker.daemon": False, "distributed.comm.timeouts.connect": "30s"}
    import dask

    with (
        dask.config.set(config),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as found,
    ):
        yield found


@pytest.mark.filterwarnings("ignore")  # of processes that are killed
def test_a_dask_worker_that_is_killed_loses_no_sample(cluster, tmp_path):
    case = load_scenario(QUICKSTART, SMALL)
    alone = sensitivity(case, RANGES, SAMPLES)
    killed = []

    def kill(done, total):
        if 0 < done < total and not killed:
            worker = next(iter(cluster.workers.values()))
            killed.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    file = tmp_path / "study.jsonl"
    backend = Backend("dask", 2, cluster.scheduler_address)
    shared = sensitivity(case, RANGES, SAMPLES, file=file, backend=backend, on_done=kill)
    assert killed
    assert shared.samples == alone.samples
    assert shared.robustness == alone.robustness
    keys = [row["key"] for row in lines(file)[1:]]
    assert len(keys) == len(set(keys)) == len({tuple(row["at"]) for row in lines(file)[1:]})


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("planner.studies.sensitivity.sweep._ANSWERS", "0.2s")
    case = load_scenario(QUICKSTART, SMALL)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        sensitivity(case, RANGES, 32, backend=Backend("dask", 1, "tcp://127.0.0.1:9"))


def test_a_run_that_is_killed_is_resumed_and_solves_nothing_twice(tmp_path):
    file, solved = tmp_path / "study.jsonl", tmp_path / "solved.txt"
    command = [sys.executable, "-c", CHILD, str(QUICKSTART), str(file), str(solved)]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(QUICKSTART.parents[1])})
    while not file.exists() or len(file.read_text().splitlines()) < KILLED_AFTER:
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()  # as kill -9 does: nothing is cleaned up
    assert child.wait() == -signal.SIGKILL
    before = solved.read_text().splitlines()
    assert KILLED_AFTER - 1 <= len(before) < SAMPLES
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(QUICKSTART.parents[1])}, check=True)
    kept = [row["key"] for row in lines(file)[1:]]
    every = solved.read_text().splitlines()
    assert len(kept) == len(set(kept)) == SAMPLES
    # What was solved when the process died, but not written yet, is all that may be solved again: one sample.
    assert len(every) - len(set(every)) <= 1
    assert set(every) == set(kept)
