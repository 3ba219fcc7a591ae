"""Liar's dice against OpenSpiel, and what else is promised of the game's functions."""

import dataclasses
import functools
import itertools
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, view_of_actor
from games.liars_dice import BIDDING_RULES, KIND, LiarsDice
from games.players.liars_dice import heuristic
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
    scores_against_random,
    single,
)

PRESETS = [
    LiarsDice(),
    LiarsDice(bidding_rule="reset-quantity"),
    LiarsDice(num_dice=2),
    LiarsDice(num_dice=2, bidding_rule="reset-quantity"),
    LiarsDice(dice_sides=2),
    LiarsDice(num_dice=2, dice_sides=3, bidding_rule="reset-quantity", speech_tokens=4),
]


def name(game: LiarsDice) -> str:
    return f"{game.num_dice}x{game.dice_sides},{game.bidding_rule}"


def original(game: LiarsDice) -> Any:
    """OpenSpiel's game with the same parameters."""
    pyspiel = pytest.importorskip("pyspiel")
    return pyspiel.load_game(
        "liars_dice",
        {"numdice": game.num_dice, "dice_sides": game.dice_sides, "bidding_rule": game.bidding_rule},
    )


def same_actions(game: LiarsDice) -> list[int]:
    """Our index of each of OpenSpiel's actions, found by what they say."""
    theirs = original(game)
    state = theirs.new_initial_state()
    while state.is_chance_node():
        state.apply_action(0)
    names = [state.action_to_string(0, action) for action in range(theirs.num_distinct_actions())]
    labels = [" liar" if text == "Liar" else " bid {} of {}".format(*text.split("-")) for text in names]
    return [game.spec.action_labels.index(label) for label in labels]


def random_games(game: LiarsDice, count: int, seed: int) -> tuple[Any, Record]:
    """Random games, the patient of which make all bids from the lowest on."""
    return record_random(game, count, seed, order=[*game.bids()[2], game.num_bids])


@functools.cache
def recorded(game: LiarsDice) -> tuple[Any, Record]:
    return random_games(game, 500, seed=3)


def judge_all(game: LiarsDice, start: Any, record: Record) -> Counter[int]:
    """Has OpenSpiel replay games; returns how many there are of each length."""
    theirs, ours = original(game), same_actions(game)
    dice = start.dice.reshape(len(start.dice), -1).tolist()
    return Counter(judge(theirs, chance, ours, 1.0, one) for chance, one in zip(dice, single(record), strict=True))


@pytest.mark.parametrize("game", PRESETS, ids=name)
def test_openspiel_agrees_with_every_step(game: LiarsDice):
    start, record = recorded(game)
    lengths = judge_all(game, start, record)
    assert min(lengths) == 2
    assert max(lengths) == game.spec.max_decisions
    decided = record["outcome"][:, -1]
    assert 100 < np.sum(decided[:, 0] > 0) < 400


@pytest.mark.slow
@pytest.mark.parametrize("game", PRESETS, ids=name)
def test_openspiel_agrees_with_ten_thousand_games(game: LiarsDice):
    assert judge_all(game, *random_games(game, 10_000, seed=4)).total() == 10_000


@pytest.mark.parametrize("game", [PRESETS[3]], ids=name)
def test_actions_have_the_same_index_whatever_the_rule(game: LiarsDice):
    labels = game.spec.action_labels
    assert labels == LiarsDice(num_dice=2, bidding_rule=BIDDING_RULES[0]).spec.action_labels
    assert labels[0] == " bid 1 of 1"
    assert labels[6] == " bid 2 of 1"
    assert labels[23] == " bid 4 of 6"
    assert labels[24] == " liar"
    assert same_actions(game)[:5] == [0, 6, 12, 18, 1]
    assert same_actions(LiarsDice()) == list(range(13))


def test_dice_are_uniform():
    dice = np.asarray(compiled_init(LiarsDice(num_dice=2))(jax.random.split(jax.random.key(8), 4800)).dice)
    pairs = Counter(map(tuple, dice.reshape(-1, 2).tolist()))
    expected = {pair: 9600 * (2 - (pair[0] == pair[1])) / 36
                for pair in itertools.combinations_with_replacement(range(6), 2)}  # fmt: skip
    assert set(pairs) <= set(expected)
    statistic = sum((pairs[pair] - count) ** 2 / count for pair, count in expected.items())
    assert statistic < 20 + 6 * np.sqrt(2 * 20)


def plans(game: LiarsDice) -> np.ndarray:
    """Actions of the longest game and of games that make up to three bids before the call."""
    upward, call = np.argsort(game.bids()[2]).tolist(), game.num_bids
    played = [upward] + [upward[start : start + count] for start in range(6) for count in (1, 2, 3)]
    return np.array([bids + [call] * (call + 1 - len(bids)) for bids in played], np.int32)


@pytest.mark.parametrize("game", [LiarsDice(), LiarsDice(num_dice=2, dice_sides=3, speech_tokens=4)], ids=name)
def test_the_bounds_of_the_spec_hold_and_are_reached(game: LiarsDice):
    actions = plans(game)
    start = compiled_init(game)(jax.random.split(jax.random.key(0), len(actions)))
    assert_bounds_are_reached(game.spec, jax.device_get(compiled_replay(game)(start, actions)))


@pytest.mark.parametrize("game", [LiarsDice(), LiarsDice(num_dice=2, dice_sides=3, speech_tokens=4)], ids=name)
def test_a_seat_observes_nothing_of_the_other_dice(game: LiarsDice):
    actions = plans(game)
    start = jax.device_get(compiled_init(game)(jax.random.split(jax.random.key(0), len(actions))))
    record = jax.device_get(compiled_replay(game)(start, actions))
    outcomes = set()
    for seat in range(2):
        for shift in range(1, game.dice_sides):
            dice, rows = start.dice.copy(), start.log.rows.copy()
            dice[:, 1 - seat] = np.sort((dice[:, 1 - seat] + shift) % game.dice_sides, axis=1)
            rows[:, 3 - seat, 3] = dice[:, 1 - seat, -1]
            if game.num_dice == 2:
                rows[:, 3 - seat, 2] = dice[:, 1 - seat, 0]
            assert (rows[:, 3 - seat, :2] == [KIND["dice"], 1 - seat]).all()
            other = dataclasses.replace(start, dice=dice, log=dataclasses.replace(start.log, rows=rows))
            again = jax.device_get(compiled_replay(game)(other, actions))
            for one, two in zip(single(record), single(again), strict=True):
                assert observed_by(seat, one) == observed_by(seat, two)
                outcomes.add(bool(one["outcome"][-1, 0] == two["outcome"][-1, 0]))
    assert outcomes == {True, False}  # the dice do matter


def test_a_game_that_is_over_stays_as_it_is():
    game = LiarsDice(dice_sides=2)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    state = game.init(jax.random.key(0))
    for action in (0, 4):
        state = step(state, jnp.int32(action), jax.random.key(1))
    assert state.terminated
    assert state.actor == -1
    assert game.legal_action_mask(state).all()
    assert not game.acting_mask(state).any()
    assert game.spec.phases[int(state.phase)].name == "over"
    for action in (-1, 0, 3, 4, 99):
        jax.tree.map(np.testing.assert_array_equal, step(state, jnp.int32(action), jax.random.key(2)), state)


def test_a_game_is_the_same_compiled_or_not():
    game = PRESETS[3]
    start, record = recorded(game)
    index = int(np.flatnonzero(record["step"][:, -1] == 3)[0])
    one = list(single(record))[index]
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[index]), start)
    for time in range(4):
        assert (int(state.phase), int(state.actor)) == (one["phase"][time], one["actor"][time])
        np.testing.assert_array_equal(game.legal_action_mask(state), one["legal"][time])
        state = game.step(state, jnp.int32(one["actions"][time]), jax.random.key(0))
    np.testing.assert_array_equal(state.outcome, one["outcome"][-1])
    np.testing.assert_array_equal(state.log.rows, one["log_rows"])
    np.testing.assert_array_equal(state.log.audience, one["log_audience"])


@pytest.mark.parametrize("game", [LiarsDice(), PRESETS[3]], ids=name)
def test_the_heuristic_player_beats_random_play(game: LiarsDice):
    first, second = scores_against_random(game, heuristic, 2000, seed=5)
    assert np.mean(first) > 0.4
    assert np.mean(second) > 0.4


def test_the_heuristic_player_acts_by_the_odds():
    """One die of six sides, both rules: own dice and the last bid say what is sensible."""
    cases = {  # (own face, last bid or none): what may be done
        (3, " bid 1 of 2"): {" bid 1 of 3"},
        (3, " bid 1 of 4"): {" liar"},
        (6, " bid 1 of 5"): {" bid 1 of 6"},
        (2, " bid 2 of 6"): {" liar"},
        (6, " bid 2 of 1"): {" liar"},
        (3, None): {" bid 1 of 3"},
    }
    game = LiarsDice()
    labels = game.spec.action_labels
    choose = jax.jit(lambda state, key: heuristic(view_of_actor(game, state), key), compiler_options=QUICKLY)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    states = jax.device_get(compiled_init(game)(jax.random.split(jax.random.key(1), 200)))
    for (face, bid), sensible in cases.items():
        seat = int(bid is not None)
        index = int(np.flatnonzero(states.dice[:, seat, 0] == face - 1)[0])
        state = jax.tree.map(lambda leaf, index=index: jnp.asarray(leaf[index]), states)
        if bid is not None:
            state = step(state, jnp.int32(labels.index(bid)), jax.random.key(0))
        assert {labels[int(choose(state, jax.random.key(seed)))] for seed in range(3)} <= sensible


def test_a_transcript():
    game = LiarsDice(num_dice=2)
    states = jax.device_get(compiled_init(game)(jax.random.split(jax.random.key(0), 400)))
    index = int(np.flatnonzero((states.dice == [[1, 4], [2, 5]]).all(axis=(1, 2)))[0])
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[index]), states)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    for label in (" bid 2 of 5", " bid 3 of 2", " liar"):
        state = step(state, jnp.int32(game.spec.action_labels.index(label)), jax.random.key(0))
    rows = np.asarray(state.log.rows)[: int(state.log.size)].tolist()
    assert [event_text(game.spec, row) for row in rows] == [
        "You are Player 1", "You are Player 2", "Your dice are 2 5", "Your dice are 3 6",
        "Player 1: bid 2 of 5", "Player 2: bid 3 of 2", "Player 1: liar",
        "Player 1 shows 2 5", "Player 2 shows 3 6", "Player 1 wins",
    ]  # fmt: skip
    masks = np.asarray(state.log.audience)[: len(rows)].tolist()
    assert masks == [1, 2, 1, 2, 2, 1, 2, 3, 3, 3]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_dice": 0}, "num_dice is between 1 and 2, not 0"),
        ({"num_dice": 3}, "num_dice is between 1 and 2, not 3"),
        ({"dice_sides": 1}, "dice_sides is between 2 and 6, not 1"),
        ({"dice_sides": 7}, "dice_sides is between 2 and 6, not 7"),
        ({"bidding_rule": "any"}, "bidding_rule is one of reset-face, reset-quantity, not 'any'"),
        ({"speech_tokens": -1}, "speech_tokens is between 0 and 4096, not -1"),
        ({"thought_tokens": 5000}, "thought_tokens is between 0 and 4096, not 5000"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        LiarsDice(**parameters)
    assert str(refusal.value) == f"liars_dice-v0: {message}"
