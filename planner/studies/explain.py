"""Explains a plan: each deployment priced in its parts, what binds, and what would change it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from planner.catalog import Case
from planner.columns.budget import budget
from planner.columns.elasticities import elasticities, whole_values
from planner.columns.enumerate import merged
from planner.columns.ladder import ladder
from planner.columns.latency_parts import latency_parts
from planner.columns.legality import limits
from planner.columns.levers import next_load
from planner.columns.pricing import axes_of, figures_of
from planner.columns.setting import Setting, setting_of
from planner.constants import MILLISECONDS_PER_SECOND
from planner.costs.compile import meanings
from planner.evidence import per_device
from planner.explain.constraints import Facts, constraints
from planner.explanation import DeploymentExplained, Elasticity, Explanation, Obstacle, Part
from planner.plan import Deployment, Plan
from planner.problems import planning_problem
from planner.studies.resolve import priced_case_of
from planner.table import Floats

_LEAST = 5e-4  # elasticities below this are left out: they move nothing


def explain(plan: Plan, folder: Path = Path(), origin: str = "plan") -> Explanation:
    """Explain a plan from its scenario and the specifications it names; no solver runs.

    Args:
        plan: the plan.
        folder: where relative paths in its scenario start.
        origin: what messages call the plan.

    Raises:
        InputError: the plan deploys nothing or lists rates without costs, its scenario cannot be loaded, or its
            specifications have changed.
    """
    return explained(priced_case_of(plan, folder, origin), plan)


def explained(case: Case, plan: Plan) -> Explanation:
    """Explain a plan of a case; see ``explain``."""
    mine = [d for d in plan.deployments if isinstance(d, Deployment)]
    placed = []
    for d in mine:
        setting = setting_of(case, d.configuration())
        axes = axes_of(setting, [d.configuration()])
        found = whole_values(setting, axes) | figures_of(setting, axes)
        figures = {name: float(np.ravel(value)[0]) for name, value in found.items()}
        placed.append(_Placed(d, setting, axes, figures, next_load(setting, axes)))
    return Explanation(
        name=plan.scenario.name,
        objective=f"{plan.objective.sense} {plan.objective.metric}",
        deployments=tuple(_deployment(one) for one in placed),
        constraints=constraints(plan, _facts(case, placed)),
    )


class _Placed(NamedTuple):
    """A deployment where it stands: its setting, axes, figures, and what its next load would break."""

    deployment: Deployment
    setting: Setting
    axes: Mapping[str, Floats]
    figures: Mapping[str, float]
    stops: tuple[Obstacle, ...]


def _facts(case: Case, placed: Sequence[_Placed]) -> Facts:
    problem = planning_problem(case, merged([]))
    return Facts(
        latencies={
            name: {metric: s * MILLISECONDS_PER_SECOND for metric, s in limits(workload).items()}
            for name, workload in case.scenario.workloads.items()
        },
        devices={name: stock.devices for name, stock in problem.stocks.items()},
        loads=problem.loads,
        limits=problem.limits,
        kv_needed={one.deployment.name: one.figures["kv_needed_bytes"] for one in placed},
        stops={one.deployment.name: one.stops for one in placed},
        per_device=per_device(case),
    )


def _deployment(one: _Placed) -> DeploymentExplained:
    d, setting, axes = one.deployment, one.setting, one.axes
    spent = budget(setting, axes)
    better = ladder(setting, axes)
    return DeploymentExplained(
        name=d.name,
        what=d.configuration().label(),
        step_ms=spent.seconds * MILLISECONDS_PER_SECOND,
        steps=spent.steps,
        by_layer=_by_layer(spent.parts),
        parts=spent.parts,
        latencies=latency_parts(setting, one.figures, spent.seconds),
        by_resource=d.time_share,
        bound_by=d.bound_by,
        bound_by_engine=d.bound_by_engine,
        stops=one.stops,
        limited_by=tuple(obstacle.name for obstacle in better.stops.stops),
        ladder=better.rungs,
        levers=better.levers,
        first=better.first,
        elasticities=tuple(_elasticities(setting, axes)),
        roofline=spent.roofline,
    )


def _by_layer(parts: Sequence[Part]) -> dict[str, float]:
    """Return the share of each kind of layer in the average step, the largest first; the rest is that of the step."""
    shares: dict[str, float] = {}
    for part in parts:
        kind = part.layer or "step"
        shares[kind] = shares.get(kind, 0.0) + part.share
    return dict(sorted(shares.items(), key=lambda pair: -pair[1]))


def _elasticities(setting: Setting, axes: Mapping[str, Floats]) -> Iterator[Elasticity]:
    """Yield what moves a metric, the strongest first."""
    slopes, known = elasticities(setting, axes), meanings()
    for metric in slopes.within:
        within, across, smooth = (part[metric][:, 0] for part in (slopes.within, slopes.across, slopes.smooth))
        strength = np.nan_to_num(np.maximum(np.abs(within), np.abs(across)), posinf=0.0)
        for i in np.argsort(-strength, kind="stable").tolist():
            if strength[i] < _LEAST:
                break
            name = slopes.symbols[i]
            yield Elasticity(
                name, known[name].text, known[name].unit, float(slopes.values[i, 0]), metric,
                float(within[i]), float(across[i]), bool(smooth[i]),
            )  # fmt: skip
