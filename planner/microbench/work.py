"""What operations of a microbenchmark cost a device: flop, byte moved, and byte on links."""

import math

from planner.microbench import cases as c
from planner.microbench.results import Row

_OUTPUT_BYTES = {"bf16": 2, "fp8": 2, "int8": 4}
_CAUSAL = 0.5  # every token attends to those before it: half of all pairs


def flops(row: Row) -> float:
    """Return the matrix flop of a product or of attention: 2 per multiply-add."""
    s = row.shape
    if row.operation == c.GEMM:
        return 2.0 * s["m"] * s["n"] * s["k"]
    pairs = s["batch"] * s["heads"] * s["tokens"] * (s["tokens"] * _CAUSAL if row.operation == c.PREFILL else 1)
    return 4.0 * pairs * s["width"]


def moved(row: Row) -> float:
    """Return the byte between memory and cores: every operand read once, every result written once."""
    s = row.shape
    if row.operation == c.GEMM:
        size = c.VALUE_BYTES[row.dtype]
        return float((s["n"] * s["k"] + s["m"] * s["k"]) * size + s["m"] * s["n"] * _OUTPUT_BYTES[row.dtype])
    if row.operation in (c.PREFILL, c.DECODE):
        new, kept = (s["tokens"], s["heads"]) if row.operation == c.PREFILL else (1, s["kv_heads"])
        values = 2 * s["batch"] * s["width"] * (s["heads"] * new + kept * s["tokens"])  # queries, results; keys, values
        return float(values * c.VALUE_BYTES[row.dtype])
    return float(s["bytes"] * (2 if row.operation == c.COPY else 1))


def all_reduce_ways(row: Row) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (byte sent by a device, rounds) of both ways to reduce: all to all at once, or in shares, there and back.

    As in planner/costs/operators/collective.py: (n−1)·size in one round, or 2·(n−1)/n·size in two.
    """
    n, size = row.shape["devices"], row.shape["bytes"]
    return ((n - 1.0) * size, 1.0), (2.0 * (n - 1) / n * size, 2.0)


def depth(devices: int) -> float:
    """Return the latency of a round among devices over that among 4: a tree is as deep as log₂ of them."""
    return 0.5 + math.log2(devices) / 4
