"""Measurement rows: what a benchmark measured, joined with what the user says of the deployment."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from planner.catalog.rows import rows_from_data
from planner.errors import InputError, Problem, as_written
from planner.importers.deployment import Deployment
from planner.importers.measured import FIXED, Measured, doubts
from planner.yaml_io import Document

_SHORTEST = 2  # tokens; with one there is no decode


class Imported(NamedTuple):
    """Rows ready to be written, by column; runs that are no closed loop; and why figures of a row may be off."""

    rows: tuple[Mapping[str, Any], ...]
    left_out: tuple[Problem, ...]
    notes: tuple[str, ...]


def measurement_rows(
    runs: Iterable[Measured], deployment: Deployment, document: Document, prefix: str = "", taken: Collection[str] = ()
) -> Imported:
    """Join measured runs with a deployment.

    ``prefix`` starts each id (default: the name of the result file), ``taken`` are ids in use already. The lengths of a
    row are nominal: the mean over the middle of the spread. A run with failed requests, or whose clients were not all
    busy, is marked anomalous; one with drafts whose acceptance is not known, maybe speculative.

    Raises:
        InputError: everything that keeps a run from becoming a row, except that it is no closed loop.
    """
    problems: list[Problem] = []
    left_out: list[Problem] = []
    notes: list[str] = []
    rows: list[Mapping[str, Any]] = []
    used: set[str] = set()
    for run in runs:
        if run.open_loop:
            message = f"is no closed loop: {run.open_loop}; rows need a fixed number of clients"
            left_out.append(Problem(run.source, 0, 0, run.run, message))
            continue
        joined = _Joined(run, deployment, document)
        row = joined.row()
        problems += joined.problems
        if joined.problems:
            continue
        plain = f"{prefix or Path(run.source).stem}-c{row['concurrency']}-{row['isl']}-{row['osl']}"
        row["id"] = next(name for name in _numbered(plain) if name not in used)
        if row["id"] in taken:
            message = "is there already; was this file imported before? --id starts the ids with something else"
            problems.append(Problem(run.source, 0, 0, f"{run.run}, id {row['id']}", message))
        used.add(row["id"])
        rows.append(row)
        notes += [f"{run.source}, {run.run}: {note}" for note in (*doubts(run), *joined.hints())]
    if problems:
        raise InputError(problems)
    rows_from_data(enumerate(rows, start=1), "the rows to be written")
    return Imported(tuple(rows), tuple(left_out), tuple(notes))


def _numbered(name: str) -> Iterator[str]:
    """Yield a name, then the same with numbers: one setting may be measured several times."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


class _Joined:
    """One run and the deployment it ran on: what is known of it, and what is missing or contradicts."""

    def __init__(self, run: Measured, deployment: Deployment, document: Document) -> None:
        self.run = run
        self.document = document
        self.problems: list[Problem] = []
        given = {name: value for name, value in deployment.model_dump().items() if value not in (None, "")}
        stated = {name: value for name, value in run.facts.items() if value != ""}
        self._agree(given, stated)
        self.known: dict[str, Any] = {"model": run.model, "backend_version": ""} | stated | given
        self.hidden_drafts = bool(run.speculative and not run.acceptance and "speculative_acceptance" not in given)

    def row(self) -> dict[str, Any]:
        """Return the row without its id."""
        for name in ("model", "backend", "precision", "tp"):
            if not self.known.get(name):
                self._fault(name, f"is required: {self.run.source} does not say it")
        if self.run.osl < _SHORTEST:
            message = f"outputs of {self.run.osl:.3g} tokens have no decode to measure"
            self.problems.append(Problem(self.run.source, 0, 0, self.run.run, message))
        if self.run.acceptance:
            self.known.setdefault("speculative_acceptance", ",".join(f"{chance:.3g}" for chance in self.run.acceptance))
        return (
            self.known
            | self._degrees()
            | self._load()
            | {
                "maybe_speculative": self.hidden_drafts,
                "anomalous": bool(doubts(self.run)),
                "ttft_ms": float(f"{self.run.ttft_ms:.6g}"),
                "tpot_ms": float(f"{self.run.tpot_ms:.6g}"),
            }
        )

    def hints(self) -> Iterator[str]:
        """Yield what the user may want to add."""
        if self.hidden_drafts:
            yield "the server made drafts: give speculative_acceptance, or predictions leave them out"
        if not (self.run.length_spread or "length_spread" in self.known):
            yield "the file does not say how lengths spread, so they are taken as fixed; length_spread says otherwise"

    def _agree(self, given: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
        """Compare what the user says with what the file does; versions may be written in many ways."""
        for name, value in stated.items():
            if name in given and given[name] != value and name != "backend_version":
                self._fault(name, f"is {as_written(given[name])}, but {self._where()} says {as_written(value)}")

    def _load(self) -> dict[str, Any]:
        """Return clients and lengths."""
        clients, given = self.run.concurrency, self.known.get("concurrency")
        if not (clients or given):
            self._fault("concurrency", f"is required: {self.run.source} does not say how many clients there were")
        elif clients and given and clients != given:
            self._fault("concurrency", f"is {given}, but {self._where()} says {clients}")
        spread = self.known.get("length_spread") or self.run.length_spread or FIXED
        middle = self._middle(spread)
        return {
            "concurrency": clients or given,
            "isl": max(round(self.run.isl / middle), 1),
            "osl": max(round(self.run.osl / middle), 1),
            "length_spread": spread,
        }

    def _middle(self, spread: str) -> float:
        """Return the middle of a spread over the nominal length."""
        if spread == FIXED:
            return 1.0
        try:
            low, high = (float(part) for part in spread.removeprefix("uniform[").removesuffix("]").split(","))
        except ValueError:
            low = high = 0.0
        if not 0 < low <= high:
            self._fault("length_spread", f"must be 'fixed' or like 'uniform[0.8,1.0]' (got {as_written(spread)})")
            return 1.0
        return (low + high) / 2

    def _degrees(self) -> dict[str, int]:
        """Return all degrees; where nobody says otherwise, every device has a slice of every expert."""
        tp, pp, attention_dp = (int(self.known.get(name, 1)) for name in ("tp", "pp", "attention_dp"))
        group = tp * attention_dp
        ep = int(self.known.get("ep", 0)) or (group // int(self.known["moe_tp"]) if "moe_tp" in self.known else 1)
        moe_tp = int(self.known.get("moe_tp", 0)) or group // max(ep, 1)
        if ep * moe_tp != group:
            self._fault("ep", f"ep × moe_tp must be tp × attention_dp, {group} (got {ep} × {moe_tp})")
        devices = int(self.known.get("devices", group * pp))
        if devices != group * pp:
            self._fault("devices", f"must be tp × pp × attention_dp, {group * pp} (got {devices})")
        return {"tp": tp, "pp": pp, "attention_dp": attention_dp, "ep": ep, "moe_tp": moe_tp, "devices": devices}

    def _where(self) -> str:
        return f"{self.run.source} ({self.run.run})"

    def _fault(self, name: str, message: str) -> None:
        self.problems.append(self.document.problem((name,), message))
