"""Episodes that models have played: the rules' own, streams as told, every episode of a plan, streams that are full."""

import dataclasses

import jax
import numpy as np
import pytest

from games.core import GameError
from games.registry import make
from maro_jax.policy.models import load_policy
from maro_jax.selfplay.episodes import HEURISTIC, RANDOM, Episodes
from maro_jax.selfplay.table import Table
from tests.games.replay_werewolf import _chance as chance_of_the_step
from tests.games.werewolf_referee import PHASES, ROLES, Referee
from tests.selfplay.playing import EPISODES, GAMES, all_learners, every_pairing, plan_of, played, program, world
from tests.selfplay.replies import behaviours_of, check_streams, log_of, reply_of


@pytest.mark.parametrize("name", GAMES)
def test_the_referee_agrees_with_every_episode(name: str):
    episodes = played(name)
    made = episodes.behaviours
    for episode in range(EPISODES):
        roles = [ROLES[role] for role in episodes.roles[episode]]
        referee = Referee(GAMES[name], roles)
        log, steps = log_of(episodes, episode), episodes.event_step[episode]
        for decision, seat, _ in behaviours_of(episodes, episode):
            assert not referee.over
            assert (referee.step_index, referee.actor) == (decision, seat)
            assert PHASES.index(referee.phase) == made.phase[episode, decision]
            assert sorted(referee.legal_actions()) == np.flatnonzero(made.legal[episode, decision]).tolist()
            action = int(made.action[episode, decision])
            assert made.legal[episode, decision, action]
            before = len(referee.log)
            assert np.all(steps[:before] <= decision)
            after = int(np.searchsorted(steps[: len(log)], decision + 1, side="right"))
            chance = chance_of_the_step(log[:after], before)
            if decision + 1 < made.seat.shape[1] and PHASES[made.phase[episode, decision + 1]] == "speak":
                chance["first_speaker"] = int(made.seat[episode, decision + 1])
            referee.step(action, chance)
            assert len(referee.log) == after
        assert referee.over
        assert (referee.terminated, referee.truncated) == (episodes.terminated[episode], episodes.truncated[episode])
        assert referee.outcome == episodes.outcome[episode].tolist()
        assert log == [(*event[:4], sum(1 << seat for seat in event[4])) for event in referee.log]
    assert (episodes.terminated | episodes.truncated).all()
    np.testing.assert_array_equal(episodes.finished, episodes.terminated)


@pytest.mark.parametrize("name", GAMES)
def test_streams_are_what_a_seat_was_told_and_replied(name: str):
    assert check_streams(world(name).table, played(name)) > 4 * EPISODES


def test_holders_are_those_of_the_seats_sides():
    table, episodes = world("text").table, played("text")
    made, sides = episodes.behaviours, np.asarray(table.spec.side_of_role)
    for episode in range(EPISODES):
        for decision, seat, _ in behaviours_of(episodes, episode):
            side = sides[episodes.roles[episode, seat]]
            assert made.holder[episode, decision] == (episode // 4 if side == 0 else episode % 4)


def test_every_episode_of_a_plan_is_played_once_in_its_place():
    rollout = program("acts", "few lanes", models=0, scripted=True)
    holders = np.where(np.arange(2 * EPISODES).reshape(EPISODES, 2) % 3 == 0, RANDOM, HEURISTIC)
    plan = plan_of(holders, first=100)
    order = np.random.default_rng(2).permutation(EPISODES)
    straight, usage = rollout.play((), plan)
    shuffled, _ = rollout.play((), jax.tree.map(lambda leaf: leaf[order], plan))
    assert (straight.behaviours.seat[:, 0] >= 0).all() and (straight.terminated | straight.truncated).all()
    assert len({stream.tobytes() for stream in straight.behaviours.action}) == EPISODES
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one[order], other), straight, shuffled)
    assert usage.busy[:, 0].sum() <= usage.busy[:, 1].sum()
    assert usage.sampled.sum() == 0


def test_shared_deals_share_the_roles_and_their_own_number_the_players_chance():
    rollout = program("acts", "few lanes", models=0, scripted=True)
    plan = plan_of(np.full((EPISODES, 2), RANDOM))
    episodes, _ = rollout.play((), dataclasses.replace(plan, deal=plan.deal // 4))
    roles = episodes.roles.reshape(4, 4, -1)
    assert (roles == roles[:, :1]).all()
    assert len({row.tobytes() for row in roles[:, 0]}) > 1
    assert len({actions.tobytes() for actions in episodes.behaviours.action}) == EPISODES
    again, _ = rollout.play((), plan, seed=1)
    assert not np.array_equal(again.behaviours.action, rollout.play((), plan)[0].behaviours.action)


def test_usage_counts_the_sampled_tokens():
    place, rollout = world("acts"), program("acts", "few lanes", models=1, scripted=False)
    episodes, usage = rollout.play(place.params, plan_of(all_learners()))
    assert usage.sampled.sum() == (episodes.node > 0).sum()
    # Every token but those after a seat's last choice goes through the model once.
    positions = np.arange(episodes.node.shape[2]) * (episodes.node > 0)
    assert usage.ingest[:, 0].sum() + usage.decode[:, 0].sum() == positions.max(axis=2).sum()
    assert np.all(usage.ingest[:, 0] <= usage.ingest[:, 1]) and np.all(usage.decode[:, 0] <= usage.decode[:, 1])


def check_overflow(name: str, capacity: int, roomy: Episodes, tight: Episodes) -> None:
    """Compares a rollout of little capacity with one that has room for everything."""
    table, full = world(name).table, tight.overflowed
    assert 0 < full.sum() < EPISODES
    assert tight.tokens.shape[2] == capacity and tight.lengths.max() <= capacity
    assert not (tight.terminated | tight.truncated)[full].any() and not tight.finished[full].any()
    assert not tight.outcome[full].any()
    # Others are as they would have been, also beside a stream that was full.
    np.testing.assert_array_equal(roomy.lengths[~full] <= capacity, True)
    kept = (tight.tokens, tight.node, tight.decision)
    whole = (roomy.tokens, roomy.node, roomy.decision)
    inside = np.arange(capacity) < tight.lengths[..., None]
    for short, long in zip(kept, whole, strict=True):
        np.testing.assert_array_equal(short, np.where(inside, long[..., :capacity], 0))
    np.testing.assert_array_equal(tight.lengths[~full], roomy.lengths[~full])
    made, all_made = tight.behaviours, roomy.behaviours
    for episode in range(EPISODES):
        count = int((made.seat[episode] >= 0).sum())
        assert count == (all_made.seat[episode] >= 0).sum() or full[episode]
        for short, long in zip(jax.tree.leaves(made), jax.tree.leaves(all_made), strict=True):
            np.testing.assert_array_equal(short[episode, :count], long[episode, :count])
        for decision, _, ids in behaviours_of(tight, episode):
            reply_of(table, tight, episode, decision, ids)


def test_a_full_stream_ends_its_episode_and_touches_nothing_else():
    capacity, place = 72, world("acts")
    rollout = program("acts", "few lanes", models=1, scripted=False, capacity=capacity)
    tight, _ = rollout.play(place.params, plan_of(all_learners()))
    check_overflow("acts", capacity, played("acts"), tight)


@pytest.mark.slow
def test_a_full_stream_of_text_ends_its_episode_and_touches_nothing_else():
    capacity, place = 110, world("text")
    rollout = program("text", "a lane a game", models=2, scripted=True, capacity=capacity)
    tight, _ = rollout.play(place.params, plan_of(every_pairing()))
    check_overflow("text", capacity, played("text"), tight)


def test_the_capacity_asked_for_is_refused_where_it_cannot_do():
    table = world("acts").table
    worst = table.lexicon.max_stream
    assert table.stream_capacity(0, "refuse") == table.stream_capacity(worst, "refuse") == worst
    assert table.stream_capacity(50, "truncate") == 50
    assert table.stream_capacity(worst + 9, "refuse") == worst + 9
    with pytest.raises(GameError, match=rf"werewolf-v0 can reach {worst} tokens but --capacity is {worst - 1}"):
        table.stream_capacity(worst - 1, "refuse")
    with pytest.raises(GameError, match="exceed the model's 8192 positions.*max_days=3"):
        table.stream_capacity(8192, "refuse")
    policy, _, tokenizer = load_policy("tiny")
    long = Table.lay(make("werewolf-v0", speech_tokens=400, thought_tokens=400), policy, tokenizer)
    with pytest.raises(GameError, match="exceed the model's 8192 positions"):
        long.stream_capacity(0, "refuse")
    assert long.stream_capacity(4000, "truncate") == 4000
