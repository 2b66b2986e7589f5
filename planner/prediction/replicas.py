"""Single replicas: under a closed loop of clients, or in one role with a batch that is given."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog.rows import Row
from planner.columns.closed_loop import closed_loop
from planner.columns.fixed_batch import fixed_latencies, fixed_of
from planner.columns.setting import Setting
from planner.posterior import Place, Posterior
from planner.prediction.named import (
    Finder,
    Named,
    RefusedError,
    admitted_of,
    array,
    axes_of,
    check,
    group_of,
    place_of,
    setting_of,
)
from planner.prediction.prediction import Prediction, modelled, refused, saturated
from planner.table import Floats


class Asked(NamedTuple):
    """Rows of one setting, as ``closed_loop`` takes them; ``places`` are their indices among all rows.

    ``known``: what a calibration knows each by.
    """

    setting: Setting
    axes: dict[str, Floats]
    clients: Floats
    max_num_seqs: Floats
    lockstep: Floats
    places: Sequence[int]
    known: Sequence[Place]


def evaluate(rows: Sequence[Row], asked: Asked) -> list[Prediction]:
    """Return what is modelled, as if nothing had been measured."""
    if asked.setting.role != "mixed":
        fixed = fixed_of(asked.setting, asked.axes, asked.clients)
        times, _, _ = fixed_latencies(fixed, fixed.values)
        return [modelled(row.id, float(t), float(e)) for row, t, e in zip(rows, times.ttft, times.tpot, strict=True)]
    found = closed_loop(asked.setting, asked.axes, asked.clients, asked.max_num_seqs, asked.lockstep)
    answers = []
    for row, ttft, tpot, admitted in zip(rows, found.ttft, found.tpot, found.admitted, strict=True):
        if admitted < 1:
            answers.append(refused(row.id, "weights and buffers leave no room for one request"))
        elif not np.isfinite(ttft + tpot):
            reason = "max_num_batched_tokens leaves no room for prompts beside the requests that decode"
            answers.append(refused(row.id, reason))
        else:
            waits = saturated(row.concurrency, float(admitted))
            answers.append(modelled(row.id, float(ttft), float(tpot), waits))
    return answers


def asked_of(rows: Sequence[Row], posterior: Posterior) -> tuple[list[Asked], dict[int, str]]:
    """Return rows by setting, and why rows are refused, by index."""
    find, reasons = Finder(), {}
    legal: list[tuple[int, Row, Named]] = []
    for place, row in enumerate(rows):
        try:
            named = find(row)
            check(row, named, posterior)
        except RefusedError as refusal:
            reasons[place] = str(refusal)
        else:
            legal.append((place, row, named))
    legal.sort(key=lambda found: group_of(*found[1:]))
    asked = []
    for _, members in itertools.groupby(legal, key=lambda found: group_of(*found[1:])):
        found = list(members)
        asked.append(_asked([row for _, row, _ in found], found[0][2], posterior, [place for place, _, _ in found]))
    return asked, reasons


def _asked(rows: Sequence[Row], named: Named, posterior: Posterior, places: Sequence[int]) -> Asked:
    setting = setting_of(rows[0], named, posterior, max(row.isl + row.osl for row in rows))
    clients, lockstep = array(row.concurrency for row in rows), array(row.lockstep for row in rows)
    known = [place_of(row, named) for row in rows]
    return Asked(setting, axes_of(rows, named), clients, admitted_of(rows, named), lockstep, places, known)
