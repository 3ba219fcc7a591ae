"""Kuhn poker against OpenSpiel: all deals, all sequences of actions, and the equilibrium that is known."""

import functools
import itertools
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, view_of_actor
from games.kuhn import ANSWER, BET, CARDS, FIRST, KIND, OPEN, PASS, SECOND, STAKE, Kuhn
from games.players.kuhn import BET_PROBABILITY, heuristic
from games.text.transcript import event_text
from tests.games.openspiel import (
    QUICKLY,
    Record,
    assert_bounds_are_reached,
    compiled_init,
    compiled_replay,
    judge,
    observed_by,
    record_random,
    single,
)

DEALS = list(itertools.permutations(range(3), 2))
SEQUENCES = list(itertools.product((PASS, BET), repeat=3))  # a game that is over earlier ignores the rest
VALUE = -1 / 18  # chips that the first player wins on average between perfect players


@functools.cache
def dealt() -> Any:
    """A state for each of the deals, from the game's own `init`."""
    states = jax.device_get(compiled_init(Kuhn())(jax.random.split(jax.random.key(0), 600)))
    first = [int(np.flatnonzero((states.cards == deal).all(axis=1))[0]) for deal in DEALS]
    return jax.tree.map(lambda leaf: leaf[first], states)


@functools.cache
def all_games() -> dict[tuple[tuple[int, int], tuple[int, ...]], Record]:
    """Every game there is, by deal and actions."""
    pairs = list(itertools.product(range(len(DEALS)), SEQUENCES))
    start = jax.tree.map(lambda leaf: leaf[[deal for deal, _ in pairs]], dealt())
    actions = np.array([sequence for _, sequence in pairs], np.int32)
    record = jax.device_get(compiled_replay(Kuhn())(start, actions))
    return {(DEALS[deal], played): game for (deal, played), game in zip(pairs, single(record), strict=True)}


def test_openspiel_agrees_with_every_step_of_every_game():
    pyspiel = pytest.importorskip("pyspiel")
    original = pyspiel.load_game("kuhn_poker")
    lengths = Counter(judge(original, deal, range(2), STAKE, game) for (deal, _), game in all_games().items())
    assert len(DEALS) == 6
    assert lengths == {2: 6 * 6, 3: 6 * 2}  # only a bet after a pass is answered by a third action


def test_illegal_actions_are_passes():
    pyspiel = pytest.importorskip("pyspiel")
    original = pyspiel.load_game("kuhn_poker")
    start, record = record_random(Kuhn(), 500, seed=1)
    for cards, game in zip(start.cards.tolist(), single(record), strict=True):
        judge(original, cards, range(2), STAKE, game)
    assert np.sum((record["actions"] < 0) | (record["actions"] > BET)) > 50


def test_uniform_play_is_worth_what_openspiel_finds():
    pyspiel = pytest.importorskip("pyspiel")
    policy = pytest.importorskip("open_spiel.python.policy")
    expected_game_score = pytest.importorskip("open_spiel.python.algorithms.expected_game_score")
    original = pyspiel.load_game("kuhn_poker")
    uniform = policy.UniformRandomPolicy(original)
    worth = expected_game_score.policy_value(original.new_initial_state(), [uniform, uniform])
    ours = np.mean([game["outcome"][-1] for game in all_games().values()], axis=0) * STAKE
    np.testing.assert_allclose(ours, worth, atol=1e-6)
    assert abs(worth[0]) > 0.1


def test_the_heuristic_player_cannot_be_exploited():
    pyspiel = pytest.importorskip("pyspiel")
    policy = pytest.importorskip("open_spiel.python.policy")
    expected_game_score = pytest.importorskip("open_spiel.python.algorithms.expected_game_score")
    exploitability = pytest.importorskip("open_spiel.python.algorithms.exploitability")
    original = pyspiel.load_game("kuhn_poker")
    table = policy.TabularPolicy(original)
    acts = {"": (FIRST, 0), "pb": (FIRST, 1), "p": (SECOND, 0), "b": (SECOND, 1)}
    for card, (history, (role, answers)) in itertools.product(range(3), acts.items()):
        bets = float(BET_PROBABILITY[role, answers, card])
        table.action_probability_array[table.state_lookup[f"{card}{history}"]] = [1 - bets, bets]
    assert len(table.state_lookup) == 12
    assert exploitability.nash_conv(original, table) < 1e-6
    worth = expected_game_score.policy_value(original.new_initial_state(), [table, table])
    np.testing.assert_allclose(worth, [VALUE, -VALUE], atol=1e-6)


def test_the_heuristic_player_bets_as_often_as_the_equilibrium():
    game, keys = Kuhn(), jax.random.split(jax.random.key(3), 2000)

    @functools.partial(jax.jit, compiler_options=QUICKLY)
    def frequencies(states: Any, actions: jax.Array, count: jax.Array) -> jax.Array:
        def one(state: Any, actions: jax.Array, count: jax.Array) -> jax.Array:
            for time in range(2):
                after = game.step(state, actions[time], keys[0])
                state = jax.tree.map(lambda old, new, time=time: jnp.where(time < count, new, old), state, after)
            return jnp.mean(jax.vmap(functools.partial(heuristic, view_of_actor(game, state)))(keys) == BET)

        return jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, 0))(states, actions, count)

    before = {(FIRST, 0): [], (SECOND, 0): [PASS], (SECOND, 1): [BET], (FIRST, 1): [PASS, BET]}
    actions = np.array([[*acts, 0, 0][:2] for acts in before.values()])
    found = frequencies(dealt(), actions, np.array([len(acts) for acts in before.values()]))
    for (role, answers), share in zip(before, np.asarray(found), strict=True):
        wanted = BET_PROBABILITY[role, answers, [deal[role] for deal in DEALS]]
        np.testing.assert_allclose(share, wanted, atol=0.06)
        assert np.all((share == wanted) | ((wanted > 0) & (wanted < 1)))


def worth(first: np.ndarray, second: np.ndarray) -> float:
    """Chips that the first player wins on average, by [role, whether it answers a bet, card] tables of bets."""
    total = 0.0
    for (deal, played), game in all_games().items():
        weight = 1 / len(DEALS)
        for time, action in enumerate(played):
            bets = 0.5  # after the end, where it does not matter
            if not game["terminated"][time]:
                role = int(game["actor"][time])
                bets = (first, second)[role][role, int(game["phase"][time] == ANSWER), deal[role]]
            weight *= bets if action == BET else 1 - bets
        total += weight * game["outcome"][-1, 0] * STAKE
    return total


def test_the_heuristic_player_does_better_than_random_play():
    uniform = np.full_like(BET_PROBABILITY, 0.5)
    np.testing.assert_allclose(worth(uniform, uniform), 1 / 8, atol=1e-6)
    np.testing.assert_allclose(worth(BET_PROBABILITY, uniform), 1 / 6, atol=1e-6)
    np.testing.assert_allclose(worth(uniform, BET_PROBABILITY), -1 / 6, atol=1e-6)
    np.testing.assert_allclose(worth(BET_PROBABILITY, BET_PROBABILITY), VALUE, atol=1e-6)


def test_deals_are_uniform():
    cards = np.asarray(compiled_init(Kuhn())(jax.random.split(jax.random.key(8), 6000)).cards)
    counts = np.array([np.sum((cards == deal).all(axis=1)) for deal in DEALS])
    assert counts.sum() == 6000
    assert np.sum((counts - 1000) ** 2 / 1000) < 5 + 6 * np.sqrt(2 * 5)


def test_a_seat_observes_nothing_of_the_other_card():
    for (deal, played), game in all_games().items():
        for seat in range(2):
            hidden = next(card for card in range(3) if card not in deal)
            other = (deal[0], hidden) if seat == 0 else (hidden, deal[1])
            assert observed_by(seat, game) == observed_by(seat, all_games()[other, played])


def test_cards_are_shown_unless_somebody_folds():
    shown = Counter()
    for (deal, played), game in all_games().items():
        used = game["log_rows"][: game["log_size"][-1]].tolist()
        cards = [(actor, value) for kind, actor, _, value in used if kind == KIND["show"]]
        folded = played[:2] == (BET, PASS) or played == (PASS, BET, PASS)
        assert cards == ([] if folded else list(enumerate(deal)))
        shown[folded] += 1
        seen = game["log_audience"][: len(used)].tolist()
        private = [mask for (kind, *_), mask in zip(used, seen, strict=True) if kind in (KIND["seat"], KIND["card"])]
        acts = [(mask, 2 - actor) for (kind, actor, *_), mask in zip(used, seen, strict=True)
                if kind in (KIND["pass"], KIND["bet"])]  # fmt: skip
        assert private == [1, 2, 1, 2]
        assert acts
        assert all(mask == other for mask, other in acts)
    assert shown == {True: 18, False: 30}


@pytest.mark.parametrize("speech_tokens", [0, 4])
def test_the_bounds_of_the_spec_hold_and_are_reached(speech_tokens: int):
    game = Kuhn(speech_tokens=speech_tokens)
    start = compiled_init(game)(jax.random.split(jax.random.key(0), len(SEQUENCES)))
    assert_bounds_are_reached(game.spec, jax.device_get(compiled_replay(game)(start, np.array(SEQUENCES, np.int32))))


def test_a_game_that_is_over_stays_as_it_is():
    game = Kuhn()
    step = jax.jit(game.step, compiler_options=QUICKLY)
    state = jax.tree.map(lambda leaf: leaf[0], dealt())
    for action in (PASS, PASS):
        state = step(state, jnp.int32(action), jax.random.key(1))
    assert state.terminated
    assert state.actor == -1
    assert game.spec.phases[int(state.phase)].name == "over"
    for action in (-1, PASS, BET, 99):
        again = step(state, jnp.int32(action), jax.random.key(2))
        jax.tree.map(np.testing.assert_array_equal, again, state)


def test_a_game_is_the_same_compiled_or_not():
    game, (deal, played) = Kuhn(), (DEALS[3], (PASS, BET, BET))
    record = all_games()[deal, played]
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[3]), dealt())
    for time, action in enumerate(played):
        assert (int(state.phase), int(state.actor)) == (record["phase"][time], record["actor"][time])
        assert int(state.phase) == (OPEN, OPEN, ANSWER)[time]
        state = game.step(state, jnp.int32(action), jax.random.key(0))
    np.testing.assert_array_equal(state.outcome, record["outcome"][-1])
    np.testing.assert_array_equal(state.log.rows, record["log_rows"])
    np.testing.assert_array_equal(state.log.audience, record["log_audience"])


def test_a_transcript():
    game = all_games()[(1, 2), (PASS, BET, BET)]
    rows, size = game["log_rows"].tolist(), int(game["log_size"][-1])
    assert [event_text(Kuhn().spec, row) for row in rows[:size]] == [
        "You are Player 1", "You are Player 2", "Your card is the queen", "Your card is the king",
        "Player 1: pass", "Player 2: bet", "Player 1: bet",
        "Player 1 shows the queen", "Player 2 shows the king", "Player 2 wins 2 chips",
    ]  # fmt: skip
    assert CARDS == ("jack", "queen", "king")


def test_speech_is_heard_by_the_other_seat():
    game = Kuhn(speech_tokens=4, thought_tokens=2)
    state = game.step(game.init(jax.random.key(0)), jnp.int32(BET), jax.random.key(0))
    rows, masks = np.asarray(state.log.rows)[4:6].tolist(), np.asarray(state.log.audience)[4:6].tolist()
    assert rows == [[KIND["utterance"], 0, -1, 0], [KIND["bet"], 0, -1, -1]]
    assert masks == [2, 2]
    assert [(phase.thought_tokens, phase.speech_tokens) for phase in game.spec.phases] == [(2, 4), (2, 4), (0, 0)]


@pytest.mark.parametrize("parameter", ["speech_tokens", "thought_tokens"])
def test_what_cannot_be_made_is_refused_in_one_sentence(parameter: str):
    with pytest.raises(GameError) as refusal:
        Kuhn(**{parameter: -1})
    assert str(refusal.value) == f"kuhn-v0: {parameter} is between 0 and 4096, not -1"
