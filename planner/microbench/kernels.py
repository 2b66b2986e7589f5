"""The operations themselves: a case becomes a function that runs it once, on operands no cache holds."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from planner.microbench import cases as c
from planner.microbench.cases import Case
from planner.microbench.device import Device

Call = Callable[[int], Any]  # runs once, on the operands of this turn
_MOST_COPIES = 64


class Prepared:
    """A case ready to run, and after how many turns its operands repeat."""

    def __init__(self, call: Call, turns: int) -> None:
        self.call = call
        self.turns = turns


def prepare(case: Case, device: Device) -> Prepared:
    """Allocate the operands of a case.

    Raises:
        RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError: PyTorch cannot do it on this device.
    """
    return _MAKERS[case.operation](case, device)


def _copies(device: Device, size: int, *operands: Any) -> Sequence[tuple[Any, ...]]:
    """Return operands of ``size`` byte in all as often as it takes to outgrow all caches."""
    further = min(-(-device.cache_bytes // size), _MOST_COPIES) - 1
    return [operands, *(tuple(operand.clone() for operand in operands) for _ in range(further))]


def _gemm(case: Case, device: Device) -> Prepared:
    """m×k activations times the transpose of n×k weights."""
    torch = device.torch
    m, n, k = (case.shape[name] for name in "mnk")

    def filled(rows: int) -> Any:
        values = torch.randn(rows, k, device=device.kind, dtype=torch.float32)
        if case.dtype == "int8":
            return (values * 32).clamp(-127, 127).to(torch.int8)
        return values.to(torch.bfloat16 if case.dtype == "bf16" else device.fp8)

    left = filled(m)
    copies = _copies(device, n * k * c.VALUE_BYTES[case.dtype], filled(n).t())
    product = torch._int_mm if case.dtype == "int8" else torch.mm
    if case.dtype == "fp8":
        one = torch.ones((), device=device.kind, dtype=torch.float32)
        product = functools.partial(torch._scaled_mm, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)
    return Prepared(lambda turn: product(left, *copies[turn % len(copies)]), len(copies))


def _attention(case: Case, device: Device) -> Prepared:
    """Causal attention over whole prompts, or of one new token per request over its context.

    In decode, the query heads that share a KV head stand in the place of its tokens: the same sums, with every key and
    value read once.
    """
    torch = device.torch
    batch, tokens, heads, kv_heads, width = (
        case.shape[name] for name in ("batch", "tokens", "heads", "kv_heads", "width")
    )
    decodes = case.operation == c.DECODE
    query_shape = (batch, kv_heads, heads // kv_heads, width) if decodes else (batch, heads, tokens, width)
    cache_shape = (batch, kv_heads if decodes else heads, tokens, width)
    query, keys, values = (
        torch.randn(shape, device=device.kind, dtype=torch.bfloat16)
        for shape in (query_shape, cache_shape, cache_shape)
    )
    caches = _copies(device, 2 * keys.nbytes, keys, values)
    attend = functools.partial(torch.nn.functional.scaled_dot_product_attention, query, is_causal=not decodes)
    return Prepared(lambda turn: attend(*caches[turn % len(caches)]), len(caches))


def _memory(case: Case, device: Device) -> Prepared:
    """Sum of a tensor, or a copy into another one."""
    torch = device.torch
    source = torch.ones(case.shape["bytes"] // 4, device=device.kind, dtype=torch.float32)
    sources = _copies(device, case.shape["bytes"], source)
    if case.operation == c.READ:
        return Prepared(lambda turn: sources[turn % len(sources)][0].sum(), len(sources))
    target = torch.empty_like(source)
    return Prepared(lambda turn: target.copy_(*sources[turn % len(sources)]), len(sources))


def _launch(case: Case, device: Device) -> Prepared:
    """As little work as a kernel can do."""
    number = device.torch.zeros(1, device=device.kind, dtype=device.torch.float32)
    return Prepared(lambda turn: number.add_(1), 1)


def _host_link(case: Case, device: Device) -> Prepared:
    """Copy between pinned memory of the host and the device."""
    torch = device.torch
    here = torch.ones(case.shape["bytes"] // 4, dtype=torch.float32).pin_memory()
    there = torch.ones(case.shape["bytes"] // 4, device=device.kind, dtype=torch.float32)
    source, target = (here, there) if case.operation == c.TO_DEVICE else (there, here)
    return Prepared(lambda turn: target.copy_(source, non_blocking=True), 1)


_MAKERS: dict[str, Callable[[Case, Device], Prepared]] = {
    c.GEMM: _gemm,
    c.PREFILL: _attention,
    c.DECODE: _attention,
    c.READ: _memory,
    c.COPY: _memory,
    c.EAGER: _launch,
    c.GRAPH: _launch,
    c.TO_DEVICE: _host_link,
    c.TO_HOST: _host_link,
}
