"""Hands a plan over to those who deploy it: checks it, gathers what exporters need, and writes a format."""

import re
from collections.abc import Callable
from pathlib import Path

from planner import pipeline
from planner.capacity import capacity_of
from planner.catalog import AnyCase, TableCase, load_about
from planner.decode import stocks
from planner.errors import InputError, InternalError, Problem, did_you_mean
from planner.exporters import FORMATS, Files, Format
from planner.launch.facts import EngineFacts, Facts, InventoryFacts, ModelFacts, WorkloadFacts
from planner.plan import Deployment, Plan
from planner.studies.alternatives import alternatives as alternatives_of
from planner.studies.explain import explained
from planner.workbook.facts import CapacityFacts

ALTERNATIVES = 3
_NOTHING = Facts({}, {}, {}, {})


def export(
    plan: Plan,
    format: str,
    folder: Path,
    origin: str = "plan",
    alternatives: int = ALTERNATIVES,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Files:
    """Return the files of a format by path, after a check of the plan's figures and of what the files say.

    Args:
        plan: the plan to hand over.
        format: a name of ``exporters.FORMATS``.
        folder: where relative paths in its scenario start.
        origin: what messages call the plan.
        alternatives: how many plans next to the best a capacity workbook shows; each takes another search.
        on_stage: is told what is being done.

    Raises:
        InputError: an unknown format, a plan that is not as it was written, or one that the format cannot express.
        InternalError: the files do not say what the plan says.
    """
    if format not in FORMATS:
        raise InputError.single("", f"unknown format '{format}'; {did_you_mean(format, FORMATS)}", "--to")
    case, changed = pipeline.case_of(plan, folder)
    reasons = changed or pipeline.verify_figures(plan, case, folder).reasons
    if reasons:
        hint = "the plan is not as it was solved: "
        raise InputError([Problem(origin, 0, 0, "", hint + reason) for reason in reasons])
    facts = _NOTHING if isinstance(case, TableCase) else facts_of(case)
    if FORMATS[format].studies:
        facts = facts._replace(capacity=_studied(case, plan, alternatives, on_stage))
    try:
        written = FORMATS[format].load().files(plan, facts)
    except InputError as error:
        raise InputError(p._replace(path=p.path or origin) for p in error.problems) from None
    _read_back(FORMATS[format], written, plan, facts)
    return written


def facts_of(case: AnyCase) -> Facts:
    """Return what exporters need of a case, as values."""
    if isinstance(case, TableCase):
        return _NOTHING
    room, scenario = stocks(case), case.scenario
    return Facts(
        models={
            name: ModelFacts(
                repository=_repository(model.architecture, case.architectures[name].name),
                precision=case.architectures[name].precision,
                own_drafts=model.speculative is None or model.speculative.draft_time is None,
                experts=case.architectures[name].num_experts,
            )
            for name, model in scenario.models.items()
        },
        inventory={name: InventoryFacts(case.hardware[name].vendor, room[name]) for name in scenario.inventory},
        workloads={
            name: WorkloadFacts(round(workload.input_tokens), round(workload.output_tokens))
            for name, workload in scenario.workloads.items()
        },
        engines={
            use.engine.name: EngineFacts(
                use.engine.memory_fraction_of.value, use.engine.memory.runtime.value, use.engine.block_size.value
            )
            for use in case.engines
        },
    )


def _studied(case: AnyCase, plan: Plan, count: int, on_stage: Callable[[str], None]) -> CapacityFacts:
    """Return what a capacity workbook needs, with what studies find where there are costs to look into."""
    known = capacity_of(case)
    if isinstance(case, TableCase) or not plan.deployments:
        return known
    on_stage("explaining the plan")
    known = known._replace(explanation=explained(case, plan))
    if not count:
        return known
    return known._replace(alternatives=alternatives_of(case, plan, count + 1, on_stage=on_stage))


def _repository(architecture: str, shipped: str) -> str:
    """Return where engines load a model from: its Hugging Face id, or for a file of the user's a folder in /models."""
    if architecture.endswith(".json") or architecture.startswith((".", "/")):
        path = Path(architecture)
        folder = path.parent.resolve().name if path.suffix == ".json" else path.resolve().name
        return "/models/" + re.sub(r"[^A-Za-z0-9._-]+", "-", folder)
    if "/" in architecture:
        return architecture
    return f"{load_about(shipped).huggingface_id.partition('/')[0]}/{architecture}"


def _read_back(format: Format, written: Files, plan: Plan, facts: Facts) -> None:
    """Hold what files say against the plan."""
    if not format.reads:
        return
    found = format.load().read(written, plan, facts)
    by_name = {d.name: d for d in plan.deployments if isinstance(d, Deployment)}
    wrong = [
        f"{name}.{field}: the files say {value}, the plan {getattr(by_name[name], field)}"
        for name, said in found.items()
        for field, value in said.fields.items()
        if value != getattr(by_name[name], field)
    ]
    wrong += [
        f"{name}: the files start {len(said.devices)} replicas, the plan has {by_name[name].replicas}"
        for name, said in found.items()
        if len(said.devices) != by_name[name].replicas
    ]
    if wrong:
        raise InternalError("the launch files do not say what the plan says; please report this:\n" + "\n".join(wrong))
