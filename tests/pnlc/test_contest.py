"""How agents are compared: common deals, their own seats, intervals of differences."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from games.registry import make
from maro_jax.pnlc.contest import WIN_RATE, Estimate, Played, contest_plan, measure_of, outcome_of, rows, standings
from maro_jax.pnlc.evaluate import report
from maro_jax.selfplay.episodes import API, HEURISTIC, Episodes


def test_every_deal_is_played_once_for_each_side():
    spec = make("avalon-v0", num_seats=5).spec
    plan = contest_plan(spec, [0, 1], 6, HEURISTIC, first=7)
    np.testing.assert_array_equal(plan.deal, [7, 7, 8, 8, 9, 9])
    np.testing.assert_array_equal(plan.holders, [[API, HEURISTIC], [HEURISTIC, API]] * 3)
    evil = contest_plan(spec, [spec.sides.index("evil")], 3, HEURISTIC)
    np.testing.assert_array_equal(evil.deal, [0, 1, 2])
    assert (evil.holders[:, spec.sides.index("evil")] == API).all() and (evil.holders == API).sum() == 3
    assert len(np.unique([*plan.episode, *evil.episode])) == 9  # no sampling is shared with other deals


def test_what_counts_is_the_outcome_of_the_agents_seats():
    spec = make("avalon-v0", num_seats=5).spec
    evil = spec.sides.index("evil")
    side = np.asarray(spec.side_of_role)
    bad, good = (int(np.flatnonzero(side == number)[0]) for number in (evil, 1 - evil))
    episodes = dataclasses.replace(
        Episodes.empty(spec, 2, 1),
        roles=np.array([[bad, good, good, good, bad], [good, bad, good, bad, good]]),
        outcome=np.array([[1, -1, -1, -1, 0.5], [-1, 1, -1, 1, -0.5]], np.float32),
    )
    found = outcome_of(spec, episodes, contest_plan(spec, [evil, 1 - evil], 2, HEURISTIC))
    np.testing.assert_allclose(found, [0.75, -2.5 / 3])


@pytest.mark.parametrize(
    ("game", "outcome", "value"),
    [("persuasion-v0", -1, 0.0), ("persuasion-v0", 1, 2.0), ("shopping-v0", 0.5, 75.0), ("avalon-v0", 1, 1.0)],
)
def test_measures_are_in_the_unit_of_the_papers(game, outcome, value):
    measured = measure_of(game)
    assert measured.scale * outcome + measured.shift == value


def test_an_estimate_is_the_mean_with_its_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    low, high = scipy.stats.norm.interval(0.95, values.mean(), scipy.stats.sem(values))
    found = Estimate.of(values)
    assert (found.mean, found.deals) == (pytest.approx(values.mean()), 400)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert np.isnan(Estimate.of(values[:1]).low)


def test_differences_are_taken_deal_by_deal_and_faults_leave_out_the_deal_for_all():
    rng = np.random.default_rng(1)
    luck = rng.normal(size=(50, 2))  # what the deal decides, the same for both agents
    gain = rng.normal(0.5, 0.1, size=(50, 2))
    nobody, somebody = np.zeros(100, bool), np.arange(100) == 7
    plain = Played(luck.ravel(), nobody, 300, 10.0)
    better = Played((luck + gain).ravel(), somebody, 300, 20.0)
    first, second = standings({"plain": plain, "rerank": better}, ["us", "them"], {"plain": [1.0, 3.0, 2.0]})
    kept = np.arange(50) != 3
    assert first.difference is None and first.faulty_games == 0 and second.faulty_games == 1
    assert first.measure.deals == second.measure.deals == 49
    assert second.difference == Estimate.of((gain[kept]).mean(axis=1))
    assert second.difference.high - second.difference.low < 0.1 < second.measure.high - second.measure.low
    assert second.sides["them"].mean == pytest.approx((luck + gain)[kept, 1].mean())
    assert (first.games_per_second, second.games_per_second) == (10.0, 20.0)
    assert first.seconds_per_decision == 2.0 and second.seconds_per_decision is None
    headers, lines = rows([first, second], WIN_RATE)
    assert {len(line) for line in lines} == {len(headers)} and headers[1] == "win rate"
    assert lines[1][3] == f"{second.difference.mean:+.3f}"


def test_an_agent_is_told_of_by_itself_too_when_another_played_no_deal_without_a_fault():
    value = np.arange(8.0)
    early = Played(value, np.arange(8) == 2, 30, 10.0)
    late = Played(value + 1, np.ones(8, bool), 30, 10.0)
    first, second = standings({"plain": early, "react": late}, ["us", "them"], {})
    assert first.measure.deals == second.measure.deals == 0 and np.isnan(first.measure.mean)
    assert first.own == Estimate.of(np.array([0.5, 4.5, 6.5])) and first.with_faulty_games.mean == 3.5
    assert second.own.deals == 0 and second.with_faulty_games == Estimate.of(np.array([1.5, 3.5, 5.5, 7.5]))
    told = report({
        "config": {"actor": "api:m", "num_games": 8}, "game": "kuhn-v0", "opponent": "heuristic",
        "agents": [dataclasses.asdict(each) for each in (first, second)],
        "table": dict(zip(("headers", "rows"), rows([first, second], WIN_RATE), strict=True)),
    })  # fmt: skip
    assert "api:m in kuhn-v0 against heuristic, 8 games each" in told and "9 games with moves" in told
    line = next(line for line in told.splitlines() if line.startswith("plain") and "3.500" in line)
    assert line.split()[1:4] == ["1", "3", "3.833"]
