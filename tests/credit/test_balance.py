"""Balance statistics and weights against plain loops, and what the weights promise."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maro_jax.credit import balance, objective
from tests.credit import naive

RANDOM = settings(max_examples=20, deadline=None)
SIDE_OF_ROLE = (0, 1, 1)


def statistics_of(count, return_sum=None, absolute_sum=None, episodes=1.0):
    count = np.asarray(count, np.float32)
    zeros = np.zeros_like(count)
    return balance.BalanceStatistics(
        count=jnp.asarray(count),
        return_sum=jnp.asarray(zeros if return_sum is None else return_sum, jnp.float32),
        absolute_advantage_sum=jnp.asarray(
            count if absolute_sum is None else absolute_sum, jnp.float32
        ),
        episodes=jnp.float32(episodes),
    )


@RANDOM
@given(
    st.integers(0, 10**6),
    st.sampled_from(naive.SHAPES),
    st.integers(0, 4),
    st.sampled_from([0.0, 0.5, 0.9]),
)
def test_running_statistics_equal_loops(seed, shape, num_batches, decay):
    statistics, oracle = balance.init(3, 2), naive.Statistics()
    for step in range(num_batches):
        batch = naive.random_batch(seed + step, shape)
        rng = np.random.default_rng(seed + step)
        returns, advantages = rng.normal(size=(2, *shape[:2])).astype(np.float32)
        statistics = balance.update(
            statistics,
            returns,
            advantages,
            batch.role,
            batch.phase,
            batch.eligible,
            shape[0],
            decay,
        )
        oracle.add(batch, returns, advantages, batch.eligible, decay)
    role, phase = np.meshgrid(range(3), range(2), indexing="ij")
    for kind in balance.BASELINES:
        want = np.vectorize(lambda r, p, kind=kind: oracle.baseline(kind, r, p))(role, phase)
        got = balance.baseline(statistics, kind, role, phase)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        balance.advantage_scale(statistics), [oracle.scale(r) for r in range(3)], rtol=1e-5
    )
    np.testing.assert_allclose(
        balance.role_weights(statistics, SIDE_OF_ROLE),
        [oracle.role_weight(r, SIDE_OF_ROLE) for r in range(3)],
        rtol=1e-5,
    )
    mean = oracle.total(oracle.count) / oracle.episodes if oracle.episodes else 0.0
    assert float(statistics.behaviours_per_episode) == pytest.approx(mean, rel=1e-5)


def test_decay_does_not_bias_towards_the_start():
    """After any number of equal batches the mean is that of one batch."""
    batch = naive.random_batch(1, naive.SHAPES[-1])
    ones = np.ones(batch.seat.shape, np.float32)
    statistics = balance.init(3, 2)
    for _ in range(3):
        statistics = balance.update(
            statistics, 0.3 * ones, ones, batch.role, batch.phase, batch.eligible, 6, 0.9
        )
        np.testing.assert_allclose(statistics.mean_return, 0.3, rtol=1e-6)


def test_many_cells_with_narrow_integers():
    """144 cells do not fit into int8, the type of the columns."""
    role = np.full((1, 2), 11, np.int8)
    phase = np.array([[0, 11]], np.int8)
    ones = np.ones((1, 2), np.float32)
    statistics = balance.update(
        balance.init(12, 12), ones, ones, jnp.asarray(role), jnp.asarray(phase), ones > 0, 1
    )
    want = np.zeros((12, 12))
    want[11, 0] = want[11, 11] = 1
    np.testing.assert_array_equal(statistics.count, want)


def test_cell_baseline_leans_on_its_role():
    # One role; its cells hold 150 and 50 behaviours of mean return 1 and -1: b_ρ = 0.5.
    statistics = statistics_of([[150.0, 50.0, 0.0]], [[150.0, -50.0, 0.0]])
    cells = balance.baseline(statistics, "cell", np.zeros(3, int), np.arange(3))
    np.testing.assert_allclose(cells, [(150 + 25) / 200, (-50 + 25) / 100, 0.5], rtol=1e-6)


def test_lagged_statistics_win_over_the_batch_once_there_are_any():
    lagged, batch = statistics_of([[2.0]], [[1.0]]), statistics_of([[4.0]], [[-4.0]])
    assert float(balance.statistics_for(lagged, batch).mean_return[0]) == 0.5
    assert float(balance.statistics_for(balance.init(1, 1), batch).mean_return[0]) == -1.0
    # Batches in which nothing could be learnt do not count as a first batch.
    empty = statistics_of([[0.0]], episodes=8.0)
    assert float(balance.statistics_for(empty, batch).mean_return[0]) == -1.0


def test_every_side_and_every_role_of_it_weighs_the_same():
    # Wolf, seer, doctor, villager as in a village of six: shares 0.2, 0.15, 0.15, 0.5.
    count = np.array([[200.0], [150.0], [150.0], [500.0]])
    omega = np.asarray(balance.role_weights(statistics_of(count), (1, 0, 0, 0)))
    mass = omega * count[:, 0] / 1000
    np.testing.assert_allclose(mass, [1 / 2, 1 / 6, 1 / 6, 1 / 6], rtol=1e-6)


def test_role_weights_of_rare_and_of_unseen_roles():
    cap = balance.role_weights(statistics_of([[990.0], [10.0]]), (0, 1))
    np.testing.assert_allclose(cap, [0.5 / 0.99, 4.0], rtol=1e-6)
    # The seen roles share what the unseen one would have; it is itself left as it is.
    unseen = balance.role_weights(statistics_of([[80.0], [0.0], [20.0]]), (0, 1, 1))
    np.testing.assert_allclose(unseen, [0.5 / 0.8, 1.0, 0.5 / 0.2], rtol=1e-6)
    # A side that is never learnt takes no mass from the other.
    alone = balance.role_weights(statistics_of([[80.0], [0.0], [0.0]]), (0, 1, 1))
    np.testing.assert_allclose(alone, [1.0, 1.0, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(balance.role_weights(balance.init(3, 2), (0, 1, 1)), 1.0)


def test_advantage_scale_has_a_floor():
    scale = balance.advantage_scale(statistics_of([[10.0], [10.0]], None, [[1.0], [9.0]]))
    np.testing.assert_allclose(scale, [0.36, 0.9], rtol=1e-6)


@pytest.mark.parametrize("wins", [20, 50, 85])
def test_role_label_is_inverse_frequency_for_wins_and_losses(wins):
    """w_good = ω/2p and w_bad = ω/2(1 − p): the mass of wins equals that of losses."""
    p = wins / 100
    returns = np.where(np.arange(100) < wins, 1.0, -1.0).astype(np.float32)[None]
    role = np.zeros((1, 100), int)
    mask = role == 0
    first = balance.update(balance.init(1, 1), returns, returns, role, role, mask, 1)
    b = balance.baseline(first, "role", role, role)
    np.testing.assert_allclose(b, 2 * p - 1, atol=1e-6)
    advantages = returns - b
    statistics = balance.update(balance.init(1, 1), returns, advantages, role, role, mask, 1)
    scale = balance.advantage_scale(statistics)
    np.testing.assert_allclose(scale, 4 * p * (1 - p), rtol=1e-5)
    omega = 0.7
    weight = np.asarray(balance.weights("role_label", advantages, jnp.float32(omega), scale[role]))
    want = np.where(returns > 0, omega / (2 * p), omega / (2 * (1 - p)))
    np.testing.assert_allclose(weight, want, rtol=1e-5)
    assert weight[returns > 0].sum() == pytest.approx(weight[returns < 0].sum(), rel=1e-5)
    assert weight.sum() == pytest.approx(omega * 100, rel=1e-5)


def test_weights_by_hand():
    advantages = np.array([0.5, -2.0, 0.0], np.float32)
    omega, scale = np.float32(3.0), np.float32(0.5)
    np.testing.assert_array_equal(balance.weights("none", advantages, omega, scale), [0.5, 2, 0])
    np.testing.assert_array_equal(balance.weights("role", advantages, omega, scale), [1.5, 6, 0])
    np.testing.assert_array_equal(
        balance.weights("role_label", advantages, omega, scale), [3, 12, 0]
    )


@RANDOM
@given(st.integers(0, 10**6), st.sampled_from(naive.SHAPES))
def test_effective_sample_size_equals_loops(seed, shape):
    batch = naive.random_batch(seed, shape)
    weight = np.random.default_rng(seed).random(batch.seat.shape).astype(np.float32)
    got = balance.effective_sample_size(weight, batch.role, batch.eligible, 3)
    for role in range(3):
        mine = [weight[s] for s in batch.slots() if batch.eligible[s] and batch.role[s] == role]
        want = sum(mine) ** 2 / sum(w * w for w in mine) if mine else 0.0
        assert float(got[role]) == pytest.approx(want, rel=1e-5)
        assert float(got[role]) <= len(mine) * (1 + 1e-6)


def test_six_seats_against_one_weigh_alike_and_that_costs_half_of_the_games():
    # One wolf wins a quarter of the games against six villagers; everybody decides twice.
    chance, episodes = np.random.default_rng(0), 4000
    role = np.broadcast_to(np.repeat([0, 1, 1, 1, 1, 1, 1], 2), (episodes, 14))
    won = chance.random(episodes) < 0.25
    outcome = np.where(won[:, None], 1.0, -1.0) * np.where(np.arange(7) == 0, 1, -1)
    batch = {
        "seat": jnp.asarray(np.broadcast_to(np.arange(14) // 2, role.shape)), "role": jnp.asarray(role),
        "phase": jnp.zeros(role.shape, int), "eligible": jnp.ones(role.shape, bool),
        "outcome": jnp.asarray(outcome, jnp.float32), "side_of_role": (0, 1),
    }  # fmt: skip
    shares, sizes, whole = {}, {}, {}
    for kind in ("none", "role", "role_label"):
        given, _ = objective.credit(objective.CreditOptions(balance=kind), balance.init(2, 1), **batch)
        told = {name: np.asarray(value) for name, value in objective.metrics(given, batch["role"], 2).items()}
        mass = told["good_mass"] + told["bad_mass"]
        shares[kind], sizes[kind] = mass / mass.sum(), told["effective_sample_size"]
        whole[kind] = float(given.weights.sum() ** 2 / (given.weights**2).sum()) / role.size
        np.testing.assert_allclose(told["good_mass"], told["bad_mass"], rtol=1e-3)  # by the baseline, whoever wins
    np.testing.assert_allclose(shares["none"], [1 / 7, 6 / 7], rtol=1e-3)
    for kind in ("role", "role_label"):
        np.testing.assert_allclose(shares[kind], [0.5, 0.5], rtol=1e-3)
        np.testing.assert_allclose(sizes[kind], sizes["none"], rtol=1e-3)  # inside a role nothing changes
        assert whole[kind] == pytest.approx(whole["none"] * 49 / 100, rel=1e-2)  # 1 / (7/4 + 7/24)
    wins = won.mean()
    np.testing.assert_allclose(sizes["none"], 4 * wins * (1 - wins) * episodes * np.array([2, 12]), rtol=1e-3)


def test_wrong_values_are_refused():
    one = np.zeros((1, 1), int)
    with pytest.raises(ValueError, match="baseline must be one of none, role, cell"):
        balance.baseline(balance.init(1, 1), "seat", one, one)
    with pytest.raises(ValueError, match="balance must be one of none, role, role_label"):
        balance.weights("label", jnp.ones(1), jnp.ones(1), jnp.ones(1))
    with pytest.raises(ValueError, match="a side for each of the 3 roles, not 2"):
        balance.role_weights(balance.init(3, 2), (0, 1))
