"""Fits the kernel of a process: how much each level varies, and how smoothly."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from planner.posterior.process import Inputs, Kernel
from planner.table import Floats

_MOST_ROUNDS = 30
_BELIEF = 1.0  # standard deviation of the logarithm of each parameter around where it starts


def fit_kernel(rows: Inputs, residuals: Floats, precision: Floats, start: Kernel) -> Kernel:
    """Return the kernel of largest posterior density around ``start``.

    Marginal likelihood and its slopes are eq. 5.8 and 5.9 of Rasmussen and Williams (2006); the prior keeps parameters
    that few rows say nothing about where they were.
    """
    levels = len(rows.keys)
    same = np.array([key[:, None] == key[None, :] for key in rows.keys], dtype=np.float64)
    apart = (rows.load[:, :, None] - rows.load[:, None, :]) ** 2
    centre = _logarithms(start)

    def loss(theta: Floats) -> tuple[float, Floats]:
        kernel = _kernel(theta, levels)
        near = np.exp(-0.5 * np.tensordot(kernel.lengths**-2.0, apart, 1))
        smooth = np.tensordot(kernel.smooth**2, same, 1) * near
        total = np.tensordot(kernel.constant**2, same, 1) + smooth + np.diag(kernel.noise**2 / precision)
        factor = cho_factor(total, lower=True)
        alpha = cho_solve(factor, residuals)
        inner = np.outer(alpha, alpha) - cho_solve(factor, np.eye(len(residuals)))
        slopes = np.concatenate([
            np.tensordot(same, inner, 2) * kernel.constant**2,
            np.tensordot(same, inner * near, 2) * kernel.smooth**2,
            [(np.diag(inner) / precision).sum() * kernel.noise**2],
            0.5 * np.tensordot(apart, inner * smooth, 2) / kernel.lengths**2,
        ])  # fmt: skip
        moved = (theta - centre) / _BELIEF
        value = 0.5 * residuals @ alpha + np.log(np.diag(factor[0])).sum() + 0.5 * moved @ moved
        return float(value), moved / _BELIEF - slopes

    found = minimize(
        loss, centre, jac=True, method="L-BFGS-B", bounds=[(c - 3, c + 3) for c in centre],
        options={"maxiter": _MOST_ROUNDS, "ftol": 1e-6},
    )  # fmt: skip
    return _kernel(found.x, levels)


def _logarithms(kernel: Kernel) -> Floats:
    found: Floats = np.log(np.concatenate([kernel.constant, kernel.smooth, [kernel.noise], kernel.lengths]))
    return found


def _kernel(logarithms: Floats, levels: int) -> Kernel:
    values = np.exp(logarithms)
    return Kernel(values[:levels], values[levels : 2 * levels], float(values[2 * levels]), values[2 * levels + 1 :])
