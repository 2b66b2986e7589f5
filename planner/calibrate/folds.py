"""Splits of measured rows for held-out errors: what is known of the rows left out grows less from one to the next."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from planner.posterior import Place

_FOLDS = 5


class Split(NamedTuple):
    """What is left out together, and which of a calibration's intervals it tells: ``interval`` is their name.

    ``key`` is given a row's number, its place, and who measured it.
    """

    name: str
    interval: str
    key: Callable[[int, Place, str], str]
    folds: int | None


# Rows come sorted by what they are, so every other row is another load of the same deployment.
SPLITS = (
    Split("known deployment, unseen load", "deployment", lambda i, place, source: str(i), 2),
    Split("unseen deployment", "system_backend", lambda i, place, source: place.keys[5], _FOLDS),
    Split("unseen model", "new_model", lambda i, place, source: place.model, None),
    Split("unseen backend on a system", "system", lambda i, place, source: place.keys[0], _FOLDS),
    Split("unseen system", "none", lambda i, place, source: place.system, None),
)
# Where a file names them: people who measure on different machines, in ways of their own. It tells no interval.
BY_SOURCE = Split("unseen source", "", lambda i, place, source: source, None)


def folds(split: Split, places: Sequence[Place], sources: Sequence[str], used: np.ndarray) -> Iterator[np.ndarray]:
    """Yield which rows are left out, True where a row is; nothing where leaving out would leave no row.

    Values of the key are dealt out in their order: the same rows give the same folds, in whatever order they come.
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    rank = {row: i for i, row in enumerate(order)}
    keys = np.array([split.key(rank[i], place, sources[i]) for i, place in enumerate(places)])
    values = sorted(set(keys[used]), key=lambda value: (len(value), value) if value.isdigit() else (0, value))
    count = min(split.folds or len(values), len(values))
    if count < 2:
        return
    for fold in range(count):
        out = np.isin(keys, values[fold::count])
        if (used & ~out).any():
            yield out
