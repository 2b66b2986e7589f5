"""The functions of the public interface."""

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from planner import catalog, handover, pipeline
from planner.catalog import AnyCase
from planner.catalog.rows import rows_from_data
from planner.columns.restriction import Restriction
from planner.errors import InputError, Problem, did_you_mean
from planner.explanation import Explanation
from planner.exporters import Files, json_file, text
from planner.exporters.plots import explanation as pictures
from planner.plan import Plan
from planner.posterior import Posterior
from planner.prediction import predict_rows
from planner.report import Report
from planner.schema.calibration import SHIPPED
from planner.shown import ShownAlternatives, ShownExplanation, ShownWhyNot
from planner.studies import alternatives as alternatives_study
from planner.studies import explain as explain_study
from planner.studies import infeasible as infeasible_study
from planner.studies import pareto as pareto_study
from planner.studies import resolve
from planner.studies import sensitivity as sensitivity_study
from planner.studies import why_not as why_not_study
from planner.studies.infeasible import Infeasibility
from planner.studies.pareto import Frontier
from planner.studies.sensitivity import LIKELY_SAMPLES, Backend, Likely, Sensitivity
from planner.verify import Verdict


def load_scenario(
    source: str | PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = (), folder: str | PathLike[str] = "."
) -> AnyCase:
    """Load a scenario and everything it names.

    Args:
        source: a scenario file, the name of a shipped scenario, or its content as nested mappings.
        overrides: changes like ``"workloads.chat.slo.tpot=30 ms"``.
        folder: where relative paths start in a scenario that is given as mappings.

    Raises:
        InputError: every fault found, each with its place.
    """
    if isinstance(source, Mapping):
        return catalog.scenario_from_data(source, overrides, Path(folder))
    return catalog.load_scenario(Path(source), overrides)


def solve(case: AnyCase) -> Report:
    """Find the proven-best plan of a case. Infeasible and out-of-time are results, not exceptions."""
    return pipeline.solve(case)


def predict(rows: Sequence[Mapping[str, Any]], calibration: str | Sequence[str] = SHIPPED) -> list[dict[str, Any]]:
    """Predict what clients of given deployments see, under a closed loop.

    Args:
        rows: mappings with the columns that `planner predict` reads: id, model, system, backend, precision, tp, pp,
            attention_dp, moe_tp, ep, concurrency, isl, osl; optional ones are in docs/reference/prediction-rows.md.
        calibration: a shipped name or a path; of several, the nearest to a row counts.

    Returns:
        One mapping per row, in their order: the fields of ``planner.prediction.Prediction``.

    Raises:
        InputError: a value that is missing or cannot be read, the row's number as its line; an unknown calibration.
    """
    read = rows_from_data(list(enumerate(rows, start=1)))
    names = [calibration] if isinstance(calibration, str) else calibration
    posterior = Posterior.of([catalog.load_calibration(name).value for name in names])
    return [prediction._asdict() for prediction in predict_rows(read, posterior)]


def read_plan(path: str | PathLike[str]) -> Plan:
    """Read a plan file.

    Raises:
        InputError: it is not a plan file.
    """
    return json_file.read_plan(Path(path))


def verify_plan(plan: Plan, folder: str | PathLike[str] = ".") -> Verdict:
    """Recompute every claim of a plan; ``reasons`` of the verdict is empty if all hold.

    Args:
        plan: the plan to check.
        folder: where relative paths in its scenario start.

    Raises:
        InputError: the scenario inside the plan cannot be loaded.
    """
    return pipeline.verify_plan(plan, Path(folder))


def explain_plan(plan: Plan, folder: str | PathLike[str] = ".") -> ShownExplanation:
    """Explain a plan: where its time goes, what binds, what to improve first, and what each symbol is worth.

    Args:
        plan: the plan.
        folder: where relative paths in its scenario start.

    Raises:
        InputError: the plan deploys nothing or lists rates without costs, its scenario cannot be loaded, or its
            specifications have changed.
    """
    return ShownExplanation(*explain_study.explain(plan, Path(folder)))


def plot_explanation(explanation: Explanation, folder: str | PathLike[str]) -> list[Path]:
    """Draw where steps go, and operators on the roofline, into a folder as PNG and SVG; return the files.

    Raises:
        InputError: matplotlib is not installed, or the folder cannot be written.
    """
    return pictures.plot_explanation(explanation, Path(folder))


def why_not(
    plan: Plan, *, at_least_one: bool = False, folder: str | PathLike[str] = ".", **asked: str | int | tuple[str, ...]
) -> ShownWhyNot:
    """Find the best plan whose replicas are as asked and what it costs, or what stands in the way.

    Args:
        plan: the best plan.
        at_least_one: it is enough that one such replica serves something; otherwise all requests pass through such.
        folder: where relative paths in its scenario start.
        **asked: fields of a deployment as a plan file names them, like ``role="decode", tp=8``.

    Raises:
        InputError: a field or value that makes no sense; see ``explain_plan`` for the plan.
    """
    unknown = [name for name in asked if name not in Restriction._fields]
    if unknown:
        raise InputError(
            Problem(name, 0, 0, "", f"is no field; {did_you_mean(name, Restriction._fields)}") for name in unknown
        )
    found: Any = asked
    case = resolve.priced_case_of(plan, Path(folder))
    return ShownWhyNot(*why_not_study.why_not(case, plan, Restriction(**found), at_least_one=at_least_one))


def alternatives(
    plan: Plan,
    count: int = 5,
    within: float | None = None,
    distinct: str = "shape",
    folder: str | PathLike[str] = ".",
) -> ShownAlternatives:
    """Return the best plans in order, each proven to be the next best, and what each trades.

    Args:
        plan: the best plan.
        count: how many to return at most, the best among them.
        within: how much worse than the best the first goal may be, relative; None for any distance.
        distinct: what tells plans apart: "shape", how the model is split, or "settings", the engine's as well.
        folder: where relative paths in its scenario start.

    Raises:
        InputError: see ``explain_plan``.
    """
    case = resolve.priced_case_of(plan, Path(folder))
    return ShownAlternatives(*alternatives_study.alternatives(case, plan, count, within, distinct))


def export(
    plan: Plan, format: str, folder: str | PathLike[str] = ".", alternatives: int = handover.ALTERNATIVES
) -> Files:
    """Return a plan in a format of `planner export`: the content of each file by its path.

    Args:
        plan: the plan; its figures are recomputed, and launch files are read back.
        format: a name like ``"vllm"`` or ``"markdown"`` (docs/reference/formats.md).
        folder: where relative paths in its scenario start.
        alternatives: how many plans next to the best a capacity workbook shows; each takes another search.

    Raises:
        InputError: an unknown format, a plan that is not as it was solved, or one that the format cannot express.
    """
    return handover.export(plan, format, Path(folder), alternatives=alternatives)


def infeasible(
    source: str | PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = (), folder: str | PathLike[str] = "."
) -> Infeasibility:
    """Say which requirements of a scenario cannot hold together, and the least change that would give it a plan.

    Args: see ``load_scenario``.

    Raises:
        InputError: every fault of the scenario.
    """

    def reload(more: Sequence[str]) -> AnyCase:
        return load_scenario(source, [*overrides, *more], folder)

    return infeasible_study.infeasible(load_scenario(source, overrides, folder), reload)


def pareto(
    case: AnyCase, metrics: Sequence[str], most: int = pareto_study.MOST_POINTS, time_limit: float = math.inf
) -> Frontier:
    """Return every plan that no other is at least as good as in two or three metrics: the exact frontier.

    Args:
        case: a case; its objective is left aside.
        metrics: of requests, tokens, devices, cost, power, ttft and tpot.
        most: plans to stop after.
        time_limit: seconds to stop after; the frontier says then where plans may be missing.

    Raises:
        InputError: metrics that are none, or that the case has no figures for.
    """
    return pareto_study.pareto(case, metrics, most, time_limit=time_limit)


def sensitivity(
    case: AnyCase,
    ranges: Sequence[str] = (),
    samples: int = 0,
    method: Literal["sobol", "morris"] = "sobol",
    seed: int = 1,
    workers: int = 1,
) -> Sensitivity:
    """Say what would change the best plan of a case: single numbers, one more of each resource, everything at once.

    Args:
        case: a case.
        ranges: what is varied, like ``"hardware.h100.memory.bandwidth=0.8..1.2"``, in factors; the usual numbers by a
            quarter where not given.
        samples: solves with everything varied at once, at most.
        method: how samples are chosen and read.
        seed: of the samples.
        workers: processes that solve them.

    Raises:
        InputError: a range that names no number, or a case without a plan.
    """
    backend = Backend(workers=workers)
    return sensitivity_study.sensitivity(case, ranges, samples, method, seed, backend=backend)


def likely(
    case: AnyCase,
    samples: int = LIKELY_SAMPLES,
    method: Literal["sobol", "morris"] = "sobol",
    seed: int = 1,
    workers: int = 1,
) -> Likely:
    """Say how likely the best plan of a case stays best and keeps its limits, given what its calibration is unsure of.

    Args:
        case: a case with a calibration that was fitted.
        samples: draws, at most; each is solved.
        method: how draws are chosen and read.
        seed: of the draws.
        workers: processes that solve them.

    Raises:
        InputError: a calibration that is unsure of nothing, or a case without a plan.
    """
    return sensitivity_study.likely(case, samples, method, seed, backend=Backend(workers=workers))


def plan_text(plan: Plan) -> str:
    """Return a plan as the JSON text of a plan file."""
    return json_file.plan_text(plan)


def report_text(report: Report) -> str:
    """Return a report as `planner solve` prints it."""
    return text.report_text(report)
