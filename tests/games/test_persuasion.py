"""The compiled persuasion against the referee, its chances, its bounds, what it hides, and how its players fare."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from collections import Counter, defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games import testing
from games.core import GameError, SeatView, view_of_actor
from games.persuasion import ACTS, AGREE, APPEALS, ASK, GIVE, KIND, Persuasion, PersuasionState
from games.players.persuasion import heuristic
from games.players.scripted import random_legal
from games.testing import QUICKLY, Played, play
from tests.games import persuasion_referee as rules

PRESETS: list[dict[str, Any]] = [{}, {"persuadee": "seat", "speech_tokens": 3, "thought_tokens": 2}]
OTHERS: list[dict[str, Any]] = [
    {"max_exchanges": 2},
    {"max_exchanges": 16, "budget_cents": 150, "speech_tokens": 2},
    {"persuadee": "seat", "max_exchanges": 16, "budget_cents": 25},
    {"persuadee": "seat", "max_exchanges": 3, "budget_cents": 175, "thought_tokens": 2},
]


def name(parameters: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in parameters.items()) or "default"


def mixed(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the heuristic player's action three times in five; else a legal one, seldom any number at all."""
    which, act_key, any_key = jax.random.split(key, 3)
    draw = jax.random.uniform(which)
    anything = jax.random.randint(any_key, (), -3, view.legal.shape[0] + 4)
    action = jnp.where(draw < 0.6, heuristic(view, act_key), random_legal(view, act_key))
    return jnp.where(draw > 0.96, anything, action)


@functools.cache
def recorded(parameters: tuple[tuple[str, Any], ...]) -> Played:
    return play(Persuasion(**dict(parameters)), 500, seed=7, player=mixed)


def games_of(parameters: dict[str, Any]) -> Played:
    """500 games, recorded once a session."""
    return recorded(tuple(parameters.items()))


# ---------------------------------------------------------------------- the referee


class Draws:
    """Counts what was drawn in each situation, by the place of what was drawn among all that is possible."""

    def __init__(self) -> None:
        self.chances: dict[str, list[int]] = {}
        self.counts: dict[str, Counter[int]] = defaultdict(Counter)

    def note(self, situation: str, chances: rules.Chances, value: int) -> None:
        assert self.chances.setdefault(situation, list(chances.values())) == list(chances.values())
        self.counts[situation][list(chances).index(value)] += 1

    def excess(self) -> float:
        """Pearson's statistic over all situations, less its degrees of freedom, in its standard deviations."""
        statistic, freedom = 0.0, 0
        for situation, chances in self.chances.items():
            counts = [self.counts[situation][place] for place in range(len(chances))]
            if sum(counts) * min(chances) >= 500 and len(chances) > 1:  # five expected of each
                statistic += pearson(counts, chances)
                freedom += len(chances) - 1
        assert freedom > 10
        return (statistic - freedom) / np.sqrt(2 * freedom)


def pearson(counts: list[int], percent: list[int]) -> float:
    """Pearson's statistic of counts."""
    expected = [sum(counts) * chance / 100 for chance in percent]
    return sum((count - e) ** 2 / e for count, e in zip(counts, expected, strict=True))


def judged(parameters: dict[str, Any], played: Played) -> tuple[Counter[str], Draws]:
    """Replays recorded games; how they ended and what was drawn."""
    names = [field.name for field in dataclasses.fields(Played)]
    records = {field: getattr(played, field).tolist() for field in names}
    endings, draws = Counter[str](), Draws()
    for episode in range(len(played.roles)):
        record = {field: records[field][episode] for field in names}
        endings[rules.replay(parameters, record, draws.note).ending] += 1
    return endings, draws


@pytest.mark.parametrize("parameters", PRESETS, ids=name)
def test_the_referee_agrees_with_every_step(parameters: dict[str, Any]):
    endings, draws = judged(parameters, games_of(parameters))
    assert endings["donation"] > 100
    assert endings["walks_away"] > 10
    if "persuadee" in parameters:
        assert endings["refuses"] > 10
        assert not draws.chances
    else:
        assert abs(draws.excess()) < 5


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [*PRESETS, *OTHERS], ids=name)
def test_the_referee_agrees_with_ten_thousand_games(parameters: dict[str, Any]):
    game = Persuasion(**parameters)
    endings = Counter[str]()
    for player, seed in ((mixed, 8), (random_legal, 9)):
        found, draws = judged(parameters, play(game, 5000, seed, player))
        endings += found
        assert game.num_seats == 2 or abs(draws.excess()) < 5
    expected = {"donation", "walks_away"} | ({"refuses"} if game.num_seats == 2 else set())
    if game.num_seats == 1 or game.max_exchanges < 10:  # a seat that may refuse each time hardly sits through more
        expected.add("out_of_exchanges")
        assert set(endings) == expected
    else:
        assert expected <= set(endings)


# An act, what the persuadee is like, and what it then does: the value of the row by its chance in percent.
SITUATIONS: list[tuple[int, dict[str, Any], rules.Chances]] = [
    *((0, {"weights": [weight] * 7}, rules.reaction_chances(weight)) for weight in range(3)),
    (0, {"weights": [2] * 7, "uses": [1] + [0] * 9}, rules.reaction_chances(1)),
    *((7, {"trust": trust}, rules.report_chances(truth)) for trust, truth in ((0, 2), (1, 2), (2, 1), (3, 0), (4, 0))),
    *((8, {"interest": want}, rules.report_chances(truth)) for want, truth in ((2, 2), (3, 1), (4, 1), (5, 0), (9, 0))),
    *((9, {"leaning": care}, {3 + told: p for told, p in rules.report_chances(care).items()}) for care in range(3)),
    (ASK, {"interest": 8, "trust": 2, "budget": 8}, {3: 25, 4: 50, 5: 25}),
    (ASK, {"interest": 1, "trust": 3, "budget": 8}, {0: 75, 1: 25}),
    (ASK, {"interest": 7, "trust": 3, "budget": 5}, {4: 25, 5: 75}),
    (ASK, {"interest": 9, "trust": 4, "budget": 5}, {5: 100}),
]


def test_answers_and_donations_have_the_stated_chances():
    game, draws = Persuasion(), 4000
    start = game.init(jax.random.key(0))

    def state_of(changes: dict[str, Any]) -> PersuasionState:
        calm = {"interest": 3, "trust": 2, "budget": 8} | changes
        return dataclasses.replace(start, **{field: jnp.asarray(value, jnp.int8) for field, value in calm.items()})

    def value_of(state: PersuasionState, act: jax.Array, key: jax.Array) -> jax.Array:
        log = game.step(state, act, key).log
        return log.rows[log.size - 1, 3]

    acts = jnp.asarray([act for act, _, _ in SITUATIONS])
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(state_of(changes) for _, changes, _ in SITUATIONS))
    keys = jax.random.split(jax.random.key(1), draws)
    drawn = jax.jit(jax.vmap(jax.vmap(value_of, (None, None, 0)), (0, 0, None)), compiler_options=QUICKLY)
    for (act, changes, chances), values in zip(SITUATIONS, np.asarray(drawn(states, acts, keys)).tolist(), strict=True):
        counts = Counter(values)
        assert set(counts) == set(chances), (act, changes)
        found = pearson([counts[value] for value in chances], list(chances.values()))
        assert found < 20, (act, changes, counts)  # two degrees of freedom at most: p < 0.0001


def test_dealt_persuadees_have_the_stated_chances():
    game = Persuasion(budget_cents=175)

    def deal(key: jax.Array) -> jax.Array:
        state = game.init(key)
        return jnp.concatenate([jnp.stack([state.interest, state.trust, state.budget, state.leaning]), state.weights])

    keys = jax.random.split(jax.random.key(3), 40_000)
    dealt = np.asarray(jax.jit(jax.vmap(deal), compiler_options=QUICKLY)(keys))
    _assert_fits(dealt[:, :4], dict.fromkeys(itertools.product(range(4), (1, 2, 3), (4, 5, 6, 7), range(3)), 1 / 144))
    for leaning, care in enumerate(rules.CARES):
        weights = dealt[dealt[:, 3] == leaning, 4:]
        chances = [list(rules.weight_chances(appeal, care).items()) for appeal in rules.APPEALS]
        expected = {tuple(weight for weight, _ in pattern): float(np.prod([chance for _, chance in pattern]))
                    for pattern in itertools.product(*chances)}  # fmt: skip
        _assert_fits(weights, expected)


def _assert_fits(rows: np.ndarray, chances: dict[tuple[int, ...], float]) -> None:
    """Asserts that rows occur as often as they should, and no others."""
    counts = Counter(map(tuple, rows.tolist()))
    assert set(counts) <= set(chances)
    assert sum(chances.values()) == pytest.approx(1)
    statistic = sum((counts[row] - len(rows) * p) ** 2 / (len(rows) * p) for row, p in chances.items())
    freedom = len(chances) - 1
    # Rare patterns widen the statistic: its variance exceeds that of chi-squared by the mean of 1 / expected.
    spread = np.sqrt(2 * freedom + sum(1 / (len(rows) * p) for p in chances.values()))
    assert abs(statistic - freedom) < 5 * spread


# ---------------------------------------------------------------------- what every game promises


@pytest.mark.parametrize("parameters", PRESETS, ids=name)
def test_the_game_conforms(parameters: dict[str, Any]):
    game, played = Persuasion(**parameters), games_of(parameters)
    testing.check_spec(game.spec)
    testing.check_types(game)
    testing.check_play(game.spec, played)
    testing.check_bounds(game.spec, played)
    assert testing.check_hiding(game.spec, played) > 200


@dataclasses.dataclass(frozen=True)
class Touchy(Persuasion):
    """Persuasion with the persuadee whose mind can be changed the longest."""

    def init(self, key: jax.Array) -> PersuasionState:
        state = super().init(key)
        weights = jnp.asarray([2, 1, 2, 1, 1, 1, 2], jnp.int8)
        return dataclasses.replace(state, trust=jnp.int8(3), budget=jnp.int8(4), leaning=jnp.int8(0), weights=weights)


# Sixteen acts each of which changes interest or trust, and after which the persuadee is still there.
LONGEST = [1, 1, 3, 3, 4, 4, 2, 5, 5, 1, 2, 3, 0, 0, 6, 6]


def tireless(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the acts of `LONGEST`; a persuadee that agrees after the last of them."""
    made = jnp.sum(view.rows[:, 0] == KIND["act"])
    most = jnp.max(jnp.where(view.rows[:, 0] == KIND["exchanges"], view.rows[:, 3], 0))
    answer = ACTS + jnp.where(made == most, AGREE, 0)
    return jnp.where(view.role == 0, jnp.asarray(LONGEST)[made], jnp.where(view.legal[GIVE], GIVE, answer))


@pytest.mark.parametrize(
    "parameters",
    [{"max_exchanges": 16, "speech_tokens": 2}, {"persuadee": "seat", "max_exchanges": 16, "speech_tokens": 2},
     pytest.param({"persuadee": "seat", "max_exchanges": 2}, marks=pytest.mark.slow)],
    ids=name,
)  # fmt: skip
def test_the_longest_talk_reaches_the_bounds_of_its_spec(parameters: dict[str, Any]):
    spec = Persuasion(**parameters).spec
    played = play(Touchy(**parameters), 1, seed=0, player=tireless)
    assert played.terminated[0, -1] and not played.truncated[0, -1]
    assert played.step[0, -1] == spec.max_decisions
    assert played.size[0, -1] == spec.max_events
    taken, shown = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    new, cursor = 0, [0] * spec.num_seats
    for _, time, seat in played.turns():
        taken[seat, spec.phases[played.phase[0, time]].name] += 1
        rows = range(cursor[seat], played.size[0, time])
        shown.update((seat, spec.event_kinds[played.rows[0, row, 0]].name)
                     for row in rows if played.audience[0, row] >> seat & 1)  # fmt: skip
        new, cursor[seat] = max(new, len(rows)), rows.stop
    assert new == spec.max_new_events
    for counted, bounds in ((taken, spec.turns), (shown, spec.visible_events)):
        for names, most in bounds:
            assert max(sum(counted[seat, each] for each in names) for seat in range(spec.num_seats)) == most, names


def test_outcomes_are_dollars_less_one_and_the_warm_glow_less_its_price():
    """Interest 8 and trust 3 make the persuadee willing to give 6 quarters; its budget is 8."""
    game = Persuasion(persuadee="seat")
    state = dataclasses.replace(
        game.init(jax.random.key(0)), phase=jnp.int8(3), actor=jnp.int8(1), interest=jnp.int8(8), trust=jnp.int8(3),
        budget=jnp.int8(8),
    )  # fmt: skip
    assert np.flatnonzero(game.legal_action_mask(state)).tolist() == list(range(GIVE, GIVE + 9))
    gifts = jax.vmap(lambda gift: game.step(state, GIVE + gift, jax.random.key(1)).outcome)(jnp.arange(9))
    persuader, persuadee = np.asarray(gifts).T.tolist()
    assert persuader == [quarters / 4 - 1 for quarters in range(9)]
    assert persuadee == [0, 1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 5 / 8, 4 / 8]


# ---------------------------------------------------------------------- hiding


@pytest.mark.parametrize("parameters", PRESETS, ids=name)
def test_the_persuader_is_never_told_what_the_persuadee_is_like(parameters: dict[str, Any]):
    played = games_of(parameters)
    used = np.arange(played.rows.shape[1]) < played.size[:, -1:]
    secret = np.isin(played.rows[..., 0], [KIND[kind] for kind in ("interest", "trust", "budget", "leaning", "weight")])
    assert (played.audience[used & secret] == (2 if "persuadee" in parameters else 0)).all()
    assert (played.audience[used & (played.rows[..., 0] == KIND["reply"])] == 1).all()
    alive = ~played.over & (played.actor == 0)
    assert (played.legal[alive] == (np.arange(played.legal.shape[-1]) < ACTS)).all()


# ---------------------------------------------------------------------- the players and their yardsticks


@functools.cache
def _program(game: Persuasion) -> Any:
    def outcome(key: jax.Array, skill: jax.Array) -> jax.Array:
        """float32[N]: of a game; bool[2] `skill` says which role plays by the heuristic, the other at random."""

        def turn(state: PersuasionState, time: jax.Array) -> tuple[PersuasionState, None]:
            act_key, step_key = jax.random.split(jax.random.fold_in(key, time))
            view = view_of_actor(game, state)
            action = jnp.where(skill[view.role], heuristic(view, act_key), random_legal(view, act_key))
            return game.step(state, action, step_key), None

        start = game.init(jax.random.fold_in(key, game.spec.max_decisions))
        return jax.lax.scan(turn, start, jnp.arange(game.spec.max_decisions))[0].outcome

    return jax.jit(jax.vmap(outcome), compiler_options=QUICKLY)


def outcomes(game: Persuasion, games: int, persuader: bool, persuadee: bool = True) -> np.ndarray:
    """float32[games, N]: of games between heuristic (`True`) and random players."""
    keys = jax.random.split(jax.random.key(5), games)
    return np.asarray(_program(game)(keys, jnp.tile(jnp.asarray([persuader, persuadee]), (games, 1))))


def test_the_heuristic_persuader_raises_much_more_than_a_random_one():
    dollars = {skill: float(outcomes(Persuasion(), 400, skill).mean() + 1) for skill in (True, False)}
    assert dollars[True] > dollars[False] + 0.5
    assert dollars[True] > 0.75
    assert dollars[False] < 0.25


def test_both_heuristic_seats_do_better_than_random_ones():
    game = Persuasion(persuadee="seat")
    mean = {(a, b): outcomes(game, 400, a, b).mean(axis=0) for a in (True, False) for b in (True, False)}
    assert mean[True, True][0] > mean[False, True][0] + 0.5
    assert mean[True, True][1] > mean[True, False][1] + 0.2
    assert mean[False, True][1] > mean[False, False][1] + 0.1


@pytest.mark.slow
def test_the_heuristic_persuader_raises_what_the_page_says():
    assert outcomes(Persuasion(), 4000, True).mean() + 1 == pytest.approx(0.901, abs=0.03)
    assert outcomes(Persuasion(persuadee="seat"), 4000, True).mean(axis=0) + 1 == pytest.approx([0.921, 1.46], abs=0.03)


def all_persuadees(budget_cents: int = 200) -> list[tuple[float, rules.Persuadee]]:
    """Every persuadee that cares most for reasons, with its chance (the three things to care for are alike)."""
    richest = budget_cents // 25
    budgets = range((richest + 1) // 2, richest + 1)
    found = []
    for pattern in itertools.product(*(rules.weight_chances(appeal, "reasons").items() for appeal in rules.APPEALS)):
        chance = float(np.prod([p for _, p in pattern])) / (4 * 3 * len(budgets))
        weights = {appeal: weight for appeal, (weight, _) in zip(rules.APPEALS, pattern, strict=True)}
        found += [(chance, rules.Persuadee(interest, trust, budget, "reasons", weights))
                  for interest in range(4) for trust in (1, 2, 3) for budget in budgets]  # fmt: skip
    return found


def dollars_when_asked(mind: rules.Persuadee) -> float:
    """Mean donation if the persuadee is asked now."""
    return sum(given * p / 400 for given, p in rules.donation_chances(mind.willing, mind.budget).items())


def informed(acts: int) -> float:
    """Mean donation to a persuader that knows all about the persuadee and asks after at most so many acts.

    It makes only appeals that have an effect; those that raise interest it makes in the order of their effects.
    """

    @functools.cache
    def best(interest: int, trust: int, budget: int, others: tuple[int, ...], credibility: int) -> float:
        steps = sorted((effect for weight in others for effect in range(1, weight + 1)), reverse=True)
        tries = []
        for trusted in range(min(credibility, acts) + 1):
            gain = sum(range(credibility, credibility - trusted, -1))
            wanted = interest + sum(steps[: acts - trusted])
            mind = rules.Persuadee(wanted, min(trust + gain, 4), budget, "", {})
            tries.append(dollars_when_asked(mind))
        return max(tries)

    total = 0.0
    for chance, mind in all_persuadees():
        others = tuple(sorted(mind.weights[appeal] for appeal in rules.APPEALS if appeal != "credibility"))
        total += chance * best(mind.interest, mind.trust, mind.budget, others, mind.weights["credibility"])
    return total


def scripted(*acts: str) -> float:
    """Mean donation to a persuader that makes given acts whatever the answers, and asks."""
    total = 0.0
    for rotation in range(3):  # what the persuadee cares for, in the place of which the appeals are exchanged
        exchanged = [_turned(act, rotation) for act in acts]
        for chance, mind in all_persuadees():
            mind = copy.copy(mind)
            uses = Counter[str]()
            for act in exchanged:
                if not rules.hear(mind, act, rules.effect_of(mind, act, uses[act])):
                    break
                uses[act] += 1
            else:
                total += chance / 3 * dollars_when_asked(mind)
    return total


def _turned(act: str, rotation: int) -> str:
    pairs = [("logical", "information"), ("emotion", "story"), ("self", "foot")]
    for number, pair in enumerate(pairs):
        if act in pair:
            return pairs[(number + rotation) % 3][pair.index(act)]
    return act


def test_the_yardsticks_are_those_of_the_page():
    assert informed(acts=9) == pytest.approx(1.2976, abs=0.0001)
    assert scripted() == pytest.approx(0.1458, abs=0.0001)
    assert scripted("emotion", "emotion") == pytest.approx(0.1839, abs=0.0001)
    assert scripted(*rules.APPEALS) == pytest.approx(0.3802, abs=0.0001)
    best = scripted("logical", "emotion", "credibility", "story", "information", "credibility")
    assert best == pytest.approx(0.5223, abs=0.0001)


# ---------------------------------------------------------------------- words and parameters


def test_what_is_said_agrees_with_what_is_done():
    spec = Persuasion(persuadee="seat", speech_tokens=8).spec
    said = dict(zip(spec.action_labels, spec.scripted_speech, strict=True))
    assert said[" ask for a donation"] == " How much will you give?"
    assert said[" care for people"] == " I care for people"
    assert said[" agree"] == " I agree"
    assert not any(said[label] for label in spec.action_labels if label.startswith(" give"))
    assert [phase.speech_tokens for phase in spec.phases] == [8, 8, 8, 0, 0]
    assert len(spec.action_labels) == rules.NUM_ACTIONS
    assert spec.action_labels[ASK] == " ask for a donation"
    assert len(rules.APPEALS) == len(APPEALS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"persuadee": "human"}, "persuasion-v0: persuadee is one of environment, seat, not 'human'"),
        ({"max_exchanges": 1}, "persuasion-v0: max_exchanges is between 2 and 16, not 1"),
        ({"max_exchanges": 17}, "persuasion-v0: max_exchanges is between 2 and 16, not 17"),
        ({"budget_cents": 0}, "persuasion-v0: budget_cents is between 25 and 200, not 0"),
        ({"budget_cents": 225}, "persuasion-v0: budget_cents is between 25 and 200, not 225"),
        ({"budget_cents": 110}, "persuasion-v0: budget_cents is a multiple of 25, for example 150, not 110"),
        ({"speech_tokens": -1}, "persuasion-v0: speech_tokens is between 0 and 4096, not -1"),
        ({"thought_tokens": 5000}, "persuasion-v0: thought_tokens is between 0 and 4096, not 5000"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        Persuasion(**parameters)
    assert str(refusal.value) == message


def test_parameters_stand_in_the_spec_and_in_the_introduction():
    game = Persuasion(max_exchanges=6, budget_cents=150)
    assert dict(game.spec.parameters) == dataclasses.asdict(game)
    assert all(part in game.spec.introduction[0] for part in ("at most $1.50", "at most 6 exchanges"))
    assert hash(game.spec) == hash(Persuasion(max_exchanges=6, budget_cents=150).spec)
