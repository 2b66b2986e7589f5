"""Which term of the costs would explain what was measured, if it alone were off.

For each efficiency the most probable offset x, on the scale it is fitted on (log-odds of shares, logarithms of times),
in the linear Gaussian model r = J x + e with x ~ N(0, 1) and e ~ N(0, S): r are logarithms of measured over predicted
times of all runs, J their derivatives by differences (trusted so far and no further), S the errors of
`planner calibrate` (calibrate/priors/silicon.yaml).

Several terms may explain the same runs; runs at other loads tell them apart.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.catalog import load_priors
from planner.columns.setting import Setting, expert_load
from planner.comparison.operating import Seen
from planner.posterior.fields import FIELDS, from_scale, to_scale, values_of, with_fields
from planner.schema.efficiency import Efficiencies
from planner.table import Floats

_PRIORS = "silicon"
_STEP = 1e-3
_LEAST = 0.1  # share of the misfit below which a term is not named
_FARTHEST = 1.5  # offset that a derivative is trusted for: a factor of 4.5, or of the odds
_SMALL = 0.25  # errors, in standard deviations, that need no explanation
_KINDS = {
    "compute": "compute",
    "bandwidth": "memory bandwidth",
    "latency": "launch latency",
    "host": "host",
    "scheduling": "queueing and interference",
}
_LINKS = ("bandwidth.link", "latency.collective", "latency.exchange")


class Cause(NamedTuple):
    """A kind of cost, by its efficiency that explains most, which would have to move from ``before`` to ``after``.

    ``explained``: the share of the misfit, as weighted squares, that goes with it; ``ttft`` and ``tpot``: logarithms of
    what it adds to them, averaged over runs.
    """

    kind: str
    field: str
    before: float
    after: float
    explained: float
    ttft: float
    tpot: float


class Run(NamedTuple):
    """One benchmark: what was measured, and what is predicted once settings are changed."""

    measured: Seen
    predicted: Callable[[Callable[[Setting], Setting]], Seen]


def causes(runs: Sequence[Run], believed: Efficiencies) -> list[Cause]:
    """Return the kinds of cost that would explain the runs, what explains most first.

    ``believed``: the efficiencies as they are.
    """
    before = values_of(believed)
    free = np.isclose(from_scale(to_scale(before)), before)  # a share of 1 has no place on the scale: it stays
    base = [_logarithms(run.predicted(lambda setting: setting)) for run in runs]
    residuals = np.concatenate([_logarithms(run.measured) - at for run, at in zip(runs, base, strict=True)])
    design = np.zeros((2 * len(runs), len(FIELDS)))
    for i in np.flatnonzero(free).tolist():
        change = moved({FIELDS[i]: _STEP})
        slopes = [(_logarithms(run.predicted(change)) - at) / _STEP for run, at in zip(runs, base, strict=True)]
        design[:, i] = np.nan_to_num(np.concatenate(slopes))
    errors = load_priors(_PRIORS).value.error
    noise = np.tile([errors.ttft, errors.tpot], len(runs))
    scaled, left = design / noise[:, None], residuals / noise
    if np.abs(left).max() < _SMALL:
        return []
    offsets = np.clip(scaled.T @ left / ((scaled**2).sum(axis=0) + 1), -_FARTHEST, _FARTHEST)
    rest = ((left[:, None] - scaled * offsets) ** 2).sum(axis=0)
    explained = 1 - rest / float(left @ left)
    after = from_scale(to_scale(before) + offsets)
    effect = design * offsets
    found: dict[str, Cause] = {}
    for i in np.argsort(-explained, kind="stable").tolist():
        kind = "links" if FIELDS[i] in _LINKS else _KINDS[FIELDS[i].split(".")[0]]
        numbers = (before[i], after[i], explained[i], effect[::2, i].mean(), effect[1::2, i].mean())
        if explained[i] >= _LEAST and kind not in found:
            found[kind] = Cause(kind, FIELDS[i], *map(float, numbers))
    return list(found.values())


def _logarithms(at: Seen) -> Floats:
    return np.log([at.ttft, at.tpot])


def moved(offsets: Mapping[str, float]) -> Callable[[Setting], Setting]:
    """Return a change of settings: efficiencies by these offsets on the scale they are fitted on."""
    by = np.array([offsets.get(field, 0.0) for field in FIELDS])

    def change(setting: Setting) -> Setting:
        values = from_scale(to_scale(values_of(setting.efficiencies)) + by)
        chosen = {field: float(value) for field, value in zip(FIELDS, values, strict=True) if field in offsets}
        efficiencies = with_fields(setting.efficiencies, chosen)
        load = expert_load(setting.workload, efficiencies)
        return setting._replace(efficiencies=efficiencies, expert_load=load)

    return change
