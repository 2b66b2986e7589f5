"""Checks across fields of a scenario, each on whatever parts of it are valid."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from planner.catalog.case import node_sizes
from planner.errors import Problem, did_you_mean
from planner.schema.architecture import Architecture
from planner.schema.calibration import MEDIAN, Calibration
from planner.schema.efficiency import Efficiencies
from planner.schema.engine import Engine
from planner.schema.hardware import Hardware
from planner.schema.objective import Goal
from planner.schema.scenario import EngineChoice, Workload
from planner.yaml_io import Document, Loc

_ROUNDED = 0.5  # output_tokens is whole, the mean of a range may not be


class Parts(NamedTuple):
    """The valid top-level fields of a scenario and the specifications that could be loaded."""

    fields: Mapping[str, Any]
    model_names: frozenset[str]  # as written, faulty or not
    architectures: Mapping[str, Architecture]
    hardware: Mapping[str, Hardware]
    engines: Mapping[int, Engine]  # by their place in the scenario
    calibration: tuple[Efficiencies | Calibration, ...]


Finding = tuple[Loc, str]


def cross_problems(document: Document, parts: Parts) -> list[Problem]:
    """Return every fault that shows only where two fields meet."""
    checks = (_models, _drafts, _inventory, _engine, _workloads, _objective, _confidence, _fleet, _baseline)
    return [document.problem(loc, message) for check in checks for loc, message in check(parts)]


def fleet_findings(parts: Parts) -> Iterator[Finding]:
    """Yield the faults of goals, inventory and limits alone, whatever columns come from."""
    for check in (_inventory, _objective, _fleet):
        yield from check(parts)


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
            served = {e.name: e.weight_precisions.value for e in parts.engines.values()}
            if served and not any(precision in formats for formats in served.values()):
                known = "; ".join(f"{engine} serves {', '.join(formats)}" for engine, formats in served.items())
                yield ("models", name, "precisions"), f"no engine here serves weights in {precision}: {known}"


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
        if hardware and not node_sizes(item, hardware.devices_per_node.value, hardware.domain):
            yield ("inventory", name, "reserved_devices"), "leaves no device to plan with"
        if item.price is None and any("cost" in goal.metrics for goal in goals):
            yield ("inventory", name, "price"), "is required to minimise cost; write it like '2.50 USD/h'"
        if hardware and hardware.power is None and any("power" in goal.metrics for goal in goals):
            yield ("inventory", name, "hardware"), f"{hardware.name} has no published power to minimise"
        vendors = {engine.name: engine.vendors for engine in parts.engines.values()}
        if hardware and vendors and not any(hardware.vendor in able for able in vendors.values()):
            able = "; ".join(f"{engine} runs on devices of {', '.join(names)}" for engine, names in vendors.items())
            yield ("inventory", name, "hardware"), f"no engine here runs on devices of {hardware.vendor}: {able}"


def _engine(parts: Parts) -> Iterator[Finding]:
    choices: tuple[EngineChoice, ...] = parts.fields.get("engine", ())
    for i, choice in enumerate(choices):
        engine = parts.engines.get(i)
        if engine and choice.version and choice.version not in engine.versions:
            hint = did_you_mean(choice.version, engine.versions)
            yield _of_engine(choices, i, "version"), f"no rules for {choice.name} {choice.version}; {hint}"
        known = [(other.name, other.version) for other in choices[:i]]
        if (choice.name, choice.version) in known:
            yield _of_engine(choices, i, "name"), f"{choice.name} is listed twice; keep one, or name two versions"
    yield from _searched_of_engine(parts)


def _of_engine(choices: tuple[EngineChoice, ...], i: int, field: str) -> Loc:
    return ("engine", field) if len(choices) == 1 else ("engine", i, field)


def _searched_of_engine(parts: Parts) -> Iterator[Finding]:
    """Values that a search asks for and no engine has."""
    search, engines = parts.fields.get("search"), list(parts.engines.values())
    if not search or not engines:
        return
    names = " and ".join(engine.name for engine in engines)
    for precision in search.kv_precisions or ():
        if not any(precision in engine.kv_precisions.value for engine in engines):
            yield ("search", "kv_precisions"), f"{names} has no KV cache in {precision}"
    for policy in search.prefill_policies or ():
        if not any(policy in engine.scheduling.policies.value for engine in engines):
            yield ("search", "prefill_policies"), f"{names} cannot run prompts {policy}"
    for size in search.block_size or ():
        if not any(size in engine.block_sizes.value for engine in engines):
            known = "; ".join(f"{e.name} takes {', '.join(map(str, e.block_sizes.value))}" for e in engines)
            yield ("search", "block_size"), f"no engine here takes blocks of {size}: {known}"
    roles = search.roles or ("mixed",)
    if "mixed" not in roles and not any(engine.disaggregation for engine in engines):
        yield ("search", "roles"), f"{names} cannot run prefill and decode apart"
    elif ("prefill" in roles) != ("decode" in roles):
        yield ("search", "roles"), "prefill and decode go together: a request needs both"


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
        if kind == "max" and goals and not {"requests", "tokens"} & set(goals[0].metrics):
            message = f"'max' has no least {metrics[0]}; write a rate like '12 /s', or maximize requests first"
            yield ("workloads", name, "requests"), message
        if kind == "concurrency" and any({"requests", "tokens"} & set(goal.metrics) for goal in goals):
            message = "a number of requests in flight fixes the load; minimize devices, cost or power"
            yield ("objective",), message


def _fleet(parts: Parts) -> Iterator[Finding]:
    """Links and limits of the whole plan."""
    inventory = parts.fields.get("inventory", {})
    for i, link in enumerate(parts.fields.get("links", ())):
        for name in link.between:
            if inventory and name not in inventory:
                message = f"no inventory '{name}' in this scenario; {did_you_mean(name, tuple(inventory))}"
                yield ("links", i, "between"), message
    limits = parts.fields.get("limits")
    for name, item in inventory.items():
        if limits and limits.cost is not None and item.price is None:
            yield ("inventory", name, "price"), "is required for a limit of cost; write it like '2.50 USD/h'"
        hardware = parts.hardware.get(name)
        if limits and limits.power is not None and hardware and hardware.power is None:
            yield ("inventory", name, "hardware"), f"{hardware.name} has no published power to limit"


def _baseline(parts: Parts) -> Iterator[Finding]:
    """What runs today must name a workload, an inventory and an engine of the scenario."""
    workloads, inventory = parts.fields.get("workloads", {}), parts.fields.get("inventory", {})
    engines = [engine.name for engine in parts.engines.values()]
    for i, running in enumerate(parts.fields.get("baseline", ())):
        asked = (
            ("workload", running.workload, tuple(workloads)),
            ("inventory", running.inventory, tuple(inventory)),
            ("engine", running.engine, tuple(engines)),
        )
        for field, name, known in asked:
            if name is not None and known and name not in known:
                yield ("baseline", i, field), f"no {field} '{name}' in this scenario; {did_you_mean(name, known)}"
        if running.workload is None and len(workloads) > 1:
            yield ("baseline", i), f"name its workload: one of {', '.join(workloads)}"


def _confidence(parts: Parts) -> Iterator[Finding]:
    confidence = parts.fields.get("confidence")
    for sets in parts.calibration if confidence not in (None, MEDIAN) else ():
        if isinstance(sets, Efficiencies):
            yield (
                ("confidence",),
                f"'{sets.name}' efficiencies carry no error intervals, so only {MEDIAN} can be planned for; "
                "a fitted calibration has them",
            )
