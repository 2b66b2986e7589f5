"""Prices single operators and steps of named devices and models; every result in seconds, by keyword only.

These are the expressions of the column table evaluated one at a time, which is slower: for studies and comparisons.
All raise ``InputError`` for a name that is not known.
"""

import math
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from planner.catalog import load_architecture, load_calibration, load_engine, load_hardware
from planner.catalog.rows import read_acceptance
from planner.columns.deployable import Degrees, why_not
from planner.columns.evaluate import figures, structure_of, symbol_values
from planner.columns.memory import ledger
from planner.columns.setting import Setting, lone_setting
from planner.columns.topology import group_bandwidth, links
from planner.columns.values import efficiency_values, exchanges_all_to_all, hardware_values, multiplies_in, part_values
from planner.costs.breakdown import LayerCost
from planner.errors import InputError
from planner.posterior import Posterior
from planner.schema.efficiency import Efficiencies
from planner.schema.hardware import Hardware
from planner.schema.precision import FORMATS, Precision
from planner.table import FORMAT_NAMES


class StepCosts(TypedDict):
    """One step, operator by operator; times [s] are those of one pipeline stage, ``seconds`` that of all in a row.

    ``accepted``: tokens a request gains by it on average. Weights and capacity are those of the fullest device [byte].

    ``engine_names``: what the device's vendor calls the resources. ``launch_seconds``: what launching layer by layer
    adds outside of a captured graph.
    """

    layers: tuple[LayerCost, ...]
    captured: bool
    stages: int
    accepted: float
    weights_bytes: float
    capacity_bytes: float
    device_seconds: float
    launch_seconds: float
    draft_seconds: float
    host_seconds: float
    seconds: float
    engine_names: dict[str, str]


def gemm_seconds(
    *, hardware: str, efficiencies: str, precision: Precision, m: int, k: int, n: int, groups: int = 1
) -> float:
    """Return the time of ``groups`` products of m×k activations with k×n weights [s]."""
    from planner.costs import breakdown

    device, values = _device(hardware, efficiencies, precision)
    return groups * breakdown.gemm_seconds(device.engines.kind, values, m, k, n)


def memory_read_seconds(*, hardware: str, efficiencies: str, size: float) -> float:
    """Return the time to read ``size`` byte of device memory [s]."""
    from planner.costs import breakdown

    device, values = _device(hardware, efficiencies, "bf16")
    return breakdown.read_seconds(device.engines.kind, values, size)


def collective_seconds(*, hardware: str, efficiencies: str, operation: str, size: float, devices: int) -> float:
    """Return the time of an all_reduce, all_gather or reduce_scatter whose full vector has ``size`` byte [s]."""
    from planner.costs import breakdown

    device, values = _device(hardware, efficiencies, "bf16", devices=devices)
    return breakdown.collective_seconds(device.engines.kind, values, operation, size)


def expert_exchange_seconds(
    *,
    hardware: str,
    efficiencies: str,
    operation: str,
    tokens: int,
    hidden: int,
    top_k: int,
    devices: int,
    bytes_per_value: float,
) -> float:
    """Return the time of an all-to-all ``dispatch`` or ``combine`` of ``tokens`` per device [s]."""
    from planner.costs import breakdown

    if operation not in ("dispatch", "combine"):
        raise InputError.single("operation", f"must be dispatch or combine (got '{operation}')")
    device, values = _device(hardware, efficiencies, "bf16", exchanging=devices)
    values |= {"hidden": float(hidden), "experts_per_token": float(top_k), "all_to_all": 1.0}
    return breakdown.exchange_seconds(device.engines.kind, values, tokens, bytes_per_value)


def transfer_seconds(*, hardware: str, efficiencies: str, size: float, scope: str) -> float:
    """Return the time to send ``size`` byte one way to another device, ``scale-up`` or ``scale-out`` [s]."""
    device = load_hardware(hardware).value
    reached = _reached(efficiencies, device)
    latency = reached.latency.collective.value
    if scope == "scale-out":
        rate, network = device.scale_out.bandwidth.value, device.scale_out
    else:
        rate, network = float(group_bandwidth(device, np.array([2.0]))[0]), device.scale_up[0]
    wire = network.latency.value if network.latency else 0.0
    if scope == "scale-out":
        wire = max(wire, reached.latency.far_message.value)
    return latency + wire + size / (rate * reached.bandwidth.link.value)


def step_seconds(*, hardware: str, efficiencies: str, model: str, backend: str, **step: Any) -> float:
    """Return the time of one step of a replica [s]; see ``step_costs`` for the arguments."""
    return float(
        step_costs(hardware=hardware, efficiencies=efficiencies, model=model, backend=backend, **step)["seconds"]
    )


def cache_transfer(
    *,
    hardware: str,
    efficiencies: str,
    model: str,
    backend: str,
    tokens: float,
    prefill_tp: int,
    decode_tp: int,
    precision: str | None = None,
    kv_precision: str = "bf16",
    prefill_seconds: float = 0.0,
    prompts_per_second: float = 0.0,
    senders: int = 1,
    layerwise: bool = False,
    relayout: bool = False,
) -> dict[str, float]:
    """Return what moving the cache of a prompt of ``tokens`` between pools on different nodes costs.

    Bytes and seconds by the names of ``planner.costs.transfer.Transfer``, which explains the arguments.
    """
    from planner.costs import breakdown
    from planner.costs.structure import Structure

    setting = _setting(hardware, efficiencies, model, backend)
    axes = _axes(precision or setting.architecture.precision, tp=prefill_tp, kv_precision=kv_precision)
    out, latency = setting.hardware.scale_out, setting.efficiencies.latency
    values = _scalars(symbol_values(setting, axes)) | {
        "isl": tokens, "prefill_tp": float(prefill_tp), "decode_tp": float(decode_tp), "prefill_pp": 1.0,
        "decode_pp": 1.0, "senders": float(senders),
        "layerwise": float(layerwise), "relayout": float(relayout), "transfer_bandwidth": out.bandwidth.value,
        "transfer_latency": latency.collective.value
        + max(latency.far_message.value, out.latency.value if out.latency else 0.0),
    }  # fmt: skip
    return breakdown.transfer_costs(Structure(*structure_of(setting)), values, prefill_seconds, prompts_per_second)


def not_deployable(
    *,
    hardware: str,
    efficiencies: str,
    model: str,
    backend: str,
    precision: str | None,
    kv_precision: str,
    tp: int,
    pp: int,
    attention_dp: int,
    ep: int,
    longest: float,
    drafts: int,
) -> str | None:
    """Return why no engine would run this, or None; see ``step_costs`` for the arguments."""
    setting = _setting(hardware, efficiencies, model, backend)
    own = precision or setting.architecture.precision
    if own not in FORMATS:
        return f"precision '{own}' is none of {', '.join(FORMATS)}"
    if drafts and not setting.architecture.num_nextn_predict_layers:
        return f"{setting.architecture.name} has no draft module of its own"
    return why_not(setting, Degrees(tp, pp, attention_dp, ep, None, own, kv_precision), longest)


def attention_seconds(
    *,
    hardware: str,
    efficiencies: str,
    model: str,
    precision: Precision,
    sequences: int,
    context: int,
    new_tokens: int,
    tp: int,
) -> float:
    """Return the time of the attention kernels of one layer of the model's first kind [s]."""
    found = step_costs(
        hardware=hardware, efficiencies=efficiencies, model=model, backend="vllm", precision=precision,
        sequences=sequences, context=context, new_tokens=new_tokens, tp=tp,
    )  # fmt: skip
    layer = found["layers"][0]
    kernels = ("attention_decode", "attention_prefill", "select_tokens")
    return sum(cost.seconds for cost in layer.operators if cost.operator in kernels)


def kv_tokens(
    *, hardware: str, efficiencies: str, model: str, backend: str, precision: Precision, tp: int, pp: int
) -> float:
    """Return the tokens of KV cache that fit a replica beside weights and buffers [token]."""
    setting = _setting(hardware, efficiencies, model, backend)
    scheduling = setting.engine.scheduling
    axes = _axes(precision, tp=tp, pp=pp)
    axes["max_num_batched_tokens"] = np.array([float(scheduling.default_token_budget.value)])
    found = figures(setting, axes)
    free = ledger(setting, found, axes, np.array([float(scheduling.default_max_seqs.value)]))["kv_cache_bytes"]
    return max(0.0, float((free / found["kv_bytes_per_token"]).item()))


def step_costs(
    *,
    hardware: str,
    efficiencies: str,
    model: str,
    backend: str,
    precision: str | None = None,
    sequences: float,
    context: float,
    new_tokens: float = 1,
    tp: int = 1,
    pp: int = 1,
    attention_dp: int = 1,
    moe_tp: int | None = None,
    ep: int = 1,
    kv_precision: str = "bf16",
    speculative_acceptance: str = "",
    expert_exchange: str = "",
) -> StepCosts:
    """Return a step, operator by operator.

    Args:
        hardware: shipped name or path; ``efficiencies``, ``model``, ``backend`` likewise.
        efficiencies: the set of efficiencies.
        model: the architecture.
        backend: the serving engine, at its newest known version.
        precision: of the weights; the checkpoint's own where not given.
        sequences: requests over the whole replica; decoding, each stage works on 1/pp of them at a time.
        context: tokens each of them holds already.
        new_tokens: tokens each adds: 1 is a decode step, more a prefill.
        tp: tensor-parallel degree of the attention; pp, attention_dp and ep are the other degrees.
        pp: pipeline stages; each holds 1/pp of the requests, and the step is that of all stages in a row.
        attention_dp: attention ranks with requests of their own.
        moe_tp: devices that share one expert; must be tp·attention_dp/ep where given.
        ep: expert-parallel degree.
        kv_precision: of the KV cache.
        speculative_acceptance: chances of drafts to be accepted, like '0.8,0.6': as many as the step verifies.
        expert_exchange: all_gather or all_to_all; the engine's default where empty.

    Returns:
        ``layers``: kinds of layers with their operators; ``device_seconds``, ``host_seconds`` and ``seconds`` [s].

    Raises:
        InputError: a name is not known, or the degrees do not fit together.
    """
    from planner.costs import breakdown
    from planner.costs.structure import Structure

    acceptance = read_acceptance(speculative_acceptance)
    setting = _setting(hardware, efficiencies, model, backend, acceptance)
    if setting.architecture.num_experts and moe_tp is not None and moe_tp * ep != tp * attention_dp:
        raise InputError.single("ep", f"ep × moe_tp must be tp × attention_dp, {tp * attention_dp}")
    own = precision or setting.architecture.precision
    kv_precision = kv_precision or "bf16"
    for field, name in (("precision", own), ("kv_precision", kv_precision)):
        if name not in FORMATS:
            raise InputError.single(field, f"'{name}' is none of {', '.join(FORMATS)}")
    drafts = len(acceptance)
    axes = _axes(own, tp=tp, pp=pp, ep=ep, attention_dp=attention_dp, kv_precision=kv_precision, drafts=drafts)
    decoding = new_tokens == 1
    axes["all_to_all"] = np.array([exchanges_all_to_all(setting.engine, expert_exchange)])
    axes["mean_running"] = np.array([sequences if decoding else 1.0])
    values = _scalars(symbol_values(setting, axes))
    # Decoding requests are dealt out over micro-batches and ranks, a prompt's step passes all stages in one piece.
    dealt = sequences / (pp * attention_dp) if decoding else math.ceil(sequences / attention_dp)
    batch = _batch(values, max(dealt, min(1.0, sequences)), context, new_tokens, attention_dp, drafts)
    structure = Structure(*structure_of(setting))
    layers = breakdown.step_costs(structure, values | batch)
    draft = breakdown.draft_cost(structure, values) if decoding else 0.0
    names = setting.hardware.engines.names
    called = {"compute": names.matrix, "vector": names.vector, "hbm": names.memory, "link": names.link}
    weights = float(np.ravel(figures(setting, axes)["weights_bytes"])[0])
    memory = weights, setting.hardware.memory.capacity.value
    return _assembled(layers, values, batch["decoding"], pp=pp, draft=draft, called=called, memory=memory)


def _assembled(
    layers: tuple[LayerCost, ...],
    values: Mapping[str, float],
    requests: float,
    *,
    pp: int,
    draft: float,
    called: dict[str, str],
    memory: tuple[float, float],
) -> StepCosts:
    """Put layers, launches, drafts and the host together, as ``planner.costs.step.stage_step`` does."""
    work = draft + sum(cost.layers * cost.seconds for cost in layers)
    launches = math.ceil(values["layers"] / pp) * values["eager_floor"]
    captured = requests > 0 and values["captured"] > 0
    device = work if captured else float(np.cbrt(work**3 + launches**3))
    host = values["host_step"] + values["host_sequence"] * requests
    total = max(device + values["host_exposed"] * host, host) if values["host_overlap"] else device + host
    return StepCosts(
        layers=layers,
        captured=captured,
        stages=pp,
        accepted=values["accepted"] if requests > 0 else 1.0,
        weights_bytes=memory[0],
        capacity_bytes=memory[1],
        device_seconds=device,
        launch_seconds=device - work,
        draft_seconds=draft,
        host_seconds=host,
        seconds=pp * total * values["step_scale"],
        engine_names=called,
    )


def _batch(
    values: Mapping[str, float], requests: float, context: float, new_tokens: float, dp: int, drafts: int
) -> dict[str, float]:
    """Values of the batch's fields on one attention rank."""
    if new_tokens == 1:
        rows = values["padded_batch"] * (1 + drafts)
        return {
            "tokens": rows, "decoding": requests, "queries": 1.0 + drafts, "decode_context": context, "prefill": 0.0,
            "prefill_context": 0.0, "prefill_cached": 0.0, "logit_rows": rows, "group_tokens": dp * rows, "spread": 0.0,
        }  # fmt: skip
    tokens = requests * new_tokens
    return {
        "tokens": tokens, "decoding": 0.0, "queries": 1.0, "decode_context": 0.0, "prefill": tokens,
        "prefill_context": context + new_tokens / 2, "prefill_cached": requests * (context + new_tokens),
        "logit_rows": requests, "group_tokens": dp * tokens, "spread": 0.0,
    }  # fmt: skip


def _setting(hardware: str, efficiencies: str, model: str, backend: str, acceptance: tuple[float, ...] = ()) -> Setting:
    engine, device = load_engine(backend).value, load_hardware(hardware).value
    reached, architecture = _reached(efficiencies, device, engine.name), load_architecture(model).value
    return lone_setting(architecture, device, engine, engine.versions[-1], reached, acceptance=acceptance)


def _reached(efficiencies: str, device: Hardware, engine: str = "") -> Efficiencies:
    """Return what a calibration says of a device, and of an engine on it where one is named."""
    return Posterior.of(load_calibration(efficiencies).value).efficiencies(device.name, engine)


def _axes(
    precision: str,
    *,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    attention_dp: int = 1,
    kv_precision: str = "bf16",
    drafts: int = 0,
) -> dict[str, Any]:
    named = {
        "weight_precision": FORMAT_NAMES.index(precision), "kv_precision": FORMAT_NAMES.index(kv_precision),
        "tp": tp, "pp": pp, "ep": ep, "attention_dp": attention_dp, "speculative_tokens": drafts,
        "mean_running": 1, "max_num_batched_tokens": 1, "batch_varies": 0,
    }  # fmt: skip
    return {name: np.array([float(value)]) for name, value in named.items()}


def _scalars(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(np.ravel(value)[0]) for name, value in values.items()}


def _device(
    hardware: str, efficiencies: str, precision: Precision, devices: int = 1, exchanging: int = 1
) -> tuple[Hardware, dict[str, float]]:
    """Return a device and the values of every symbol that operators without a model need."""
    device: Hardware = load_hardware(hardware).value
    reached = _reached(efficiencies, device)
    if multiplies_in(device, precision) is None:
        raise InputError.single("precision", f"{device.name} does not multiply in {precision}")
    latency = reached.latency
    tp, dp = np.array([float(devices)]), np.array([float(exchanging)])
    bytes_per_weight, rate, mfu, mbu = part_values(device, reached, precision, "attention")
    values = {
        **efficiency_values(reached),
        **hardware_values(device),
        **_scalars(links(device, latency.collective.value, tp, np.ones(1), dp, least_far=latency.far_message.value)),
        "tp": float(devices), "dp": float(exchanging), "ep": float(exchanging), "pp": 1.0, "cp": 1.0,
        "activation_bytes": FORMATS["bf16"].bytes_per_value, "kv_bytes": FORMATS["bf16"].bytes_per_value,
        "attention_weight_bytes": bytes_per_weight, "attention_flops": rate, "mfu_projections": mfu,
        "mbu_projections": mbu,
    }  # fmt: skip
    return device, values
