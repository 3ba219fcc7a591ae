"""Trained critics against the exact chances of small worlds."""

import dataclasses
import functools

import numpy as np
import pytest

from maro_jax.pnlc.calibration import calibrate, log_loss
from maro_jax.pnlc.networks import Critic
from maro_jax.pnlc.transitions import Transitions, reached_later, split_by_episode
from maro_jax.pnlc.value import train
from maro_jax.run.fields import ConfigError
from tests.pnlc import worlds


@functools.cache
def chain_sample() -> worlds.Sample:
    return worlds.sample(worlds.chain(), worlds.CHAIN_EPISODES, seed=0)


@functools.cache
def chain_critic(**changes: float) -> Critic:
    data = chain_sample().data
    return train(data, split_by_episode(data, 0.2, seed=0)[0], dataclasses.replace(worlds.CHAIN, **changes))[0]


def test_the_exact_chances_are_those_that_are_played():
    sample = chain_sample()
    q, v = worlds.exact(worlds.chain())
    came = reached_later(sample.data)
    for state, thought in np.ndindex(q.shape[:2]):
        rows = (sample.state == state) & (sample.thought == thought)
        assert not rows.any() or np.abs(came[rows].mean(axis=0) - q[state, thought]).max() < 0.05
    odds = 0.44 / 0.56  # of a step back, with both thoughts: a gambler's ruin, from three of six
    assert v[3, 6] == pytest.approx((1 - odds**3) / (1 - odds**6), abs=1e-4)


def test_on_the_chain_q_is_the_probability():
    assert worlds.largest_error(worlds.chain(), chain_critic()) <= 0.05


def test_on_the_grid_q_is_the_probability():
    sample = worlds.sample(worlds.grid(), worlds.GRID_EPISODES, seed=0)
    critic, _ = train(sample.data, np.arange(len(sample.state), dtype=np.int32), worlds.GRID)
    assert worlds.largest_error(worlds.grid(), critic) <= 0.05


def test_a_large_expectile_has_its_own_fixed_point_and_is_no_probability():
    critic = chain_critic(expectile=0.8)
    assert worlds.largest_error(worlds.chain(), critic, tau=0.8) <= 0.06
    assert worlds.largest_error(worlds.chain(), critic) > 0.3


def test_without_the_stop_at_the_goal_it_errs():
    assert worlds.largest_error(worlds.chain(), chain_critic(stop_at_goal=False)) > 0.3


def test_with_goals_from_the_future_it_errs():
    assert worlds.largest_error(worlds.chain(), chain_critic(future_goals=1.0)) > 0.3


def test_a_discount_errs():
    """Kept because it is the usual choice: γ = 0.9 tells how soon, not how likely."""
    assert worlds.largest_error(worlds.chain(), chain_critic(discount=0.9)) > 0.15


def held_out(data: Transitions) -> np.ndarray:
    return split_by_episode(data, 0.2, seed=0)[1]


def test_thoughts_that_tell_something_may_guide():
    sample, (q, v) = chain_sample(), worlds.exact(worlds.chain())
    rows = held_out(sample.data)
    found = calibrate(chain_critic(), sample.data, rows)
    assert found.may_guide and found.gain_low < found.gain < found.gain_high
    found.require_guidance()
    came = reached_later(sample.data)[rows]
    best = log_loss(q[sample.state[rows], sample.thought[rows]], came).mean()
    assert found.q_log_loss == pytest.approx(best, abs=0.01)
    assert found.before_log_loss == pytest.approx(log_loss(v[sample.state[rows]], came).mean(), abs=0.01)
    assert found.before_log_loss == found.v_log_loss
    assert found.error < 0.02 and sum(each.forecasts for each in found.bins) == came.size


def test_a_critic_that_is_worse_than_the_goals_shares_may_not_guide():
    """Goals of the trajectory's own future make both Q and V near 1, and between the two Q may still gain."""
    data = chain_sample().data
    rows = held_out(data)
    came, others = reached_later(data)[rows], np.delete(reached_later(data), rows, axis=0)
    shares = np.broadcast_to(others.mean(axis=0), came.shape)
    sound, wrong = calibrate(chain_critic(), data, rows), calibrate(chain_critic(future_goals=1.0), data, rows)
    assert sound.rates_log_loss == pytest.approx(log_loss(shares, came).mean(), abs=1e-3) == wrong.rates_log_loss
    assert sound.q_log_loss < sound.rates_log_loss < wrong.q_log_loss and not wrong.may_guide
    with pytest.raises(ConfigError, match="forecast each goal by how often it is reached gives"):
        wrong.require_guidance()
    unmeasured = dataclasses.replace(wrong, rates_log_loss=None, gain_low=0.1)
    unmeasured.require_guidance()


def test_thoughts_that_tell_nothing_may_not_guide():
    """Also where V is optimistic, and so a worse forecast than Q for no merit of the thought."""
    data = chain_sample().data
    mixed = dataclasses.replace(data, thought=np.random.default_rng(0).permutation(data.thought))
    train_rows, rows = split_by_episode(mixed, 0.2, seed=0)
    critic, _ = train(mixed, train_rows, dataclasses.replace(worlds.CHAIN, expectile=0.8))
    found = calibrate(critic, mixed, rows)
    assert not found.may_guide
    with pytest.raises(ConfigError, match="may not guide: on 800 held-out episodes"):
        found.require_guidance()
    with pytest.raises(ConfigError, match="other goals"):
        calibrate(critic, dataclasses.replace(mixed, goal=mixed.goal[::-1]), rows)
