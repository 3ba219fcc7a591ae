"""Forks within an iteration: which behaviours, what becomes of them, and the same once more from the same state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.registry import make
from maro_jax.credit.decomposition import by_value
from maro_jax.league.arena import Arena, Tally
from maro_jax.league.forking import Forking
from maro_jax.league.played import Played
from maro_jax.league.trainer import Trainer
from maro_jax.policy.tokenizer import tiny_tokenizer
from maro_jax.run.config import make_config
from maro_jax.selfplay.episodes import LEARNER
from maro_jax.selfplay.forks import had_choice
from maro_jax.selfplay.table import Table
from tests.selfplay.playing import mesh_of, smallest_policy

FORKS, PAIRS = 7, 2


@functools.cache
def arena() -> Arena:
    tokenizer = tiny_tokenizer()
    table = Table.lay(make("kuhn-v0"), smallest_policy(tokenizer.vocab_size), tokenizer)
    capacity = table.stream_capacity(0, "refuse")
    return Arena(table, mesh_of(1), lanes=8, episodes=32, capacity=capacity, seed=0)


@functools.cache
def trainer(decompose: str) -> Trainer:
    changes = {
        "games": "kuhn-v0", "decompose": decompose, "fork_behaviours": FORKS, "fork_pairs": PAIRS, "episodes": 32,
        "lanes": 8, "iterations": 2, "warm_start_games": 0, "minibatches": 2, "baseline": "none", "balance": "none",
    }  # fmt: skip
    made = Trainer([arena()], make_config("werewolf-tiny", changes))
    if decompose == "fork":  # of the same size, so that it need not be compiled again
        made.forking = trainer("fork_dr").forking
    return made


def start(of: Trainer):
    return of.start(arena().table.policy.init(jax.random.key(0)))


def assert_drawn_from_the_learners(of: Played, forks: float) -> np.ndarray:
    """Returns the candidates."""
    made, forked = of.episodes.behaviours, of.forked
    candidates = (made.holder == LEARNER) & of.episodes.finished[:, None] & had_choice(of.episodes)
    assert 0 < candidates.sum() < (made.seat >= 0).sum()
    assert forked.known.sum() == forks == FORKS and not forked.known[~candidates].any()
    assert forked.share == pytest.approx(FORKS / candidates.sum())
    assert {*(4 * np.abs(forked.differences[forked.known])).tolist()} <= {*range(9)}  # means of two, in half chips
    assert forked.differences.any() and not forked.differences[~forked.known].any()
    return candidates


def test_forks_correct_the_value_and_an_iteration_is_a_function_of_its_state():
    of_run = trainer("fork_dr")
    state, report, (of,) = of_run.iterate(start(of_run), 0)
    candidates, forked = assert_drawn_from_the_learners(of, report["forked_behaviours"]), of.forked
    np.testing.assert_array_equal(np.asarray(of.credit.eligible), candidates)
    seat, decay = of.episodes.behaviours.seat, of_run.config.value_decay
    expected = by_value(seat, of.episodes.outcome, of.judged.values, of.judged.judged, decay)
    want = np.where(forked.known, expected + (forked.differences - expected) / forked.share, expected)
    np.testing.assert_allclose(of.credit.returns, np.where(candidates, want, 0), atol=1e-5)
    # Half of the 28 branches draw a reply anew, a token each; no game has more than three.
    assert FORKS * PAIRS <= report["forked_tokens"] <= 2 * FORKS * PAIRS * 3
    assert 0 < report["forked_share"] < 1 and report["fork_seconds"] > 0
    assert report["fork_difference"] == pytest.approx(np.sqrt(np.mean(forked.differences[forked.known] ** 2)))
    assert report["seconds"] >= report["rollout_seconds"] + report["fork_seconds"]

    kept = jax.tree.map(jnp.copy, state)
    (after, told, (one,)), (again, told_again, (other,)) = (of_run.iterate(each, 1) for each in (state, kept))
    assert told["loss"] == told_again["loss"] and told["forked_tokens"] == told_again["forked_tokens"]
    for leaf, same in zip(jax.tree.leaves((after, one.forked)), jax.tree.leaves((again, other.forked)), strict=True):
        np.testing.assert_array_equal(leaf, same)
    assert not np.array_equal(one.forked.known, forked.known)


def test_forked_behaviours_alone_are_learnt_from_by_what_they_have_shown():
    of_run, forks = trainer("fork"), Tally()
    state = start(of_run)
    of, _ = of_run._play(arena(), state, state.opponent, 0, 0, Tally(), forks)
    assert_drawn_from_the_learners(of, of.forked.known.sum())
    np.testing.assert_array_equal(np.asarray(of.credit.eligible), of.forked.known)
    np.testing.assert_array_equal(np.asarray(of.credit.returns), of.forked.differences)
    assert float(of.credit.normaliser) == pytest.approx(FORKS) and forks.sampled >= FORKS * PAIRS


def test_with_nobody_to_fork_nothing_is_played():
    of_run, forks, state = trainer("fork"), Tally(), start(trainer("fork"))
    of, _ = of_run._play(arena(), state, state.opponent, 0, 0, Tally(), Tally())
    nobody = np.zeros(of.episodes.behaviours.seat.shape, bool)
    forking = Forking(arena(), FORKS, PAIRS)
    found = forking.play([], of.plan, 0, of.episodes, nobody, np.random.default_rng(0), 0, forks)
    assert not found.known.any() and found.share == 1 and forks.games == 0
