"""The process of what efficiencies leave unexplained: limits with a known answer, and its kernel."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from planner.calibrate import kernel as kernels
from planner.posterior.process import Inputs, Kernel, Spread, condition, covariance, mean, mean_alike

LEVELS, AXES = 2, 1


def inputs(*rows):
    """Rows given as (key of level 0, key of level 1, load)."""
    keys = np.array([[row[level] for row in rows] for level in range(LEVELS)], dtype=np.int64)
    return Inputs(keys, np.array([[row[LEVELS] for row in rows]], dtype=float))


def kernel(constant=(0.3, 0.2), smooth=(0.0001, 0.0001), noise=0.1, length=1.0):
    return Kernel(np.array(constant), np.array(smooth), noise, np.array([length]))


def test_the_mean_of_n_rows_shrinks_to_zero_as_their_noise_says():
    """One level, a constant of variance v and noise of variance n: the mean of k rows counts v/(v + n/k)."""
    found = condition(kernel((0.3, 1e-9)), inputs((0, 0, 0.0), (0, 1, 5.0), (0, 2, 9.0)), np.full(3, 0.5), np.ones(3))
    assert mean(found, inputs((0, 7, 2.0)))[0] == pytest.approx(0.5 * 0.09 / (0.09 + 0.01 / 3), rel=1e-5)


def test_a_row_that_shares_nothing_is_not_moved_and_no_surer():
    found = condition(kernel(), inputs((0, 0, 0.0)), np.array([0.5]), np.ones(1))
    stranger = inputs((-1, -1, 0.0))
    assert mean(found, stranger)[0] == 0
    assert Spread(found).deviation(stranger)[0] == pytest.approx(np.sqrt(0.09 + 0.04 + 0.01), rel=1e-5)
    assert Spread(found).deviation(inputs((0, 0, 0.0)))[0] < Spread(found).deviation(inputs((0, -1, 0.0)))[0] < 0.374


def test_what_is_near_counts_more_than_what_is_far():
    smooth = kernel((1e-6, 1e-6), (0.3, 1e-6), length=2.0)
    found = condition(smooth, inputs((0, 0, 0.0)), np.array([0.5]), np.ones(1))
    near, far = mean(found, inputs((0, 0, 1.0), (0, 0, 10.0)))
    assert near == pytest.approx(0.5 * 0.09 / 0.10 * np.exp(-0.5 / 4), rel=1e-4)
    assert abs(far) < 1e-4


def test_a_row_of_less_weight_has_more_noise():
    rows = inputs((0, 0, 0.0))
    heavy, light = (condition(kernel(), rows, np.array([0.5]), np.array([w])) for w in (1.0, 0.25))
    assert mean(heavy, rows)[0] > mean(light, rows)[0] > 0


@pytest.mark.parametrize("keys", [(0, 1), (2, -1), (-1, -1)])
def test_rows_of_the_same_keys_are_known_at_any_load_as_one_by_one(keys):
    rng = np.random.default_rng(11)
    rows = inputs(*[(rng.integers(3), rng.integers(5), float(rng.integers(4))) for _ in range(40)])  # loads repeat
    found = condition(kernel(smooth=(0.2, 0.1)), rows, rng.normal(size=40), rng.uniform(0.2, 1, 40))
    loads = np.linspace(-1, 5, 7)
    expected, deviation = (
        alike.at(loads[None, :]) for alike in (mean_alike(found, np.array(keys)), Spread(found).alike(np.array(keys)))
    )
    each = inputs(*[(*keys, load) for load in loads])
    assert expected == pytest.approx(mean(found, each), abs=1e-12)
    assert deviation == pytest.approx(Spread(found).deviation(each), rel=1e-9)


def test_covariance_is_symmetric_and_positive():
    rng = np.random.default_rng(3)
    rows = inputs(*[(rng.integers(3), rng.integers(5), rng.normal()) for _ in range(30)])
    found = covariance(kernel(smooth=(0.2, 0.1)), rows, rows)
    assert found == pytest.approx(found.T)
    assert np.linalg.eigvalsh(found).min() > -1e-10


def test_the_slopes_of_the_likelihood_equal_differences(monkeypatch):
    rng = np.random.default_rng(5)
    rows = inputs(*[(rng.integers(3), rng.integers(6), rng.normal()) for _ in range(25)])
    residuals = rng.normal(size=25) / 5
    caught = {}

    def grab(loss, start, **_):
        caught["loss"], caught["start"] = loss, start
        return type("Found", (), {"x": start})()

    monkeypatch.setattr(kernels, "minimize", grab)
    kernels.fit_kernel(rows, residuals, np.ones(25), kernel(smooth=(0.2, 0.1)))
    at = caught["start"] + 0.1
    expected = approx_fprime(at, lambda theta: caught["loss"](theta)[0], 1e-6)
    assert caught["loss"](at)[1] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_a_fitted_kernel_finds_the_level_that_varies():
    rng = np.random.default_rng(7)
    truth = kernel((0.5, 0.02), (0.001, 0.001), noise=0.05)
    rows = inputs(*[(i % 12, i, 0.0) for i in range(120)])
    drawn = rng.multivariate_normal(np.zeros(120), covariance(truth, rows, rows) + 0.0025 * np.eye(120))
    found = kernels.fit_kernel(rows, drawn, np.ones(120), kernel((0.1, 0.1), (0.01, 0.01), noise=0.1))
    assert found.constant[0] == pytest.approx(0.5, rel=0.6)
    assert found.constant[0] > 3 * found.constant[1]
