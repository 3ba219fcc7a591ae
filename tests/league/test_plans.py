"""Who plays whom."""

from collections import Counter

import numpy as np
import pytest

from maro_jax.league.plans import match_plan, training_plan, warm_start_plan
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, OPPONENT, RANDOM


@pytest.mark.parametrize("sides", [2, 3])
@pytest.mark.parametrize("holder, opponent", [(LEARNER, OPPONENT), (HEURISTIC, RANDOM)])
def test_a_match_plays_every_deal_once_for_each_side(sides: int, holder: int, opponent: int):
    plan = match_plan(7, 4 * sides, sides, holder, opponent)
    assert plan.deal.tolist() == np.repeat(np.arange(7, 11), sides).tolist()
    for deal in range(7, 11):
        of_deal = plan.holders[plan.deal == deal]
        assert {int(np.flatnonzero(row == holder)[0]) for row in of_deal} == set(range(sides))
        assert np.all((of_deal == holder).sum(axis=1) == 1)
        assert np.all((of_deal == opponent).sum(axis=1) == sides - 1)
    assert len(set(plan.episode.tolist())) == len(plan.episode)
    following = match_plan(11, sides, sides, holder, opponent)
    assert not set(plan.episode.tolist()) & set(following.episode.tolist())


def test_a_match_that_favours_a_side_is_refused():
    with pytest.raises(ValueError, match="a match of 7 games does not play each deal 2 times; for example 8"):
        match_plan(0, 7, 2, LEARNER, RANDOM)


RIVALS = {"warm_start": (OPPONENT,), "past": (OPPONENT,), "scripted": (HEURISTIC,)}
RIVALS |= dict.fromkeys(("mix", "league"), (OPPONENT, HEURISTIC))


@pytest.mark.parametrize("first", [0, 48])
@pytest.mark.parametrize("sides", [2, 3])
@pytest.mark.parametrize("opponents", RIVALS)
def test_half_of_the_games_are_mirrors_and_in_the_others_each_rival_holds_each_side(
    opponents: str, sides: int, first: int
):
    plan = training_plan(opponents, first, 48, sides)
    tables = Counter(map(tuple, plan.holders.tolist()))
    assert tables.pop((LEARNER,) * sides) == 24
    rivals = RIVALS[opponents]
    expected = [tuple(np.where(np.arange(sides) == side, rival, LEARNER)) for rival in rivals for side in range(sides)]
    assert tables == dict.fromkeys(expected, 24 // len(expected))
    assert plan.episode.tolist() == plan.deal.tolist() == list(range(first, first + 48))


def test_episodes_of_a_deal_group_share_deal_and_holders_and_nothing_else():
    plan, single = training_plan("mix", 48, 96, 2, deal_group=4), training_plan("mix", 12, 24, 2)
    assert plan.episode.tolist() == list(range(48, 144))
    assert plan.deal.tolist() == np.repeat(single.deal, 4).tolist()
    assert plan.holders.tolist() == np.repeat(single.holders, 4, axis=0).tolist()


def test_who_plays_alone_has_no_opponents():
    assert np.all(training_plan("mix", 0, 8, 1).holders == LEARNER)
    plan = match_plan(3, 8, 1, LEARNER, RANDOM)
    assert plan.holders[:, 0].tolist() == 4 * [LEARNER, RANDOM]
    assert plan.deal.tolist() == [3, 3, 4, 4, 5, 5, 6, 6]
    assert warm_start_plan(0, 4, 1).holders[:, 0].tolist() == [HEURISTIC] * 4


def test_a_mirror_gives_the_learner_every_seat():
    plan = training_plan("mirror", 5, 9, 3)
    assert plan.holders.shape == (9, 3) and np.all(plan.holders == LEARNER)
    assert plan.episode.tolist() == list(range(5, 14))


def test_scripted_games_have_a_sensible_side_and_now_and_then_a_random_one():
    plan = warm_start_plan(16, 32, 2)
    assert set(np.unique(plan.holders)) == {HEURISTIC, RANDOM}
    assert np.all((plan.holders == HEURISTIC).any(axis=1))
    random_side = (plan.holders == RANDOM).mean(axis=0)
    assert random_side[0] == random_side[1] > 0
    assert plan.episode.tolist() == plan.deal.tolist() == list(range(16, 48))


@pytest.mark.parametrize("plan", [training_plan("mix", 0, 8, 2), warm_start_plan(0, 8, 2), match_plan(0, 8, 2, 0, 3)])
def test_plans_have_the_types_that_a_rollout_is_compiled_for(plan):
    assert (plan.episode.dtype, plan.deal.dtype, plan.holders.dtype) == (np.int32, np.int32, np.int8)
