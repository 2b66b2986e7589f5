"""The memory ledger: what each part takes of the fullest device, and what is left for the KV cache."""

from collections.abc import Mapping

import numpy as np

from planner.columns.setting import Setting
from planner.schema.engine import Engine
from planner.table import Floats

Values = Mapping[str, Floats]


def ledger(setting: Setting, found: Values, axes: Values, max_num_seqs: Floats) -> dict[str, Floats]:
    """Return the parts by name [byte].

    Args:
        setting: what stays fixed.
        found: figures of the cost model; ``weights_bytes`` and what activations take per token and per request.
        axes: the configurations.
        max_num_seqs: requests the engine admits, which shares out logits and decides how many graphs are captured.
    """
    engine, capacity = setting.engine, setting.hardware.memory.capacity.value
    activations = (
        found["activations_bytes_per_token"] * axes["max_num_batched_tokens"]
        + found["activations_bytes_per_request"] * max_num_seqs
        + found["context_workspace_bytes"]
    )
    workspace = engine.memory.workspace.value if engine.memory.workspace else 0.0
    parts = {
        "activations_bytes": activations,
        "graphs_bytes": _graphs(engine, max_num_seqs * (1 + axes.get("speculative_tokens", np.zeros(1)))),
        "communication_bytes": engine.memory.communication.value * _communicators(axes),
        "runtime_bytes": np.array(engine.memory.runtime.value + workspace),
    }
    taken = found["weights_bytes"] + sum(parts.values())
    return {
        **parts,
        "kv_cache_bytes": _left(engine, capacity, found["weights_bytes"], parts["communication_bytes"], taken),
    }


def _left(engine: Engine, capacity: float, weights: Floats, communication: Floats, taken: Floats) -> Floats:
    """Return what the engine gives the KV cache by default, by what its memory fraction is a share of [byte].

    A static share is one of what is free before weights are loaded.
    """
    share = engine.memory_fraction.value
    if engine.memory_fraction_of.value == "free":
        return share * (capacity - taken)
    if engine.memory_fraction_of.value == "static":
        base = capacity - engine.memory.runtime.value - communication
        return np.minimum(share * base - weights, capacity - taken)
    return share * capacity - taken


def _graphs(engine: Engine, tokens: Floats) -> Floats:
    """Captured graphs: one per size up to the largest batch [byte]."""
    if engine.memory.graphs is None:
        return np.zeros(1)
    graph = engine.memory.graphs.value
    sizes = np.sort(np.array(engine.graph_capture_sizes.value, dtype=np.float64))
    captured: Floats = graph * np.searchsorted(sizes, tokens, side="right").astype(np.float64)
    return captured


def _communicators(axes: Values) -> Floats:
    """Groups of two devices or more that a device belongs to: tensor, pipeline, data and expert parallel."""
    dp = axes.get("attention_dp", np.ones(1))
    groups = (axes["tp"] > 1, axes["pp"] > 1, dp > 1, axes["ep"] > 1)
    return sum((np.asarray(group, dtype=np.float64) for group in groups), np.zeros(1))
