"""Number formats of weights and KV cache.

Bytes include the scales stored beside the values: int4 in groups of 128 with a 16-bit scale and zero
point, and fp4 in blocks of 16 with an 8-bit scale (NVFP4). int4 is a weight-only format: the product runs
in bf16 after unpacking. The others multiply in their own format; fp8 and fp4 weights may be unpacked, too, where a
device does not multiply in them.
"""

from typing import Literal, NamedTuple

Precision = Literal["bf16", "fp8", "int8", "int4", "fp4"]
KvPrecision = Literal["bf16", "fp8"]
KV_FORMATS: tuple[KvPrecision, ...] = ("bf16", "fp8")


class Format(NamedTuple):
    """How one precision is stored and multiplied."""

    bytes_per_value: float
    compute: Precision
    unpacks: bool = False  # to bf16, where the device has no such arithmetic


FORMATS: dict[Precision, Format] = {
    "bf16": Format(2.0, "bf16"),
    "fp8": Format(1.0, "fp8", unpacks=True),
    "int8": Format(1.0, "int8"),
    "int4": Format(0.5 + 4 / 128, "bf16", unpacks=True),
    "fp4": Format(0.5 + 1 / 16, "fp4", unpacks=True),
}
