"""The fixed point of a closed loop: N clients that send their next request when the last one is answered.

The expressions are those of ``planner.costs.closed_loop``; here the requests that decode at once are found by damped
steps. Rows of one structure are solved together, whatever device, engine and model each has.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from planner.columns.evaluate import bounding_figures, capture_sizes, structure_of, symbol_values
from planner.columns.memory import ledger
from planner.columns.setting import Setting
from planner.costs.compile import compiled
from planner.table import Floats

_MOST_ROUNDS = 100
_DAMPING = 0.5
_STEEPEST = 0.9  # slope of the loop up to which a secant is trusted
_CLOSE = 1e-7  # relative change of the requests decoding at which the fixed point is reached
_LEAST = 1e-3  # requests decoding: keeps the steps defined where hardly any do

Kernel = Callable[..., Any]


class Loop(NamedTuple):
    """Rows of one structure under a closed loop, one value of every symbol per row, shape (C,).

    ``ladder``: sizes of captured graphs in rising order, filled up with infinity, shape (C, sizes). ``values`` leave
    out what follows from the requests decoding.
    """

    structure: tuple[tuple[str, ...], tuple[str, ...], str]
    values: dict[str, Floats]
    ladder: Floats

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.ladder)


class Latencies(NamedTuple):
    """Means over requests [s], the requests decoding on average, and those admitted at once, shape (C,) each."""

    ttft: Floats
    tpot: Floats
    running: Floats
    admitted: Floats


def closed_loop(
    setting: Setting, axes: Mapping[str, Floats], clients: Floats, max_num_seqs: Floats, lockstep: Floats
) -> Latencies:
    """Return the latencies that ``clients`` see; see ``loop_of`` for the arguments."""
    loop = loop_of(setting, axes, clients, max_num_seqs, lockstep)
    return latencies(loop, compiled(*loop.structure, "loop"), loop.values)


def loop_of(
    setting: Setting, axes: Mapping[str, Floats], clients: Floats, max_num_seqs: Floats, lockstep: Floats
) -> Loop:
    """Return the rows of one setting.

    Args:
        setting: what stays fixed.
        axes: as for ``figures`` without mean_running, arrays of shape (C,); attention_dp and osl among them.
        clients: requests outstanding at any time, shape (C,).
        max_num_seqs: requests an attention rank admits, shape (C,).
        lockstep: 1 where all requests have the same length, else 0, shape (C,).
    """
    dp = axes["attention_dp"]
    setting = setting._replace(believed=None)  # what is believed is of the whole loop, not of a step in it
    admitted = np.minimum(clients, max_num_seqs * dp)
    full = {**axes, "batch_varies": np.zeros(1), "mean_running": np.maximum(admitted, _LEAST)}
    waves = (lockstep > 0) & (setting.engine.scheduling.prefill.value == "separate")
    sizes = bounding_figures(setting, full)
    each = np.where(waves, sizes["kv_request_bytes"], sizes["kv_mean_request_bytes"])
    free = np.maximum(ledger(setting, sizes, axes, max_num_seqs)["kv_cache_bytes"], 0.0)
    admitted = np.minimum(admitted, free / each * dp)
    values = symbol_values(setting, full) | {"clients": clients, "admitted": admitted, "in_waves": waves.astype(float)}
    values["lockstep"] = lockstep
    whole = {name: np.broadcast_to(np.asarray(v, dtype=float), clients.shape) for name, v in values.items()}
    captured = np.array(sorted(map(float, capture_sizes(setting.engine, setting.engine_version))) or [np.inf])
    return Loop(structure_of(setting), whole, np.broadcast_to(captured, (len(clients), len(captured))))


def join(loops: Sequence[Loop]) -> Loop:
    """Return the rows of loops of one structure, one after the other."""
    longest = max(loop.ladder.shape[1] for loop in loops)
    ladders = [np.pad(p.ladder, ((0, 0), (0, longest - p.ladder.shape[1])), constant_values=np.inf) for p in loops]
    values = {name: np.concatenate([loop.values[name] for loop in loops]) for name in loops[0].values}
    return Loop(loops[0].structure, values, np.concatenate(ladders))


def latencies(loop: Loop, kernel: Kernel, values: Mapping[str, Floats], start: Floats | None = None) -> Latencies:
    """Step to the fixed point.

    Args:
        loop: the rows.
        kernel: the compiled expressions of a closed loop.
        values: of every symbol, those of the loop or others for the same rows.
        start: requests decoding to start from, shape (C,); all that are admitted where not given.
    """
    given = _given(loop, values)
    admitted = given["admitted"]
    running = admitted if start is None else start
    with np.errstate(all="ignore"):  # what makes no sense comes out as NaN
        before: tuple[Floats, Floats] | None = None
        for _ in range(_MOST_ROUNDS):
            found = kernel(**given | _at(loop, values, running))
            target = found["next_running"]
            moved = np.abs(target - running) / running
            if np.nanmax(moved, initial=0.0) < _CLOSE:
                break
            running, before = _next(running, target, before), (running, target)
    ttft, tpot = (np.broadcast_to(found[name], admitted.shape) for name in ("ttft", "tpot"))
    return Latencies(ttft, tpot, running, values["admitted"])


def _next(running: Floats, target: Floats, before: tuple[Floats, Floats] | None) -> Floats:
    """Return a better guess: where a secant through the last two rounds meets the fixed point, else half way.

    Wegstein, CACM 1(6), 1958. Steps of padding break the secant; half a step still comes closer.
    """
    half = _DAMPING * running + (1 - _DAMPING) * target
    if before is None:
        return half
    slope = (target - before[1]) / (running - before[0])
    trusted = np.isfinite(slope) & (np.abs(slope) < _STEEPEST)
    return np.where(trusted, running + (target - running) / (1 - np.where(trusted, slope, 0.0)), half)


def slopes(
    loop: Loop, kernel: Kernel, values: Mapping[str, Floats], found: Latencies, wrt: Sequence[str]
) -> tuple[Floats, Floats]:
    """Return derivatives of ttft and tpot by symbols at the fixed point, shape (len(wrt), C) each.

    The requests decoding follow the symbols: with b = g(b, x), db/dx = (∂g/∂x)/(1 − ∂g/∂b) (implicit functions).

    Args:
        loop: the rows.
        kernel: the compiled gradient of a closed loop by ``wrt`` and then ``running``.
        values: as for ``latencies``.
        found: its answer.
        wrt: the symbols.
    """
    given = _given(loop, values)
    with np.errstate(all="ignore"):
        _, by = kernel(**given | _at(loop, values, found.running))
        shape = (len(wrt) + 1, loop.rows)
        full = {name: np.broadcast_to(slope, shape) for name, slope in by.items()}
        moves = full["next_running"][:-1] / (1 - full["next_running"][-1])
        ttft, tpot = (full[name][:-1] + full[name][-1] * moves for name in ("ttft", "tpot"))
    return ttft, tpot


def _given(loop: Loop, values: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return what does not follow from the requests decoding, the step with all admitted ones among it."""
    admitted = np.maximum(values["admitted"], _LEAST)
    return {**values, "admitted": admitted, **_padded(loop, values, admitted, "crest_batch", "crest_captured")}


def _at(loop: Loop, values: Mapping[str, Floats], running: Floats) -> dict[str, Floats]:
    """Return what follows from the requests decoding."""
    return {"running": running, **_padded(loop, values, running, "padded_batch", "captured")}


def _padded(loop: Loop, values: Mapping[str, Floats], running: Floats, batch: str, captured: str) -> dict[str, Floats]:
    """Return the requests of a decode step padded to the next captured graph, and 1 where there is one, else 0."""
    per_request = 1 + values["drafts"]
    rows = running / (values["pp"] * values["dp"]) * per_request
    index = (loop.ladder < rows[:, None]).sum(axis=1)
    sizes = np.take_along_axis(loop.ladder, np.minimum(index, loop.ladder.shape[1] - 1)[:, None], axis=1)[:, 0]
    fits = (index < loop.ladder.shape[1]) & np.isfinite(sizes)
    return {batch: np.where(fits, sizes, rows) / per_request, captured: fits.astype(float)}
