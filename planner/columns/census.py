"""Counts of an architecture from the same expressions that price it."""

import inspect

import numpy as np

from planner.columns.values import architecture_values, layer_kinds
from planner.costs.compile import compiled
from planner.schema.architecture import Architecture
from planner.schema.precision import FORMATS

_WHOLE_MODEL = {"tp": 1.0, "pp": 1.0, "ep": 1.0, "dp": 1.0, "cp": 1.0, "draft_layers": 0.0, "redundant_experts": 0.0}
_HARMLESS = 2.0  # for load, rates and limits, which no count depends on


def census(architecture: Architecture) -> dict[str, float]:
    """Return parameters, active ones, and bf16 KV cache of one token [byte] of a whole model.

    A token passes through one row of the input embedding; publishers leave it out of the active count or count all of
    it, so there is a figure for each.
    """
    kernel = compiled(*layer_kinds(architecture), "roofline")
    values = {
        **dict.fromkeys(inspect.signature(kernel).parameters, _HARMLESS),
        **architecture_values(architecture, np.ones(1)),
        **_WHOLE_MODEL,
        "kv_bytes": FORMATS["bf16"].bytes_per_value,
    }
    with np.errstate(all="ignore"):
        found = kernel(**{name: np.ravel(value)[:1].astype(np.float64) for name, value in values.items()})
    embedding = float(architecture.vocab_size * architecture.hidden_size)
    return {
        "parameters": float(found["parameters"][0]),
        "active_parameters": float(found["active_parameters"][0]),
        "active_without_embedding": float(found["active_parameters"][0]) - embedding,
        "kv_cache_bytes_per_token": float(found["kv_bytes_per_token"][0]),
    }
