"""The plan over what trials have taught: a table of replicas with the rates believed of them, solved and proven."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from planner import pipeline
from planner.catalog import Case, scenario_from_data
from planner.catalog.specs import is_path
from planner.constants import MILLISECONDS_PER_SECOND
from planner.decode import resolved_scenario
from planner.report import Report
from planner.studies.tuning.log import Log
from planner.studies.tuning.loop import Standing, Tuner
from planner.studies.tuning.outcomes import TPOT, TTFT
from planner.table import Floats, Ints

_KEPT = ("schema_version", "name", "description", "inventory", "workloads", "objective", "limits", "solver")
_EVEN = 0.5  # where the scenario names no confidence: as likely as not
_OF_WORKLOAD = ("requests", "output_tokens")


def believed_plan(case: Case, tuner: Tuner, now: Standing, folder: Path) -> Report | None:
    """Return the proven plan over candidates that hold all limits with the scenario's confidence.

    None where there are none, or where the goal is a latency. Replicas of several candidates may stand side by side.
    Rates are those believed now, at the clients of each.
    """
    rows = list(_rows(tuner, now, case.scenario.confidence or _EVEN))
    if not rows or tuner.candidates.outcomes.latency is not None:
        return None
    resolved = resolved_scenario(case)
    data = {name: resolved[name] for name in _KEPT if name in resolved}
    data["description"] = "Rates believed after trials."
    data["inventory"] = {name: _findable(item, folder) for name, item in data["inventory"].items()}
    data["workloads"] = {
        name: {field: written[field] for field in _OF_WORKLOAD} for name, written in data["workloads"].items()
    }
    return pipeline.solve(scenario_from_data({**data, "columns": rows}, folder=folder, origin="what trials taught"))


def times(tuner: Tuner, now: Standing) -> Floats:
    """Return the TTFT and TPOT believed of candidates [s], shape (2, C)."""
    found: Floats = tuner.candidates.modelled * np.exp(now.joint.mean)
    return found


def _rows(tuner: Tuner, now: Standing, confidence: float) -> Iterator[dict[str, Any]]:
    expected = times(tuner, now)
    rates = tuner.candidates.outcomes.rate(expected[TTFT], expected[TPOT])
    for i in _able(tuner, now, expected, confidence).tolist():
        configuration = tuner.candidates.every[i].configuration
        yield {
            "role": "mixed",
            "devices_per_replica": configuration.devices,
            "requests_per_s_per_replica": float(f"{rates[i]:.6g}"),
            "label": tuner.candidates.every[i].replica,
            "hardware": configuration.inventory,
        }


def _able(tuner: Tuner, now: Standing, expected: Floats, confidence: float) -> Ints:
    limits = tuner.candidates.outcomes.limits
    within = (expected[TTFT] <= limits[TTFT]) & (expected[TPOT] <= limits[TPOT])
    return np.nonzero(within & (now.prospects.likely >= confidence))[0]


def _findable(item: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return an inventory item whose hardware is found from anywhere."""
    hardware = item["hardware"]
    return {**item, "hardware": str((folder / hardware).resolve()) if is_path(hardware) else hardware}


def measured_rows(case: Case, log: Log) -> list[dict[str, Any]]:
    """Return the trials that measured something as rows that ``planner calibrate`` and ``planner predict`` read."""
    workload = next(iter(case.scenario.workloads.values()))
    versions = {use.engine.name: use.version for use in case.engines}
    model = case.model(next(iter(case.scenario.workloads))).architecture
    found = []
    for trial in log.trials:
        if trial.measured is None or trial.status != "measured":
            continue
        c = trial.candidate.configuration
        found.append({
            "id": f"{log.scenario}-trial-{trial.number}", "model": model,
            "system": case.scenario.inventory[c.inventory].hardware, "backend": c.engine,
            "backend_version": versions[c.engine], "precision": c.weight_precision, "devices": c.devices, "tp": c.tp,
            "pp": c.pp, "attention_dp": c.attention_dp, "moe_tp": c.moe_tp, "ep": c.ep,
            "concurrency": trial.clients, "isl": int(workload.input_tokens), "osl": int(workload.output_tokens),
            "length_spread": "fixed", "maybe_speculative": False, "anomalous": False, "kv_precision": c.kv_precision,
            "max_num_seqs": c.max_num_seqs,
            "max_num_batched_tokens": c.max_num_batched_tokens, "ttft_ms": trial.measured.ttft_ms,
            "tpot_ms": trial.measured.tpot_ms,
        })  # fmt: skip
    return found


def milliseconds(tuner: Tuner, now: Standing, index: int) -> tuple[float, float]:
    """Return the TTFT and TPOT believed of a candidate [ms]."""
    ttft, tpot = (float(value) * MILLISECONDS_PER_SECOND for value in times(tuner, now)[:, index])
    return ttft, tpot
