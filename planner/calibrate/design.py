"""Measured rows as arrays: one block per structure of the cost model, with what each row's efficiencies change."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from planner.columns.closed_loop import Latencies, Loop, join, latencies, loop_of, slopes
from planner.columns.evaluate import efficiency_symbols
from planner.columns.fixed_batch import Fixed, fixed_latencies, fixed_of
from planner.columns.setting import Setting
from planner.costs.compile import compiled
from planner.posterior.fields import FIELDS, SYMBOLS, values_of, with_fields
from planner.prediction import Asked
from planner.schema.efficiency import Efficiencies
from planner.table import Floats

_STEP = 1e-4  # relative; symbols are products of fields, so differences are exact but for rounding


class Group(NamedTuple):
    """Rows of one setting: ``rows`` are their places in the whole, ``start`` and ``stop`` those in the block."""

    setting: Setting
    axes: Mapping[str, Floats]
    rows: np.ndarray
    start: int
    stop: int


class Block(NamedTuple):
    """Rows of one structure, under a closed loop or in one role with a fixed batch.

    ``held``: symbols that keep a value whatever the efficiencies are, shape (C,) each.
    """

    loop: Loop | Fixed
    groups: tuple[Group, ...]
    shares: tuple[tuple[Floats, Floats], ...]
    held: Mapping[str, Floats] = MappingProxyType({})

    @property
    def rows(self) -> np.ndarray:
        """Places of the rows in the whole, shape (C,)."""
        return np.concatenate([group.rows for group in self.groups])


def blocks_of(asked: Sequence[Asked], base: Efficiencies) -> list[Block]:
    """Return the blocks of what was asked; ``asked.places`` number the rows."""
    by_structure: dict[object, list[tuple[Asked, Loop]]] = defaultdict(list)
    blocks = []
    for one in asked:
        if one.setting.role != "mixed":
            group = Group(one.setting, one.axes, np.array(one.places), 0, len(one.places))
            fixed = fixed_of(one.setting, one.axes, one.clients)
            blocks.append(Block(fixed, (group,), (_shares(group, base),)))
            continue
        loop = loop_of(one.setting, one.axes, one.clients, one.max_num_seqs, one.lockstep)
        by_structure[loop.structure].append((one, loop))
    for members in by_structure.values():
        groups, start = [], 0
        for one, loop in members:
            groups.append(Group(one.setting, one.axes, np.array(one.places), start, start + loop.rows))
            start += loop.rows
        shares = tuple(_shares(group, base) for group in groups)
        blocks.append(Block(join([loop for _, loop in members]), tuple(groups), shares))
    return blocks


def evaluate(
    block: Block, base: Efficiencies, fields: Floats, start: Floats | None = None, *, gradient: bool = True
) -> tuple[Latencies, Floats, Floats]:
    """Return latencies of a block, and derivatives of their logarithms by the fields, shape (fields, C) each.

    ``fields``: values of ``FIELDS`` for each row, shape (fields, C); the rows of a group share them.
    """
    changed, by_field = _symbols(block, base, fields)
    values = {**block.loop.values, **changed}
    if isinstance(block.loop, Fixed):
        found, first, each = fixed_latencies(block.loop, values, SYMBOLS if gradient else ())
    else:
        found, first, each = _of_loop(block.loop, values, start, gradient=gradient)
    if not gradient:
        return found, np.zeros(0), np.zeros(0)
    chain = [np.einsum("sc,fsc->fc", np.nan_to_num(slope), by_field) for slope in (first, each)]
    return found, chain[0] / found.ttft, chain[1] / found.tpot


def _of_loop(
    loop: Loop, values: Mapping[str, Floats], start: Floats | None, *, gradient: bool
) -> tuple[Latencies, Floats, Floats]:
    """Return latencies under a closed loop, and their derivatives by the symbols."""
    found = latencies(loop, compiled(*loop.structure, "loop"), values, start)
    if not gradient:
        return found, np.zeros(0), np.zeros(0)
    kernel = compiled(*loop.structure, "loop", (*SYMBOLS, "running"))
    return found, *slopes(loop, kernel, values, found, SYMBOLS)


def _symbols(block: Block, base: Efficiencies, fields: Floats) -> tuple[dict[str, Floats], Floats]:
    """Return symbols that the fields change, and the derivative of each by each field, shape (fields, symbols, C).

    A symbol is a product of fields, or a field plus a wire's latency: so its slope is symbol over field, or constant.
    """
    count = block.loop.rows
    values: dict[str, Floats] = {}
    by_field = np.zeros((len(FIELDS), len(SYMBOLS), count))
    for group, (product, constant) in zip(block.groups, block.shares, strict=True):
        inside = slice(group.start, group.stop)
        here = fields[:, group.start]
        found = _of_group(group, base, here)
        for name, value in found.items():
            values.setdefault(name, np.empty(count))[inside] = value
        symbols = np.array([found[name] for name in SYMBOLS])
        by_field[:, :, inside] = product * symbols / here[:, None, None] + constant
    by_field[:, [name in block.held for name in SYMBOLS]] = 0.0
    return values | dict(block.held), by_field


def _shares(group: Group, base: Efficiencies) -> tuple[Floats, Floats]:
    """Return which symbols are products that hold a field, and the slope of those that are sums, by differences."""
    here = values_of(base)
    centre = _of_group(group, base, here)
    product, constant = np.zeros((2, len(FIELDS), len(SYMBOLS), len(group.rows)))
    for i in range(len(FIELDS)):
        moved = here.copy()
        moved[i] *= 1 + _STEP
        other = _of_group(group, base, moved)
        for j, symbol in enumerate(SYMBOLS):
            slope = (other[symbol] - centre[symbol]) / (_STEP * here[i])
            whole = np.isclose(slope * here[i], centre[symbol], rtol=1e-6) & (slope != 0)
            product[i, j], constant[i, j] = whole, np.where(whole, 0.0, slope)
    return product, constant


def _of_group(group: Group, base: Efficiencies, fields: Floats) -> dict[str, Floats]:
    efficiencies = with_fields(base, dict(zip(FIELDS, fields.tolist(), strict=True)))
    load = group.setting.expert_load
    if load.hot_share:  # a run that spread them evenly did so whatever is usual
        usual = efficiencies.scheduling
        load = load._replace(hot_share=usual.hot_expert_share.value, hot_load=usual.hot_expert_load.value)
    found = efficiency_symbols(group.setting._replace(efficiencies=efficiencies, expert_load=load), group.axes)
    return {name: np.broadcast_to(np.asarray(value, dtype=float), len(group.rows)) for name, value in found.items()}
