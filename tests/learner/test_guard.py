"""Gradient norms that stand out."""

import numpy as np
import pytest

from maro_jax.learner.guard import ENOUGH, WINDOW, Norms


def remembered(values) -> Norms:
    norms = Norms.none()
    for value in values:
        norms = norms.remember(np.float32(value))
    return norms


def ordinary(count: int) -> np.ndarray:
    return np.random.default_rng(count).lognormal(0.0, 0.3, count).astype(np.float32)


@pytest.mark.parametrize("count", [ENOUGH, WINDOW, 3 * WINDOW + 5])
def test_the_limit_is_so_many_deviations_above_the_mean_of_the_last(count):
    values = ordinary(count)
    norms, last = remembered(values), values[-WINDOW:]
    limit = last.mean(dtype=np.float64) + 6 * last.std(dtype=np.float64)
    assert not norms.stands_out(np.float32(limit * 0.999), 6.0)
    assert norms.stands_out(np.float32(limit * 1.001), 6.0)
    assert not norms.stands_out(np.float32(1e9), 0.0)


def test_nothing_stands_out_from_a_few():
    assert not remembered(ordinary(ENOUGH - 1)).stands_out(np.float32(1e9), 6.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_remembered(bad):
    values = ordinary(WINDOW)
    poisoned = [value for pair in zip(values, np.full(WINDOW, bad), strict=True) for value in pair]
    norms, clean = remembered(poisoned), remembered(values)
    np.testing.assert_array_equal(norms.last, clean.last)
    assert norms.count == clean.count == WINDOW
    assert norms.stands_out(np.float32(100.0), 6.0)


def test_a_norm_that_stays_is_accepted():
    norms, times = remembered(ordinary(WINDOW)), 0
    while norms.stands_out(np.float32(50.0), 6.0):
        norms, times = norms.remember(np.float32(50.0)), times + 1
    assert 1 <= times <= 4
