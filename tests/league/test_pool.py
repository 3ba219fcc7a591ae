"""The pool of past selves: who is kept, who is met, and how the learner's record against them is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.registry import make
from maro_jax.league.plans import training_plan
from maro_jax.league.pool import FADING, PRIOR_GAMES, Pool, learner_scores
from maro_jax.run.config import MATCHMAKING
from maro_jax.selfplay.episodes import OPPONENT, Episodes


def pool_of(size: int = 3) -> Pool:
    return Pool.empty({"weight": jnp.zeros(2)}, size)


def weights(pool: Pool) -> list[float]:
    return [float(member["weight"][0]) for member in pool.members]


def test_at_first_the_warm_start_is_met_alone():
    pool = pool_of()
    assert pool.present().tolist() == [0]
    for matchmaking in MATCHMAKING:
        assert pool.chances(matchmaking).tolist() == [1, 0, 0, 0]
    assert pool.params(0, "warm start") == "warm start"


def test_past_selves_take_free_places_and_then_that_of_the_oldest_but_never_of_the_warm_start():
    pool = pool_of(3)
    for iteration in range(5, 30, 5):
        pool = pool.freeze({"weight": jnp.full(2, float(iteration))}, iteration)
    assert np.asarray(pool.born).tolist() == [0, 20, 25, 15] and weights(pool) == [20, 25, 15]
    assert [int(pool.born[entry]) for entry in pool.present()] == [0, 15, 20, 25]
    assert float(pool.params(2, None)["weight"][1]) == 25


def test_a_past_self_is_a_copy_and_its_record_begins_anew():
    live = {"weight": jnp.ones(2)}
    pool = pool_of(1).record(1, 3.0, 4).freeze(live, 5)
    jax.tree.map(lambda leaf: leaf.delete(), live)  # as an optimizer step that takes over its arguments does
    assert weights(pool) == [1.0]
    assert pool.games[1] == pool.score[1] == 0


def test_a_record_fades_towards_what_is_known_of_nobody():
    pool = pool_of(1).freeze({"weight": jnp.ones(2)}, 5).record(0, 30.0, 40).record(1, 2.0, 8)
    np.testing.assert_allclose(pool.games, [40 * FADING, 8])
    np.testing.assert_allclose(pool.score, [30 * FADING, 2])
    expected = (30 * FADING + PRIOR_GAMES / 2) / (40 * FADING + PRIOR_GAMES)
    np.testing.assert_allclose(pool.win_rates(), [expected, 3 / 10])
    for _ in range(200):
        pool = pool.record(0, 0.0, 0)
    np.testing.assert_allclose(pool.win_rates(), 0.5, atol=1e-3)


def test_pfsp_meets_those_that_win_and_uniform_meets_all_alike():
    pool = pool_of(3).freeze({"weight": jnp.ones(2)}, 5).freeze({"weight": jnp.ones(2)}, 10)
    pool = dataclasses.replace(pool, games=np.full(4, 98, np.float32), score=np.array([79, 49, 19, 0], np.float32))
    assert pool.win_rates().tolist() == [0.8, 0.5, 0.2, 0.01]
    np.testing.assert_allclose(pool.chances("uniform"), [1 / 3, 1 / 3, 1 / 3, 0])
    np.testing.assert_allclose(pool.chances("pfsp"), np.array([0.04, 0.25, 0.64, 0]) / 0.93)
    for matchmaking in MATCHMAKING:
        generator = np.random.default_rng(0)
        drawn = np.bincount([pool.choose(matchmaking, generator) for _ in range(4000)], minlength=4) / 4000
        np.testing.assert_allclose(drawn, pool.chances(matchmaking), atol=0.03)


def test_somebody_who_always_loses_is_still_met():
    pool = pool_of(1).record(0, 1e6, 10**6)
    assert pool.chances("pfsp").tolist() == [1, 0]


@pytest.mark.parametrize("name", ["werewolf-v0", "bargaining-v0"])
def test_the_learner_s_score_is_what_it_has_more_than_its_opponent(name: str):
    spec, chance, count = make(name).spec, np.random.default_rng(1), 64
    plan = training_plan("league", 0, count, len(spec.sides))
    roles = np.stack([chance.permutation(np.arange(spec.num_seats) % len(spec.roles)) for _ in range(count)])
    episodes = jax.tree.map(np.asarray, Episodes.empty(spec, count, 4))
    finished = chance.random(count) < 0.8
    outcome = chance.uniform(-1, 1, (count, spec.num_seats)).astype(np.float32)
    episodes = dataclasses.replace(episodes, roles=roles, outcome=outcome, terminated=finished)
    expected = []
    for holders, seats, results, ended in zip(plan.holders, roles, outcome, finished, strict=True):
        if ended and OPPONENT in holders:
            mine, theirs = [], []
            for role, result in zip(seats, results, strict=True):
                side = spec.side_of_role[role]
                (theirs if holders[side] == OPPONENT else mine).append((result + 1) / 2)
            expected.append(0.5 + (np.mean(mine) - np.mean(theirs)) / 2)
    assert 5 < len(expected) < count / 4
    np.testing.assert_allclose(learner_scores(plan, episodes, spec.side_of_role), expected, rtol=1e-5)
