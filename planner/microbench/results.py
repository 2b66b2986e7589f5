"""The file of a microbenchmark: what was measured, where, and what was fitted to it. YAML, a row per line."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from planner import yaml_io
from planner.catalog.validate import validate
from planner.errors import InputError
from planner.microbench import cases as c
from planner.schema.base import Count, Name, NonNegative, Positive, Schema
from planner.yaml_io import scalar_text

# Sizes that the time of an operation depends on.
SIZES: Mapping[str, tuple[str, ...]] = {
    c.GEMM: ("m", "n", "k"),
    c.PREFILL: ("batch", "tokens", "heads", "kv_heads", "width"),
    c.DECODE: ("batch", "tokens", "heads", "kv_heads", "width"),
    c.EAGER: ("launches",),
    c.GRAPH: ("launches",),
    c.ALL_REDUCE: ("devices", "bytes"),
} | dict.fromkeys((c.READ, c.COPY, c.TO_DEVICE, c.TO_HOST), ("bytes",))


Size = Annotated[int, Field(ge=1, le=2**53, strict=True)]  # byte, too, of which there are many


class Row(Schema):
    """The time of one operation on one shape: the median [s], and the quartiles' distance over it."""

    operation: Literal[
        "gemm", "attention_prefill", "attention_decode", "memory_read", "memory_copy", "launch_eager", "launch_graph",
        "host_to_device", "device_to_host", "all_reduce",
    ]  # fmt: skip
    dtype: Literal["bf16", "fp8", "int8", "fp32"]
    shape: dict[Name, Size]
    seconds: Positive
    spread: NonNegative


class Fitted(Schema):
    """A fitted efficiency: a share, or a time with its unit; its standard error likewise.

    No standard error: the rows do not determine it. ``held_out_error`` is the median error of the times of every other
    shape, predicted from the rest.
    """

    value: float | str
    standard_error: float | str | None = None
    held_out_error: float | None = None
    rows: Count


class Microbenchmark(Schema):
    """Rows of one device, with what ran them; then, where it was fitted, the device they are compared with."""

    called = "a microbenchmark"

    device: Name
    backend: Literal["cuda", "npu", "cpu"]
    devices: Count
    torch: Name
    driver: Name
    planner: Name
    date: Name
    duration: NonNegative
    rows: tuple[Row, ...]
    skipped: tuple[str, ...] = ()
    hardware: Name | None = None
    efficiencies: dict[str, dict[str, Fitted]] = Field({}, description="by group and name of a calibration")
    observed: dict[str, Fitted] = Field({}, description="what a calibration has no place for")
    notes: tuple[str, ...] = ()


def read(path: Path) -> Microbenchmark:
    """Read a file of rows.

    Raises:
        InputError: every fault of the file with its place.
    """
    document = yaml_io.load(path)
    found = validate(document, Microbenchmark)
    problems = [
        document.problem(("rows", number, "shape"), f"of {row.operation} must have {', '.join(SIZES[row.operation])}")
        for number, row in enumerate(found.rows)
        if set(row.shape) != set(SIZES[row.operation])
    ]
    if problems:
        raise InputError(problems)
    return found


def text(result: Microbenchmark) -> str:
    """Write a file of rows: settings, rows, then what was fitted."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Microbenchmark) -> Iterator[str]:
    yield "# Microbenchmarks: seconds are medians, spread is the distance between quartiles over the median."
    for name in ("device", "backend", "devices", "torch", "driver", "planner", "date"):
        yield f"{name}: {_plain(getattr(result, name))}"
    yield f"duration: {float(result.duration)}  # s"
    yield "rows:" if result.rows else "rows: []"
    for row in result.rows:
        shape = ", ".join(f"{name}: {size}" for name, size in row.shape.items())
        figures = f"seconds: {row.seconds:.6e}, spread: {row.spread:.4f}"
        yield f"  - {{operation: {row.operation}, dtype: {row.dtype}, shape: {{{shape}}}, {figures}}}"
    yield from _listed("skipped", result.skipped)
    if result.hardware is None:
        return
    yield f"hardware: {_plain(result.hardware)}"
    yield "# Shares of that data sheet, and times, in the names of a calibration."
    yield "efficiencies:" if result.efficiencies else "efficiencies: {}"
    for group, members in result.efficiencies.items():
        yield f"  {group}:"
        yield from (f"    {name}: {_fitted(value)}" for name, value in members.items())
    yield "observed:  # what a calibration has no place for" if result.observed else "observed: {}"
    yield from (f"  {name}: {_fitted(value)}" for name, value in result.observed.items())
    yield from _listed("notes", result.notes)


def _listed(name: str, lines: tuple[str, ...]) -> Iterator[str]:
    yield f"{name}:" if lines else f"{name}: []"
    yield from (f"  - {scalar_text(line)}" for line in lines)


def _plain(value: str | int) -> str:
    return str(value) if isinstance(value, int) else scalar_text(value)


def _fitted(value: Fitted) -> str:
    parts = {name: part for name, part in value.model_dump().items() if part is not None}
    return "{" + ", ".join(f"{name}: {part}" for name, part in parts.items()) + "}"
