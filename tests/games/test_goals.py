"""Goals against plain loops over transcripts, and against the games' own outcomes."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from games.core import GameError
from games.goals import OF_GAME, goals_of, reached
from games.plans import plans_of
from games.registry import make
from tests.games import naive_goals
from tests.games.planning import Planned, planned

# What is played: the games of a test of plans, so that they are compiled once.
PLAYED: dict[str, list[tuple[int, dict[str, Any]]]] = {
    "avalon-v0": [(24, {"discussion_rounds": 1})],
    "persuasion-v0": [(200, {"persuadee": who, "max_exchanges": 6}) for who in ("seat", "environment")],
    "shopping-v0": [(60, {"num_products": 40})],
}  # fmt: skip
GAMES = [(name, index) for name, variants in PLAYED.items() for index in range(len(variants))]


@functools.cache
def games_of(name: str, index: int = 0) -> tuple[Planned, np.ndarray]:
    """Games and bool[E, B, G] of the goals that were reached in them."""
    episodes, parameters = PLAYED[name][index]
    games = planned(name, episodes, **parameters)
    spec = games.game.spec
    return games, jax.device_get(reached(spec, goals_of(spec), *games.arrays))


@pytest.mark.parametrize(("name", "index"), GAMES)
def test_the_outcome_is_reached_with_the_last_behaviour_of_a_seat_that_gains(name: str, index: int):
    games, came = games_of(name, index)
    goals = goals_of(games.game.spec)
    seat, outcome = games.arrays[0].astype(int), games.arrays[5]
    (place,) = [index for index, goal in enumerate(goals) if goal.name == "outcome"]
    last = np.array([[k == np.flatnonzero(row == who).max() for k, who in enumerate(row)] for row in seat])
    gains = np.take_along_axis(outcome, np.maximum(seat, 0), axis=1) > 0
    np.testing.assert_array_equal(came[..., place], last & gains & (seat >= 0))
    assert not came[seat < 0].any()
    final = [index for index, goal in enumerate(goals) if goal.final]
    assert not came[~last][:, final].any()


@pytest.mark.parametrize("name", naive_goals.NAIVE)
def test_goals_are_those_of_plain_loops(name: str):
    games, came = games_of(name)
    during, final = naive_goals.NAIVE[name]
    goals, final = goals_of(games.game.spec), final | naive_goals.OUTCOME
    assert {goal.name: goal.final for goal in goals} == dict.fromkeys(during, False) | dict.fromkeys(final, True)
    for episode, of in enumerate(games.transcripts):
        for made, wanted in zip(of.decisions, naive_goals.reached(of, during, final), strict=True):
            mine = {goal.name for goal, true in zip(goals, came[episode, made.index], strict=True) if true}
            assert mine == wanted, (episode, made)


@pytest.mark.parametrize("name", PLAYED)
def test_every_plan_and_every_goal_occurs_and_none_always_does(name: str):
    goals = goals_of(make(name).spec)
    plans, came = set(), np.zeros((0, len(goals)), bool)
    for index in range(len(PLAYED[name])):
        games, reached_here = games_of(name, index)
        made = games.arrays[0] >= 0
        plans |= set(np.unique(games.plans[made]).tolist())
        came = np.concatenate([came, reached_here[made]])
    texts = plans_of(make(name).spec).texts
    assert plans == set(range(len(texts))), [text for plan, text in enumerate(texts) if plan not in plans]
    assert came.any(axis=0).all(), [goal.name for goal, once in zip(goals, came.any(axis=0), strict=True) if not once]
    assert not came.all(axis=0).any()


# Up to a constant the utilities add up to what a seat is paid: the largest error that is allowed, and in what unit.
PAID = {"avalon-v0": (0.0, lambda outcome: (outcome + 1) / 2),
        "persuasion-v0": (0.0, lambda outcome: outcome + 1),
        "shopping-v0": (0.1, lambda outcome: (outcome + 1) / 2)}  # fmt: skip


@pytest.mark.parametrize("name", PAID)
def test_utilities_add_up_to_what_the_game_pays(name: str):
    games, came = games_of(name, len(PLAYED[name]) - 1)
    error, pays = PAID[name]
    utility = np.array([goal.utility for goal in goals_of(games.game.spec)])
    seat, outcome = games.arrays[0], games.arrays[5]
    for own in range(outcome.shape[1]):
        ever = (came & (seat == own)[..., None]).any(axis=1)
        assert np.abs(ever @ utility - pays(outcome[:, own])).max() <= error + 1e-6


@pytest.mark.parametrize("name", OF_GAME)
def test_every_goal_is_told_in_three_ways_by_who_acts(name: str):
    goals = OF_GAME[name]
    assert 8 <= len(goals) <= 24 and len({goal.name for goal in goals}) == len(goals)
    (outcome,) = [goal for goal in goals if goal.name == "outcome"]
    assert outcome.final and outcome.utility > 0
    texts = [text for goal in goals for text in goal.texts]
    assert len(set(texts)) == len(texts)
    for goal in goals:
        assert len(goal.texts) >= 3 and all(text == text.strip() and not text.endswith(".") for text in goal.texts)


def test_a_game_without_goals_is_told():
    spec = dataclasses.replace(make("kuhn-v0").spec, name="chess-v0")
    with pytest.raises(GameError, match="chess-v0 has no goals; games that have some: "):
        goals_of(spec)
    assert plans_of(spec) is None
