"""Evaluates configurations with the compiled costs, on an open mesh or one by one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planner.columns.setting import Setting
from planner.columns.topology import links
from planner.columns.values import (
    architecture_values,
    at_least,
    choice_values,
    efficiency_values,
    engine_values,
    fusion_values,
    hardware_values,
    layer_kinds,
    precision_values,
)
from planner.costs.compile import compiled
from planner.schema.engine import Engine
from planner.table import POLICIES, Floats

Axes = Mapping[str, Floats]
_ONE, _NONE = np.ones(1), np.zeros(1)


def figures(setting: Setting, axes: Axes) -> dict[str, Floats]:
    """Return every figure of the cost model for configurations given as arrays.

    Args:
        setting: what stays fixed.
        axes: arrays that broadcast together: ``weight_precision`` and ``kv_precision`` as indices into
            ``FORMATS``, and tp, pp, ep, mean_running, max_num_batched_tokens. Optional: attention_dp and
            context_parallel (1 where left out), speculative_tokens, redundant_experts and overlaps (0),
            prefill_utilisation [%], block_size and prefill_policy instead of the engine's, and isl and osl instead of
            the workload's.

    Returns:
        The outputs of ``planner.costs.serving`` by name, each with only the axes it depends on. Figures of
        illegal configurations may be meaningless (NaN or infinite).
    """
    kernel = compiled(*structure_of(setting), setting.role)
    with np.errstate(all="ignore"):
        return kernel(**symbol_values(setting, axes))


def figures_of_each(settings: Sequence[Setting], axes: Axes) -> list[dict[str, Floats]]:
    """Return the ``figures`` of several settings that differ in numbers only, computed side by side.

    ``axes`` as for ``figures``, of one dimension; the figures of each setting have it, or none. Small arrays cost
    little more than one number does, so this is quicker than one setting at a time.
    """
    first = settings[0]
    kernel = compiled(*structure_of(first), first.role)
    values = _side_by_side([symbol_values(setting, axes) for setting in settings])
    with np.errstate(all="ignore"):
        found = kernel(**values)
    return [{n: v[k] if np.ndim(v) > 1 else v for n, v in found.items()} for k in range(len(settings))]


def _side_by_side(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return values by symbol, those of all settings where they are the same, else a row each: shape (S, C or 1)."""
    return {name: _rows([values[name] for values in each]) for name in each[0]}


def _rows(values: Sequence[Any]) -> Any:
    """Return values as arrays: powers of plain numbers may differ in the last digit, and neighbours must not matter."""
    first = values[0]
    same = all(value is first for value in values) or all(np.array_equal(value, first) for value in values)
    if np.ndim(first) == 0:
        return np.array([first], dtype=np.float64) if same else np.array(values, dtype=np.float64)[:, None]
    return first if same else np.stack(np.broadcast_arrays(*values))


def bounding_figures(setting: Setting, axes: Axes) -> dict[str, Floats]:
    """Return the figures that bound all others whatever the token budget: a decode step alone, and sizes in memory.

    ``axes`` as for ``figures``; names as there.
    """
    kernel = compiled(*structure_of(setting), "bounds")
    with np.errstate(all="ignore"):
        return kernel(**symbol_values(setting, axes))


def structure_of(setting: Setting) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return the kinds of layers and of the device: what decides which cost function applies."""
    return (*layer_kinds(setting.architecture), setting.hardware.engines.kind)


def symbol_values(setting: Setting, axes: Axes) -> dict[str, Any]:
    """Return a value for every symbol of the table; see ``figures`` for the arguments."""
    tp, pp, ep = axes["tp"], axes["pp"], axes["ep"]
    dp, drafts = axes.get("attention_dp", _ONE), axes.get("speculative_tokens", _NONE)
    running = axes["mean_running"]
    weights = axes["weight_precision"].astype(int)
    per_request = 1 + drafts
    rows, captured = padded(running / (pp * dp) * per_request, capture_sizes(setting.engine, setting.engine_version))
    return {
        **architecture_values(setting.architecture, pp),
        **efficiency_symbols(setting, axes),
        **(setting.believed.scales(axes) if setting.believed else {}),
        **hardware_values(setting.hardware),
        **engine_values(setting.engine, setting.engine_version),
        **_asked(axes),
        **_alone(setting, drafts),
        **fusion_values(setting, weights, tp, dp, axes.get("overlaps", _NONE)),
        **choice_values(setting),
        **({"all_to_all": axes["all_to_all"]} if "all_to_all" in axes else {}),
        "tp": tp,
        "pp": pp,
        "ep": ep,
        "dp": dp,
        "cp": axes.get("context_parallel", _ONE),
        "redundant_experts": axes.get("redundant_experts", _NONE),
        "token_budget": axes["max_num_batched_tokens"],
        "running": running,
        "busy": axes.get("prefill_utilisation", _NONE) / 100,
        "padded_batch": rows / per_request,
        "captured": captured,
        "drafts": drafts,
        "accepted": accepted_tokens(setting.speculative.acceptance, drafts),
        "draft_layers": np.minimum(drafts, setting.speculative.layers),
        "draft_seconds": setting.speculative.seconds,
        "isl": axes.get("isl", setting.workload.input_tokens),
        "osl": axes.get("osl", setting.workload.output_tokens),
        "longest": float(setting.max_model_len),
        "batch_varies": axes.get("batch_varies", _ONE),
    }


def efficiency_symbols(setting: Setting, axes: Axes) -> dict[str, Any]:
    """Return the symbols of ``symbol_values`` that efficiencies have a part in."""
    latency = setting.efficiencies.latency
    dp = axes.get("attention_dp", _ONE)
    return {
        **efficiency_values(setting.efficiencies),
        **precision_values(setting, axes["weight_precision"].astype(int), axes["kv_precision"].astype(int)),
        **links(
            setting.hardware, latency.collective.value, axes["tp"], axes["pp"], dp,
            least_far=latency.far_message.value,
        ),
        "hot_share": setting.expert_load.hot_share,
        "hot_load": setting.expert_load.hot_load,
    }  # fmt: skip


def _alone(setting: Setting, drafts: Floats) -> dict[str, Floats]:
    """Return that the host works alone between steps where a separate model drafts: no engine schedules ahead of it."""
    ahead = engine_values(setting.engine, setting.engine_version)["host_overlap"]
    return {"host_overlap": np.where(drafts > 0, 0.0, ahead)} if setting.speculative.seconds else {}


def _asked(axes: Axes) -> dict[str, Floats]:
    """Return what configurations set instead of the engine's default."""
    asked: dict[str, Floats] = {}
    if "block_size" in axes:
        asked["block_size"] = axes["block_size"]
    if "prefill_policy" in axes:
        policy = axes["prefill_policy"].astype(int)
        asked["mixed_steps"] = np.array([float(name.startswith("mixed")) for name in POLICIES])[policy]
        asked["chunked"] = np.array([float(name.endswith("chunked")) for name in POLICIES])[policy]
    return asked


def capture_sizes(engine: Engine, version: str) -> tuple[int, ...]:
    """Return the sizes of captured decode steps; none where a version captures only parts of a step.

    Between captured parts the host launches something in every layer, which sets the pace as without any graph.
    """
    since = engine.whole_graphs_since
    return engine.graph_capture_sizes.value if at_least(version, since.value if since else None) else ()


def padded(batch: Floats, sizes: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Return the rows of a decode step, padded to the next captured graph, and 1 where there is one, else 0."""
    if not sizes:
        return batch, np.zeros_like(batch)
    ladder = np.array(sorted(sizes), dtype=np.float64)
    index = np.searchsorted(ladder, batch)
    captured = index < len(ladder)
    return np.where(captured, ladder[np.minimum(index, len(ladder) - 1)], batch), captured.astype(np.float64)


def accepted_tokens(acceptance: tuple[float, ...], drafts: Floats) -> Floats:
    """Return the tokens a request gains per step: 1 + Σ_{i ≤ k} Π_{j ≤ i} a_j.

    ``acceptance`` [1] is the chance that draft j is accepted, given that all before it were; a draft is worth something
    only if all before it were accepted (Leviathan et al., arXiv 2211.17192, eq. 1 where all are equal).
    """
    gained: Floats = 1.0 + np.concatenate([[0.0], np.cumsum(np.cumprod(acceptance))])
    by_drafts: Floats = gained[np.minimum(drafts.astype(int), len(acceptance))]
    return by_drafts
