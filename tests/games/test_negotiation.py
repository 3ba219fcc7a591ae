"""Negotiation against OpenSpiel, which deals the instances, and what else is promised of the game's functions."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, SeatView
from games.negotiation import AGREE, KIND, SIGNAL, SYMBOLS, Negotiation, instance_table
from games.players.negotiation import heuristic
from games.players.scripted import random_legal
from games.testing import check_game, check_hiding
from tests.games.openspiel import (
    QUICKLY,
    Record,
    assert_bounds_are_reached,
    compiled_init,
    compiled_play,
    compiled_replay,
    observed_by,
    scores_against_random,
    single,
)

PRESETS: list[dict[str, Any]] = [
    {},
    {"utterance_dim": 0, "speech_tokens": 3},
    {"num_items": 2, "utterance_dim": 1, "num_symbols": 10, "thought_tokens": 2},
    {"num_items": 1, "utterance_dim": 5, "num_symbols": 2},
    {"show_proposals": False, "utterance_dim": 2, "num_symbols": 3},
]
# The same but for the first seat's values, then but for the second's.
KINDRED = ("5/2,1,3/8,1,0/4,0,2", "5/2,1,3/8,1,0/0,9,1", "5/2,1,3/1,1,5/4,0,2")

Instance = tuple[int, list[int], list[list[int]]]  # turns, pool, values of each seat


def name(parameters: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in parameters.items()) or "default"


# ---------------------------------------------------------------------- OpenSpiel deals and replays


def original(game: Negotiation, seed: int) -> Any:
    """OpenSpiel's game with the same parameters."""
    pyspiel = pytest.importorskip("pyspiel")
    symbols = {"num_symbols": game.num_symbols, "utterance_dim": game.utterance_dim} if game.utterance_dim else {}
    rules = {"num_items": game.num_items, "enable_utterances": game.utterance_dim > 0, "rng_seed": seed}
    return pyspiel.load_game("negotiation", rules | symbols)


def told(text: str, line: str) -> list[int]:
    """The numbers in the only line of a text that begins with `line`."""
    (found,) = [each for each in text.splitlines() if each.startswith(line)]
    return [int(word) for word in found.removeprefix(line).strip(" :[]").replace(",", "").split()]


def deals(theirs: Any, count: int) -> Iterator[tuple[Any, Instance]]:
    """Starts of OpenSpiel's games with what they say of the instance; ones to which nothing is of worth are left out.

    OpenSpiel draws such values anew but reads the first ones: its list then has twice the length.
    """
    while count:
        state = theirs.new_initial_state()
        state.apply_action(0)
        values = [told(str(state), f"Agent {seat} util vec") for seat in range(2)]
        assert values == [state.agent_utils(seat) for seat in range(2)]
        pool = told(str(state), "Item pool")
        if all(len(one) == len(pool) for one in values):
            count -= 1
            yield state, (told(str(state), "Max steps")[0], pool, values)


@functools.cache
def compiled_deal(game: Negotiation) -> Any:
    return jax.jit(jax.vmap(game.deal), compiler_options=QUICKLY)


def record_random(game: Negotiation, dealt: list[Instance], seed: int) -> Record:
    """Random games: every third rarely agrees, so that it becomes long, every fifth often plays illegally."""
    count = len(dealt)
    given = {
        "key": jax.random.split(jax.random.key(seed), count),
        "order": np.tile(np.where(np.arange(game.spec.num_actions) == AGREE, 99, 0), (count, 1)),
        "patience": np.choose(np.arange(count) % 3, [0.0, 0.7, 0.99]).astype(np.float32),
        "wild": np.where(np.arange(count) % 5 == 4, 0.3, 0.0).astype(np.float32),
    }
    turns, pools, values = (np.array(column, np.int8) for column in zip(*dealt, strict=True))
    start = compiled_deal(game)(turns, pools, values)
    return jax.device_get(compiled_play(game)(start, given))


@functools.cache
def recorded(parameters: tuple[tuple[str, Any], ...], count: int) -> tuple[list[Any], list[Instance], Record]:
    """OpenSpiel's starts and instances, and our games from them."""
    game = Negotiation(**dict(parameters))
    states, dealt = zip(*deals(original(game, seed=count), count), strict=True)
    return list(states), list(dealt), record_random(game, list(dealt), seed=7)


def number_of(base: int, digits: list[int]) -> int:
    return functools.reduce(lambda number, digit: number * base + digit, digits, 0)


class Judge:
    """One of OpenSpiel's games, led along a recorded game of ours."""

    def __init__(self, game: Negotiation, state: Any, instance: Instance, record: Record):
        self.game, self.state, self.instance, self.record = game, state, instance, record
        self.making: list[int] = []  # picks or symbols of a decision of OpenSpiel's in the making
        self.log = self.opening()
        self.said: dict[str, list[int]] = {}

    def opening(self) -> list[list[int]]:
        """The rows of the deal as the page lists them: kind, actor, target, value, audience."""
        turns, pool, values = self.instance
        rows = [[KIND["seat"], seat, -1, -1, 1 << seat] for seat in range(2)]
        rows.append([KIND["turns"], -1, -1, turns, 3])
        rows += [[KIND["pool"], -1, item, count, 3] for item, count in enumerate(pool)]
        return rows + [[KIND["worth"], seat, item, worth, 1 << seat]
                       for seat in range(2) for item, worth in enumerate(values[seat])]  # fmt: skip

    @property
    def signals(self) -> bool:
        return told_word(str(self.state), "Turn Type: ") == "Utterance"

    def legal(self) -> list[int]:
        """OpenSpiel's legal actions, as what may come next here."""
        actions, offers = self.state.legal_actions(), 6**self.game.num_items
        if self.signals:
            base, dim = self.game.num_symbols, self.game.utterance_dim
            assert actions == list(range(offers + 1, offers + 1 + base**dim))
            return [AGREE + 1 + symbol for symbol in range(base)]
        digits = [[action // 6**place % 6 for place in reversed(range(self.game.num_items))]
                  for action in actions if action < offers]  # fmt: skip
        so_far = len(self.making)
        picks = sorted({offer[so_far] for offer in digits if offer[:so_far] == self.making})
        return picks + [AGREE] * (offers in actions and not so_far)

    def play(self, action: int, time: int) -> None:
        """Plays our action there and writes the rows that it should log here."""
        game, seat, signals = self.game, self.state.current_player(), self.signals
        first = not self.making and not signals
        if first and game.speech_tokens:
            self.log.append([KIND["utterance"], seat, -1, time, 2 - seat])
        if action == AGREE:
            self.log.append([KIND["agree"], seat, -1, -1, 2 - seat])
            self.state.apply_action(6**game.num_items)
            return
        place, shown = len(self.making), 2 - seat if signals or game.show_proposals else 0
        self.making.append(action - AGREE - 1 if signals else action)
        self.log.append([KIND["signal" if signals else "keep"], seat, place, self.making[-1], shown])
        if len(self.making) < (game.utterance_dim if signals else game.num_items):
            return
        number = number_of(game.num_symbols, self.making) + 6**game.num_items + 1
        self.state.apply_action(number if signals else number_of(6, self.making))
        self.said["utterance" if signals else "proposal"] = self.making
        self.making = []
        if self.state.is_terminal():
            self.log.append([KIND["out_of_turns"], -1, -1, -1, 3])

    def check_observations(self) -> None:
        """What OpenSpiel shows to a seat is what the rows say that the seat knows here."""
        for seat in range(2):
            known = [row for row in self.log if row[4] >> seat & 1 or row[1] == seat]
            lines = {"pool": [], "worth": [], "keep": [], "signal": []}
            for kind, _, target, value, _ in known:
                for what, values in lines.items():
                    if kind == KIND[what]:
                        values[target:] = [value]
            text = self.state.observation_string(seat)
            assert told(text, "Max steps") == [value for kind, _, _, value, _ in known if kind == KIND["turns"]]
            assert told(text, "Item pool") == lines["pool"]
            assert told(text, f"Agent {seat} util vec") == lines["worth"]
            if "proposal" in self.said and self.game.show_proposals:
                assert told(text, "Most recent proposal") == lines["keep"]
            if "utterance" in self.said:
                assert told(text, "Most recent utterance") == lines["signal"]

    def run(self) -> str:
        """Asserts that the two agree at every step, and on the whole log; returns how the game ended."""
        record, state, time = self.record, self.state, 0
        while not state.is_terminal():
            legal = self.legal()
            self.agree(time, state.current_player(), legal)
            if not self.making:
                self.check_observations()
            action = int(record["actions"][time])
            self.play(action if action in legal else legal[0], time)
            time += 1
        self.agree(time, -1, list(range(self.game.spec.num_actions)))
        self.check_observations()
        _, pool, values = self.instance
        wholes = [sum(map(math.prod, zip(pool, one, strict=True))) for one in values]
        gains = zip(state.returns(), wholes, strict=True)
        outcome = [2 * gain / whole - 1 if whole else 0 for gain, whole in gains]
        assert record["outcome"][time].tolist() == pytest.approx(outcome, abs=1e-6)
        assert not record["outcome"][:time].any()
        for field in ("terminated", "truncated", "actor", "step", "legal", "acting", "log_size", "outcome"):
            assert (record[field][time:] == record[field][time]).all(), field
        rows = np.column_stack([record["log_rows"], record["log_audience"]])[: len(self.log)]
        assert rows.tolist() == self.log
        return "deal" if "Agreement reached!" in str(state) else "no deal"

    def agree(self, time: int, actor: int, legal: list[int]) -> None:
        """Asserts that our state at a time is the one that OpenSpiel's tells."""
        expected = {
            "terminated": actor < 0,
            "truncated": False,
            "actor": actor,
            "step": time,
            "legal": [each in legal for each in range(self.game.spec.num_actions)],
            "acting": [seat == actor for seat in range(2)],
            "log_size": len(self.log),
        }
        found = {name: self.record[name][time].tolist() for name in expected}
        assert found == expected, f"t={time}: {found} is not {expected} after {self.state}"


def told_word(text: str, line: str) -> str:
    (found,) = [each for each in text.splitlines() if each.startswith(line)]
    return found.removeprefix(line)


def judge_all(parameters: dict[str, Any], played: tuple[list[Any], list[Instance], Record]) -> Counter[str]:
    states, dealt, record = played
    game = Negotiation(**parameters)
    return Counter(
        Judge(game, state.clone(), instance, one).run()
        for state, instance, one in zip(states, dealt, single(record), strict=True)
    )


@pytest.mark.parametrize(
    ("parameters", "count"),
    [(PRESETS[0], 500), *(pytest.param(preset, 10_000, marks=pytest.mark.slow) for preset in PRESETS)],
    ids=lambda value: value if isinstance(value, int) else name(value),
)
def test_openspiel_agrees_with_every_step(parameters: dict[str, Any], count: int):
    ends = judge_all(parameters, recorded(tuple(parameters.items()), count))
    assert ends.total() == count
    assert min(ends["deal"], ends["no deal"]) > count / 10


def test_picks_and_symbols_name_openspiels_actions():
    theirs = original(Negotiation(), seed=1)
    ((state, (_, pool, _)),) = deals(theirs, 1)
    state.apply_action(number_of(6, pool))
    assert state.history()[-1] in range(6**3)
    assert f"Player 0 proposes: [{', '.join(map(str, pool))}]" in str(state)
    assert theirs.num_distinct_actions() == 6**3 + 1 + 5**3
    assert "[4, 0, 3]" in state.action_to_string(0, 6**3 + 1 + number_of(5, [4, 0, 3]))
    labels = Negotiation().spec.action_labels
    assert labels == (*(f" keep {count}" for count in range(6)), " agree", *(f" {word}" for word in SYMBOLS[:5]))
    assert Negotiation(utterance_dim=0).spec.action_labels == labels[: AGREE + 1]


# ---------------------------------------------------------------------- instances


def statistic(counts: np.ndarray, shares: np.ndarray) -> float:
    """How far counts are from their shares, in standard deviations of the chi-square statistic."""
    expected = shares * counts.sum()
    return float((np.sum((counts - expected) ** 2 / expected) - len(shares) + 1) / np.sqrt(2 * (len(shares) - 1)))


def test_instances_are_drawn_as_the_page_says():
    start = jax.device_get(compiled_init(Negotiation())(jax.random.split(jax.random.key(8), 20_000)))
    assert start.turns.min() == 4 and start.turns.max() == 10
    poisson = np.array([7**turns / math.factorial(turns) for turns in range(4, 11)])
    assert statistic(np.bincount(start.turns)[4:], poisson / poisson.sum()) < 6
    pools = start.pool @ np.array([36, 6, 1])
    assert statistic(np.bincount(pools, minlength=216), np.full(216, 1 / 216)) < 6
    for seat in range(2):
        values = start.values[:, seat] @ np.array([121, 11, 1])
        counts = np.bincount(values, minlength=11**3)
        assert counts[0] == 0 and len(counts) == 11**3
        assert statistic(counts[1:], np.full(11**3 - 1, 1 / (11**3 - 1))) < 6
    both = np.stack([start.turns, start.pool[:, 0], start.values[:, 0, 0], start.values[:, 1, 0]])
    assert np.abs(np.corrcoef(both) - np.eye(4)).max() < 0.05


def test_openspiel_draws_turns_pools_and_values_alike():
    """The same bounds and, within chance, the same means as ours."""
    dealt = [instance for _, instance in deals(original(Negotiation(), seed=2), 5000)]
    turns, pools, values = (np.array(column) for column in zip(*dealt, strict=True))
    start = jax.device_get(compiled_init(Negotiation())(jax.random.split(jax.random.key(9), 20_000)))
    for theirs, ours in ((turns, start.turns), (pools, start.pool), (values, start.values)):
        assert (theirs.min(), theirs.max()) == (ours.min(), ours.max())
        assert abs(theirs.mean() - ours.mean()) < 5 * theirs.std() / np.sqrt(theirs.size)
        assert abs(theirs.std() - ours.std()) < 0.05 * theirs.std()


def test_given_instances_are_dealt_alike_and_no_others():
    game = Negotiation(instances=";".join(KINDRED))
    start = jax.device_get(compiled_init(game)(jax.random.split(jax.random.key(3), 3000)))
    dealt = np.concatenate([start.turns[:, None], start.pool, start.values.reshape(-1, 6)], axis=1)
    table = instance_table(game.instances, 3).tolist()
    counts = Counter(map(tuple, dealt.tolist()))
    assert set(counts) == set(map(tuple, table))
    assert all(abs(count - 1000) < 5 * np.sqrt(3000 * 2 / 9) for count in counts.values())
    assert game.max_turns == 5 and Negotiation().max_turns == 10


# ---------------------------------------------------------------------- what every game promises


def test_the_game_conforms_where_offers_are_hidden():
    game = Negotiation(instances=KINDRED[0], show_proposals=False, utterance_dim=1, speech_tokens=2)
    played = check_game(game, episodes=60)
    assert check_hiding(game.spec, played) > 20


@pytest.mark.parametrize("parameters", [{"speech_tokens": 2}, {"show_proposals": False, "num_items": 2}], ids=name)
def test_a_game_without_agreement_reaches_the_bounds_of_its_spec(parameters: dict[str, Any]):
    game = Negotiation(**parameters)
    items = game.num_items
    start = compiled_deal(game)(
        np.array([10], np.int8), np.full((1, items), 5, np.int8), np.full((1, 2, items), 3, np.int8)
    )
    refusal = np.zeros((1, game.spec.max_decisions), np.int32)  # symbols are illegal as 0 and so the first one
    record = jax.device_get(compiled_replay(game)(start, refusal))
    assert record["outcome"][0, -1].tolist() == [-1.0, -1.0]
    assert_bounds_are_reached(game.spec, record)


def test_outcomes_are_shares_of_what_the_pool_is_worth_to_each():
    """Of two books and a hat, worth 23 to the first and 14 to the second, the first offers a book, then others."""
    game = Negotiation(utterance_dim=0)
    instance = (np.array([4], np.int8), np.array([[2, 1, 0]], np.int8), np.array([[[10, 3, 9], [7, 0, 10]]], np.int8))
    for picks, outcome in (((1, 1, 0), (13 / 23, 7 / 14)), ((2, 0, 0), (20 / 23, 0)), ((0, 0, 0), (0, 1))):
        record = jax.device_get(compiled_replay(game)(compiled_deal(game)(*instance), np.array([[*picks, AGREE]])))
        assert record["outcome"][0, -1] == pytest.approx([2 * share - 1 for share in outcome], abs=1e-6)


@pytest.mark.parametrize("last", [0, AGREE])
def test_a_seat_to_which_the_pool_is_worth_nothing_has_the_outcome_0(last: int):
    game = Negotiation(utterance_dim=0, instances="4/0,3,0/5,0,5/0,1,0")
    start = compiled_init(game)(jax.random.split(jax.random.key(0), 1))
    actions = np.array([[0, 3, 0, last, *[0] * 10]])
    record = jax.device_get(compiled_replay(game)(start, actions))
    assert record["outcome"][0, -1].tolist() == [0.0, -1.0]


# ---------------------------------------------------------------------- hiding


@pytest.mark.parametrize("show_proposals", [True, False])
def test_a_seat_observes_nothing_of_the_others_values(show_proposals: bool):
    game = Negotiation(instances=";".join(KINDRED), show_proposals=show_proposals)
    table = instance_table(game.instances, 3)[:, None].repeat(40, axis=1)
    actions = np.random.default_rng(5).integers(0, game.spec.num_actions, (40, 40)).astype(np.int32)
    worlds = [
        jax.device_get(
            compiled_replay(game)(compiled_deal(game)(one[:, 0], one[:, 1:4], one[:, 4:].reshape(-1, 2, 3)), actions)
        )
        for one in table
    ]
    for seat, other in ((0, worlds[1]), (1, worlds[2])):
        pairs = list(zip(single(worlds[0]), single(other), strict=True))
        assert all(observed_by(seat, one) == observed_by(seat, two) for one, two in pairs)
        assert not any(observed_by(1 - seat, one) == observed_by(1 - seat, two) for one, two in pairs)


def test_a_hidden_offer_is_shown_to_nobody_and_a_symbol_to_the_other():
    _, _, record = recorded(tuple(PRESETS[4].items()), 50)
    kind, actor, audience = record["log_rows"][..., 0], record["log_rows"][..., 1], record["log_audience"]
    assert (kind == KIND["keep"]).sum() > 100
    assert (audience[kind == KIND["keep"]] == 0).all()
    assert (audience == 2 - actor)[kind == KIND["signal"]].all()


def test_a_turn_begins_with_speech_and_every_decision_may_be_thought_over():
    spec = Negotiation(speech_tokens=3, thought_tokens=2).spec
    assert [phase.speech_tokens for phase in spec.phases] == [3, 3, 0, 0, 0, 0]
    assert [phase.thought_tokens for phase in spec.phases] == [2, 2, 2, 2, 2, 0]


# ---------------------------------------------------------------------- the scripted player


@pytest.mark.parametrize("parameters", [{}, pytest.param(PRESETS[2], marks=pytest.mark.slow)], ids=name)
def test_the_heuristic_player_gets_more_than_a_random_one(parameters: dict[str, Any]):
    for scores in scores_against_random(Negotiation(**parameters), heuristic, 1000, seed=5):
        assert scores.mean() > 0.3  # a random player gets less than 0


def play_both(game: Negotiation, player: Any, count: int, seed: int) -> np.ndarray:
    """float[count, 2]: outcomes of one player in both seats."""
    keys = jax.random.split(jax.random.key(seed), count)
    given = {"key": keys, "holds": np.ones((count, 2), bool)}
    return np.asarray(compiled_play(game, player)(compiled_init(game)(keys), given)["outcome"])[:, -1]


@pytest.mark.slow
def test_honest_symbols_help_heuristic_players_more_than_random_ones():
    def noisy(view: SeatView, key: jax.Array) -> jax.Array:
        return jnp.where(view.phase == SIGNAL, random_legal(view, key), heuristic(view, key))

    honest, without_meaning = (play_both(Negotiation(), player, 4000, 6).mean() for player in (heuristic, noisy))
    assert honest > without_meaning + 0.01


# ---------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_items": 0}, "num_items is between 1 and 3, not 0"),
        ({"num_items": 4}, "num_items is between 1 and 3, not 4"),
        ({"utterance_dim": 6}, "utterance_dim is between 0 and 5, not 6"),
        ({"num_symbols": 1}, "num_symbols is between 2 and 10, not 1"),
        ({"num_symbols": 11}, "num_symbols is between 2 and 10, not 11"),
        ({"speech_tokens": -1}, "speech_tokens is between 0 and 4096, not -1"),
        ({"thought_tokens": 5000}, "thought_tokens is between 0 and 4096, not 5000"),
        ({"instances": "1,2,3"}, "instances are of the form turns/pool/values of first/values of second, for example"),
        ({"instances": KINDRED[0], "num_items": 2}, "instances are of the form turns/pool/values of first/values of"),
        ({"instances": f"{KINDRED[0]};"}, "instances are of the form turns/pool/values of first/values of second, "),
        ({"instances": f"{KINDRED[0]};3/1,1,1/1,1,1/1,1,1"}, "instances: there are 4 to 10 turns, unlike in number 2"),
        ({"instances": "4/6,1,1/1,1,1/1,1,1"}, "instances: a pool holds at most 5 items of each type, unlike in num"),
        ({"instances": "4/1,1,1/1,1,1/1,11,1"}, "instances: an item is worth at most 10, unlike in number 1"),
        ({"instances": "4/1,1,1/0,0,0/1,1,1"}, "instances: some type of item is worth something to each seat, unli"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_in_one_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        Negotiation(**parameters)
    assert str(refusal.value).startswith(f"negotiation-v0: {message}")
    assert "\n" not in str(refusal.value)


def test_parameters_stand_in_the_spec_and_in_the_introduction():
    game = Negotiation(num_items=2, utterance_dim=4, show_proposals=False)
    assert dict(game.spec.parameters) == dataclasses.asdict(game)
    introduction = game.spec.introduction[0]
    assert all(part in introduction for part in ("books and hats.", "4 symbols", "Offers are secret"))
    plain = Negotiation(utterance_dim=0).spec.introduction[0]
    assert "symbol" not in plain and "secret" not in plain
