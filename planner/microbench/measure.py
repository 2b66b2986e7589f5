"""Runs the cases of a device, one after the other, until they are done or the time is up."""

import datetime
import gc
import time
from collections.abc import Callable

from planner import __version__
from planner.microbench import cases as c
from planner.microbench.collectives import all_reduce
from planner.microbench.device import Device, open_device
from planner.microbench.kernels import prepare
from planner.microbench.results import Microbenchmark, Row
from planner.microbench.timing import timed

_CANNOT = (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError)
_FOR_COLLECTIVES = 0.15  # of the time; starting processes takes seconds


def _silent(stage: str) -> None:
    """Ignore progress."""


def measure(kind: str | None, seconds: float = 600.0, on_stage: Callable[[str], None] = _silent) -> Microbenchmark:
    """Time everything on a device of a kind (``cuda``, ``npu``, ``cpu``; none: the best there is) within ``seconds``.

    What the device cannot do, and what there was no time for, is listed in ``skipped``.

    Raises:
        InputError: PyTorch is missing, or sees no such device.
    """
    device = open_device(kind)
    start = time.monotonic()
    ladder = c.ACCELERATOR if device.accelerator else c.PROCESSOR
    rows, skipped = _alone(device, ladder, start + seconds * (1 - _FOR_COLLECTIVES), on_stage)
    left = seconds - (time.monotonic() - start)
    on_stage("collectives")
    try:
        found = all_reduce(device, ladder.messages, max(left, 0.0))
    except _CANNOT as error:
        skipped.append(f"{c.ALL_REDUCE}: {_reason(error)}")
    else:
        devices = device.count if device.accelerator else 2
        dtype = "bf16" if device.accelerator else "fp32"
        rows += [
            Row(operation=c.ALL_REDUCE, dtype=dtype, shape={"devices": devices, "bytes": size}, **value._asdict())
            for size, value in found.items()
        ]
        lost = len(ladder.messages) - len(found)
        skipped += [f"{c.ALL_REDUCE}: no time for {lost} sizes"] if lost else []
    return Microbenchmark(
        device=device.name,
        backend=device.kind,
        devices=device.count,
        torch=str(device.torch.__version__),
        driver=device.driver,
        planner=__version__,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        duration=round(time.monotonic() - start, 1),
        rows=tuple(rows),
        skipped=tuple(skipped),
    )


def _alone(
    device: Device, ladder: c.Ladder, deadline: float, on_stage: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    """Time what one device does alone."""
    rows: list[Row] = []
    reasons: dict[str, int] = {}
    listed = list(c.cases(ladder, host_link=device.accelerator))
    for number, case in enumerate(listed, start=1):
        if time.monotonic() > deadline:
            reasons[f"no time for {len(listed) - number + 1} of {len(listed)} cases"] = 1
            break
        on_stage(f"{number} of {len(listed)}: {case}")
        try:
            share = 2 * (deadline - time.monotonic()) / (len(listed) - number + 1)  # most cases need less
            value = timed(case, prepare(case, device), device, share)
        except _CANNOT as error:  # also out of memory, which PyTorch tells as a RuntimeError
            reason = f"{case.operation} {case.dtype}: {_reason(error)}"
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            rows.append(Row(operation=case.operation, dtype=case.dtype, shape=dict(case.shape), **value._asdict()))
        _release(device)
    return rows, [reason if count == 1 else f"{reason} ({count} shapes)" for reason, count in reasons.items()]


def _release(device: Device) -> None:
    """Give memory back, so that the next case finds it."""
    gc.collect()
    if device.module is not None:
        device.module.empty_cache()


def _reason(error: Exception) -> str:
    """Return the first line of what PyTorch says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
