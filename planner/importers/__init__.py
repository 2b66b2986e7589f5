"""Importers: what benchmarks of running servers wrote becomes measurement rows. One file per format.

``read_benchmark`` reads any of them into ``Measured``; ``rows.measurement_rows`` joins these with what the user says of
the deployment.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from planner.errors import InputError, Problem, did_you_mean
from planner.importers import aiperf, aisbench, guidellm, sglang, vllm_bench
from planner.importers.fields import Fields, documents
from planner.importers.measured import Measured, Tail
from planner.registry import by_name


class Format(NamedTuple):
    """A form of result files: what it is called, how it is told from others by content, and how it is read."""

    name: str
    title: str
    recognises: Callable[[Any], bool]
    read: Callable[[Fields], Iterator[Measured]]


FORMATS: Mapping[str, Format] = MappingProxyType(
    by_name(
        (
            Format("vllm", "vllm bench serve --save-result", vllm_bench.recognises, vllm_bench.read),
            Format("sglang", "python -m sglang.bench_serving --output-file", sglang.recognises, sglang.read),
            Format("aiperf", "aiperf profile: profile_export_aiperf.json", aiperf.recognises, aiperf.read),
            Format("guidellm", "guidellm benchmark: benchmarks.json", guidellm.recognises, guidellm.read),
            Format(
                "aisbench", "ais_bench --mode perf: DATASET.json beside DATASET.csv", aisbench.recognises, aisbench.read
            ),
        )
    )
)

__all__ = ["FORMATS", "Format", "Measured", "Tail", "read_benchmark"]


def read_benchmark(path: Path, format: str | None = None) -> list[Measured]:
    """Read every run of a result file; without a format, what it holds tells.

    Raises:
        InputError: the file cannot be read, is of no known format, or every value of it that is missing or wrong.
    """
    if format is not None and format not in FORMATS:
        raise InputError.single("", f"unknown format '{format}'; {did_you_mean(format, FORMATS)}")
    if path.suffix == ".csv":  # AISBench writes two files of one name; either may be given
        path = path.with_suffix(".json")
    problems: list[Problem] = []
    runs: list[Measured] = []
    for line, data in documents(path):
        fields = Fields(data, path, line, problems)
        chosen = FORMATS[format] if format is not None else _recognised(fields)
        if chosen is None:
            continue
        if not isinstance(data, Mapping):
            fields.fault("", f"must be an object of named values, as {chosen.title} writes it")
            continue
        before = len(problems)
        found = list(chosen.read(fields))
        runs += found
        if not found and len(problems) == before:
            fields.fault("", f"holds no run; expected what this writes: {chosen.title}")
    if problems:
        raise InputError(problems)
    return runs


def _recognised(fields: Fields) -> Format | None:
    """Return the format of an object; one that is of no known format is a problem."""
    found = next((known for known in FORMATS.values() if known.recognises(fields.data)), None)
    if found is None:
        known = "; ".join(f"{name} ({entry.title})" for name, entry in FORMATS.items())
        fields.fault("", f"is of no known format; known: {known}")
    return found
