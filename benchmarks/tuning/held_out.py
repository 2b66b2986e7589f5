"""What a calibration that has not seen a group of rows believes of them: one fit per tenth of the groups.

Efficiencies, kernels and residuals are fitted anew without the groups that are left out together. Takes about ten
minutes on two cores, so the answers are kept in the user's cache, by a digest of the data and of what fits it.
"""

import hashlib
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs

from planner import resources
from planner.calibrate.conditioning import conditioned
from planner.calibrate.data import Rows, prepared
from planner.calibrate.fit import modelled
from planner.calibrate.measurements import read_measurements
from planner.catalog import load_efficiencies, load_priors
from planner.posterior.joint import Joint, of_spreads
from planner.posterior.measured import inputs_of, known_keys
from planner.posterior.process import Spread

FOLDS = 10


class Group(NamedTuple):
    """Rows of one model, system and lengths: their ids, modelled TTFT and TPOT [s] (2, C), and beliefs about them."""

    name: str
    ids: list[str]
    modelled: np.ndarray
    joint: Joint


def groups(data: Path) -> list[Group]:
    """Return every group with what a calibration without it believes; kept from one run to the next."""
    cached = Path(platformdirs.user_cache_dir("llm-deployment-planner"), f"replay-{_digest(data)}.pickle")
    if not cached.exists():
        found = list(_fitted(data))
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(pickle.dumps(found))
    return pickle.loads(cached.read_bytes())


def _digest(data: Path) -> str:
    """Return a digest of the data and of every source file that decides a fit."""
    package = resources.shipped("calibrate").parent
    rooms = [package / room for room in ("calibrate", "costs", "columns", "posterior", "engines")]
    files = [data, *sorted(path for room in rooms for path in room.rglob("*") if path.suffix in (".py", ".yaml"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def _fitted(data: Path) -> Iterator[Group]:
    efficiencies = load_efficiencies("operators").value
    rows = prepared(read_measurements(data), efficiencies, load_priors("silicon").value)
    keys = np.array([_key(rows, i) for i in range(len(rows.places))])
    names = sorted(set(keys.tolist()))
    for fold in range(FOLDS):
        out = names[fold::FOLDS]
        weights = np.where(np.isin(keys, out), 0.0, rows.weights)
        fit, processes = conditioned(rows, efficiencies, weights, None, lambda stage: None)
        times = np.array(modelled(rows.blocks, efficiencies, fit, len(rows.places)))
        known = known_keys([rows.places[i] for i in np.nonzero(weights > 0)[0]])
        sys.stderr.write(f"fitted without tenth {fold + 1} of the groups\n")
        for name in out:
            yield _group(name, np.nonzero((keys == name) & rows.core)[0], rows, times, processes, known)


def _group(name: str, members: np.ndarray, rows: Rows, times: np.ndarray, processes: Sequence, known: list) -> Group:
    ids = [rows.measured.rows[i].id for i in members]
    if not ids:
        return Group(name, [], times[:, members], Joint(np.zeros((2, 0)), np.zeros((2, 0, 0))))
    joint = of_spreads([Spread(process) for process in processes], inputs_of([rows.places[i] for i in members], known))
    return Group(name, ids, times[:, members], joint)


def _key(rows: Rows, i: int) -> str:
    row, place = rows.measured.rows[i], rows.places[i]
    return f"{place.model} {place.system} {row.isl} {row.osl}"
