"""Checks across fields of a scenario, each on whatever parts of it are valid."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from planner.catalog.case import node_sizes
from planner.errors import Problem, did_you_mean
from planner.schema.architecture import Architecture
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.scenario import Goal, Workload
from planner.yaml_io import Document, Loc

MEDIAN = 0.5
_ROUNDED = 0.5  # output_tokens is whole, the mean of a range may not be


class Parts(NamedTuple):
    """The valid top-level fields of a scenario and the specifications that could be loaded."""

    fields: Mapping[str, Any]
    model_names: frozenset[str]  # as written, faulty or not
    architectures: Mapping[str, Architecture]
    hardware: Mapping[str, Hardware]
    engine: Engine | None
    efficiencies: Efficiencies | None


Finding = tuple[Loc, str]


def cross_problems(document: Document, parts: Parts) -> list[Problem]:
    """Return every fault that shows only where two fields meet."""
    checks = (_one_of_each, _models, _drafts, _inventory, _engine, _workloads, _objective, _confidence)
    return [document.problem(loc, message) for check in checks for loc, message in check(parts)]


def _one_of_each(parts: Parts) -> Iterator[Finding]:
    for section in ("models", "workloads"):
        names = list(parts.fields.get(section, {}))
        if len(names) > 1:
            yield (
                (section, names[1]),
                f"this version plans one of the {section} at a time; keep one per scenario",
            )


def _models(parts: Parts) -> Iterator[Finding]:
    for name, model in parts.fields.get("models", {}).items():
        architecture = parts.architectures.get(name)
        limit = architecture.max_position_embeddings if architecture else None
        if limit and model.max_model_len and model.max_model_len > limit:
            yield ("models", name, "max_model_len"), f"at most {limit} token: the architecture's own limit"
        drafts = model.speculative
        if architecture and drafts and drafts.draft_time is None and not architecture.num_nextn_predict_layers:
            message = f"{architecture.name} has no draft module of its own; give the draft_time of another model"
            yield ("models", name, "speculative"), message
        own = (architecture.precision,) if architecture else ()
        if architecture and model.sparse_attention and not dict(architecture.attention_layers).get("gqa"):
            yield ("models", name, "sparse_attention"), f"{architecture.name} has no layer of full attention to replace"
        for precision in model.precisions or own:
            if parts.engine and precision not in parts.engine.weight_precisions.value:
                known = ", ".join(parts.engine.weight_precisions.value)
                message = f"{parts.engine.name} does not serve weights in {precision}; it serves {known}"
                yield ("models", name, "precisions"), message


def _drafts(parts: Parts) -> Iterator[Finding]:
    search = parts.fields.get("search")
    most = max((search.speculative_tokens if search else None) or (0,))
    for name, model in parts.fields.get("models", {}).items():
        stated = len(model.speculative.acceptance) if model.speculative else 0
        if most > stated:
            message = (
                f"up to {most} drafts need as many acceptances under models.{name}.speculative, which has {stated}"
            )
            yield ("search", "speculative_tokens"), message


def _inventory(parts: Parts) -> Iterator[Finding]:
    goals: tuple[Goal, ...] = parts.fields.get("objective", ())
    for name, item in parts.fields.get("inventory", {}).items():
        hardware = parts.hardware.get(name)
        if hardware and not node_sizes(item, hardware.devices_per_node.value):
            yield ("inventory", name, "reserved_devices"), "leaves no device to plan with"
        if item.price is None and any(goal.metric == "cost" for goal in goals):
            yield ("inventory", name, "price"), "is required to minimise cost; write it like '2.50 USD/h'"
        if hardware and hardware.power is None and any(goal.metric == "power" for goal in goals):
            yield ("inventory", name, "hardware"), f"{hardware.name} has no published power to minimise"
        if hardware and parts.engine and hardware.vendor not in parts.engine.vendors:
            vendors = ", ".join(parts.engine.vendors)
            message = f"{parts.engine.name} runs on devices of {vendors}, not {hardware.vendor}"
            yield ("inventory", name, "hardware"), message


def _engine(parts: Parts) -> Iterator[Finding]:
    choice = parts.fields.get("engine")
    if choice and parts.engine and choice.version and choice.version not in parts.engine.versions:
        hint = did_you_mean(choice.version, parts.engine.versions)
        yield ("engine", "version"), f"no rules for {choice.name} {choice.version}; {hint}"
    search = parts.fields.get("search")
    for precision in (search.kv_precisions if search else None) or ():
        if parts.engine and precision not in parts.engine.kv_precisions.value:
            yield ("search", "kv_precisions"), f"{parts.engine.name} has no KV cache in {precision}"


def _workloads(parts: Parts) -> Iterator[Finding]:
    names = parts.model_names
    for name, workload in parts.fields.get("workloads", {}).items():
        loc = ("workloads", name)
        architecture = parts.architectures.get(workload.model)
        if workload.expert_load and architecture and not architecture.num_experts:
            yield (*loc, "expert_load"), f"{architecture.name} has no experts"
        if workload.output_tokens < 2:
            yield (*loc, "output_tokens"), "must be at least 2 token: with one there is no decode to plan"
        if names and workload.model not in names:
            yield (
                (*loc, "model"),
                f"no model '{workload.model}' in this scenario; {did_you_mean(workload.model, names)}",
            )
        if workload.output_range:
            least, most = workload.output_range
            if least > most or abs((least + most) / 2 - workload.output_tokens) > _ROUNDED:
                message = f"must go up, with a mean of output_tokens, {workload.output_tokens:g} token"
                yield (*loc, "output_range"), message
        limit = _length_limit(parts, workload)
        most = workload.output_range[1] if workload.output_range else workload.output_tokens
        total = workload.input_tokens + most
        if limit and total > limit:
            message = f"with the output, requests of {total:g} token exceed the model's limit of {limit:g} token"
            yield (*loc, "input_tokens"), message


def _length_limit(parts: Parts, workload: Workload) -> float | None:
    model = parts.fields.get("models", {}).get(workload.model)
    architecture = parts.architectures.get(workload.model)
    if model and model.max_model_len:
        return float(model.max_model_len)
    return architecture.max_position_embeddings if architecture else None


def _objective(parts: Parts) -> Iterator[Finding]:
    goals: tuple[Goal, ...] = parts.fields.get("objective", ())
    metrics = [goal.metric for goal in goals]
    for index, metric in enumerate(metrics):
        if metric in metrics[:index]:
            yield ("objective", index), f"'{metric}' is listed twice; keep the first"
    for name, workload in parts.fields.get("workloads", {}).items():
        kind = workload.requests.kind
        if kind == "max" and goals and goals[0].sense == "minimize":
            message = f"'max' has no least {metrics[0]}; write a rate like '12 /s', or maximize requests first"
            yield ("workloads", name, "requests"), message
        if kind == "concurrency" and any(goal.sense == "maximize" for goal in goals):
            message = "a number of requests in flight fixes the load; minimize devices, cost or power"
            yield ("objective",), message


def _confidence(parts: Parts) -> Iterator[Finding]:
    confidence, sets = parts.fields.get("confidence", MEDIAN), parts.efficiencies
    if confidence != MEDIAN and sets and sets.basis == "textbook":
        message = f"'{sets.name}' efficiencies carry no error intervals, so only {MEDIAN} can be planned for"
        yield ("confidence",), message
