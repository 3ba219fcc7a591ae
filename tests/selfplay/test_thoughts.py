"""Thoughts apart from replies: what a policy thinks and does step by step is what it thinks and does in a rollout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.registry import make
from games.text.grammar import THOUGHT_TOKEN
from maro_jax.policy.attention import CausalAttention, token_positions
from maro_jax.policy.models import load_policy
from maro_jax.selfplay.episodes import API, LEARNER, Episodes
from maro_jax.selfplay.table import Table
from maro_jax.selfplay.thoughts import ThinkingGames
from tests.selfplay.playing import decided, plan_of

GAMES, LANES, BUDGET = 6, 4, 4
KEY = jax.random.key(3)


@functools.cache
def table() -> Table:
    policy, _, tokenizer = load_policy("tiny", precision="highest")
    return Table.lay(make("kuhn-v0", thought_tokens=BUDGET, speech_tokens=3), policy, tokenizer)


@functools.cache
def params():
    return decided(table().policy.init(jax.random.key(0)))


def hosted_games(holder: int = API) -> ThinkingGames:
    laid = table()
    holders = np.full((GAMES, len(laid.spec.sides)), holder)
    return ThinkingGames(laid, laid.stream_capacity(0, "refuse"), LANES, plan_of(holders), KEY, params())


@functools.cache
def straight() -> Episodes:
    """The same games, played by the policy without being asked, as in a rollout."""
    hosted = hosted_games(LEARNER)
    assert hosted.run() == []
    return hosted.episodes()


def played_with(choose) -> Episodes:
    """Games in which `choose(games, turns)` says what is thought at each turn."""
    hosted = hosted_games()
    while turns := hosted.run():
        hosted.go_on(turns, choose(hosted, turns))
    return hosted.episodes()


def first_of(count: int):
    return lambda hosted, turns: [proposed[0] for proposed in hosted.propose(turns, count)]


def of_its_own(hosted, turns):
    return [None] * len(turns)


@pytest.mark.parametrize("choose", [of_its_own, first_of(1), first_of(3)], ids=["its own", "only", "first of three"])
def test_the_policy_plays_as_without_being_asked(choose):
    stepwise, expected = played_with(choose), straight()
    assert (expected.node == THOUGHT_TOKEN).any()
    np.testing.assert_array_equal(stepwise.behaviours.action, expected.behaviours.action)
    np.testing.assert_array_equal(stepwise.tokens, expected.tokens)
    np.testing.assert_array_equal(stepwise.node, expected.node)
    np.testing.assert_allclose(stepwise.log_probs, expected.log_probs, atol=2e-5)
    assert np.all(stepwise.behaviours.holder[expected.behaviours.seat >= 0] == API)


def test_chances_of_proposed_thoughts_are_those_of_the_whole_stream():
    laid, hosted = table(), hosted_games()
    mask, close = laid.lexicon.thought_mask.copy(), int(laid.lexicon.section_close)
    mask[close] = True
    turns = hosted.run()
    different = set()
    for turn, proposed in zip(turns, hosted.propose(turns, 3), strict=True):
        own = np.concatenate([part for exchange in turn.exchanges for part in (exchange.news, exchange.reply)])
        prefix = laid.lexicon.prefix_tokens[turn.role, : laid.lexicon.prefix_lengths[turn.role]]
        stream = np.concatenate([prefix, own])
        for thought in proposed:
            tokens = [*thought.tokens, *[close] * (len(thought.tokens) < BUDGET)]
            assert len(tokens) == len(thought.log_probs)
            assert mask[list(thought.tokens)].all()
            whole = jnp.asarray([[*stream, *tokens]], jnp.int32)
            positions = token_positions(jnp.zeros(1, jnp.int32), whole.shape[1])
            hidden, _ = laid.policy.forward(params(), whole, positions, CausalAttention())
            logits = laid.policy.logits(params(), hidden)[0, len(stream) - 1 : -1]
            expected = jax.nn.log_softmax(jnp.where(mask, logits, -jnp.inf))[np.arange(len(tokens)), np.array(tokens)]
            np.testing.assert_allclose(thought.log_probs, expected, atol=2e-5)
            different.add(thought.tokens)
    assert len(different) > len(turns)


def test_a_thought_from_outside_is_cut_to_what_may_be_thought():
    laid = table()
    close, plain = int(laid.lexicon.section_close), np.flatnonzero(laid.lexicon.thought_mask).tolist()
    hosted = hosted_games()
    turns = hosted.run()
    hosted.go_on(turns, [[close, *plain[10 : 10 + BUDGET + 2]]] * len(turns))
    while turns := hosted.run():
        hosted.go_on(turns, [()] * len(turns))
    episodes = hosted.episodes()
    for episode in range(LANES):
        seat, start = int(episodes.behaviours.seat[episode, 0]), int(episodes.behaviours.start[episode, 0])
        written = episodes.tokens[episode, seat, start : start + BUDGET + 1].tolist()
        assert written == [*plain[10 : 10 + BUDGET], close]
        seat, start = int(episodes.behaviours.seat[episode, 1]), int(episodes.behaviours.start[episode, 1])
        assert episodes.tokens[episode, seat, start] == close
