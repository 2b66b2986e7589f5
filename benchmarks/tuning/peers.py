"""Other ways to choose the next of a list of rows: random order, Optuna's TPE, a particle swarm, and a fixed ranking.

Each reveals one row per trial and never one twice. TPE and the swarm search the deployment's own variables; what they
propose stands for the closest row that is left, so neither spends a trial on a combination that nobody measured.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import optuna

_NAMES = ("backend", "precision")
_DEGREES = ("tp", "pp", "attention_dp", "ep", "concurrency")
_PARTICLES = 5
_INERTIA, _OWN, _SHARED = 0.729, 1.494, 1.494  # Clerc and Kennedy, IEEE Trans. Evol. Comput. 6(1), 2002

Row = Mapping[str, str]
Reveal = Callable[[int], float]


def random_order(rows: Sequence[Row], reveal: Reveal, seed: int) -> Iterator[float]:
    """Yield the worth of rows in random order."""
    for i in np.random.default_rng(seed).permutation(len(rows)).tolist():
        yield reveal(i)


def ranking(order: Sequence[int], reveal: Reveal) -> Iterator[float]:
    """Yield the worth of rows in a given order."""
    for i in order:
        yield reveal(i)


def tpe(rows: Sequence[Row], reveal: Reveal, seed: int) -> Iterator[float]:
    """Yield the worth of rows that Optuna's tree-structured Parzen estimator proposes, at its defaults."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    values = {name: sorted({row[name] for row in rows}) for name in _NAMES}
    degrees = {name: sorted({int(row[name]) for row in rows}) for name in _DEGREES}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        **{name: optuna.distributions.CategoricalDistribution(known) for name, known in values.items()},
        **{name: optuna.distributions.IntDistribution(0, len(known) - 1) for name, known in degrees.items()},
    }
    own = [{**{n: row[n] for n in _NAMES}, **{n: degrees[n].index(int(row[n])) for n in _DEGREES}} for row in rows]
    left = set(range(len(rows)))
    while left:
        proposed = study.ask(distributions).params
        i = min(left, key=lambda i: (sum(_apart(own[i][n], proposed[n]) for n in distributions), i))
        left.remove(i)
        worth = reveal(i)
        study.add_trial(optuna.trial.create_trial(params=own[i], distributions=distributions, value=worth))
        yield worth


def _apart(mine: object, other: object) -> float:
    return abs(mine - other) if isinstance(mine, int) and isinstance(other, int) else float(mine != other)


def swarm(rows: Sequence[Row], reveal: Reveal, seed: int) -> Iterator[float]:
    """Yield the worth of rows that a particle swarm lands on: constriction coefficients, one global best."""
    rng = np.random.default_rng(seed)
    points = _points(rows)
    low, high = points.min(axis=0), points.max(axis=0)
    place = rng.uniform(low, high, (_PARTICLES, points.shape[1]))
    speed = np.zeros_like(place)
    own_place, own_worth = place.copy(), np.full(_PARTICLES, -np.inf)
    left = np.ones(len(rows), dtype=bool)
    while True:
        for k in range(_PARTICLES):
            if not left.any():
                return
            apart = np.where(left, ((points - place[k]) ** 2).sum(axis=1), np.inf)
            i = int(apart.argmin())
            left[i] = False
            worth = reveal(i)
            if worth > own_worth[k]:
                own_worth[k], own_place[k] = worth, points[i]
            yield worth
            best = own_place[own_worth.argmax()]
            a, b = rng.random((2, points.shape[1]))
            speed[k] = _INERTIA * speed[k] + _OWN * a * (own_place[k] - place[k]) + _SHARED * b * (best - place[k])
            place[k] = np.clip(place[k] + speed[k], low, high)


def _points(rows: Sequence[Row]) -> np.ndarray:
    """Return rows as points: doublings of degrees and clients, and one axis per name of a backend or precision."""
    columns = [np.log2([float(row[name]) for row in rows]) for name in _DEGREES]
    for name in _NAMES:
        columns += [np.array([float(row[name] == value) for row in rows]) for value in sorted({r[name] for r in rows})]
    return np.array(columns).T
