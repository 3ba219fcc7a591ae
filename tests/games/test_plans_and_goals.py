"""Plans and goals against plain readings of transcripts; of every game all of them occur."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from games import goals as goals_by_game
from games import plans as plans_by_game
from games.core import GameError
from games.goals import goals_of, reached
from games.plans import plans_of
from games.registry import GAMES, make
from games.text.lexicon import build_lexicon
from tests.games import naive_goals, naive_plans
from tests.games.planning import Planned, planned
from tests.games.text import host

# What is played of each game: episodes and parameters.
PLAYED: dict[str, list[tuple[int, dict[str, Any]]]] = {
    "avalon-v0": [(24, {"discussion_rounds": 1})],
    "persuasion-v0": [(200, {"persuadee": who, "max_exchanges": 6}) for who in ("seat", "environment")],
    "shopping-v0": [(60, {"num_products": 40})],
    "kuhn-v0": [(200, {})],
    "liars_dice-v0": [(200, {})],
    "bargaining-v0": [(200, {"discount_percent": 90, "max_turns": 6})],
    "negotiation-v0": [(200, {"utterance_dim": 2})],
    "social_deduction-v0": [(60, {"num_impostors": 2, "max_rounds": 3})],
    "werewolf-v0": [(60, {"num_seats": 7, "max_days": 4}), (40, {"num_seats": 9, "rules": "makto", "max_days": 2})],
    "mystery-v0": [(60, {"num_seats": 4, "clues": "finder"})],
}
SLOW = ("bargaining-v0", "liars_dice-v0", "mystery-v0", "negotiation-v0", "social_deduction-v0", "werewolf-v0")


def marked(name: str, *more: Any) -> Any:
    """A case of the slow tier if its game takes long."""
    return pytest.param(name, *more, marks=pytest.mark.slow if name in SLOW else ())


NAMES = [marked(name) for name in PLAYED]


@functools.cache
def games_of(name: str, index: int = 0) -> tuple[Planned, np.ndarray]:
    """Games and bool[E, B, G] of the goals that were reached in them."""
    episodes, parameters = PLAYED[name][index]
    games = planned(name, episodes, **parameters)
    spec = games.game.spec
    return games, jax.device_get(reached(spec, goals_of(spec), *games.arrays))


def variants(name: str) -> list[tuple[Planned, np.ndarray]]:
    """The same of all that is played of a game."""
    return [games_of(name, index) for index in range(len(PLAYED[name]))]


# ---------------------------------------------------------------------- plans


def assert_same_plans(games: Planned, naive: Any) -> set[str]:
    """The plans are those of a naive reading, where it says something; returns those that it said."""
    said = set()
    for episode, of in enumerate(games.transcripts):
        for made, plan in zip(of.decisions, games.plan_texts(episode), strict=True):
            if (wanted := naive(of, made)) is not None:
                assert plan == wanted, (made, of.until(made).items[-12:])
                said.add(wanted)
    return said


@pytest.mark.parametrize(
    ("name", "naive"), [marked(name, naive) for name, naive in naive_plans.EXACT.items()], ids=[*naive_plans.EXACT]
)
def test_plans_are_those_of_a_plain_reading(name: str, naive: Any):
    said = set().union(*(assert_same_plans(games, naive) for games, _ in variants(name)))
    assert said == set(plans_of(make(name).spec).texts)


def test_plans_of_a_shopper():
    games, _ = games_of("shopping-v0")
    wordings = dict(games.game.spec.words)["instruction"]
    instructions = {id(of): wordings[of.events("instruction")[0].value] for of in games.transcripts}
    said = assert_same_plans(games, lambda of, made: naive_plans.shopping(of, made, instructions[id(of)]))
    assert len(said) == 9


@pytest.mark.slow
def test_plans_of_wolves_and_of_the_village():
    said = set().union(*(assert_same_plans(games, naive_plans.werewolf) for games, _ in variants("werewolf-v0")))
    assert len(said) == 9


@pytest.mark.parametrize("family", host.FAMILIES)
@pytest.mark.parametrize("name", PLAYED)
def test_every_plan_may_be_thought_and_is_of_whole_phrases(name: str, family: str):
    tokenizer, texts = host.tokenizer_of(family), plans_of(make(name).spec).texts
    lexicon = build_lexicon(make(name).spec, tokenizer, vocab_size=tokenizer.vocab_size, brief=True, thoughts=texts)
    assert len(set(texts)) == len(texts) == len(lexicon.scripted_thought)
    for text, span in zip(texts, lexicon.scripted_thought, strict=True):
        ids = lexicon.pool[lexicon.span_start[span] :][: lexicon.span_length[span]]
        assert text.startswith(" ") and text == text.rstrip() and tokenizer.decode(ids.tolist()) == text
        assert lexicon.thought_mask[ids].all()
        assert family != "tiny" or len(ids) <= 3


# ---------------------------------------------------------------------- goals


@pytest.mark.parametrize("name", NAMES)
def test_the_outcome_is_reached_with_the_last_behaviour_of_a_seat_that_gains(name: str):
    for games, came in variants(name):
        goals = goals_of(games.game.spec)
        seat, outcome = games.arrays[0].astype(int), games.arrays[5]
        (place,) = [index for index, goal in enumerate(goals) if goal.name == "outcome"]
        last = np.array([[k == np.flatnonzero(row == who).max() for k, who in enumerate(row)] for row in seat])
        gains = np.take_along_axis(outcome, np.maximum(seat, 0), axis=1) > 0
        np.testing.assert_array_equal(came[..., place], last & gains & (seat >= 0))
        assert not came[seat < 0].any()
        final = [index for index, goal in enumerate(goals) if goal.final]
        assert not came[~last][:, final].any()


@pytest.mark.parametrize("name", [marked(name) for name in naive_goals.NAIVE])
def test_goals_are_those_of_plain_loops(name: str):
    during, final = naive_goals.NAIVE[name]
    final = final | naive_goals.OUTCOME
    for games, came in variants(name):
        goals = goals_of(games.game.spec)
        assert {goal.name: goal.final for goal in goals} == dict.fromkeys(during, False) | dict.fromkeys(final, True)
        for episode, of in enumerate(games.transcripts):
            for made, wanted in zip(of.decisions, naive_goals.reached(of, during, final), strict=True):
                mine = {goal.name for goal, true in zip(goals, came[episode, made.index], strict=True) if true}
                assert mine == wanted, (episode, made)


# The largest error of the sum of utilities, and what it stands for, by outcome.
PAYS: dict[str, tuple[float, Any]] = {
    **dict.fromkeys(
        ("avalon-v0", "liars_dice-v0", "mystery-v0", "social_deduction-v0", "werewolf-v0"), (0.0, lambda won: won > 0)
    ),
    **dict.fromkeys(("bargaining-v0", "negotiation-v0", "shopping-v0"), (0.1, lambda share: (share + 1) / 2)),
    "kuhn-v0": (0.0, lambda half_chips: half_chips + 0.5),
    "persuasion-v0": (0.0, lambda dollars: dollars + 1),
}


@pytest.mark.parametrize("name", NAMES)
def test_utilities_add_up_to_what_the_game_pays(name: str):
    games, came = games_of(name, len(PLAYED[name]) - 1)  # of persuasion that of the persuader alone
    error, pays = PAYS[name]
    utility = np.array([goal.utility for goal in goals_of(games.game.spec)])
    seat, outcome = games.arrays[0], games.arrays[5]
    for own in range(outcome.shape[1]):
        decided = (seat == own).any(axis=1)
        ever = (came & (seat == own)[..., None]).any(axis=1)
        assert np.abs(ever @ utility - pays(outcome[:, own]))[decided].max() <= error + 1e-6


@pytest.mark.parametrize("name", PLAYED)
def test_every_goal_is_told_in_three_ways(name: str):
    goals = goals_of(make(name).spec)
    assert 8 <= len(goals) <= 24 and len({goal.name for goal in goals}) == len(goals)
    (outcome,) = [goal for goal in goals if goal.name == "outcome"]
    assert outcome.final and outcome.utility > 0
    texts = [text for goal in goals for text in goal.texts]
    assert len(set(texts)) == len(texts) and all(text == text.strip(" .") for text in texts)
    assert all(len(goal.texts) >= 3 for goal in goals)


# ---------------------------------------------------------------------- both


@pytest.mark.parametrize("name", NAMES)
def test_every_plan_and_every_goal_occurs_and_no_goal_always_does(name: str):
    spec = make(name).spec
    plans = np.concatenate([games.plans[games.arrays[0] >= 0] for games, _ in variants(name)])
    came = np.concatenate([reached_here[games.arrays[0] >= 0] for games, reached_here in variants(name)])
    dead = [text for plan, text in enumerate(plans_of(spec).texts) if not (plans == plan).any()]
    never = [goal.name for goal, once in zip(goals_of(spec), came.any(axis=0), strict=True) if not once]
    assert not dead and not never and not came.all(axis=0).any()


def test_every_game_has_plans_and_goals():
    assert set(plans_by_game.OF_GAME) == set(goals_by_game.OF_GAME) == set(PLAYED) == set(GAMES)
    assert goals_of(make("kuhn-v0").spec) is goals_of(make("kuhn-v0", speech_tokens=3).spec)


def test_a_game_of_somebody_elses_has_neither():
    spec = dataclasses.replace(make("kuhn-v0").spec, name="chess-v0")
    assert plans_of(spec) is None
    with pytest.raises(GameError, match="chess-v0 has no goals; games that have some: "):
        goals_of(spec)
