"""Rows that were measured faster than the data sheets of their devices allow."""

import math
from collections.abc import Sequence

import numpy as np

from planner.calibrate.measurements import Measurements
from planner.columns.setting import ideal
from planner.constants import MILLISECONDS_PER_SECOND
from planner.prediction import Asked, evaluate
from planner.table import Floats


def datasheet_shares(measured: Measurements, asked: Sequence[Asked]) -> Floats:
    """Return the share of each row's time from request to last token that data sheets alone take, shape (C,).

    Above 1 the run was not what the row says: prompts came from a cache, drafts were accepted, or fewer clients kept
    requests under way. In a closed loop that time is clients over throughput (Little's law), so it is bounded however
    an engine shares it out between TTFT and TPOT; of one of the two alone nothing can be told, and the share is 0.
    """
    shares = np.zeros(len(measured.rows))
    for one in asked:
        rows = [measured.rows[i] for i in one.places]
        times = np.stack([measured.ttft, measured.tpot], axis=1)[list(one.places)]
        least = [
            (_seconds(found.ttft_ms), _seconds(found.tpot_ms))
            for found in evaluate(rows, one._replace(setting=ideal(one.setting)))
        ]
        parts = np.array([(1.0, row.osl - 1.0) for row in rows])
        total = np.sum if one.setting.role == "mixed" else np.nansum  # a lone role has one of the two times
        ratio = total(parts * np.array(least), axis=1) / total(parts * times, axis=1)
        shares[list(one.places)] = np.nan_to_num(ratio)
    return shares


def _seconds(time_ms: float | None) -> float:
    """Return a time in seconds, NaN where there is none."""
    return math.nan if time_ms is None else time_ms / MILLISECONDS_PER_SECOND
