"""Hands a plan over to those who deploy it: checks it, gathers what exporters need, and writes a format."""

import re
from collections.abc import Callable
from pathlib import Path

from planner import pipeline
from planner.capacity import capacity_of
from planner.catalog import AnyCase, Case, TableCase, load_about
from planner.comparison.compare import interval
from planner.comparison.operating import Load, Stream, seen
from planner.constants import MILLISECONDS_PER_SECOND
from planner.decode import stocks
from planner.errors import InputError, InternalError, Problem, did_you_mean
from planner.exporters import FORMATS, Files, Format
from planner.exporters.json_file import plan_text
from planner.launch.benchmark import PLAN
from planner.launch.facts import EngineFacts, Expected, Facts, InventoryFacts, Latency, ModelFacts, WorkloadFacts
from planner.launch.servers import clients_of_one
from planner.plan import Deployment, Plan
from planner.schema.architecture import Architecture
from planner.schema.scenario import ServedModel
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
    facts = facts_of(case, plan)
    if FORMATS[format].studies:
        facts = facts._replace(capacity=_studied(case, plan, alternatives, on_stage))
    try:
        written = FORMATS[format].load().files(plan, facts)
    except InputError as error:
        raise InputError(p._replace(path=p.path or origin) for p in error.problems) from None
    _read_back(FORMATS[format], written, plan, facts)
    return {**written, PLAN: plan_text(plan)} if FORMATS[format].reads else written


def facts_of(case: AnyCase, plan: Plan) -> Facts:
    """Return what exporters need of a plan and its case, as values."""
    if isinstance(case, TableCase):
        return _NOTHING
    room, scenario = stocks(case), case.scenario
    return Facts(
        models={name: _model(model, case.architectures[name]) for name, model in scenario.models.items()},
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
        loops={d.name: _loop(case, d) for d in plan.deployments if isinstance(d, Deployment) and d.role == "mixed"},
    )


def _model(model: ServedModel, known: Architecture) -> ModelFacts:
    widths = known.moe_intermediate_size
    return ModelFacts(
        repository=_repository(model.architecture, known.name),
        precision=known.precision,
        own_drafts=model.speculative is None or model.speculative.draft_time is None,
        experts=known.num_experts,
        experts_per_token=known.num_experts_per_tok,
        shared_experts=known.shared_expert_size // widths if widths else 0,
        hidden=known.hidden_size,
        latent=any(kind in ("mla", "sparse_mla") for kind in known.attention_layers),
        remote_code=not _a_file(model.architecture) and load_about(known.name).remote_code,
    )


def _loop(case: Case, d: Deployment) -> Expected:
    """Return what is predicted for a benchmark of one replica, loaded by as many clients as are planned for it."""
    workload, clients = case.scenario.workloads[d.workload], clients_of_one(d)
    share = 1 / d.replicas
    alone = d._replace(replicas=1, requests_in_flight=d.requests_in_flight * share)
    found = [Stream(d.requests_per_s * share, (alone,))]
    lengths = round(workload.input_tokens), round(workload.output_tokens)
    at = seen(case, found, Load(0.0, clients, *lengths, same_lengths=True))
    ttft, tpot = (seconds * MILLISECONDS_PER_SECOND for seconds in at)
    return Expected(
        Latency(ttft, *interval(found, "ttft", ttft)),
        Latency(tpot, *interval(found, "tpot", tpot)),
        clients / (at.ttft + at.tpot * (lengths[1] - 1)),
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
    if _a_file(architecture):
        path = Path(architecture)
        folder = path.parent.resolve().name if path.suffix == ".json" else path.resolve().name
        return "/models/" + re.sub(r"[^A-Za-z0-9._-]+", "-", folder)
    if "/" in architecture:
        return architecture
    return f"{load_about(shipped).huggingface_id.partition('/')[0]}/{architecture}"


def _a_file(architecture: str) -> bool:
    """Tell a file of the user's from a name."""
    return architecture.endswith(".json") or architecture.startswith((".", "/"))


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
