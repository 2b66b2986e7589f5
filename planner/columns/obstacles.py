"""Why no configuration of a setting works: the rule that stops the one that comes furthest, with its numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from planner.columns.engine_rules import LegalityRule
from planner.columns.grid import encode, searched_values, sequence_limits
from planner.columns.legality import rules
from planner.columns.mesh import Context, first_broken, structure_values, values_of
from planner.columns.setting import Setting
from planner.explanation import Obstacle
from planner.table import AXES, STRUCTURE, Floats

# How close a configuration comes to keeping a rule, larger is closer; of other rules none is closer than another.
_CLOSENESS: dict[str, Callable[[Mapping[str, Floats]], Floats]] = {
    "weights_do_not_fit": lambda v: v["kv_cache_bytes"],
    "kv_cache_too_small": lambda v: v["kv_cache_bytes"] / v["kv_needed_bytes"],
    "prefill_cannot_keep_up": lambda v: -v["prefill_load"],
    "too_few_sequences": lambda v: v["max_num_seqs"] / v["slots_needed"],
}

_FAR = -1e300  # a configuration whose distance cannot be told


class Stopped(NamedTuple):
    """The rule that a configuration breaks first, its numbers, and how many configurations fall to it."""

    obstacle: Obstacle
    configurations: int


def obstacles(setting: Setting) -> list[Stopped]:
    """Return the rules that a setting's configurations break first, last checked first; none where one works.

    Every structure is tried at the least load there is, where memory and queues are easiest.
    """
    values = searched_values(setting)
    encoded = {axis: np.array([encode(axis, value) for value in values[axis]], dtype=np.float64) for axis in AXES}
    mesh = np.meshgrid(*(encoded[axis] for axis in STRUCTURE), indexing="ij")
    structures = {axis: part.ravel() for axis, part in zip(STRUCTURE, mesh, strict=True)}
    found = structure_values(structures)
    reason, applied = first_broken(setting, found, [rule for rule in rules(setting) if rule.structural])
    stopped = _stopped(setting, found, reason, applied)
    buildable = np.nonzero(reason == 0)[0]
    if not len(buildable):
        return stopped
    axes = {axis: part[buildable][:, None] for axis, part in structures.items()}
    axes |= {axis: np.array([[encoded[axis].min()]]) for axis in ("mean_running", "prefill_utilisation")}
    axes["max_num_batched_tokens"] = encoded["max_num_batched_tokens"][None, :]
    allowed = np.array(sequence_limits(setting.search), dtype=np.float64)
    budgets = encoded["max_num_batched_tokens"]
    full = values_of(Context(setting, allowed, budgets, within_limits=False), axes)
    reason, applied = first_broken(setting, full, rules(setting))
    if not reason.all():
        return []
    return _stopped(setting, full, reason, applied) + stopped


def _stopped(
    setting: Setting, values: Mapping[str, Floats], reason: np.ndarray, applied: Sequence[LegalityRule]
) -> list[Stopped]:
    shape = reason.shape
    found = []
    for number in sorted(set(reason.ravel().tolist()) - {0}, reverse=True):
        rule, mine = applied[number - 1], reason == number
        closeness = _CLOSENESS.get(rule.name)
        with np.errstate(all="ignore"):
            score = np.zeros(shape) if closeness is None else np.broadcast_to(closeness(values), shape)
        place = int(np.where(mine, np.nan_to_num(score, nan=_FAR, neginf=_FAR), -np.inf).argmax())
        at = {name: float(np.broadcast_to(value, shape).ravel()[place]) for name, value in values.items()}
        found.append(Stopped(Obstacle(rule.name, rule.meaning, rule.detail(setting, at)), int(mine.sum())))
    return found
