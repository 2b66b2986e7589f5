"""What predictions pick, and how far it falls short: the best of many is the one whose error flatters it most."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from planner.constants import MILLISECONDS_PER_SECOND
from planner.posterior import Place
from planner.table import Floats

LIMITS_MS = (15, 25, 50, 100)  # of TPOT, as users ask for


def optimism(places: Sequence[Place], measured: tuple[Floats, Floats], error: Floats, core: np.ndarray) -> float:
    """Return the mean logarithm of expected over measured throughput per device of picks, 0 where there is none.

    A pick is the deployment and concurrency of best expected throughput among all of a model, system and lengths that
    are expected to hold a limit of TPOT.

    Args:
        places: of the rows.
        measured: TTFT and TPOT [s], shape (C,) each.
        error: logarithms of measured over expected times, shape (2, C), NaN where a row was not left out.
        core: rows that count.
    """
    groups: dict[tuple[str, str, float, float], list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        if core[i] and np.isfinite(error[:, i]).all():
            groups[place.model, place.system, place.isl, place.osl].append(i)
    expected = [times * np.exp(-part) for times, part in zip(measured, error, strict=True)]
    found = []
    for rows in groups.values():
        if len({places[i]._replace(concurrency=0.0) for i in rows}) < 2:
            continue
        mine = np.array(rows)
        likely, real = (_throughput([places[i] for i in rows], t[0][mine], t[1][mine]) for t in (expected, measured))
        for limit in LIMITS_MS:
            held = expected[1][mine] * MILLISECONDS_PER_SECOND <= limit
            if held.any():
                pick = int(np.argmax(np.where(held, likely, -np.inf)))
                found.append(float(np.log(likely[pick] / real[pick])))
    return float(np.mean(found)) if found else 0.0


def _throughput(places: Sequence[Place], ttft: Floats, tpot: Floats) -> Floats:
    """Return output tokens per second and device of closed loops."""
    clients, osl, devices = (np.array([getattr(p, n) for p in places]) for n in ("concurrency", "osl", "devices"))
    found: Floats = clients * osl / (ttft + osl * tpot) / devices
    return found
