"""Predicts deployments under a closed loop of clients, many rows at a time."""

from collections.abc import Callable, Sequence

from planner.catalog.rows import AnyRow, PooledRow, Row
from planner.posterior import Posterior
from planner.prediction import replicas
from planner.prediction.pools import predict_pools
from planner.prediction.prediction import Prediction, believed, refused


def _silent(stage: str) -> None:
    """Ignore progress."""


def predict_rows(
    rows: Sequence[AnyRow], posterior: Posterior, on_stage: Callable[[str], None] = _silent
) -> list[Prediction]:
    """Predict every row, or say why it is refused; the answer has the rows' order."""
    lone = [(i, row) for i, row in enumerate(rows) if isinstance(row, Row)]
    pooled = [(i, row) for i, row in enumerate(rows) if isinstance(row, PooledRow)]
    found: dict[int, Prediction] = {}
    for kind, answers in (
        (pooled, predict_pools([row for _, row in pooled], posterior)),
        (lone, _replicas([row for _, row in lone], posterior, on_stage)),
    ):
        found |= {i: answer for (i, _), answer in zip(kind, answers, strict=True)}
    return [found[i] for i in range(len(rows))]


def _replicas(rows: Sequence[Row], posterior: Posterior, on_stage: Callable[[str], None]) -> list[Prediction]:
    asked, reasons = replicas.asked_of(rows, posterior)
    found = {i: refused(rows[i].id, reason) for i, reason in reasons.items()}
    places = {i: known for one in asked for i, known in zip(one.places, one.known, strict=True)}
    # One look at all measured rows for all predictions.
    beliefs, order = posterior.beliefs(list(places.values())), {i: number for number, i in enumerate(places)}
    for one in asked:
        on_stage(f"{len(found)} of {len(rows)} rows")
        for i, modelled in zip(one.places, replicas.evaluate([rows[i] for i in one.places], one), strict=True):
            found[i] = modelled if beliefs is None else believed(modelled, beliefs, order[i])
    return [found[i] for i in range(len(rows))]
