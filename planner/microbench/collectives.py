"""All-reduce over the devices of this machine through torch.distributed: a process per device, two on a processor."""

import datetime
import importlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from planner.microbench.device import Device
from planner.microbench.timing import Time, summary

_BACKENDS = {"cuda": "nccl", "npu": "hccl", "cpu": "gloo"}
_SAMPLES = 7
_RUNS = 20
_WARM_UP = 3


class _Asked(NamedTuple):
    """What every process of a group does; plain values, since it is sent to them."""

    kind: str
    devices: int
    sizes: tuple[int, ...]  # byte
    folder: str
    seconds: float


def all_reduce(device: Device, sizes: Sequence[int], seconds: float) -> dict[int, Time]:
    """Time all-reduces of ``sizes`` byte per device; only those that ``seconds`` leave time for.

    Raises:
        RuntimeError: there is no second device, the processes cannot find each other, or they do not end in time.
    """
    devices = device.count if device.accelerator else 2
    if devices < 2:
        msg = "one device has nobody to exchange with"
        raise RuntimeError(msg)
    with tempfile.TemporaryDirectory() as folder:
        asked = _Asked(device.kind, devices, tuple(sizes), folder, seconds)
        _run(asked)
        found = Path(folder) / "times.json"
        if not found.exists():
            msg = "the processes ended without a time"
            raise RuntimeError(msg)
        return {int(size): Time(*value) for size, value in json.loads(found.read_text(encoding="utf-8")).items()}


def _run(asked: _Asked) -> None:
    """Start the processes and wait, not for ever."""
    spawn = importlib.import_module("torch.multiprocessing").spawn
    context = spawn(_member, args=(asked,), nprocs=asked.devices, join=False)
    deadline = time.monotonic() + asked.seconds + 60
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            msg = "the collectives did not end in time"
            raise RuntimeError(msg)


def _member(rank: int, asked: _Asked) -> None:
    """Be one process of the group; the first writes the times."""
    torch = importlib.import_module("torch")
    if asked.kind == "npu":
        importlib.import_module("torch_npu")
    distributed = importlib.import_module("torch.distributed")
    device = Device(torch, asked.kind)
    if device.module is not None:
        device.module.set_device(rank)
    distributed.init_process_group(
        _BACKENDS[asked.kind],
        init_method=f"file://{asked.folder}/meeting",
        rank=rank,
        world_size=asked.devices,
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        times = _times(asked, device, distributed)
        if rank == 0:
            (Path(asked.folder) / "times.json").write_text(json.dumps(times), encoding="utf-8")
    finally:
        distributed.destroy_process_group()


def _times(asked: _Asked, device: Device, distributed: Any) -> dict[int, Time]:
    torch = device.torch
    dtype = torch.bfloat16 if device.accelerator else torch.float32
    where = device.kind if device.module is None else f"{device.kind}:{device.module.current_device()}"
    start, found = time.monotonic(), dict[int, Time]()
    for size in asked.sizes:
        data = torch.ones(size // dtype.itemsize, device=where, dtype=dtype)
        more = torch.tensor([time.monotonic() - start < asked.seconds], device=where, dtype=torch.int32)
        distributed.broadcast(more, 0)  # all stop at the same size
        if not int(more):
            break
        for _ in range(_WARM_UP):
            distributed.all_reduce(data)
        samples = []
        for _ in range(_SAMPLES):
            distributed.barrier()
            samples.append(device.elapsed(lambda data=data: _repeat(distributed, data)) / _RUNS)  # type: ignore[misc]
            data.fill_(1)  # sums of sums grow beyond what the format holds
        found[size] = summary(samples)
    return found


def _repeat(distributed: Any, data: Any) -> None:
    for _ in range(_RUNS):
        distributed.all_reduce(data)
