"""Counts of an architecture from the same expressions that price it."""

import inspect

import numpy as np

from planner.columns.evaluate import architecture_values
from planner.costs.compile import compiled
from planner.schema.architecture import Architecture
from planner.schema.precision import FORMATS

_WHOLE_MODEL = {"tp": 1.0, "pp": 1.0, "ep": 1.0}
_HARMLESS = 2.0  # for load, rates and limits, which no count depends on


def census(architecture: Architecture) -> dict[str, float]:
    """Return parameters, active parameters, and bf16 KV cache of one token [byte] of a whole model."""
    kernel = compiled(architecture.attention, architecture.ffn)
    values = {
        **dict.fromkeys(inspect.signature(kernel).parameters, _HARMLESS),
        **architecture_values(architecture, np.ones(1)),
        **_WHOLE_MODEL,
        "kv_bytes": FORMATS["bf16"].bytes_per_value,
    }
    with np.errstate(all="ignore"):
        found = kernel(**{name: np.ravel(value)[:1].astype(np.float64) for name, value in values.items()})
    return {
        "parameters": float(found["parameters"][0]),
        "active_parameters": float(found["active_parameters"][0]),
        "kv_cache_bytes_per_token": float(found["kv_bytes_per_token"][0]),
    }
