"""Signal and direction of gradients whose mean and noise are known."""

import numpy as np
import pytest

from maro_jax.run.config import make_config
from tests.benchmarks.gradient_signal import ALWAYS, ROWS, agreement


def drawn(generator, mean, noise, count):
    return mean + noise * generator.standard_normal((count, len(mean))) / np.sqrt(len(mean))


def test_signal_and_direction_are_found_under_noise():
    generator, size = np.random.default_rng(0), 4000
    truth, across = np.eye(size)[0], np.eye(size)[1]
    wanted = 0.8 * truth + 0.6 * across  # of length 1, at cos 0.8 from the truth
    found = agreement(drawn(generator, wanted, 2.0, 200), drawn(generator, 3 * truth, 2.0, 200))
    assert found.signal == pytest.approx(1 / (1 + 4), abs=0.01)
    assert found.direction == pytest.approx(0.8, abs=0.02)
    assert found.cosine == pytest.approx(0.8 / np.sqrt(5), abs=0.01)
    assert 0 < found.error < 0.01
    better = agreement(drawn(generator, wanted, 1.0, 200), drawn(generator, 3 * truth, 2.0, 200))
    assert better.games(found) == pytest.approx(1 / 4, abs=0.02)  # the variance of the noise is a quarter


def test_a_difference_is_paired_by_games():
    generator, size = np.random.default_rng(2), 4000
    truth = drawn(generator, np.eye(size)[0], 0.5, 50)
    one = drawn(generator, np.eye(size)[0], 2.0, 24)
    same, other = (agreement(rows, truth) for rows in (one, drawn(generator, np.eye(size)[0], 2.0, 24)))
    more, error = agreement(one + drawn(generator, np.zeros(size), 0.1, 24), truth).more(same)
    assert abs(more) < 0.01 and error < 0.2 * other.more(same)[1]
    unrelated = agreement(np.eye(8), truth[:, :8])  # at right angles to each other: nothing in common
    assert unrelated.signal == 0 and np.isnan(unrelated.games(same)) and np.isnan(same.games(unrelated))


def test_noise_alone_has_no_signal_and_its_error_says_so():
    generator, size = np.random.default_rng(1), 4000
    truth = drawn(generator, np.eye(size)[0], 1.0, 50)
    found = [agreement(drawn(generator, np.zeros(size), 1.0, 24), truth) for _ in range(40)]
    assert abs(np.mean([each.signal for each in found])) < 0.005
    cosines = np.array([each.cosine for each in found])
    assert np.sqrt(np.mean([each.error**2 for each in found])) == pytest.approx(cosines.std(), rel=0.35)


def test_every_row_is_a_configuration():
    for changes in ROWS.values():
        make_config("werewolf-tiny", ALWAYS | changes)
