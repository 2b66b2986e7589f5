"""The device through PyTorch: CUDA and ROCm as ``cuda``, Ascend as ``npu`` (torch_npu), or the processor.

PyTorch is imported when a device is opened, so that everything else works without it.
"""

import importlib
import os
import platform
import time
from collections.abc import Callable
from typing import Any

from planner.errors import InputError, did_you_mean

KINDS = ("cuda", "npu", "cpu")
_NEEDED = (
    "microbenchmarks need PyTorch: install torch for this device (pytorch.org says which build; for Ascend, "
    "torch_npu as well), or fit times measured elsewhere with --rows FILE"
)


def open_device(kind: str | None) -> "Device":
    """Open the first device of a kind; without one, an accelerator if there is any, else the processor.

    Raises:
        InputError: PyTorch is not installed, or has no device of this kind here.
    """
    if kind is not None and kind not in KINDS:
        raise InputError.single("--device", f"unknown device '{kind}'; {did_you_mean(kind, KINDS)}")
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "torch"
        raise InputError.single("", _NEEDED if missing else f"PyTorch cannot be loaded: {error}") from None
    try:
        importlib.import_module("torch_npu")  # which adds torch.npu
    except (ImportError, RuntimeError, OSError) as error:
        if kind == "npu":
            raise InputError.single("--device", f"npu needs torch_npu: {error}") from None
    here = [name for name in KINDS if name == "cpu" or (hasattr(torch, name) and getattr(torch, name).is_available())]
    if kind is not None and kind not in here:
        raise InputError.single(
            "--device", f"PyTorch {torch.__version__} sees no {kind} here; it has {', '.join(here)}"
        )
    return Device(torch, kind or here[0])


class Device:
    """One device of a kind; ``torch`` is the module, ``count`` how many there are."""

    def __init__(self, torch: Any, kind: str) -> None:
        self.torch = torch
        self.kind = kind
        self.module = None if kind == "cpu" else getattr(torch, kind)
        self.count = 1 if self.module is None else int(self.module.device_count())
        torch.manual_seed(0)

    @property
    def accelerator(self) -> bool:
        """Whether it is more than the processor."""
        return self.module is not None

    @property
    def name(self) -> str:
        """What the vendor calls it."""
        if self.module is not None:
            return str(self.module.get_device_name(0))
        return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"

    @property
    def driver(self) -> str:
        """Version of what runs it, as PyTorch was built for."""
        version = self.torch.version
        built = (("CUDA", "cuda"), ("ROCm", "hip"), ("CANN", "cann"))
        found = [f"{title} {getattr(version, name)}" for title, name in built if getattr(version, name, None)]
        return ", ".join(found) or "none"

    @property
    def fp8(self) -> Any:
        """The format of 8 bits that its matrix cores multiply: MI300 has one of its own."""
        properties = self.module.get_device_properties(0) if self.module is not None else None
        own = "gfx94" in getattr(properties, "gcnArchName", "")
        return self.torch.float8_e4m3fnuz if own else self.torch.float8_e4m3fn

    @property
    def cache_bytes(self) -> int:
        """Byte beyond which no cache holds the operands: they are kept in so many copies that they outgrow this.

        Last-level caches hold 50 MB on H100, 192 MB on Ascend 910B and 256 MB on MI300X.
        """
        return 512 * 2**20 if self.accelerator else 96 * 2**20

    @property
    def least_seconds(self) -> float:
        """Shortest time that is measured in one go."""
        return 2e-3 if self.accelerator else 5e-3

    def synchronize(self) -> None:
        """Wait until the device has done everything."""
        if self.module is not None:
            self.module.synchronize()

    def elapsed(self, work: Callable[[], None]) -> float:
        """Return the time that work takes [s]: on the device between two events, or on the clock."""
        if self.module is None:
            before = time.perf_counter()
            work()
            return time.perf_counter() - before
        start, end = (self.module.Event(enable_timing=True) for _ in range(2))
        self.synchronize()
        start.record()
        work()
        end.record()
        self.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def captured(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """Return what replays work as one graph; none where the device or the work cannot."""
        graph_type = getattr(self.module, "CUDAGraph", None) or getattr(self.module, "NPUGraph", None)
        if graph_type is None or self.module is None:
            return None
        graph = graph_type()
        try:
            self.synchronize()
            with self.module.graph(graph):
                work()
            graph.replay()
            self.synchronize()
        except RuntimeError:
            return None
        return lambda: graph.replay()
