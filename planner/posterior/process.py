"""What efficiencies leave unexplained: a Gaussian process over the logarithm of measured over modelled times.

Rows that share a key resemble each other: every level (system and backend, model, model and backend, …) adds a constant
and a smooth function of the load. So a level with little data shrinks to the one above, and a row unlike all others
falls back to the efficiencies alone (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, eq. 2.25
and 2.26, with a sum of kernels, §4.2.4).
"""

from typing import NamedTuple

import numpy as np

from planner.table import Floats, Ints


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
    apart = np.zeros((left.load.shape[1], right.load.shape[1]))
    for axis, length in enumerate(kernel.lengths):
        apart += ((left.load[axis][:, None] - right.load[axis][None, :]) / length) ** 2
    near = np.exp(-0.5 * apart)
    total = np.zeros(near.shape)
    for level, (constant, smooth) in enumerate(zip(kernel.constant, kernel.smooth, strict=True)):
        same = left.keys[level][:, None] == right.keys[level][None, :]
        total += same * (constant**2 + smooth**2 * near)
    return total


def noisy(kernel: Kernel, rows: Inputs, precision: Floats) -> Floats:
    """Return the covariance of measured rows; the variance of noise is divided by each row's precision."""
    return covariance(kernel, rows, rows) + np.diag(kernel.noise**2 / precision)


def condition(kernel: Kernel, rows: Inputs, residuals: Floats, precision: Floats) -> Process:
    """Return the process given residuals, shape (C,)."""
    alpha = np.linalg.solve(noisy(kernel, rows, precision), residuals).astype(np.float64)
    return Process(kernel, rows, alpha, precision)


def mean(process: Process, rows: Inputs) -> Floats:
    """Return the expected residuals of rows, shape (C,); 0 where no measured row shares a key."""
    return covariance(process.kernel, rows, process.rows) @ process.alpha


def deviation(process: Process, rows: Inputs) -> Floats:
    """Return the standard deviation of the residuals of rows, noise of one measurement included, shape (C,)."""
    kernel = process.kernel
    cross = covariance(kernel, rows, process.rows)
    known = noisy(kernel, process.rows, process.precision)
    explained = np.einsum("ij,ji->i", cross, np.linalg.solve(known, cross.T))
    alone = float((kernel.constant**2 + kernel.smooth**2).sum())
    found: Floats = np.sqrt(np.maximum(alone - explained, 0.0) + kernel.noise**2)
    return found
