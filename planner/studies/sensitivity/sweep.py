"""Points of a study solved side by side, each once, whatever interrupts it.

Results are appended to a file as they come, a line each under the key of its point: a study that is started again reads
them and solves the rest. Work is shared out through joblib, to processes here or to a Dask cluster.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from planner import yaml_io
from planner.errors import InputError
from planner.table import Floats

Result = Mapping[str, Any]
Evaluate = Callable[[Sequence[Sequence[float]]], Iterable[Result]]
_AT_ONCE = 64  # points of a task, at most: what a worker that is lost takes with it
_TURNS = 8  # tasks of each worker, at least, so that none waits long for the last
_ANSWERS = "10s"  # within which a scheduler must answer


class Backend(NamedTuple):
    """Who solves: ``loky`` processes of this machine, or the workers of a Dask ``scheduler`` (its address)."""

    name: str = "loky"
    workers: int = 0
    scheduler: str | None = None


_HERE = Backend()


def sweep(
    points: Floats,
    evaluate: Evaluate,
    study: str,
    file: Path | None = None,
    backend: Backend = _HERE,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> list[Result]:
    """Return the result of every point, in their order.

    Args:
        points: shape (points, parameters); equal ones are solved once.
        evaluate: solves points one after the other; must be picklable where ``backend`` has several workers.
        study: what is solved, so that a file of another study is not taken for this one's.
        file: where results are appended and looked up; none are kept where not given.
        backend: who solves.
        on_done: told how many points are done, of how many.

    Raises:
        InputError: the file is of another study, or cannot be written; Dask or its scheduler is not there.
    """
    keys = [key_of(point) for point in points]
    known = _read(file, study) if file is not None else {}
    waiting = {key: point.tolist() for key, point in zip(keys, points, strict=True) if key not in known}
    total = len(set(keys))
    done = total - len(waiting)
    on_done(done, total)
    with _appended(file, study) as append:
        for key, result in _solved(list(waiting.items()), evaluate, backend):
            known[key] = result
            append(key, waiting[key], result)
            done += 1
            on_done(done, total)
    return [known[key] for key in keys]


def key_of(point: Sequence[float]) -> str:
    """Return the key of a point: the same numbers have the same key on any machine."""
    return hashlib.sha256(np.asarray(point, dtype="<f8").tobytes()).hexdigest()[:16]


def _solved(
    waiting: Sequence[tuple[str, list[float]]], evaluate: Evaluate, backend: Backend
) -> Iterator[tuple[str, Result]]:
    workers = backend.workers or os.cpu_count() or 1
    most = max(1, min(_AT_ONCE, len(waiting) // (workers * _TURNS)))
    tasks = [waiting[i : i + most] for i in range(0, len(waiting), most)]
    if backend.name == "loky" and (workers == 1 or len(tasks) <= 1):
        yield from _each(evaluate, waiting)
        return
    import joblib

    with _using(backend, workers):
        run = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
        yield from itertools.chain.from_iterable(run(joblib.delayed(_task)(evaluate, task) for task in tasks))


def _each(evaluate: Evaluate, task: Sequence[tuple[str, list[float]]]) -> Iterator[tuple[str, Result]]:
    results = evaluate([point for _, point in task])
    return ((key, result) for (key, _), result in zip(task, results, strict=True))


def _task(evaluate: Evaluate, task: Sequence[tuple[str, list[float]]]) -> list[tuple[str, Result]]:
    return list(_each(evaluate, task))


@contextmanager
def _using(backend: Backend, workers: int) -> Iterator[None]:
    """Have joblib share work out to processes here, or to a cluster while its scheduler is connected."""
    import joblib

    if backend.name != "dask":
        with joblib.parallel_config(backend="loky", n_jobs=workers):
            yield
        return
    try:
        from dask.distributed import Client
    except ImportError:
        message = "a Dask cluster needs dask: pip install 'llm-deployment-planner[dask]'"
        raise InputError.single("--backend", message) from None
    try:
        client = Client(backend.scheduler, timeout=_ANSWERS, set_as_default=False)
    except (OSError, TimeoutError, ValueError):
        raise InputError.single("--scheduler", f"no Dask scheduler answers at {backend.scheduler}") from None
    with client, joblib.parallel_config(backend="dask", client=client):
        yield


def _read(file: Path, study: str) -> dict[str, Result]:
    """Return the results in a file; a line that was cut off is left out."""
    if not file.exists():
        return {}
    try:
        with file.open(encoding="utf-8") as stream:
            head, *rows = [_line(text) for text in stream] or [None]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.single(str(file), f"cannot be read: {error}") from None
    if head is None or head.get("study") != study:
        raise InputError.single(str(file), "holds something else than results of this study; give it another name")
    return {row["key"]: row["result"] for row in rows if row is not None}


def _line(text: str) -> dict[str, Any] | None:
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return None
    return data if isinstance(data, dict) else None


@contextmanager
def _appended(file: Path | None, study: str) -> Iterator[Callable[[str, Sequence[float], Result], None]]:
    """Yield what appends a result to a file, as a line; one that was cut off stays a line of its own."""
    if file is None:
        yield lambda key, point, result: None
        return
    yaml_io.check_writable(file)
    fresh = not file.exists()
    cut = not fresh and not file.read_bytes().endswith(b"\n")
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"study": study}) + "\n" if fresh else "\n" if cut else "")

        def append(key: str, point: Sequence[float], result: Result) -> None:
            stream.write(json.dumps({"key": key, "at": list(point), "result": result}) + "\n")
            stream.flush()

        yield append
