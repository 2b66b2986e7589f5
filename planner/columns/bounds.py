"""Bounds that hold for every token budget: what they drop need not be computed whole."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.columns.evaluate import bounding_figures
from planner.columns.legality import limits, rules
from planner.columns.memory import ledger
from planner.columns.mesh import Context, structure_values, whole_load
from planner.columns.setting import Setting
from planner.table import Floats, Rejection

KV_CACHE_TOO_SMALL = "the KV cache cannot hold the running requests without preemption"


def most_running(context: Context, structures: Mapping[str, Floats], budgets: Floats) -> Floats:
    """Return the requests that each structure's cache could ever hold on average, in a rank, shape (S,).

    It is largest with the smallest budget and the fewest requests admitted; no request is computed for this.
    """
    axes = {**structures, "mean_running": np.ones(1), "max_num_batched_tokens": np.full(1, budgets[0])}
    found = bounding_figures(context.setting, whole_load(axes))
    with np.errstate(all="ignore"):
        room = ledger(context.setting, found, axes, np.full(1, context.allowed[0]))["kv_cache_bytes"]
        held: Floats = np.maximum(room, 0.0) / found["kv_mean_request_bytes"]
    return np.broadcast_to(held, structures["tp"].shape)


class Reach(NamedTuple):
    """Which structures could carry which loads, and at most at what rate [request/s], shape (S, R); and what fell."""

    within: NDArray[np.bool_]
    most: Floats
    fallen: list[Rejection]


def within_reach(context: Context, structures: Mapping[str, Floats], running: Floats, budgets: Floats) -> Reach:
    """Tell which structures could carry which loads with some token budget, all of which they may have.

    The cache is largest with the smallest budget and the fewest requests admitted, and needs at least what requests
    hold on average; a decode step without prompts is no slower than one with them.
    """
    setting = context.setting
    keep = np.ones((len(structures["tp"]), len(running)), dtype=bool)
    axes = {axis: part[:, None] for axis, part in structures.items()}
    axes |= {"mean_running": running[None, :], "max_num_batched_tokens": np.full((1, 1), budgets[0])}
    found = bounding_figures(setting, whole_load(axes))
    with np.errstate(all="ignore"):
        room = ledger(setting, found, axes, np.full((1, 1), context.allowed[0]))["kv_cache_bytes"]
        held = found["kv_mean_request_bytes"] * axes["mean_running"]
    checks = [
        ("weights_do_not_fit", "weights and activations exceed the usable memory", room <= 0),
        ("kv_cache_too_small", KV_CACHE_TOO_SMALL, held > room),
    ]
    tpot = limits(setting.workload).get("tpot")
    if tpot is not None and context.within_limits and setting.scheduler.policy != "request":
        late = found["decode_seconds"] > tpot
        checks.append(("tpot_out_of_reach", "miss the TPOT limit even without prompts", late))
    fallen = []
    for name, meaning, broken in checks:
        gone = keep & np.broadcast_to(broken, keep.shape)
        if gone.any():
            fallen.append(Rejection(name, meaning, int(gone.sum()) * len(budgets), structural=False))
        keep &= ~gone
    each = found["decode_seconds"] * max(setting.workload.output_tokens - 1, 1)
    most = np.broadcast_to(axes["mean_running"] * axes["attention_dp"] / each, keep.shape)
    endless = np.full(keep.shape, np.inf)
    return Reach(keep, endless if setting.scheduler.policy == "request" else most, fallen)


def allowed_budgets(
    setting: Setting, structures: Mapping[str, Floats], budgets: Floats, loads: int
) -> tuple[NDArray[np.bool_], list[Rejection]]:
    """Tell which token budgets break no rule that needs no cost, shape (S, budgets); and what fell, over ``loads``."""
    allowed = np.ones((len(structures["tp"]), len(budgets)), dtype=bool)
    refused: list[Rejection] = []
    if setting.role == "decode":  # its budget follows from the requests it admits
        return allowed, refused
    values = structure_values({axis: part[:, None] for axis, part in structures.items()})
    values["max_num_batched_tokens"] = budgets[None, :]
    for rule in rules(setting):
        if rule.by_limits and not rule.by_requests:
            fallen = allowed & np.broadcast_to(rule.broken(setting, values), allowed.shape)
            if fallen.any():
                refused.append(Rejection(rule.name, rule.meaning, int(fallen.sum()) * loads, rule.structural))
            allowed &= ~fallen
    return allowed, refused
