"""Presets by use: lengths, limits and goals that a workload may start from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner import units
from planner.catalog import specs
from planner.catalog.specs import Loaded
from planner.errors import InputError, Problem
from planner.yaml_io import Document, Loc

if TYPE_CHECKING:
    from planner.schema.preset import LoadKind, Preset


def preset_names() -> tuple[str, ...]:
    """Return the shipped presets, sorted."""
    return specs.names("presets")


def load_preset(name: str, folder: Path = Path()) -> "Loaded[Preset]":
    """Load a preset by shipped name or by path; see ``specs.load_hardware`` for the errors."""
    from planner.schema.preset import Preset

    return specs.load("presets", "preset", name, folder, Preset)


def with_presets(document: Document, folder: Path) -> tuple[Document, list[Problem]]:
    """Fill in what workloads leave to their preset, and the objective where the scenario has none.

    What a workload says itself stays; limits of the preset are taken one by one.
    """
    problems: list[Problem] = []
    workloads = document.data.get("workloads") if isinstance(document.data, dict) else None
    for name, workload in workloads.items() if isinstance(workloads, dict) else ():
        chosen = workload.get("preset") if isinstance(workload, dict) else None
        if not isinstance(chosen, str):
            continue
        try:
            preset = load_preset(chosen, folder).value
        except InputError as error:
            problems += [document.problem(("workloads", name, "preset"), p.message) for p in error.problems]
            continue
        for loc, value in _left_out(document.data, ("workloads", name), workload, preset):
            document = document.with_override(loc, value, f"preset {chosen}")
    return document, problems


def _left_out(
    data: Mapping[str, Any], at: Loc, workload: Mapping[str, Any], preset: "Preset"
) -> Iterator[tuple[Loc, Any]]:
    """Yield places a scenario leaves to the preset, and the preset's values as a scenario writes them."""
    for field in ("input_tokens", "output_tokens"):
        if field not in workload:
            yield (*at, field), units.format_quantity(getattr(preset, field).value, units.TOKENS)
    given = workload.get("slo")
    for name in ("ttft", "tpot", "itl"):
        limit = getattr(preset.slo, name)
        if limit is not None and (given is None or (isinstance(given, Mapping) and name not in given)):
            yield (*at, "slo", name), units.format_quantity(limit.value, units.SECONDS)
    if "objective" not in data:
        requests = workload.get("requests")
        kind: LoadKind = "max" if requests == "max" else "concurrency" if isinstance(requests, Mapping) else "rate"
        yield ("objective",), [goal.model_dump(mode="json", exclude_none=True) for goal in preset.goals(kind)]
