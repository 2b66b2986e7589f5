"""Other ways to divide a model over devices, each at its best load: what a choice competes with."""

import numpy as np

from planner.columns.enumerate import setting_table
from planner.columns.grid import searched_values
from planner.columns.setting import Setting
from planner.table import ColumnTable, Configuration

_DEGREES = ("weight_precision", "tp", "pp", "attention_dp", "ep")
# What a rival has in common with the choice, where its setting has that value, and the field that restricts it.
_ALIKE = {
    "kv_precision": "kv_precisions",
    "context_parallel": "context_parallel",
    "redundant_experts": "redundant_experts",
    "block_size": "block_size",
    "prefill_policy": "prefill_policies",
    "speculative_tokens": "speculative_tokens",
}


def rivals(setting: Setting, choice: Configuration) -> ColumnTable:
    """Return the configurations of a setting within all limits, for all degrees the one of highest rate.

    In everything but degrees, precision and load they are as the choice is, as far as the setting searches that.
    """
    values = searched_values(setting)
    alike = {field: (getattr(choice, axis),) for axis, field in _ALIKE.items() if getattr(choice, axis) in values[axis]}
    search = setting.search.model_copy(update=alike)
    table = setting_table(setting._replace(search=search), within_limits=True)
    keys = np.stack([table.axes[axis] for axis in _DEGREES])
    order = np.lexsort((-table.figures["rate"], *keys[::-1]))
    first = np.ones(len(order), dtype=bool)
    first[1:] = (np.diff(keys[:, order], axis=1) != 0).any(axis=0)
    return table.take(np.sort(order[first]))
