"""Whether to change a plan that runs: what it still does, what the best plan would do, and what changing costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from planner import pipeline
from planner.catalog import Case
from planner.errors import InputError
from planner.plan import Comparison, Deployment, Plan
from planner.report import Report
from planner.studies.replanning.moves import Moves, Timing, case_of, moves
from planner.studies.replanning.observed import Observed, overrides

_ENOUGH = 1 - 1e-6  # of a demand: what rounding may leave


class Policy(NamedTuple):
    """When a change is worth it.

    ``least_gain``: of the first goal, below which nothing changes (hysteresis). ``horizon``: seconds that the new load
    is expected to last, in which a change has to pay for itself. ``headroom``: planned on top of observed rates.
    """

    least_gain: float
    horizon: float
    headroom: float


class Decision(NamedTuple):
    """What to do. ``gain``: of the first goal, None where today's plan does not hold the limits or the load.

    ``payback``: seconds until what is gained has paid for the devices that do not serve meanwhile; None where there is
    nothing to pay back, or it never does.
    """

    verdict: Literal["keep", "change", "must change", "nothing holds"]
    reason: str
    gain: float | None
    payback: float | None
    report: Report
    moves: Moves | None


def decide(
    current: Plan, observed: Sequence[Observed], changes: Sequence[str], policy: Policy, timing: Timing, folder: Path
) -> Decision:
    """Return whether to change a plan for the load observed, and to what.

    Args:
        current: what runs.
        observed: the load; none where only devices or wishes have changed.
        changes: of the scenario, like ``"inventory.h100.nodes=3"``.
        policy: hysteresis.
        timing: of a migration.
        folder: where relative paths in the plan's scenario start.

    Raises:
        InputError: the plan deploys nothing, or is one over a table; a change is none.
    """
    case = _changed(current, observed, changes, policy, folder)
    report = pipeline.solve(case)
    if not report.plan.deployments:
        return Decision("nothing holds", "; ".join(report.plan.shortfall), None, None, report, None)
    needs = {one.workload: one.requests_per_s for one in observed} or _demands(case)
    plan_moves = moves(current, report.plan, needs, timing, folder)
    return _judged(case, report, plan_moves, policy)


def _changed(current: Plan, observed: Sequence[Observed], changes: Sequence[str], policy: Policy, folder: Path) -> Case:
    if not current.deployments or not all(isinstance(d, Deployment) for d in current.deployments):
        message = "needs deployments with degrees: a plan over a table of rates cannot be priced for another load"
        raise InputError.single("the current plan", message, "deployments")
    kinds = _kinds(case_of(current, folder))
    unknown = [one.workload for one in observed if one.workload not in kinds]
    if unknown:
        raise InputError.single("--observed", f"the plan serves no workload '{unknown[0]}'")
    running = {"baseline": [_running(d) for d in current.deployments if isinstance(d, Deployment)]}
    case: Case = case_of(current, folder, [*overrides(observed, kinds, policy.headroom), *changes], running)
    return case


def _kinds(case: Case) -> dict[str, str]:
    return {name: workload.requests.kind for name, workload in case.scenario.workloads.items()}


def _demands(case: Case) -> dict[str, float]:
    return {
        name: workload.requests.value
        for name, workload in case.scenario.workloads.items()
        if workload.requests.kind == "rate"
    }


def _running(d: Deployment) -> dict[str, Any]:
    """Return a deployment as what runs today; how hard it is run is left to be found anew."""
    return {
        "workload": d.workload, "inventory": d.inventory, "engine": d.engine.name, "role": d.role,
        "replicas": d.replicas, "tp": d.tp, "pp": d.pp, "attention_dp": d.attention_dp, "ep": d.ep,
        "context_parallel": d.context_parallel, "weight_precision": d.weight_precision,
        "kv_precision": d.kv_precision, "speculative_tokens": d.speculative_tokens, "max_num_seqs": d.max_num_seqs,
        "max_num_batched_tokens": d.max_num_batched_tokens,
    }  # fmt: skip


def _judged(case: Case, report: Report, found: Moves, policy: Policy) -> Decision:
    metrics = {one.metric: one for one in report.plan.baseline}
    lacking = _lacking(case, metrics)
    if not found.migration.leaving and not found.migration.arriving:
        return Decision("keep", "the best plan is what runs", 0.0, None, report, found)
    if lacking:
        return Decision("must change", lacking, None, None, report, found)
    gain = _gain(report.plan, metrics)
    if gain is None:
        reason = "the first goal has several metrics: `planner diff` shows both plans"
        return Decision("keep", reason, None, None, report, found)
    if gain < policy.least_gain:
        reason = f"a gain of {gain:.1%} is below the {policy.least_gain:.1%} that a change must bring"
        return Decision("keep", reason, gain, None, report, found)
    devices = metrics["devices"].baseline or 0.0
    payback = found.device_hours / (gain * devices) * 3600 if gain * devices > 0 else None
    if payback is None or payback > policy.horizon:
        reason = f"a gain of {gain:.1%} does not pay for {found.device_hours:.3g} device-hours within the horizon"
        return Decision("keep", reason, gain, payback, report, found)
    return Decision("change", f"a gain of {gain:.1%} pays for the change", gain, payback, report, found)


def _lacking(case: Case, metrics: Mapping[str, Comparison]) -> str:
    """Return what today's plan no longer does; empty where it does all."""
    served = metrics["requests"].baseline if metrics else None
    if not served:
        return "what runs cannot hold the limits at any load"
    demand = sum(_demands(case).values())
    if served < demand * _ENOUGH:
        return f"what runs carries {served:.4g} request/s within the limits, {demand:.4g} are asked for"
    return ""


def _gain(plan: Plan, metrics: Mapping[str, Comparison]) -> float | None:
    """Return how much better the plan is by its first goal, positive is better."""
    compared = metrics.get(plan.objective.metric)
    if compared is None or compared.gain is None:
        return None
    return compared.gain if plan.objective.sense == "maximize" else -compared.gain
