"""How one case is timed: warm-up, then the median of several samples of many runs each."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from planner.microbench import cases as c
from planner.microbench.cases import Case
from planner.microbench.device import Device
from planner.microbench.kernels import Prepared

_SAMPLES, _LEAST_SAMPLES = 7, 3
_MOST_RUNS = 1000


class Time(NamedTuple):
    """Median time of one run [s], and the distance between the quartiles of the samples over it."""

    seconds: float
    spread: float


def timed(case: Case, prepared: Prepared, device: Device, limit: float) -> Time:
    """Time a case in about ``limit`` seconds.

    Runs follow one another without a wait; where the device has graphs they are launched as one, so that what is timed
    is the device and not the host. Launches themselves are timed as their name says.

    Raises:
        RuntimeError: the device cannot replay graphs, and the case asks for that.
    """
    for turn in range(min(prepared.turns, 2)):
        prepared.call(turn)
    device.synchronize()

    def work(runs: int) -> Callable[[], None]:
        def repeat() -> None:
            for turn in range(runs):
                prepared.call(turn)

        return repeat

    once = device.elapsed(work(1))
    runs = case.shape.get("launches") or _runs(once, prepared.turns, device, limit)
    repeat = work(runs)
    if case.operation == c.GRAPH or (device.accelerator and case.operation not in (c.EAGER, c.TO_DEVICE, c.TO_HOST)):
        replay = device.captured(repeat)
        if replay is None and case.operation == c.GRAPH:
            msg = "this device replays no graphs"
            raise RuntimeError(msg)
        repeat = replay or repeat
    each = device.elapsed(repeat)
    samples = min(_SAMPLES, max(_LEAST_SAMPLES, int(limit / max(each, 1e-9))))
    return summary([device.elapsed(repeat) / runs for _ in range(samples)])


def summary(samples: Sequence[float]) -> Time:
    """Return the median of samples, and how far they lie apart."""
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Time(middle, (high - low) / middle if middle else 0.0)


def _runs(once: float, turns: int, device: Device, limit: float) -> int:
    """Return the runs of a sample: long enough to be timed, once over all operands, if there is time for that."""
    wanted = max(turns, min(round(device.least_seconds / max(once, 1e-9)), _MOST_RUNS))
    return max(1, min(wanted, int(limit / (_SAMPLES + 1) / max(once, 1e-9))))
