"""Plain-text tables and figures."""

import html
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Rows under headers; columns are right-aligned unless named in ``left``."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[str, ...] = ()


class Lines(NamedTuple):
    """Lines under names; a name without lines is not shown."""

    named: tuple[tuple[str, tuple[str, ...]], ...]


class Readable:
    """What is read as lines of text, in notebooks as they stand."""

    __slots__ = ()

    def lines(self) -> Iterator[str]:
        """Yield it line by line."""
        raise NotImplementedError

    @property
    def text(self) -> str:
        """It for people."""
        return "\n".join(self.lines()) + "\n"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"


Block = str | Lines | Table

_KERNELS = {"standard": "attention scores in memory", "flash1": "FlashAttention", "flash2": "FlashAttention-2"}


def kernel(name: str) -> str:
    """Return what the field calls an attention kernel of a scenario."""
    return _KERNELS[name]


def prefill(policy: str, role: str) -> str:
    """Return how prompts are scheduled, in the field's words: ``mixed_chunked`` is chunked prefill among decodes."""
    if role == "decode":
        return "decodes alone"
    how = "chunked prefill" if policy.endswith("chunked") else "whole prompts"
    where = "among decodes" if policy.startswith("mixed") else "apart from decodes"
    return how if role == "prefill" else f"{how} {where}"


def shows(role: str, metric: str) -> bool:
    """Tell whether a deployment's row has the mean ``ttft`` or ``tpot``: those of a pair stand once."""
    return role != {"ttft": "decode", "tpot": "prefill"}[metric]


_LARGE = 1e4
_SHORT_RUN = 5


def aligned(headers: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[str]) -> list[str]:
    """Return rows under headers; columns are right-aligned unless named in ``left``."""
    widths = [max(len(row[i]) for row in (headers, *rows)) for i in range(len(headers))]
    return [
        "  ".join(
            cell.ljust(width) if header in left else cell.rjust(width)
            for cell, width, header in zip(row, widths, headers, strict=True)
        ).rstrip()
        for row in (headers, *rows)
    ]


def figure(value: float) -> str:
    """Return four significant digits, without an exponent for everyday sizes."""
    return f"{value:.4g}" if abs(value) < _LARGE else grouped(round(value))


def runs(values: Sequence[int | str]) -> str:
    """Return values in a row, with long runs of even steps shortened: ``8 … 248 by 8``."""
    parts: list[str] = []
    left = list(values)
    while left:
        length = _even_run(left)
        if length > _SHORT_RUN:
            parts.append(f"{left[0]} … {left[length - 1]} by {int(left[1]) - int(left[0])}")
        else:
            parts += map(str, left[:1])
            length = 1
        left = left[length:]
    return ", ".join(parts)


def _even_run(values: Sequence[int | str]) -> int:
    """Return how many values from the first on are whole numbers in even steps."""
    numbers = list(itertools.takewhile(lambda value: isinstance(value, int), values))
    steps = [int(after) - int(before) for before, after in itertools.pairwise(numbers)]
    return 1 + len(list(itertools.takewhile(lambda step: step == steps[0], steps)))


def grouped(count: int) -> str:
    """Return a whole number with its thousands set apart."""
    return f"{count:,}".replace(",", " ")


_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"))


def scaled(value: float, unit: str) -> str:
    """Return a value with a decimal prefix to its unit: ``1.25 Gflop``."""
    size, prefix = next((pair for pair in _PREFIXES if abs(value) >= pair[0]), _PREFIXES[-1])
    return f"{value / size:.4g} {prefix}{unit}"


def nearest(basis: str, engine: str, hardware: str) -> str:
    """Return in words what was measured nearest to a deployment; ``basis`` as plans have it of fitted efficiencies."""
    return {
        "deployment": "this deployment was measured",
        "system+backend": f"{engine} on {hardware} was measured, this deployment was not",
        "system": f"{hardware} was measured, with other engines",
        "none": "nothing like it was measured",
    }[basis]
