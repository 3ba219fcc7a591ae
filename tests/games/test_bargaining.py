"""The compiled game against OpenSpiel's bargaining, and what else is promised of a game's functions."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.bargaining import AGREE, ANSWER, EXAMPLE, KIND, OPEN, Bargaining, instance_table
from games.core import GameError, SeatView
from games.players.bargaining import heuristic
from games.players.scripted import random_legal
from games.testing import QUICKLY, Played, check_game, play

# The same pool and one seat's values twice, so that the other seat's may be told apart only where that is allowed.
KINDRED = (EXAMPLE, "1,2,3/8,1,0/1,3,1", "1,2,3/3,2,1/4,0,2")

PRESETS: list[dict[str, Any]] = [
    {},
    {"max_turns": 3, "discount_percent": 90},
    {"prob_end_percent": 20, "discount_percent": 80},
    {"max_turns": 2, "speech_tokens": 3, "instances": ";".join(KINDRED)},
    {"max_turns": 20, "prob_end_percent": 5, "thought_tokens": 2},
]


def name(parameters: dict[str, Any]) -> str:
    return ",".join(f"{key}={str(value)[:3]}" for key, value in parameters.items()) or "default"


def wild(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: a random legal action, once in ten times any number from -3 to A + 3 instead."""
    which, legal_key, any_key = jax.random.split(key, 3)
    anything = jax.random.randint(any_key, (), -3, view.legal.shape[0] + 4)
    return jnp.where(jax.random.uniform(which) < 0.1, anything, random_legal(view, legal_key))


@functools.cache
def recorded(parameters: tuple[tuple[str, Any], ...]) -> Played:
    return play(Bargaining(**dict(parameters)), 500, seed=7, player=wild)


def games_of(parameters: dict[str, Any]) -> Played:
    """500 random games, recorded once a session."""
    return recorded(tuple(parameters.items()))


# ---------------------------------------------------------------------- OpenSpiel replays


def dealt_in(rows: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Pool, values of the first and of the second seat as a log tells them."""
    pool, values = [0] * 3, [[0] * 3, [0] * 3]
    for kind, actor, target, value in rows.tolist():
        if kind == KIND["pool"]:
            pool[target] = value
        elif kind == KIND["worth"]:
            values[actor][target] = value
    return tuple(pool), tuple(values[0]), tuple(values[1])


class Judge:
    """OpenSpiel's game with the instances of some recorded games, and the replay of each of those."""

    def __init__(self, pyspiel: ModuleType, folder: Path, game: Bargaining, played: Played):
        self.rules, self.played = game, played
        self.dealt = [dealt_in(rows) for rows in played.rows]
        self.instances = sorted(set(self.dealt))
        file = folder / "instances.txt"
        file.write_text("".join(" ".join(",".join(map(str, part)) for part in one) + "\n" for one in self.instances))
        self.game = pyspiel.load_game(
            "bargaining",
            {
                "instances_file": str(file),
                "max_num_instances": len(self.instances),
                "max_turns": game.max_turns,
                "discount": game.discount_percent / 100,
                "prob_end": game.prob_end_percent / 100,
            },
        )
        self.offers = [tuple(offer.quantities) for offer in self.game.all_offers()]
        self.number = {offer: index for index, offer in enumerate(self.offers)}
        self.draws: Counter[bool] = Counter()  # whether the talks broke off where they could
        self.ends: Counter[str] = Counter()

    def replay(self, episode: int) -> None:
        """Asserts that the two agree at every step of a recorded game, and on its whole log."""
        played = self.played
        state = self.game.new_initial_state()
        state.apply_action(self.instances.index(self.dealt[episode]))
        log, made = self.opening(episode), 0
        kept: tuple[int, ...] = ()  # picks of the offer in the making
        for time, action in enumerate(played.action[episode].tolist()):
            where = f"episode {episode}, step {time}"
            over, legal = bool(played.over[episode, time]), played.legal[episode, time]
            assert played.size[episode, time] == len(log), where
            assert state.is_terminal() == over == bool(played.terminated[episode, time]), where
            if over:
                returns = 5 * (played.outcome[episode, time] + 1)
                np.testing.assert_allclose(returns, state.returns(), rtol=1e-5, atol=1e-5, err_msg=where)
                continue
            seat = state.current_player()
            assert played.actor[episode, time] == seat, where
            assert not played.outcome[episode, time].any(), where
            assert np.flatnonzero(legal).tolist() == self.legal(state, kept), where
            action = action if 0 <= action <= AGREE and legal[action] else int(np.argmax(legal))
            if self.rules.speech_tokens and not kept:
                log.append((KIND["utterance"], seat, -1, time, 2 - seat))
            if action == AGREE:
                state.apply_action(len(self.offers))
                log.append((KIND["agree"], seat, -1, -1, 2 - seat))
                self.ends["agree"] += 1
                continue
            kept = (*kept, action)
            if len(kept) < 3:
                log.append((KIND["pick"], seat, len(kept) - 1, action, 0))
                continue
            state.apply_action(self.number[kept])
            log += [(KIND["keep"], seat, item, count, 2 - seat) for item, count in enumerate(kept)]
            kept, made = (), made + 1
            if made == self.rules.max_turns:
                log.append((KIND["out_of_turns"], -1, -1, -1, 3))
                self.ends["out_of_turns"] += 1
            elif state.is_chance_node():
                broken = bool(played.over[episode, time + 1])
                (go_on, _), (end, chance) = state.chance_outcomes()
                assert chance == pytest.approx(self.rules.prob_end_percent / 100)
                state.apply_action(end if broken else go_on)
                self.draws[broken] += 1
                if broken:
                    log.append((KIND["broken_off"], -1, -1, -1, 3))
                    self.ends["broken_off"] += 1
        assert state.is_terminal()
        size = len(log)
        found = np.column_stack([played.rows[episode, :size], played.audience[episode, :size]])
        assert found.tolist() == [list(row) for row in log], f"episode {episode}"

    def opening(self, episode: int) -> list[tuple[int, int, int, int, int]]:
        """The rows of the deal as the page lists them: kind, actor, target, value, audience."""
        pool, *values = self.dealt[episode]
        rows = [(KIND["seat"], seat, -1, -1, 1 << seat) for seat in range(2)]
        rows.append((KIND["turns"], -1, -1, self.rules.max_turns, 3))
        rows += [(KIND["pool"], -1, item, pool[item], 3) for item in range(3)]
        return rows + [(KIND["worth"], seat, item, values[seat][item], 1 << seat)
                       for seat in range(2) for item in range(3)]  # fmt: skip

    def legal(self, state: Any, kept: tuple[int, ...]) -> list[int]:
        """OpenSpiel's legal actions as the next pick of an offer that begins with `kept`."""
        actions = state.legal_actions()
        legal = [self.offers[action] for action in actions if action < len(self.offers)]
        picks = sorted({offer[len(kept)] for offer in legal if offer[: len(kept)] == kept})
        return picks + [AGREE] * (not kept and len(self.offers) in actions)


def judged(parameters: dict[str, Any], played: Played, folder: Path) -> Judge:
    judge = Judge(pytest.importorskip("pyspiel"), folder, Bargaining(**parameters), played)
    for episode in range(len(played.roles)):
        judge.replay(episode)
    return judge


@pytest.mark.parametrize("parameters", PRESETS, ids=name)
def test_openspiel_agrees_with_every_step(parameters: dict[str, Any], tmp_path: Path):
    judge = judged(parameters, games_of(parameters), tmp_path)
    chance = parameters.get("prob_end_percent", 0) / 100
    assert judge.ends["agree"] > 100
    assert judge.ends["out_of_turns"] > 10 or parameters.get("max_turns", 10) > 3
    assert bool(judge.ends["broken_off"]) == bool(chance)
    draws = judge.draws.total()
    assert bool(draws) == bool(chance)
    assert abs(judge.draws[True] - chance * draws) <= 5 * np.sqrt(chance * (1 - chance) * draws)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", PRESETS, ids=name)
def test_openspiel_agrees_with_ten_thousand_games(parameters: dict[str, Any], tmp_path: Path):
    game = Bargaining(**parameters)
    judged(parameters, play(game, 8000, seed=8, player=wild), tmp_path)
    judged(parameters, play(game, 2000, seed=9, player=heuristic), tmp_path)


def test_three_picks_name_openspiels_offers_and_no_others():
    pyspiel = pytest.importorskip("pyspiel")
    game, labels = pyspiel.load_game("bargaining"), Bargaining().spec.action_labels
    offers = [tuple(offer.quantities) for offer in game.all_offers()]
    assert set(offers) == {offer for offer in itertools.product(range(8), repeat=3) if sum(offer) <= 7}
    state = game.new_initial_state()
    state.apply_action(0)
    assert state.action_to_string(0, offers.index((1, 2, 3))) == "Offer: Book: 1, Hat: 2, Basketball: 3"
    assert state.action_to_string(0, len(offers)) == "Agree"
    assert labels == (*(f" keep {count}" for count in range(8)), " agree")


# ---------------------------------------------------------------------- instances


def test_all_admissible_instances_are_dealt_and_no_others():
    found = {tuple(map(tuple, one)) for one in instance_table("").tolist()}
    expected = set()
    for pool in itertools.product(range(1, 8), repeat=3):
        if sum(pool) in (5, 6, 7):
            values = [v for v in itertools.product(range(11), repeat=3) if np.dot(pool, v) == 10]
            expected |= {(pool, first, second) for first in values for second in values
                         if all(map(max, zip(first, second, strict=True)))
                         and any(map(min, zip(first, second, strict=True)))}  # fmt: skip
    assert found == expected
    assert len(instance_table("")) == len(found) == 5793


def test_openspiels_own_instances_are_among_ours():
    pyspiel = pytest.importorskip("pyspiel")
    found = {tuple(map(tuple, one)) for one in instance_table("").tolist()}
    theirs = pyspiel.load_game("bargaining").all_instances()
    assert len(theirs) == 1000
    assert all((tuple(one.pool), *map(tuple, one.values)) in found for one in theirs)


@pytest.mark.parametrize("text", ["", ";".join(KINDRED)], ids=["generated", "injected"])
def test_deals_are_uniform(text: str):
    game, table = Bargaining(instances=text), instance_table(text)

    def deal(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = game.init(key)
        return state.pool, state.values

    keys = jax.random.split(jax.random.key(3), 30_000)
    pool, values = jax.jit(jax.vmap(deal), compiler_options=QUICKLY)(keys)
    dealt = np.concatenate([np.asarray(pool)[:, None], np.asarray(values)], axis=1)
    number = {one.tobytes(): index for index, one in enumerate(table)}
    counts = np.bincount([number[one.tobytes()] for one in dealt], minlength=len(table))
    expected, freedom = len(keys) / len(table), len(table) - 1
    assert abs(np.sum((counts - expected) ** 2) / expected - freedom) < 6 * np.sqrt(2 * freedom)


# ---------------------------------------------------------------------- what every game promises


@pytest.mark.parametrize("parameters", [PRESETS[0], PRESETS[3]], ids=name)
def test_the_game_conforms(parameters: dict[str, Any]):
    check_game(Bargaining(**parameters), episodes=100)


def refuses(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: an offer that leaves everything to the other seat, whatever was offered."""
    return jnp.int32(0)


@pytest.mark.parametrize("parameters", [{"max_turns": 4}, {"max_turns": 3, "speech_tokens": 2}], ids=name)
def test_a_game_without_agreement_reaches_the_bounds_of_its_spec(parameters: dict[str, Any]):
    spec = Bargaining(**parameters).spec
    played = play(Bargaining(**parameters), 1, seed=0, player=refuses)
    assert played.terminated[0, -1] and not played.truncated[0, -1]
    assert played.outcome[0, -1].tolist() == [-1.0, -1.0]
    assert played.step[0, -1] == spec.max_decisions
    assert played.size[0, -1] == spec.max_events
    taken, shown = Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    new, cursor = 0, [0, 0]
    for _, time, seat in played.turns():
        taken[seat, spec.phases[played.phase[0, time]].name] += 1
        rows = range(cursor[seat], played.size[0, time])
        shown.update((seat, spec.event_kinds[played.rows[0, row, 0]].name)
                     for row in rows if played.audience[0, row] >> seat & 1)  # fmt: skip
        new, cursor[seat] = max(new, len(rows)), rows.stop
    assert new == spec.max_new_events
    for counted, bounds in ((taken, spec.turns), (shown, spec.visible_events)):
        for names, most in bounds:
            assert max(sum(counted[seat, each] for each in names) for seat in range(2)) == most, names


def test_outcomes_are_spread_over_the_whole_range():
    played = games_of({})
    deal = (played.rows[:, :, 0] == KIND["agree"]).any(axis=1)
    outcome = played.outcome[:, -1]
    assert (outcome[~deal] == -1.0).all() and (~deal).sum() > 5
    assert np.unique(outcome[deal].round(3)).tolist() == pytest.approx([payoff / 5 - 1 for payoff in range(11)])


def test_a_late_deal_is_worth_less():
    """Agreeing to the offer of everything: 10 at turn 2, then 90 percent of it for every further turn."""
    game = Bargaining(discount_percent=90, instances=EXAMPLE)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    for turns, payoff in ((2, 10.0), (3, 9.0), (4, 8.1)):
        state, key = game.init(jax.random.key(0)), jax.random.key(0)
        for _ in range(3 * (turns - 1)):
            state = step(state, jnp.int32(0), key)
        accepting = int(state.actor)
        state = step(state, jnp.int32(AGREE), key)
        assert state.terminated
        assert np.asarray(state.outcome)[accepting] == pytest.approx(payoff / 5 - 1, abs=1e-6)
        assert np.asarray(state.outcome)[1 - accepting] == -1.0


def test_a_game_step_by_step_is_the_same_compiled_or_not():
    game = Bargaining(max_turns=2, prob_end_percent=50, speech_tokens=2)
    step = jax.jit(game.step, compiler_options=QUICKLY)
    compiled = eager = game.init(jax.random.key(1))
    for time, action in enumerate((1, 2, 99, 0, 7, 0, 3)):  # three of them illegal, the last one beyond the end
        key = jax.random.key(time)
        compiled, eager = step(compiled, jnp.int32(action), key), game.step(eager, jnp.int32(action), key)
        jax.tree.map(np.testing.assert_array_equal, compiled, eager)
    assert compiled.terminated and compiled.step == 6


# ---------------------------------------------------------------------- hiding


def test_a_seat_sees_the_same_whatever_the_other_seats_values_are():
    game = Bargaining(max_turns=4, prob_end_percent=20, speech_tokens=2, instances=";".join(KINDRED))
    starts: dict[bytes, Any] = {}
    for seed in range(50):
        state = game.init(jax.random.key(seed))
        starts.setdefault(np.asarray(state.values).tobytes(), state)
    worlds = [starts[one[1:].tobytes()] for one in instance_table(game.instances)]

    def live(start: Any, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        def turn(state: Any, time: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            legal = game.legal_action_mask(state)
            draw = jax.random.uniform(jax.random.fold_in(key, time), legal.shape)  # the same acts in every world
            seen = {"legal": legal, "actor": state.actor, "phase": state.phase, "acting": game.acting_mask(state),
                    "size": state.log.size}  # fmt: skip
            for seat in range(2):
                known = [state.log.visible_to(seat), state.log.known_to(seat)]
                seen[f"rows{seat}"] = jnp.stack([jnp.where(mask[:, None], state.log.rows, -1) for mask in known])
            after = game.step(state, jnp.argmax(jnp.where(legal, draw, -1.0)), jax.random.fold_in(key, -1 - time))
            return after, seen

        return jax.lax.scan(turn, start, jnp.arange(game.spec.max_decisions + 1))

    many = jax.jit(jax.vmap(live, (None, 0)), compiler_options=QUICKLY)
    keys = jax.random.split(jax.random.key(4), 200)
    lives = [jax.device_get(many(start, keys)) for start in worlds]
    for seat, other in ((0, lives[1]), (1, lives[2])):
        (last, seen), (other_last, other_seen) = lives[0], other
        for field in ("legal", "actor", "phase", "acting", "size", f"rows{seat}"):
            np.testing.assert_array_equal(seen[field], other_seen[field], err_msg=f"{field}, seat {seat}")
        np.testing.assert_array_equal(last.outcome[:, seat], other_last.outcome[:, seat])
        assert (seen[f"rows{1 - seat}"] != other_seen[f"rows{1 - seat}"]).any()
        assert (last.outcome[:, 1 - seat] != other_last.outcome[:, 1 - seat]).sum() > 20


def test_an_offer_in_the_making_is_shown_to_nobody():
    played = games_of(PRESETS[0])
    used = np.arange(played.rows.shape[1]) < played.size[:, -1:]
    kind, audience, actor = played.rows[..., 0], played.audience, played.rows[..., 1]
    assert (audience[used & (kind == KIND["pick"])] == 0).all()
    kept = used & (kind == KIND["keep"])
    assert kept.sum() > 1000
    assert (audience[kept] == 2 - actor[kept]).all()


def test_only_an_answer_may_agree_and_only_it_and_the_opening_speak():
    spec = Bargaining(speech_tokens=3, thought_tokens=2).spec
    assert [phase.speech_tokens for phase in spec.phases] == [3, 3, 0, 0, 0]
    assert [phase.thought_tokens for phase in spec.phases] == [2, 2, 2, 2, 0]
    played = games_of(PRESETS[0])
    alive = ~played.over
    assert (played.legal[..., AGREE][alive] == (played.phase == ANSWER)[alive]).all()
    assert ((played.phase == OPEN)[:, 1:]).sum() == 0


# ---------------------------------------------------------------------- the scripted player


def test_the_heuristic_player_gets_more_than_a_random_one():
    def duel(view: SeatView, key: jax.Array) -> jax.Array:
        return jnp.where(view.seat == 0, heuristic(view, key), random_legal(view, key))

    outcome = play(Bargaining(), 100, 5, duel).outcome[:, -1]
    assert outcome[:, 0].mean() > outcome[:, 1].mean() + 0.6
    assert outcome[:, 0].mean() > games_of({}).outcome[:, -1].mean() + 0.5


@pytest.mark.slow
def test_heuristic_players_agree_to_more_than_half_each():
    played = play(Bargaining(), 4000, 1, heuristic)
    assert (played.rows[:, :, 0] == KIND["agree"]).any(axis=1).mean() > 0.99
    assert (played.outcome[:, -1].mean(axis=0) > 0.3).all()


# ---------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_turns": 1}, "bargaining-v0: max_turns is between 2 and 20, not 1"),
        ({"max_turns": 21}, "bargaining-v0: max_turns is between 2 and 20, not 21"),
        ({"discount_percent": 0}, "bargaining-v0: discount_percent is between 1 and 100, not 0"),
        ({"prob_end_percent": 100}, "bargaining-v0: prob_end_percent is between 0 and 99, not 100"),
        ({"speech_tokens": -1}, "bargaining-v0: speech_tokens is between 0 and 4096, not -1"),
        ({"thought_tokens": 5000}, "bargaining-v0: thought_tokens is between 0 and 4096, not 5000"),
        ({"instances": "1,2,3"}, "bargaining-v0: instances are of the form pool/values of first/values of second, for"),
        ({"instances": f"{EXAMPLE};"}, "bargaining-v0: instances are of the form pool/values of first/values of"),
        ({"instances": f"{EXAMPLE};1,1,2/0,0,5/2,2,3"}, "bargaining-v0: instances: a pool holds 5 to 7 items, unlike "
         "in number 2, '1,1,2/0,0,5/2,2,3'"),
        ({"instances": "0,2,3/9,2,2/9,5,0"}, "bargaining-v0: instances: a pool holds at least one item of each type"),
        ({"instances": "1,2,3/8,1,0/4,0,3"}, "bargaining-v0: instances: the whole pool is worth 10 to each seat"),
        ({"instances": "1,2,3/10,0,0/1,0,3"}, "bargaining-v0: instances: every type of item is worth something to "),
        ({"instances": "1,2,3/10,0,0/0,2,2"}, "bargaining-v0: instances: some type of item is worth something to "),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_in_one_sentence(parameters: dict[str, Any], message: str):
    with pytest.raises(GameError) as refusal:
        Bargaining(**parameters)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_parameters_stand_in_the_spec_and_in_the_introduction():
    game = Bargaining(max_turns=6, discount_percent=90, prob_end_percent=10)
    assert dict(game.spec.parameters) == dataclasses.asdict(game)
    introduction = game.spec.introduction[0]
    assert all(part in introduction for part in ("Offer number 6", "90 percent", "10 percent"))
    assert "percent" not in Bargaining().spec.introduction[0]
    assert hash(game.spec) == hash(Bargaining(max_turns=6, discount_percent=90, prob_end_percent=10).spec)
