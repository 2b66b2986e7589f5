"""How sure a plan is of being the best: what is left unexplained, drawn for its deployments and their rivals together.

What deployments have in common (their device, engine and model) moves all of them alike and decides nothing; what they
do not share does. Draws are of the process that the calibration is conditioned on.
"""

from collections.abc import Sequence

import numpy as np

from planner.catalog import Case
from planner.columns.believed import over_planned, place_of
from planner.columns.rivals import rivals
from planner.columns.setting import Setting, settings
from planner.plan import Certainty, Deployment, Plan
from planner.posterior import Place, Replica
from planner.schema.calibration import MEDIAN
from planner.table import Configuration, Floats

_DRAWS = 4096
_LUCKY = 1e-9  # relative difference below which a deployment counts as the best


def certainty(case: Case, plan: Plan) -> tuple[Certainty, ...]:
    """Return how sure each deployment of a plan is; nothing without a fitted calibration.

    A deployment competes with others that serve the same workload: on the same inventory, or where the goal is to use
    little, on all of them. What counts is the rate per device, or per unit of the goal. Parts of pairs are not
    compared: what each is worth depends on the other and on the links between them.
    """
    known = [setting for setting in settings(case) if setting.believed is not None]
    mine = [d for d in plan.deployments if isinstance(d, Deployment)]
    return tuple(_of_deployment(d, plan.objective.metric, known) for d in mine) if known else ()


def _of_deployment(d: Deployment, metric: str, known: Sequence[Setting]) -> Certainty:
    chosen = d.configuration()
    mine = next(setting for setting in known if setting.pool.holds(chosen))
    corrected = d.requests_per_s * _at_median(mine, chosen) * np.exp(-_optimism(mine, chosen))
    found = Certainty(d.name, None, None, None, float(corrected))
    if d.role != "mixed":
        return found
    field = [(mine, chosen)]
    values = [_per_unit(mine, chosen, d.requests_per_s / d.replicas, metric)]
    for setting in known:
        if not _compete(mine, setting, metric):
            continue
        table = rivals(setting, chosen)
        for i in range(len(table)):
            rival = table.configuration(i)
            if setting is not mine or _degrees(rival) != _degrees(chosen):
                field.append((setting, rival))
                values.append(_per_unit(setting, rival, float(table.figures["rate"][i]), metric))
    drawn = np.array(values)[:, None] * np.exp(-_draws(field))
    best = drawn.max(axis=0)
    return found._replace(
        rivals=len(field) - 1,
        chance_best=float((drawn[0] >= best * (1 - _LUCKY)).mean()),
        expected_regret=float((1 - drawn[0] / best).mean()),
    )


def _compete(mine: Setting, other: Setting, metric: str) -> bool:
    """Tell whether replicas of one setting could stand in for those of another."""
    alike = (mine.workload_name, mine.role) == (other.workload_name, other.role)
    return alike and (metric in ("cost", "power", "devices") or mine.inventory == other.inventory)


def _degrees(c: Configuration) -> tuple[object, ...]:
    return (c.weight_precision, c.tp, c.pp, c.attention_dp, c.ep)


def _per_unit(setting: Setting, c: Configuration, rate: float, metric: str) -> float:
    """Return the expected rate of a replica per device, or per what the goal counts of it."""
    each = 1.0
    if metric == "cost" and setting.item.price:
        each = setting.item.price
    elif metric == "power" and setting.hardware.power:
        each = setting.hardware.power.value
    return rate * _at_median(setting, c) / (c.devices * each)


def _at_median(setting: Setting, c: Configuration) -> float:
    """Return the expected rate over the planned one."""
    replica = setting.believed
    if replica is None:
        return 1.0
    (ttft,), (tpot,) = over_planned(replica, place_of(replica, c), (MEDIAN,))
    return 1 / (ttft if setting.role == "prefill" else tpot)


def _draws(field: Sequence[tuple[Setting, Configuration]]) -> Floats:
    """Return draws of the logarithm of a step's time over the expected one, shape (field, draws)."""
    replicas: list[Replica] = [s.believed for s, _ in field if s.believed is not None]
    places = [place_of(replica, c) for replica, (_, c) in zip(replicas, field, strict=True)]
    spread = _covariance(replicas, places)
    values, vectors = np.linalg.eigh(spread)
    normal = np.random.default_rng(0).standard_normal((len(field), _DRAWS))
    drawn: Floats = vectors @ (np.sqrt(np.maximum(values, 0.0))[:, None] * normal)
    return drawn


def _covariance(replicas: Sequence[Replica], places: Sequence[Place]) -> Floats:
    """Return the covariance of what is left at places, as wide as held-out errors were, shape (C, C).

    Calibrations know nothing of each other: between places that two of them measured there is none.
    """
    found = np.zeros((len(places), len(places)))
    for measured in {id(replica.measured): replica.measured for replica in replicas}.values():
        at = [i for i, replica in enumerate(replicas) if replica.measured is measured]
        supports = [replicas[i].support(places[i]) for i in at]
        wider = np.array([support.interval.tpot.width for support in supports])
        far = np.array([support.doublings for support in supports]) * measured.intervals.beyond
        joint = measured.joint("tpot", [places[i] for i in at]) + np.diag(far**2)
        found[np.ix_(at, at)] = np.outer(wider, wider) * joint
    return found


def _optimism(setting: Setting, c: Configuration) -> float:
    """Return by how much choices as far from anything measured were expected to do better than they did."""
    replica = setting.believed
    return replica.support(place_of(replica, c)).interval.optimism if replica else 0.0
