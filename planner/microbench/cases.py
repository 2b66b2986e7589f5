"""What is timed: a ladder of shapes per operation, in an order that leaves each with some if time runs out."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

GEMM, PREFILL, DECODE = "gemm", "attention_prefill", "attention_decode"
READ, COPY = "memory_read", "memory_copy"
EAGER, GRAPH = "launch_eager", "launch_graph"
TO_DEVICE, TO_HOST = "host_to_device", "device_to_host"
ALL_REDUCE = "all_reduce"
OPERATIONS = (GEMM, PREFILL, DECODE, READ, COPY, EAGER, GRAPH, TO_DEVICE, TO_HOST, ALL_REDUCE)
VALUE_BYTES: Mapping[str, int] = {"bf16": 2, "fp8": 1, "int8": 1, "fp32": 4}


class Case(NamedTuple):
    """One operation on one shape. ``shape`` names sizes: tokens, heads, byte."""

    operation: str
    dtype: str
    shape: Mapping[str, int]

    def __str__(self) -> str:
        """Name it as progress shows it."""
        return f"{self.operation} {self.dtype} {' '.join(f'{name}={size}' for name, size in self.shape.items())}"


class Ladder(NamedTuple):
    """Sizes for a kind of device: a processor gets smaller ones, and no format that it only emulates."""

    formats: tuple[str, ...]
    rows: tuple[int, ...]
    weights: tuple[tuple[int, int], ...]  # outputs, inputs
    heads: tuple[int, int, int]  # query heads, KV heads, width
    prompts: tuple[tuple[int, int], ...]  # batch, tokens
    contexts: tuple[tuple[int, int], ...]  # batch, tokens
    bytes: tuple[int, ...]
    messages: tuple[int, ...]  # byte
    launches: int


_MIB = 2**20
# Products of a dense model of 8 and of 70 billion parameters; prompts and caches that fill devices of 16 GB and more.
ACCELERATOR = Ladder(
    formats=("bf16", "fp8", "int8"),
    rows=(1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192),
    weights=((4096, 4096), (6144, 4096), (14336, 4096), (4096, 14336), (8192, 8192), (28672, 8192)),
    heads=(32, 8, 128),
    prompts=((1, 512), (1, 2048), (4, 2048), (1, 4096), (2, 4096), (1, 8192), (1, 16384)),
    contexts=((1, 1024), (1, 16384), (8, 1024), (8, 4096), (32, 1024), (32, 4096), (64, 2048), (128, 1024)),
    bytes=tuple(size * _MIB for size in (64, 128, 256, 512, 1024)),
    messages=tuple(2**power for power in range(12, 28, 2)),
    launches=1000,
)
PROCESSOR = Ladder(
    formats=("bf16", "int8"),
    rows=(1, 4, 16, 64, 128, 256),
    weights=((512, 512), (1024, 1024), (2048, 1024), (2048, 2048)),
    heads=(8, 2, 64),
    prompts=((1, 128), (1, 256), (2, 256), (1, 512), (1, 1024)),
    contexts=((1, 1024), (4, 1024), (4, 4096), (8, 4096), (16, 2048)),
    bytes=tuple(size * _MIB for size in (32, 64, 128)),
    messages=tuple(2**power for power in range(12, 24, 2)),
    launches=200,
)


def cases(ladder: Ladder, *, host_link: bool) -> Iterator[Case]:
    """Yield the cases of one device, an operation after the other in turn; collectives are not among them."""
    groups: list[Iterable[Case]] = [_gemms(ladder, dtype) for dtype in ladder.formats]
    groups += [_attention(ladder, PREFILL), _attention(ladder, DECODE)]
    groups += [[Case(operation, "fp32", {"bytes": size}) for size in ladder.bytes] for operation in (READ, COPY)]
    groups += [[Case(operation, "fp32", {"launches": ladder.launches})] for operation in (EAGER, GRAPH)]
    if host_link:
        sizes = [size for size in ladder.bytes if size <= 256 * _MIB]
        groups += [[Case(operation, "fp32", {"bytes": size}) for size in sizes] for operation in (TO_DEVICE, TO_HOST)]
    for turn in itertools.zip_longest(*groups):
        yield from (case for case in turn if case is not None)


def _gemms(ladder: Ladder, dtype: str) -> Iterator[Case]:
    """Yield products from the corners of the ladder inwards: few and many rows in turn."""
    outside_in = [ladder.rows[index] for index in _outside_in(len(ladder.rows))]
    for rows, (outputs, inputs) in itertools.product(outside_in, ladder.weights):
        yield Case(GEMM, dtype, {"m": rows, "n": outputs, "k": inputs})


def _outside_in(count: int) -> list[int]:
    """Return the places of a list, first and last first."""
    return [place for pair in zip(range(count), reversed(range(count)), strict=True) for place in pair][:count]


def _attention(ladder: Ladder, operation: str) -> Iterator[Case]:
    heads, kv_heads, width = ladder.heads
    for batch, tokens in ladder.prompts if operation == PREFILL else ladder.contexts:
        shape = {"batch": batch, "tokens": tokens, "heads": heads, "kv_heads": kv_heads, "width": width}
        yield Case(operation, "bf16", shape)
