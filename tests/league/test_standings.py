"""Round robins and the ratings that explain them."""

import itertools

import numpy as np
import pytest

from maro_jax.league.match import NORMAL_95, MatchResult, Rate, play_match
from maro_jax.league.standings import Standings, elo_ratings, round_robin
from tests.league.test_match import arena, params

STRENGTHS = np.array([0.0, 120.0, -60.0, 260.0])


def expected_rate(difference: float, count: int = 10**6, half: float = 0.01) -> Rate:
    mean = 1 / (1 + 10 ** (-difference / 400))
    return Rate(mean, mean - half, mean + half, count)


def pairs(players: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(players), 2))


def test_strengths_are_found_again():
    rates = {(one, other): expected_rate(STRENGTHS[one] - STRENGTHS[other]) for one, other in pairs(4)}
    ratings = elo_ratings(4, rates)
    np.testing.assert_allclose([rating.mean for rating in ratings], STRENGTHS - STRENGTHS.mean(), atol=0.01)
    assert [rating.count for rating in ratings] == [3 * 10**6] * 4


def test_two_players_have_the_interval_of_their_match():
    rate = Rate(0.64, 0.60, 0.68, 10**7)
    first, second = elo_ratings(2, {(0, 1): rate})
    width = (first.high - first.low) / 2 + (second.high - second.low) / 2  # half of each falls to either
    slope = 400 / np.log(10) / (0.64 * 0.36)
    np.testing.assert_allclose(width, slope * 0.04, rtol=1e-4)
    assert first.mean == pytest.approx(-second.mean) and first.mean > 0


def test_who_always_wins_has_a_finite_rating():
    ratings = elo_ratings(3, {pair: Rate(1.0, 1.0, 1.0, 100) for pair in pairs(3)})
    assert ratings[0].mean > ratings[1].mean + 100 > ratings[2].mean + 200
    assert np.isfinite([rating.mean for rating in ratings]).all()


def test_intervals_hold_the_truth_as_often_as_they_say():
    chance, truth, games, inside = np.random.default_rng(0), STRENGTHS - STRENGTHS.mean(), 200, []
    for _ in range(400):
        rates = {}
        for one, other in pairs(4):
            scores = chance.random(games) < expected_rate(STRENGTHS[one] - STRENGTHS[other]).mean
            rates[one, other] = Rate.of(scores.astype(float))
        ratings = elo_ratings(4, rates)
        inside.append([rating.low <= true <= rating.high for rating, true in zip(ratings, truth, strict=True)])
    assert 0.93 < np.mean(inside) < 0.97


SIDES = ("village", "wolves")


def by_side(strengths: np.ndarray) -> Standings:
    """Standings after many games of players with a strength on each side, strengths float[players, 2]."""
    matches = {}
    for one, other in pairs(len(strengths)):
        sides = [expected_rate(strengths[one, s] - strengths[other, 1 - s]) for s in (0, 1)]
        total = Rate(np.mean([side.mean for side in sides]), 0, 1, sides[0].count)
        matches[one, other] = MatchResult(total, dict(zip(SIDES, sides, strict=True)), {}, 0, 0.0)
    return Standings.of([str(player) for player in range(len(strengths))], matches)


def test_strengths_on_each_side_are_found_again():
    strengths = np.array([[100.0, -80.0], [0.0, 40.0], [-150.0, 10.0]])
    strengths[:, 1] += 200.0  # the game itself favours a side, which is nobody's merit
    found = by_side(strengths).side_ratings
    assert tuple(found) == SIDES
    means = np.array([[rating.mean for rating in found[side]] for side in SIDES]).T
    np.testing.assert_allclose(means, strengths - strengths.mean(axis=0), atol=0.01)
    assert by_side(strengths[:2]).side_ratings == {}


def test_everybody_plays_everybody():
    players = {"learner": params(0), "other": params(1), "heuristic": "heuristic", "random": "random"}
    seen: list[int] = []
    heat = [1.0] * 4
    standings = round_robin(arena(), players, 16, purpose=11, temperatures=heat, finished=seen.append)
    assert standings.names == tuple(players) and list(standings.matches) == pairs(4) and seen == [1, 2, 3, 4, 5, 6]
    assert {result.games for result in standings.matches.values()} == {16}
    assert standings.matches[0, 1] == play_match(arena(), params(0), params(1), 16, purpose=11)
    assert standings.matches[2, 3] == play_match(arena(), "heuristic", "random", 16, purpose=16)
    assert standings.matches[2, 3].total.mean > 0.5


def test_the_table_has_the_best_first_and_each_row_its_own_rates():
    half = NORMAL_95 * 0.02
    rates = {(0, 1): 0.3, (0, 2): 0.6, (1, 2): 0.9}
    totals = {pair: Rate(mean, mean - half, mean + half, 400) for pair, mean in rates.items()}
    matches = {pair: MatchResult(total, dict.fromkeys(SIDES, total), {}, 400, 0.0) for pair, total in totals.items()}
    standings = Standings.of(("a", "b", "c"), matches)
    headers, rows = standings.rows()
    assert headers == ["", "Elo", "95 % interval", "as village", "as wolves", "vs b", "vs a", "vs c"]
    assert [row[0] for row in rows] == ["b", "a", "c"]
    best = standings.side_ratings["wolves"][1]
    assert rows[0][4] == f"{best.mean:+.0f} ± {(best.high - best.low) / 2:.0f}"
    assert [row[5:] for row in rows] == [["", "0.700", "0.900"], ["0.300", "", "0.600"], ["0.100", "0.400", ""]]
    assert sum(rating.mean for rating in standings.ratings) == pytest.approx(0)
    against = standings.win_rate(1, 0)
    assert (against.mean, against.low, against.high) == pytest.approx((0.7, 0.7 - half, 0.7 + half))
