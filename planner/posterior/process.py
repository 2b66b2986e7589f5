"""What efficiencies leave unexplained: a Gaussian process over the logarithm of measured over modelled times.

Rows that share a key resemble each other: every level (system and backend, model, model and backend, …) adds a constant
and a smooth function of the load. So a level with little data shrinks to the one above, and a row unlike all others
falls back to the efficiencies alone (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.25
and 2.26, with a sum of kernels, §4.2.4).
"""

from typing import NamedTuple

import numpy as np

from planner.recent import Recent
from planner.table import Floats, Ints

_ROOTS = 2  # levels that all others refine: rows that share none of these share nothing
_MOST_NEAR = 32  # inverses that are remembered; each may take some megabytes
_CHUNK = 2000  # rows whose covariance with measured ones is held at once
UNKNOWN = 1e-9  # precision of a row whose time was not measured: it says nothing


class Inputs(NamedTuple):
    """Rows: ``keys`` number the value of each level, shape (levels, C); ``load`` in doublings, shape (axes, C)."""

    keys: Ints
    load: Floats

    def take(self, rows: Ints) -> "Inputs":
        """Return some of the rows."""
        return Inputs(self.keys[:, rows], self.load[:, rows])


class Kernel(NamedTuple):
    """Standard deviations of each level's constant and smooth part, shape (levels,); of noise; lengths in doublings."""

    constant: Floats
    smooth: Floats
    noise: float
    lengths: Floats


class Process(NamedTuple):
    """A process conditioned on rows: ``alpha`` are the weights of its mean, ``precision`` of each row's noise."""

    kernel: Kernel
    rows: Inputs
    alpha: Floats
    precision: Floats


def covariance(kernel: Kernel, left: Inputs, right: Inputs) -> Floats:
    """Return the covariance of two sets of rows without noise, shape (left, right)."""
    near = _nearness(kernel, left.load, right.load)
    total = np.zeros(near.shape)
    for level, (constant, smooth) in enumerate(zip(kernel.constant, kernel.smooth, strict=True)):
        same = left.keys[level][:, None] == right.keys[level][None, :]
        total += same * (constant**2 + smooth**2 * near)
    return total


def _nearness(kernel: Kernel, left: Floats, right: Floats) -> Floats:
    """Return how much loads, shape (axes, C) and (axes, D), have in common, shape (C, D)."""
    apart = np.zeros((left.shape[1], right.shape[1]))
    for axis, length in enumerate(kernel.lengths):
        apart += ((left[axis][:, None] - right[axis][None, :]) / length) ** 2
    near: Floats = np.exp(-0.5 * apart)
    return near


def noisy(kernel: Kernel, rows: Inputs, precision: Floats) -> Floats:
    """Return the covariance of measured rows; the variance of noise is divided by each row's precision."""
    return covariance(kernel, rows, rows) + np.diag(kernel.noise**2 / precision)


def condition(kernel: Kernel, rows: Inputs, residuals: Floats, precision: Floats) -> Process:
    """Return the process given residuals, shape (C,)."""
    alpha = np.linalg.solve(noisy(kernel, rows, precision), residuals).astype(np.float64)
    return Process(kernel, rows, alpha, precision)


def mean(process: Process, rows: Inputs) -> Floats:
    """Return the expected residuals of rows, shape (C,); 0 where no measured row shares a key."""
    parts = range(0, rows.load.shape[1], _CHUNK)
    whole = np.arange(rows.load.shape[1])
    found = [covariance(process.kernel, rows.take(whole[i : i + _CHUNK]), process.rows) @ process.alpha for i in parts]
    return np.concatenate(found) if found else np.zeros(0)


class Near(NamedTuple):
    """Measured rows that share a key with others, and the inverse of their covariance, noise included."""

    rows: Inputs
    inverse: Floats


class Sums(NamedTuple):
    """Covariances of rows that have the same keys with measured rows M, added up by load.

    Measured rows at one load count together, so far fewer numbers are kept than rows were measured: ``loads``
    (axes, L) each once; ``parts`` (L + 1, M), the last line being what does not change with the load.
    """

    kernel: Kernel
    loads: Floats
    parts: Floats

    def near(self, loads: Floats) -> Floats:
        """Return how much each part counts at loads of shape (axes, C), shape (C, L + 1)."""
        found = np.ones((loads.shape[1], self.loads.shape[1] + 1))
        found[:, :-1] = _nearness(self.kernel, loads, self.loads)
        return found


def sums(kernel: Kernel, rows: Inputs, keys: Ints) -> Sums:
    """Return what rows of the same keys, shape (levels,), have in common with measured ones."""
    same = (rows.keys == keys[:, None]).astype(np.float64)
    loads, which = np.unique(rows.load, axis=1, return_inverse=True)
    parts = np.zeros((loads.shape[1] + 1, same.shape[1]))
    parts[which.ravel(), np.arange(same.shape[1])] = kernel.smooth**2 @ same
    parts[-1] = kernel.constant**2 @ same
    return Sums(kernel, loads, parts)


class MeanAlike(NamedTuple):
    """Expected residuals of all rows that have the same keys, at any load."""

    sums: Sums
    weights: Floats

    def at(self, loads: Floats) -> Floats:
        """Return expected residuals at loads of shape (axes, C)."""
        found: Floats = self.sums.near(loads) @ self.weights
        return found


class SpreadAlike(NamedTuple):
    """Standard deviations of all rows that have the same keys, at any load."""

    sums: Sums
    explained: Floats

    def at(self, loads: Floats) -> Floats:
        """Return standard deviations, noise of one measurement included, at loads of shape (axes, C)."""
        kernel, near = self.sums.kernel, self.sums.near(loads)
        explained = ((near @ self.explained) * near).sum(axis=1)
        found: Floats = np.sqrt(np.maximum(_alone(kernel) - explained, 0.0) + kernel.noise**2)
        return found


def mean_alike(process: Process, keys: Ints) -> MeanAlike:
    """Return what is expected of rows of the same keys, shape (levels,)."""
    found = sums(process.kernel, process.rows, keys)
    return MeanAlike(found._replace(parts=found.parts[:, :0]), found.parts @ process.alpha)


class Spread:
    """How sure a process is of rows. Measured rows that share no key with them are left out: that makes it no surer."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._near: Recent[Near] = Recent(_MOST_NEAR)

    def deviation(self, rows: Inputs) -> Floats:
        """Return the standard deviation of the residuals of rows, noise of one measurement included, shape (C,)."""
        kernel = self.process.kernel
        explained = np.zeros(rows.load.shape[1])
        _, alike = np.unique(rows.keys[:_ROOTS], axis=1, return_inverse=True)
        for number in range(int(alike.max(initial=-1)) + 1):
            at = np.nonzero(alike.ravel() == number)[0]
            for part in np.array_split(at, -(-len(at) // _CHUNK)):
                near = self._of(rows.take(part))
                cross = covariance(kernel, rows.take(part), near.rows)
                explained[part] = ((cross @ near.inverse) * cross).sum(axis=1)
        found: Floats = np.sqrt(np.maximum(_alone(kernel) - explained, 0.0) + kernel.noise**2)
        return found

    def alike(self, keys: Ints) -> SpreadAlike:
        """Return how sure the process is of rows of the same keys, shape (levels,)."""
        kernel = self.process.kernel
        near = self._of(Inputs(keys[:, None], np.zeros((len(kernel.lengths), 1))))
        found = sums(kernel, near.rows, keys)
        explained = found.parts @ near.inverse @ found.parts.T
        return SpreadAlike(found._replace(parts=found.parts[:, :0]), explained)

    def joint(self, rows: Inputs) -> Floats:
        """Return the covariance of what rows have left, without noise, shape (C, C)."""
        near = self._of(rows)
        cross = covariance(self.process.kernel, rows, near.rows)
        found: Floats = covariance(self.process.kernel, rows, rows) - cross @ near.inverse @ cross.T
        return (found + found.T) / 2

    def _of(self, rows: Inputs) -> Near:
        """Return the measured rows near some others."""
        roots = np.unique(rows.keys[:_ROOTS], axis=1)
        return self._near.of(roots.tobytes(), lambda: _near(self.process, roots))


def _near(process: Process, roots: Ints) -> Near:
    levels = zip(process.rows.keys[:_ROOTS], roots, strict=True)
    mine = np.nonzero(np.any([np.isin(theirs, wanted) for theirs, wanted in levels], axis=0))[0]
    known = process.rows.take(mine)
    inverse = np.linalg.inv(noisy(process.kernel, known, process.precision[mine])).astype(np.float64)
    return Near(known, inverse)


def _alone(kernel: Kernel) -> float:
    """Return the variance of a row before anything was measured, without noise."""
    return float((kernel.constant**2 + kernel.smooth**2).sum())
