"""A game led by the host, turn by turn, is the game that a rollout plays."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.registry import make
from games.text.grammar import SPEECH_TOKEN
from maro_jax.policy.models import load_policy
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, PERSON, RANDOM, Episodes, RolloutPlan
from maro_jax.selfplay.hosted import Reply, seated_game
from maro_jax.selfplay.rollout import play
from maro_jax.selfplay.table import RolloutSizes, Table
from tests.selfplay.playing import COMPILER_OPTIONS, World, world

SEED = 5


@pytest.fixture(scope="module")
def table_and_params() -> World:
    return world("text")


@pytest.fixture(scope="module")
def scripted(table_and_params: World) -> Episodes:
    """One game of heuristic players, by a rollout; as persons do, they think nothing."""
    table = dataclasses.replace(table_and_params.table, plans=None)
    sizes = RolloutSizes.fit(table, 1, table.stream_capacity(0, "refuse"))
    zero = jnp.zeros(1, jnp.int32)
    plan = RolloutPlan(zero, zero, jnp.full((1, len(table.spec.sides)), HEURISTIC, jnp.int8))

    def rollout() -> Episodes:
        return play(table, sizes, 0, True, None, jnp.ones((0,)), jax.random.key(SEED), plan)[0]

    return jax.device_get(jax.jit(rollout, compiler_options=COMPILER_OPTIONS)())


def test_persons_who_do_and_say_what_scripted_players_did_leave_the_same_streams(
    table_and_params: World, scripted: Episodes
):
    table, made = table_and_params.table, scripted.behaviours
    game = seated_game(table, table.stream_capacity(0, "refuse"), [PERSON] * table.spec.num_seats, SEED)
    asked = 0
    while due := game.run():
        [turn] = due
        seat, decision = turn.seat, turn.decision
        assert seat == made.seat[0, decision]
        assert list(turn.legal) == np.flatnonzero(made.legal[0, decision]).tolist()
        reply = slice(made.start[0, decision], made.end[0, decision])
        kinds, tokens = scripted.node[0, seat, reply], scripted.tokens[0, seat, reply]
        spoken = tokens[(kinds == SPEECH_TOKEN) & (tokens != table.lexicon.section_close)]
        game.reply({0: Reply(int(made.action[0, decision]), spoken.tolist())})
        asked += 1
    assert asked > 10
    played = game.episodes()
    for name in ("tokens", "node", "decision", "lengths", "roles", "outcome", "event_rows", "event_audience"):
        np.testing.assert_array_equal(getattr(played, name), getattr(scripted, name), name)
    chosen = made.seat[0] >= 0
    assert set(played.behaviours.holder[0, chosen]) == {PERSON}


def test_a_policy_and_scripted_players_sit_beside_a_person(table_and_params: World):
    table, (params, _) = table_and_params.table, table_and_params.params
    holders = [PERSON, LEARNER, HEURISTIC, RANDOM, LEARNER]
    game = seated_game(table, table.stream_capacity(0, "refuse"), holders, SEED, params)
    while due := game.run():
        [turn] = due
        assert turn.seat == 0
        game.reply({0: Reply(turn.legal[0], table.tokenizer.encode(" I accuse Player 2, I accuse Player 3"))})
    played = game.episodes()
    assert played.finished[0] or played.truncated[0]
    made = played.behaviours
    for decision in np.flatnonzero(made.seat[0] >= 0):
        seat = made.seat[0, decision]
        assert made.holder[0, decision] == holders[seat]
        reply = slice(made.start[0, decision], made.end[0, decision])
        sampled = played.log_probs[0, seat, reply].sum() < 0
        assert sampled == (holders[seat] == LEARNER)
    spoken = np.asarray(game.lanes.utterance_lengths[0])[: int(game.lanes.game.step[0])]
    assert spoken.max() == table.spec.speech_tokens  # cut at the budget


def test_what_nobody_may_say_is_left_out(table_and_params: World):
    table = table_and_params.table
    game = seated_game(table, table.stream_capacity(0, "refuse"), [PERSON] * table.spec.num_seats, SEED)
    word = table.tokenizer.encode(" accuse")
    [turn] = game.run()
    while not table.spec.phases[turn.phase].speech_tokens:
        game.reply({0: Reply(turn.legal[0])})
        [turn] = game.run()
    game.reply({0: Reply(turn.legal[0], [table.lexicon.section_close, *word, table.tokenizer.pad_id])})
    assert game.said(0, turn.decision) == "accuse"


def test_decisions_without_a_choice_at_the_beginning_are_of_their_seats_too():
    policy, _, tokenizer = load_policy("tiny")
    table = Table.lay(make("negotiation-v0", instances="4/0,2,3/8,1,2/0,5,2"), policy, tokenizer)
    game = seated_game(table, table.stream_capacity(0, "refuse"), [HEURISTIC, PERSON], SEED)
    while due := game.run():
        assert due[0].seat == 1
        game.reply({0: Reply(due[0].legal[0])})
    made = game.episodes().behaviours
    seats = made.seat[0][made.seat[0] >= 0]
    assert made.legal[0, 0].sum() == 1 and seats[0] == 0  # of what there is nothing of, nothing can be kept
    np.testing.assert_array_equal(made.holder[0, : len(seats)], np.array([HEURISTIC, PERSON])[seats])
