"""Matches and their intervals, and plans of any length through programs of one size."""

import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from jax import monitoring

from games.core import Role
from games.registry import make
from games.werewolf_spec import KIND
from maro_jax.league.arena import Arena, Tally
from maro_jax.league.match import MatchResult, Rate, play_match, score_match
from maro_jax.league.memory import playing_bytes
from maro_jax.league.plans import match_plan, training_plan
from maro_jax.policy.config import TINY
from maro_jax.policy.decoder import Policy
from maro_jax.policy.tokenizer import tiny_tokenizer
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, OPPONENT, RANDOM, Episodes
from maro_jax.selfplay.table import Table
from tests.selfplay.playing import mesh_of

BATCH = 16


@functools.cache
def table() -> Table:
    tokenizer = tiny_tokenizer()
    config = dataclasses.replace(
        TINY, vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=48, num_layers=1, head_dim=8
    )
    return Table.lay(make("werewolf-v0", num_seats=5, max_days=3), Policy(config), tokenizer)


@functools.cache
def params(seed: int) -> Any:
    drawn = table().policy.init(jax.random.key(seed))
    return drawn | {"embedding": drawn["embedding"] * 3.0}


@functools.cache
def arena() -> Arena:
    capacity = table().stream_capacity(0, "refuse")
    return Arena(table(), mesh_of(), lanes=8, episodes=BATCH, capacity=capacity, seed=3)


def test_the_interval_is_the_normal_one_of_the_mean():
    scores = np.array([1.0, 0.0, 0.5, 1.0, 1.0, 0.0, 1.0])
    rate = Rate.of(scores)
    half = 1.96 * np.sqrt(np.sum((scores - scores.mean()) ** 2) / 6) / np.sqrt(7)
    assert (rate.mean, rate.count) == (pytest.approx(scores.mean()), 7)
    np.testing.assert_allclose([rate.low, rate.high], [rate.mean - half, rate.mean + half], rtol=1e-4)


def test_the_interval_is_about_that_of_a_bootstrap():
    chance = np.random.default_rng(0)
    scores = chance.choice([0.0, 0.5, 1.0], size=120, p=[0.3, 0.1, 0.6])
    means = scores[chance.integers(0, 120, (4000, 120))].mean(axis=1)
    rate = Rate.of(scores)
    np.testing.assert_allclose([rate.low, rate.high], np.quantile(means, [0.025, 0.975]), atol=0.012)


def test_the_interval_of_too_few_games_is_unknown():
    assert np.isnan([Rate.of(np.array([1.0])).low, Rate.of(np.array([1.0])).high]).all()
    assert Rate.of(np.array([1.0])).mean == 1.0
    assert np.isnan(Rate.of(np.array([])).mean)


def test_a_ratio_of_counts_has_the_interval_of_its_clusters():
    chance = np.random.default_rng(2)
    ones = np.ones(40)
    hits = (chance.random(40) < 0.6).astype(float)
    whole, plain = Rate.of_ratio(hits, ones), Rate.of(hits)
    np.testing.assert_allclose(dataclasses.astuple(whole), dataclasses.astuple(plain), rtol=1e-9)
    chances = chance.integers(1, 9, 200).astype(float)
    hits = chance.binomial(chances.astype(int), chance.beta(2, 3, 200)).astype(float)
    rate, drawn = Rate.of_ratio(hits, chances), chance.integers(0, 200, (4000, 200))
    resampled = hits[drawn].sum(axis=1) / chances[drawn].sum(axis=1)
    assert (rate.mean, rate.count) == (pytest.approx(hits.sum() / chances.sum()), int(chances.sum()))
    np.testing.assert_allclose([rate.low, rate.high], np.quantile(resampled, [0.025, 0.975]), atol=0.01)
    assert np.isnan(Rate.of_ratio(np.zeros(3), np.zeros(3)).mean) and Rate.of_ratio(ones[:1], ones[:1]).mean == 1


def scored(village_wins: np.ndarray) -> MatchResult:
    """A match of games with these winners; even games have the first player in the village."""
    count = len(village_wins)
    spec = table().spec
    roles = np.tile(np.array([0, 1, 2, 3, 3]), (count, 1))
    village = np.asarray(spec.side_of_role)[roles] == spec.sides.index("village")
    wins = np.asarray(village_wins)[:, None]
    episodes = dataclasses.replace(
        no_episodes(count),
        roles=roles.astype(np.int8),
        outcome=np.where(village == wins, 1.0, -1.0).astype(np.float32),
        terminated=np.ones(count, bool),
    )
    return score_match(arena(), episodes)


@functools.cache
def no_episodes(count: int) -> Episodes:
    return jax.device_get(Episodes.empty(table().spec, count, 4))


def test_scores_are_the_first_players_on_either_side():
    # Village wins by game; the first player is the village in games 0, 2, 4, 6 and the wolves in the others.
    result = scored(np.array([True, False, True, True, False, True, True, True]))
    assert table().spec.sides[0] == "village"
    assert (result.sides["village"].mean, result.sides["village"].count) == (0.75, 4)
    assert (result.sides["wolves"].mean, result.sides["wolves"].count) == (0.25, 4)
    assert result.total.mean == 0.5 and result.total.count == 4 and result.games == 8
    assert result.roles["seer"] == result.roles["villager"] == result.sides["village"]
    assert result.roles["wolf"] == result.sides["wolves"]
    assert result.truncated == 0


def test_what_the_first_player_did_is_told_of_its_own_seats_alone():
    vote, no_one = KIND["vote"], -1
    rows = np.full((4, table().spec.max_events, 4), no_one, np.int16)
    # Everybody in the village votes for the wolf (seat 0) in game 0 and seat 1 does in game 1; roles as in `scored`.
    for game, voters in ((0, (1, 2, 3, 4)), (1, (1,)), (2, (1,))):
        for place, seat in enumerate(voters):
            rows[game, place] = (vote, seat, 0 if game < 2 else 3, no_one)
    roles = np.tile(np.array([0, 1, 2, 3, 3], np.int8), (4, 1))
    episodes = dataclasses.replace(
        no_episodes(4), roles=roles, event_rows=rows, event_count=np.array([4, 1, 1, 0], np.int16),
        terminated=np.array([True, True, True, False]),
    )  # fmt: skip
    votes = score_match(arena(), episodes).play["village_votes_for_wolf"]
    assert (votes.mean, votes.count) == (pytest.approx(0.8), 5)  # the first player is no villager in game 1
    assert "seer_checks_wolf" not in score_match(arena(), episodes).play


def test_games_of_one_deal_count_as_one_observation():
    # A deal that the village always wins gives each player one win: no uncertainty about who is better.
    won = np.repeat(np.random.default_rng(0).random(50) < 0.5, 2)
    result = scored(won)
    assert result.total.mean == 0.5 and result.total.high - result.total.low == 0
    assert result.sides["village"].high - result.sides["village"].low > 0.1
    # Deals that one player wins from both sides: as wide as that of 50 games, not of 100.
    chance = np.random.default_rng(1).random(50) < 0.5
    result = scored(np.stack([chance, ~chance], axis=1).ravel())
    games = np.repeat(chance, 2).astype(float)
    assert result.total.mean == pytest.approx(chance.mean())
    assert result.total.high - result.total.low == pytest.approx(
        np.sqrt(2) * (Rate.of(games).high - Rate.of(games).low), rel=0.02
    )


def scored_outcomes(sides: int, outcome: list[list[float]]) -> MatchResult:
    """A match of a game with one seat a side, from its outcomes by game and seat."""
    roles = tuple(Role(f"role {side}", f"side {side}") for side in range(sides))
    spec = dataclasses.replace(table().spec, num_seats=sides, roles=roles, sides=tuple(role.side for role in roles))
    place: Any = SimpleNamespace(table=SimpleNamespace(spec=spec))
    episodes = dataclasses.replace(
        no_episodes(len(outcome)),
        roles=np.tile(np.arange(sides, dtype=np.int8), (len(outcome), 1)),
        outcome=np.asarray(outcome, np.float32),
        terminated=np.ones(len(outcome), bool),
    )
    return score_match(place, episodes)


def test_where_both_gain_the_rival_in_the_same_seat_is_the_yardstick():
    # The first player earns 0.5 and 0.75 of the most, its rival 0.25 in seat 0 and 0.75 in seat 1.
    result = scored_outcomes(2, [[0.0, 0.5], [-0.5, 0.5]] * 3)
    assert (result.sides["side 0"].mean, result.sides["side 1"].mean) == (0.5, 0.75)
    assert result.total.mean == 0.5 + (0.25 + 0.0) / 4 and result.total.count == 3


def test_who_plays_alone_is_compared_on_the_same_deals():
    result = scored_outcomes(1, [[1.0], [0.0], [-1.0], [-0.5]])
    assert result.sides["side 0"].mean == 0.5 and result.sides["side 0"].count == 2
    assert result.total.mean == 0.5 + np.mean([0.5, -0.25]) / 2
    assert result.games == 4 and result.roles["role 0"].mean == 0.5


def test_among_three_sides_the_mean_rival_counts():
    outcome = [[1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0]]  # the first player wins on sides 0 and 1
    result = scored_outcomes(3, outcome * 2)
    own, rival = np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.0, 0.0])
    assert result.total.mean == pytest.approx(0.5 + np.mean(own - rival) / 2)


def test_intervals_hold_the_truth_as_often_as_they_say():
    chance, held, trials = np.random.default_rng(4), 0, 400
    for _ in range(trials):
        # The village is ahead in some deals, the better player (60 %) in all.
        tilt = np.repeat(chance.choice([-0.3, 0.3], 60), 2)
        better_wins = chance.random(120) < 0.6 + tilt * np.tile([1, -1], 60)
        village_wins = np.where(np.arange(120) % 2 == 0, better_wins, ~better_wins)
        total = scored(village_wins).total
        held += total.low <= 0.6 <= total.high
    assert 0.92 <= held / trials <= 0.98


def test_a_policy_is_as_good_as_itself():
    result = play_match(arena(), params(0), params(0), 95, purpose=1)
    assert result.games == 96
    assert result.total.low <= 0.5 <= result.total.high
    assert result.total.high - result.total.low < 0.35
    assert result.sides["village"].count == result.sides["wolves"].count == 48


def test_the_heuristic_player_beats_the_random_one_from_both_sides():
    plan = match_plan(0, 320, 2, HEURISTIC, RANDOM)
    result = score_match(arena(), arena().play([], plan, 2))
    assert result.total.low > 0.5
    other_way = score_match(arena(), arena().play([], match_plan(0, 320, 2, RANDOM, HEURISTIC), 2))
    assert other_way.total.high < 0.5


@pytest.mark.parametrize("against, holder", [("heuristic", HEURISTIC), ("random", RANDOM)])
def test_a_match_against_a_scripted_player_seats_it_on_the_other_side(against: str, holder: int):
    result = play_match(arena(), params(0), against, 32, purpose=3)
    assert result.games == 32 and set(result.sides) == {"village", "wolves"}
    plan = match_plan(0, 32, 2, LEARNER, holder)
    episodes = arena().play([params(0)], plan, 3, temperature=[1.0])
    assert score_match(arena(), episodes) == result
    made, side = episodes.behaviours, np.asarray(table().spec.side_of_role)
    first_player = side[made.role] == (np.arange(32) % 2)[:, None]
    present = made.seat >= 0
    assert np.all(made.holder[present & first_player] == LEARNER)
    assert np.all(made.holder[present & ~first_player] == holder)


def test_a_short_last_batch_is_played_and_its_filling_dropped():
    whole, cut = (training_plan("warm_start", 0, count, 2) for count in (2 * BATCH, BATCH + 5))
    models = [params(0), params(1)]
    expected, tally = arena().play(models, whole, 4), Tally()
    episodes = arena().play(models, cut, 4, tally=tally)
    assert len(episodes.lengths) == BATCH + 5 and tally.games == BATCH + 5
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one, other[: BATCH + 5]), episodes, expected)
    few = arena().play(models, training_plan("warm_start", 0, 3, 2), 4)
    jax.tree.map(lambda one, other: np.testing.assert_array_equal(one, other[:3]), few, expected)
    assert {LEARNER, OPPONENT} == set(np.unique(episodes.behaviours.holder[episodes.behaviours.seat >= 0]))
    assert 0 < tally.rates()["lane_occupancy"] <= 1 and tally.rates()["games_per_second"] > 0


def test_purposes_do_not_share_their_chance():
    plan = training_plan("mirror", 0, BATCH, 2)
    one, same, other = (arena().play([params(0), params(1)], plan, purpose) for purpose in (5, 5, 6))
    np.testing.assert_array_equal(one.tokens, same.tokens)
    assert not np.array_equal(one.roles, other.roles)


def test_a_rollout_takes_the_memory_that_was_planned():
    place = arena()
    place.play([params(0), params(1)], training_plan("mirror", 0, BATCH, 2), 8)
    used = place._programs[2].memory_analysis()  # type: ignore[attr-defined]
    planned = sum(playing_bytes(place, place.sizes).values())
    taken = used.temp_size_in_bytes + used.argument_size_in_bytes + used.output_size_in_bytes
    # In so small a program, compiled without optimization, what the game itself computes is a sixth of it.
    assert taken == pytest.approx(planned, rel=0.25)


def test_programs_are_compiled_once():
    place = arena()
    place.play([params(0), params(1)], training_plan("warm_start", 0, BATCH, 2), 7)
    compiled: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if "backend_compile" in event:
            compiled.append(event)

    monitoring.register_event_duration_secs_listener(listen)
    try:
        seconds = place.tally.compile_seconds
        for seed in range(3):
            plan = training_plan("mirror" if seed else "warm_start", 100 * seed, BATCH + seed, 2)
            heat = [0.5 + seed, 1.0]
            two = place.play([params(seed), params(1)], plan, 7, temperature=heat)
        one = place.play([params(2)], plan, 7, temperature=heat[:1])
        np.testing.assert_array_equal(one.tokens, two.tokens)
        assert place.tally.compile_seconds == seconds
        assert compiled == []
        jax.jit(lambda x: x * 3 + 1).lower(1.5).compile()
        assert compiled
    finally:
        monitoring.unregister_event_duration_listener(listen)
