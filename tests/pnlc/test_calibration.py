"""Calibration's figures against plain loops and known distributions."""

import numpy as np
import pytest

from maro_jax.pnlc.calibration import bootstrap, calibration_error, log_loss, reliability


def test_the_diagram_is_what_a_loop_counts():
    rng = np.random.default_rng(0)
    chances = np.concatenate([rng.random(500), [0, 0.25, 0.5, 0.75, 1]]).reshape(5, 101)
    came = rng.random((5, 101)) < chances**2
    bins, error = reliability(chances, came, 4), 0.0
    for number, each in enumerate(bins):
        low, high = number / 4, (number + 1) / 4
        inside = [
            (p, y) for p, y in zip(chances.ravel(), came.ravel(), strict=True)
            if low < p <= high or (number == 0 and p == 0)
        ]  # fmt: skip
        forecast, frequency = np.mean(inside, axis=0)
        assert (each.low, each.high, each.forecasts) == (low, high, len(inside))
        assert each.forecast == pytest.approx(forecast) and each.frequency == pytest.approx(frequency)
        error += len(inside) / chances.size * abs(forecast - frequency)
    assert calibration_error(bins) == pytest.approx(error)
    assert error > 0.1  # p² for p


def test_a_bin_without_forecasts_weighs_nothing():
    bins = reliability(np.array([0.9, 0.9]), np.array([True, True]), 10)
    assert [each.forecasts for each in bins] == [0] * 8 + [2, 0]
    assert calibration_error(bins) == pytest.approx(0.1)


def test_log_loss():
    told = log_loss(np.array([0.2, 0.2, 1.0, 0.0]), np.array([True, False, True, True]))
    np.testing.assert_allclose(told[:3], [-np.log(0.2), -np.log(0.8), 0], atol=1e-6)
    assert 15 < told[3] < 17  # sure and wrong, but finite


def test_the_interval_is_over_episodes():
    rng = np.random.default_rng(0)
    means = rng.normal(0.3, 1, size=400)
    low, high = bootstrap(means, np.arange(400), 2000, 0.95, seed=0)
    half = 1.96 * means.std() / 20
    assert low == pytest.approx(means.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(means.mean() + half, abs=0.1 * half)
    # The same row ten times over is no new evidence.
    repeated = bootstrap(np.repeat(means, 10), np.repeat(np.arange(400), 10), 2000, 0.95, seed=0)
    assert repeated == pytest.approx((low, high))
    narrow = bootstrap(means, np.arange(400), 2000, 0.5, seed=0)
    assert low < narrow[0] < narrow[1] < high
