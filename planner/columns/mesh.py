"""Configurations evaluated together: their figures, which of them break a rule, and the counts of that."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from planner.columns.engine_rules import LegalityRule
from planner.columns.evaluate import Axes, figures
from planner.columns.grid import TTFT_SHARES
from planner.columns.legality import limits, rules
from planner.columns.memory import ledger
from planner.columns.setting import Setting
from planner.table import DECIDED, FIGURES, ColumnTable, Floats, Ints, Rejection

_NO_LIMIT = 10.0  # second; only goals of TTFT read it there


class Context(NamedTuple):
    """What an evaluation needs besides the axes: values that max_num_seqs and the token budget may take, ascending.

    ``within_limits``: leave out what misses a latency limit. ``best_only``: of mixed replicas, keep the highest rate of
    each size, and of prefill replicas drop token budgets that another one beats, since nothing else is read. ``mesh``:
    max_num_seqs, and a decode replica's token budget, follow from the load; otherwise they are given, one for each
    configuration.
    """

    setting: Setting
    allowed: Floats
    budgets: Floats
    within_limits: bool
    best_only: bool = False
    mesh: bool = True


class Columns(NamedTuple):
    """Legal configurations of one block, and the place of each in the grid."""

    axes: dict[str, Floats]
    figures: dict[str, Floats]
    meets: NDArray[np.bool_]
    place: Ints


class Part(NamedTuple):
    """What one block comes to: its columns, how many are legal, meet all limits, miss one, and fell to a rule."""

    columns: list[Columns]
    legal: int
    meeting: int
    missed: dict[str, int]
    rejected: list[Rejection]


class Tally:
    """Counts of one setting, and the table they end in."""

    def __init__(self, setting: Setting, searched: int) -> None:
        self.setting = setting
        self.searched = searched
        self.legal = 0
        self.meeting = 0
        self.missed: dict[str, int] = {}
        self.rejected: dict[str, Rejection] = {}

    def add(self, part: Part) -> None:
        """Add the counts of a block."""
        self.legal += part.legal
        self.meeting += part.meeting
        for name, count in part.missed.items():
            self.missed[name] = self.missed.get(name, 0) + count
        for r in part.rejected:
            self.reject(r.rule, r.meaning, r.configurations, structural=r.structural)

    def reject(self, name: str, meaning: str, count: int, *, structural: bool) -> None:
        """Add configurations that fell to a rule."""
        if count:
            before = self.rejected.get(name)
            so_far = before.configurations if before else 0
            self.rejected[name] = Rejection(name, meaning, so_far + count, structural)

    def table(self, parts: Sequence["Columns"]) -> ColumnTable:
        """Put the columns of all blocks together, in the order of the grid."""
        none = np.zeros(0)
        parts = parts or [
            Columns(dict.fromkeys(DECIDED, none), dict.fromkeys(FIGURES, none), none > 0, none.astype(int))
        ]
        order = np.argsort(np.concatenate([part.place for part in parts]), kind="stable")
        return ColumnTable(
            pools=(self.setting.pool,),
            pool=np.zeros(len(order), dtype=np.int64),
            axes={n: np.concatenate([part.axes[n] for part in parts])[order].astype(np.int64) for n in DECIDED},
            figures={n: np.concatenate([part.figures[n] for part in parts])[order] for n in FIGURES},
            meets_limits=np.concatenate([part.meets for part in parts])[order],
            searched=self.searched,
            legal=self.legal,
            meeting=self.meeting,
            missed=dict(self.missed),
            rejected=tuple(self.rejected.values()),
        )


def structure_values(structures: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the axes, and what rules read that follows from them."""
    policy = structures["prefill_policy"]
    return {
        **structures,
        "devices": structures["tp"] * structures["pp"] * structures["attention_dp"],
        "mixed_steps": np.isin(policy, (0, 3)).astype(np.float64),
        "chunked": np.isin(policy, (0, 1)).astype(np.float64),
    }


def first_broken(
    setting: Setting, values: Mapping[str, Floats], applied: Sequence[LegalityRule]
) -> tuple[Ints, Sequence[LegalityRule]]:
    """Return the number of the first rule each configuration breaks (0 = none), in the shape of all values."""
    shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
    reason = np.zeros(shape, dtype=np.int64)
    with np.errstate(all="ignore"):
        for number, rule in enumerate(applied, start=1):
            broken = np.broadcast_to(rule.broken(setting, values), shape)
            reason[(reason == 0) & broken] = number
    return reason, applied


def by_load(setting: Setting) -> list[LegalityRule]:
    """Return the rules of a setting that need costs: all but those that hold whatever the load."""
    return [rule for rule in rules(setting) if not rule.structural]


def whole_load(axes: Axes) -> dict[str, Floats]:
    """Return the axes as the costs have them: requests of a whole replica, not of a rank."""
    return {**axes, "mean_running": axes["mean_running"] * axes["attention_dp"]}


def evaluated(
    context: Context,
    axes: Axes,
    place: Ints,
    applied: Sequence[LegalityRule] | None = None,
    found: Mapping[str, Floats] | None = None,
) -> Part:
    """Evaluate configurations given as axes that broadcast together; ``place`` of each in the grid, of that shape.

    ``applied``: the rules to check, those of the setting that are not structural where not given. ``found``: figures of
    ``costed(context, axes)``, computed where not given.
    """
    setting = context.setting
    values = values_of(context, axes, found)
    applied = by_load(setting) if applied is None else applied
    reason, _ = first_broken(setting, values, applied)
    counts = np.bincount(reason.ravel(), minlength=len(applied) + 1).tolist()
    legal = reason == 0
    meets = np.ones(legal.shape, dtype=bool)
    missed = {}
    for name, limit in limits(setting.workload).items():
        within = np.broadcast_to(values[name] <= limit, legal.shape)
        missed[name] = int((legal & ~within).sum())
        meets &= within
    wanted = legal & meets if context.within_limits else legal
    return Part(
        columns=[taken(values, _best(context, values, wanted), meets, place)],
        legal=counts[0],
        meeting=int((legal & meets).sum()),
        missed=missed,
        rejected=[
            Rejection(rule.name, rule.meaning, count, rule.structural)
            for rule, count in zip(applied, counts[1:], strict=True)
            if count
        ],
    )


def _best(context: Context, values: Mapping[str, Floats], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep, of the wanted configurations, those that others of the block do not plainly replace."""
    if not context.best_only or context.setting.role == "decode":
        return wanted
    return (_fastest if context.setting.role == "mixed" else _other_budgets)(values, wanted)


def _other_budgets(values: Mapping[str, Floats], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Drop prefill replicas that are no better in anything than with the token budget of the highest rate."""
    rate = np.where(wanted, np.broadcast_to(values["rate"], wanted.shape), -np.inf)
    best = rate.argmax(axis=-1)[..., None]
    early = values["ttft"] - values["prompt_seconds"]
    worse = wanted.copy()
    for score in (rate, -values["ttft"], -early, values["hold_seconds"]):
        full = np.broadcast_to(score, wanted.shape)
        worse &= full <= np.take_along_axis(full, best, axis=-1)
    np.put_along_axis(worse, best, values=False, axis=-1)
    return wanted & ~worse


def _fastest(values: Mapping[str, Floats], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep those with the highest rate of their size."""
    rate = np.where(wanted, np.broadcast_to(values["rate"], wanted.shape), -np.inf)
    sizes = np.broadcast_to(values["devices"], wanted.shape)
    best = np.zeros(wanted.shape, dtype=bool)
    for size in np.unique(values["devices"]):
        of_size = sizes == size
        best |= of_size & (rate == rate[of_size].max())
    return best & wanted


def taken(values: Mapping[str, Floats], wanted: NDArray[np.bool_], meets: NDArray[np.bool_], place: Ints) -> Columns:
    """Return the wanted configurations with their figures."""
    at = np.nonzero(wanted)

    def kept(value: Any) -> Any:
        whole = value if np.shape(value) == wanted.shape else np.broadcast_to(value, wanted.shape)
        return whole[at]

    return Columns(
        axes={name: kept(values[name]) for name in DECIDED},
        figures={name: kept(values[name]) for name in FIGURES},
        meets=meets[at],
        place=kept(place),
    )


def costed(role: str, budgets: Floats, axes: Axes) -> dict[str, Floats]:
    """Return the axes as the costs have them: the load of a whole replica.

    A decode replica that must compute a cache again does so with the smallest of the token ``budgets``.
    """
    if role == "decode":
        axes = {**axes, "max_num_batched_tokens": np.full((1,) * axes["tp"].ndim, budgets[0])}
    return whole_load(axes)


def values_of(context: Context, axes: Axes, found: Mapping[str, Floats] | None = None) -> dict[str, Floats]:
    """Return axes, figures, and what follows from both.

    In a mesh max_num_seqs is the smallest allowed value that suffices, and the token budget of a
    decode replica the smallest that covers it; configurations given one by one state both. ``found``: figures of
    ``costed``, computed where not given.
    """
    setting, mesh = context.setting, context.mesh
    if found is None:
        found = figures(setting, costed(setting.role, context.budgets, axes))
    given = _smallest(context.allowed, found["slots_needed"]) if mesh else context.allowed
    stated = dict(axes)
    if mesh and setting.role == "decode":
        covered = given * (1 + axes["speculative_tokens"])
        stated["max_num_batched_tokens"] = _smallest(context.budgets, covered)
    with np.errstate(all="ignore"):
        kv_needed = np.minimum(found["kv_likely_bytes"], found["kv_request_bytes"] * given)
        parts = ledger(setting, found, stated, given)
        arriving = found["rate"] / axes["attention_dp"] * found["kv_prompt_bytes"]
        hold = np.maximum(parts["kv_cache_bytes"] - kv_needed, 0.0) / arriving
    # A transfer takes no longer than the TTFT it is part of: room for more is worth nothing.
    limit = limits(setting.workload).get("ttft", np.inf)
    hold = np.minimum(hold, limit)
    power, price_of = setting.hardware.power, setting.item.price
    return {
        **structure_values(stated),
        **found,
        "max_num_seqs": given,
        **parts,
        "kv_needed_bytes": kv_needed,
        "ttft_allotted": allotted(found["ttft"], limit) if setting.role == "decode" else found["ttft"],
        "hold_seconds": np.zeros(1) if setting.role == "mixed" else hold,
        "capacity_bytes": np.array(setting.hardware.memory.capacity.value),
        "price": np.array(np.nan if price_of is None else price_of),
        "power": np.array(np.nan if power is None else power.value),
    }


def allotted(ttft: Floats, limit: float) -> Floats:
    """Return what of a TTFT limit is set aside for a decode replica: the smallest share of the grid that covers it [s].

    Without a limit the shares are those of a long time.
    """
    shares = (limit if np.isfinite(limit) else _NO_LIMIT) * np.array(TTFT_SHARES)
    index = np.searchsorted(shares, ttft)
    return np.where(index < len(shares), shares[np.minimum(index, len(shares) - 1)], ttft)


def _smallest(allowed: Floats, needed: Floats) -> Floats:
    """Return the smallest allowed value that suffices, or 0 where none does."""
    index = np.searchsorted(allowed, needed)
    return np.where(index < len(allowed), allowed[np.minimum(index, len(allowed) - 1)], 0.0)
