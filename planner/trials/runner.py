"""Runs one trial: launch, wait until healthy, load, read the result, and leave nothing running behind.

A trial that fails is no error: how it failed is an outcome, which the loop learns from.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from planner.errors import InputError
from planner.importers import Measured, read_benchmark
from planner.trials.adapter import Adapter, Command, Launch, Values

Process = subprocess.Popen[bytes]
Failure = Literal["", "no_start", "no_answer", "unreadable"]
ADDED = ("port", "url", "folder")  # values that every trial has
_POLL = 0.2  # seconds between two looks at a server that starts
_LAST_LINES = 5  # of a log, to say why
_LONGEST = 400  # characters of them


class Outcome(NamedTuple):
    """How a trial ended: what was measured, or a failure and its reason; ``seconds`` it took."""

    failure: Failure
    reason: str
    run: Measured | None
    seconds: float


class _FailedError(Exception):
    """A trial that cannot go on."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


def run_trial(adapter: Adapter, values: Values, folder: Path) -> Outcome:
    """Run a trial in a folder of its own, which keeps the logs and the result.

    Args:
        adapter: the commands.
        values: what stands in their places; ``port``, ``url`` and ``folder`` are added.
        folder: is made where it is not there.

    Raises:
        InputError: the folder cannot be written.
    """
    started = time.monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError.single(str(folder), f"cannot be written: {error.strerror}") from None
    full = {**values, "port": _free_port(), "folder": str(folder.resolve())}
    full["url"] = adapter.url.format_map(full)
    try:
        with _served(adapter.launch, full, folder) as server:
            run = _measured(adapter, full, folder, server)
    except _FailedError as failed:
        return Outcome(failed.failure, str(failed), None, time.monotonic() - started)
    return Outcome("", "", run, time.monotonic() - started)


@contextmanager
def _served(launch: Launch | None, values: Values, folder: Path) -> Iterator[Process | None]:
    """Have a server that is ready, and end it and all it started."""
    if launch is None:
        yield None
        return
    log = folder / "server.log"
    process = _started(launch, values, log, "no_start")
    try:
        _wait(launch, process, f"{values['url']}{launch.health}", log)
        yield process
    finally:
        _end(process, launch.stop_timeout)


def _started(command: Command, values: Values, log: Path, failure: Failure) -> Process:
    """Start a command in a process group of its own."""
    line = command.line(values)
    extra = {name: text.format_map(values) for name, text in command.environment.items()}
    with log.open("wb") as stream:
        try:
            return subprocess.Popen(
                line, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, **extra},
            )  # fmt: skip
        except OSError as error:
            raise _FailedError(failure, f"'{line[0]}' cannot be run: {error.strerror}") from None


def _wait(launch: Launch, process: Process, url: str, log: Path) -> None:
    """Wait until the server is healthy."""
    deadline = time.monotonic() + launch.ready_timeout
    while time.monotonic() < deadline:
        code = process.poll()
        if code is not None:
            raise _FailedError("no_start", f"the engine ended with code {code} before it was ready{_tail(log)}")
        if _healthy(url):
            return
        time.sleep(_POLL)
    raise _FailedError("no_start", f"the engine was not ready after {launch.ready_timeout:g} s{_tail(log)}")


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _measured(adapter: Adapter, values: Values, folder: Path, server: Process | None) -> Measured:
    benchmark, log = adapter.benchmark, folder / "benchmark.log"
    for name, text in benchmark.files.items():
        (folder / name).write_text(text.format_map(values), encoding="utf-8")
    for old in folder.glob(benchmark.result):  # of a trial that was interrupted
        old.unlink()
    process = _started(benchmark, values, log, "unreadable")
    try:
        code = process.wait(benchmark.timeout)
    except subprocess.TimeoutExpired:
        message = f"the benchmark had not ended after {benchmark.timeout:g} s{_tail(log)}"
        raise _FailedError("no_answer", message) from None
    finally:
        _end(process, _POLL)
    if server is not None and server.poll() is not None:
        message = f"the engine ended with code {server.returncode} under load{_tail(folder / 'server.log')}"
        raise _FailedError("no_answer", message)
    if code:
        raise _FailedError("unreadable", f"the benchmark ended with code {code}{_tail(log)}")
    found = sorted(folder.glob(benchmark.result))
    if not found:
        raise _FailedError("unreadable", f"the benchmark wrote no {benchmark.result}{_tail(log)}")
    return read_result(found[-1], benchmark.format)


def read_result(path: Path, form: str | None) -> Measured:
    """Return the run of a result file.

    Raises:
        _FailedError: it is no result, or holds several.
    """
    try:
        runs = read_benchmark(path, form)
    except InputError as error:
        raise _FailedError("unreadable", "; ".join(str(problem) for problem in error.problems)) from None
    if len(runs) > 1:
        # AISBench writes all requests and those while all clients were busy: the last stage is the steady one.
        if len({run.source for run in runs}) == 1 and all(run.run.startswith("stage") for run in runs):
            return runs[-1]
        raise _FailedError("unreadable", f"{path} holds {len(runs)} runs instead of one")
    return runs[0]


def _end(process: Process, patience: float) -> None:
    """End a process and all of its group: politely, then not."""
    for ask, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, ask)
        except (ProcessLookupError, PermissionError):  # all of the group is gone
            break
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
        if not _group_lives(process.pid):
            break
    process.wait()


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _tail(log: Path) -> str:
    """Return the last lines of a log, to say why."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    last = " | ".join(line.strip() for line in lines[-_LAST_LINES:] if line.strip())
    return f": {last[-_LONGEST:]}" if last else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
