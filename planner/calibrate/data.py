"""Measured rows made ready: what each is, the arrays of the cost model, and how much each counts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.calibrate.design import Block, blocks_of
from planner.calibrate.fit import Target
from planner.calibrate.measurements import Measurements
from planner.calibrate.plausible import datasheet_shares
from planner.errors import InputError
from planner.posterior import Place, Posterior
from planner.prediction import Asked, asked_of
from planner.schema.efficiency import Efficiencies
from planner.schema.priors import Priors
from planner.table import Floats


class Rows(NamedTuple):
    """Rows that the model can express; ``refused`` are the others, by id.

    ``datasheet``: share of each row's time that data sheets alone take. ``weights``: how much each row counts, 0 where
    it is flagged anomalous or that share is above 1. ``core``: neither flag.
    """

    measured: Measurements
    refused: dict[str, str]
    places: list[Place]
    blocks: list[Block]
    datasheet: Floats
    weights: Floats
    core: np.ndarray
    priors: Priors

    @property
    def times(self) -> tuple[Floats, Floats]:
        """Measured TTFT and TPOT [s], NaN where they were not."""
        return self.measured.ttft, self.measured.tpot

    def target(self, weights: Floats) -> Target:
        """Return what efficiencies are fitted to."""
        systems, backends = [p.system for p in self.places], [p.backend for p in self.places]
        return Target(self.blocks, systems, backends, self.measured.ttft, self.measured.tpot, weights, self.priors)


def prepared(measured: Measurements, textbook: Efficiencies, priors: Priors) -> Rows:
    """Return rows ready to be fitted to.

    Raises:
        InputError: no row is left that the model can express, that is not flagged, and that is possible.
    """
    asked, refused = asked_of(measured.rows, Posterior(textbook))
    kept = [i for i in range(len(measured.rows)) if i not in refused]
    number = {place: i for i, place in enumerate(kept)}
    renumbered = [one._replace(places=[number[i] for i in one.places]) for one in asked]
    taken = measured.take(np.array(kept, dtype=np.int64))
    places = _places(renumbered)
    shares = datasheet_shares(taken, renumbered)
    usual = np.where(taken.maybe_speculative, priors.maybe_speculative, 1.0)
    weights = np.where(taken.anomalous | (shares > 1), 0.0, usual)
    if not (weights > 0).any():
        reasons = sorted(set(refused.values())) or ["all are flagged anomalous, or faster than data sheets allow"]
        raise InputError.single("", f"no row can be fitted: {'; '.join(reasons[:3])}")
    core = ~taken.anomalous & ~taken.maybe_speculative
    named = {measured.rows[i].id: reason for i, reason in refused.items()}
    return Rows(taken, named, places, blocks_of(renumbered, textbook), shares, weights, core, priors)


def _places(asked: Sequence[Asked]) -> list[Place]:
    found = {i: known for one in asked for i, known in zip(one.places, one.known, strict=True)}
    return [found[i] for i in range(len(found))]
