"""Pools of replicas that prefill and that decode, under a closed loop of clients."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog.rows import SIDES, PooledRow
from planner.columns.closed_network import PoolRows, closed_network
from planner.posterior import Beliefs, Posterior
from planner.prediction.named import (
    Finder,
    Named,
    RefusedError,
    admitted_of,
    array,
    axes_of,
    check,
    group_of,
    kv_precision,
    place_of,
    setting_of,
)
from planner.prediction.prediction import Prediction, believed, modelled, refused, saturated

_BUSY = 2.0  # prompts at a rank on average: it is hardly ever idle, and sets the rate


class _Legal(NamedTuple):
    """A row that can run, its number among all, and what its sides name."""

    number: int
    row: PooledRow
    prefill: Named
    decode: Named

    @property
    def group(self) -> tuple[tuple[str, ...], ...]:
        """What rows that are evaluated together have in common."""
        return group_of(self.row.prefill, self.prefill), group_of(self.row.decode, self.decode)


def predict_pools(rows: Sequence[PooledRow], posterior: Posterior) -> list[Prediction]:
    """Predict every row, or say why it is refused; the answer has the rows' order.

    What a calibration measured were replicas that do both phases, so it lends its efficiencies, but neither what is
    left unexplained of a deployment nor its intervals: those are the ones of what nothing alike was measured of.
    """
    find, answers = Finder(), {}
    legal: list[_Legal] = []
    for index, row in enumerate(rows):
        try:
            legal.append(_Legal(index, row, *_checked(row, find, posterior)))
        except RefusedError as refusal:
            answers[index] = refused(row.id, str(refusal))
    legal.sort(key=lambda found: found.group)
    for _, members in itertools.groupby(legal, key=lambda found: found.group):
        together = list(members)
        found = _together(together, posterior)
        answers |= {one.number: answer for one, answer in zip(together, found, strict=True)}
    beliefs = _beliefs(legal, posterior)
    if beliefs is not None:
        answers |= {one.number: believed(answers[one.number], beliefs, i) for i, one in enumerate(legal)}
    return [answers[index] for index in range(len(rows))]


def _beliefs(legal: Sequence[_Legal], posterior: Posterior) -> Beliefs | None:
    """Return intervals: those of TTFT by what a prefill replica is and has to do, those of TPOT by a decode replica."""
    prefill = posterior.unlike([place_of(one.row.prefill, one.prefill, one.row.prefill_replicas) for one in legal])
    decode = posterior.unlike([place_of(one.row.decode, one.decode, one.row.decode_replicas) for one in legal])
    if prefill is None or decode is None:
        return None
    return prefill._replace(tpot=decode.tpot, tpot_p10=decode.tpot_p10, tpot_p90=decode.tpot_p90)


def _checked(row: PooledRow, find: Finder, posterior: Posterior) -> tuple[Named, Named]:
    """Return what the sides of a row name."""
    sides = [find(side) for side in (row.prefill, row.decode)]
    for name, side, named in zip(SIDES, (row.prefill, row.decode), sides, strict=True):
        if named.engine.disaggregation is None:
            msg = f"{named.engine.name}: nothing is known of how it moves caches between prefill and decode"
            raise RefusedError(msg)
        try:
            check(side, named, posterior, name)
        except RefusedError as refusal:
            msg = f"{name}: {refusal}"
            raise RefusedError(msg) from None
    prefill, decode = sides
    if kv_precision(row.prefill, prefill) != kv_precision(row.decode, decode):
        msg = "the two systems would keep caches in different formats; kv_precision says which one both use"
        raise RefusedError(msg)
    return prefill, decode


def _together(members: Sequence[_Legal], posterior: Posterior) -> list[Prediction]:
    """Return what is modelled of rows whose sides have the same settings."""
    first, rows = members[0], [one.row for one in members]
    prefill, decode = (
        PoolRows(
            setting_of(sides[0], named, posterior, max(row.isl + row.osl for row in sides), role),
            axes_of(sides, named),
            array(getattr(row, f"{role}_replicas") for row in rows),
            admitted_of(sides, named),
        )
        for role, named, sides in (
            ("prefill", first.prefill, [row.prefill for row in rows]),
            ("decode", first.decode, [row.decode for row in rows]),
        )
    )
    separate = prefill.setting.engine.disaggregation
    assert separate is not None  # checked row by row
    clients = array(row.decode.concurrency for row in rows)
    lockstep = array(row.decode.lockstep for row in rows)
    found, prompts = closed_network(prefill, decode, separate, clients, lockstep)
    parts = zip(rows, found.ttft, found.tpot, found.running, found.admitted, prompts, strict=True)
    return [_answer(row, *(float(part) for part in of_row)) for row, *of_row in parts]


def _answer(row: PooledRow, ttft: float, tpot: float, running: float, admitted: float, prompts: float) -> Prediction:
    """Return what is modelled of a row: its times [s], and requests of a decode replica and prompts of a rank."""
    for side, room in zip(SIDES, (prompts, admitted), strict=True):
        if room < 1:
            return refused(row.id, f"{side}: weights and buffers leave no room for one request")
    if not np.isfinite(ttft + tpot):
        return refused(row.id, "prefill: max_num_batched_tokens is less than a prompt, which the engine does not cut")
    clients, decoding = row.decode.concurrency, running * row.decode_replicas
    queue = (clients - decoding) / (row.prefill_replicas * row.prefill.attention_dp)
    known = [saturated(clients, admitted * row.decode_replicas, f"{SIDES[1]}: ")]
    known += [f"{SIDES[0]}: {queue:.0f} prompts at each rank at any time, all but one of them waiting"] * (
        queue > _BUSY
    )
    return modelled(row.id, ttft, tpot, "; ".join(filter(None, known)))
