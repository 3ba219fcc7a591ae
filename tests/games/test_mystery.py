"""The compiled murder mystery against the referee, its cases, its bounds, what it hides, and how its players fare."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from games.core import GameError, view_of_actor
from games.mystery import CULPRIT, KIND, ROLES, VOTE, Mystery, layout
from games.players.mystery import heuristic
from games.players.scripted import random_legal
from games.testing import check_game
from tests.games.mystery_referee import Case, Referee, case_of, replay, suspects

BEYOND = 2  # steps recorded after the longest game that the spec allows
QUICKLY = {"xla_backend_optimization_level": 0}  # compiling takes longer than running
STATE_FIELDS = ("phase", "actor", "step", "outcome", "terminated", "truncated")
TIMED_FIELDS = (*STATE_FIELDS, "legal", "acting", "log_size")

# What the fast tier compiles: the default, and everything else that can be switched on.
EVERYTHING: dict[str, Any] = {
    "num_seats": 4, "rounds": 2, "acts": 2, "rooms": 3, "objects": 2, "motives": 4, "trace_percent": 20,
    "clues": "finder", "verdict": "doubt", "ties": "lot", "speech_tokens": 4,
}  # fmt: skip
PRESETS: list[dict[str, Any]] = [{}, EVERYTHING]
GAMES = (500, 300)  # of each preset

MORE: list[dict[str, Any]] = [
    {"num_seats": 3, "rounds": 1, "ties": "lot"},
    {"num_seats": 3, "rounds": 6, "opinions": False, "rooms": 6, "objects": 4},
    {"num_seats": 6, "rounds": 2, "verdict": "doubt", "speech_tokens": 2},
    {"num_seats": 7, "rounds": 1, "acts": 3, "clues": "finder", "trace_percent": 0},
    {"num_seats": 8, "rounds": 4, "rooms": 6, "objects": 4, "motives": 4, "trace_percent": 100},
    {"num_seats": 8, "rounds": 2, "rooms": 3, "clues": "finder", "opinions": False, "ties": "lot"},
]


def name(parameters: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in parameters.items()) or "default"


def init_key(key: jax.Array) -> jax.Array:
    return jax.random.fold_in(key, 0)


def step_key(key: jax.Array, time: jax.Array | int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, 2), time)


def snapshot(game: Mystery, state: Any) -> dict[str, jax.Array]:
    masks = {"legal": game.legal_action_mask(state), "acting": game.acting_mask(state), "log_size": state.log.size}
    return {field: getattr(state, field) for field in STATE_FIELDS} | masks


def play(game: Mystery, scripted: bool, key: jax.Array, wild: jax.Array, sensible: jax.Array) -> dict[str, jax.Array]:
    """Records one game.

    Args:
      game: the rules.
      scripted: whether heuristic players take part (static).
      key: of all chance.
      wild: float[], share of actions that are any number, most of them illegal.
      sensible: bool[2], whether the innocents and the culprit play by the heuristic.
    """
    start = game.init(init_key(key))

    def turn(state: Any, time: jax.Array) -> tuple[Any, tuple[jax.Array, dict[str, jax.Array]]]:
        which, act_key, any_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, 1), time), 3)
        view = view_of_actor(game, state)
        action = random_legal(view, act_key)
        if scripted:
            action = jnp.where(sensible[view.role], heuristic(view, act_key), action)
        anything = jax.random.randint(any_key, (), -3, game.spec.num_actions + 5)
        action = jnp.where(jax.random.uniform(which) < wild, anything, action)
        state = game.step(state, action, step_key(key, time))
        return state, (action, snapshot(game, state))

    last, (actions, seen) = jax.lax.scan(turn, start, jnp.arange(game.spec.max_decisions + BEYOND))
    seen = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), snapshot(game, start), seen)
    log = {"log_rows": last.log.rows, "log_audience": last.log.audience}
    return seen | log | {"actions": actions, "roles": last.roles, "stacks": start.stacks}


@functools.cache
def compiled(game: Mystery, scripted: bool) -> Callable[..., dict[str, jax.Array]]:
    return jax.jit(jax.vmap(functools.partial(play, game, scripted)), compiler_options=QUICKLY)


def record_games(game: Mystery, count: int, seed: int, scripted: bool = False) -> dict[str, np.ndarray]:
    """Records games.

    Of random ones every fifth has 30 % arbitrary actions. Of scripted ones, in turn, both sides play by the heuristic,
    the innocents alone and the culprit alone.
    """
    number = np.arange(count)
    wild = np.where(number % 5 == 4, 0.3, 0.0) * (not scripted)
    sensible = np.array([[True, True], [True, False], [False, True]])[number % 3] & scripted
    keys = jax.random.split(jax.random.key(seed), count)
    return jax.device_get(compiled(game, scripted)(keys, wild.astype(np.float32), sensible))


def single_records(games: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a batch into games, each with the steps up to its end and `BEYOND` ones after it."""
    for index in range(len(games["actions"])):
        game = {field: values[index] for field, values in games.items()}
        steps = min(int(game["step"][-1]) + BEYOND, len(game["actions"]))
        timed = {field: game[field][: steps + 1] for field in TIMED_FIELDS}
        yield game | timed | {"actions": game["actions"][:steps]}


@functools.cache
def recorded(preset: int, scripted: bool = False) -> dict[str, np.ndarray]:
    return record_games(Mystery(**PRESETS[preset]), GAMES[preset], seed=7, scripted=scripted)


def judge(parameters: dict[str, Any], games: dict[str, np.ndarray]) -> Counter[str]:
    """Has the referee replay all games; returns how often each kind of row was logged, and ties and lots."""
    seen: Counter[str] = Counter()
    names = [kind.name for kind in Mystery(**parameters).spec.event_kinds]
    for game in single_records(games):
        referee = replay(parameters, {field: values.tolist() for field, values in game.items()})
        assert referee.decision is None
        seen.update(names[event[0]] for event in referee.log)
        seen["tie"] += len(referee.tied) > 1
    return seen


@pytest.mark.parametrize("preset", range(2))
def test_the_referee_agrees_with_every_step(preset: int):
    seen = judge(PRESETS[preset], recorded(preset))
    for kind in ("saw", "alone", "trace", "weapon", "motive", "no_clue", "ask", "answer", "suspect", "trust", "pass",
                 "convicted", "tie"):  # fmt: skip
        assert seen[kind] > 0, kind
    assert bool(seen["utterance"]) == (preset == 1)
    assert bool(seen["acquitted"]) == (preset == 0)
    assert seen["win"] == GAMES[preset]


@pytest.mark.slow
@pytest.mark.parametrize("parameters", PRESETS + MORE, ids=name)
def test_the_referee_agrees_with_ten_thousand_games(parameters: dict[str, Any]):
    game = Mystery(**parameters)
    for seed in range(10):
        judge(parameters, record_games(game, 700, 100 + seed))
        judge(parameters, record_games(game, 300, 200 + seed, scripted=True))


# The case.


def cases(parameters: dict[str, Any], count: int, seed: int) -> list[Case]:
    """Cases as the game makes them up."""
    game = Mystery(**parameters)
    states = jax.jit(jax.vmap(game.init), compiler_options=QUICKLY)(jax.random.split(jax.random.key(seed), count))
    states = jax.device_get(states)
    fields = {"roles": states.roles, "log_rows": states.log.rows, "stacks": states.stacks}
    return [case_of({field: values[index].tolist() for field, values in fields.items()}) for index in range(count)]


def test_the_evidence_always_determines_the_culprit_and_less_of_it_does_not():
    made = cases({}, 400, seed=3)
    alone = [suspects({}, case) for case in made]
    assert all(left == {case.culprit} for left, case in zip(alone, made, strict=True))
    without_traces = sum(len(suspects({}, case, traces=False)) == 1 for case in made)
    scripts_only = sum(len(suspects({}, case, traces=False, scene_clues=False)) == 1 for case in made)
    assert 0.3 * len(made) > scripts_only
    assert scripts_only < without_traces < 0.95 * len(made)


@pytest.mark.slow
@pytest.mark.parametrize("parameters", [{}, *MORE], ids=name)
def test_the_evidence_determines_the_culprit_in_ten_thousand_cases(parameters: dict[str, Any]):
    count = 10_000 if Mystery(**parameters).num_seats <= 6 else 1_000  # the lies grow as two to the seats
    for case in cases(parameters, count, seed=4):
        case.check(Referee(parameters, case).parameters)
        assert suspects(parameters, case) == {case.culprit}


def assert_uniform(found: Any, count: int, sigmas: float = 4.5) -> None:
    """Each of `count` values comes up as often as the others, as far as chance allows."""
    times, share = np.bincount(np.asarray(found), minlength=count), 1 / count
    assert len(times) == count
    assert np.all(np.abs(times - share * len(found)) < sigmas * np.sqrt(len(found) * share * (1 - share))), times


def test_every_draw_of_a_case_is_as_likely_as_the_rules_say():
    made = cases({}, 4000, seed=11)
    innocents = [(case, seat) for case in made for seat in case.seats if seat != case.culprit]
    assert_uniform([case.culprit for case in made], 5)
    assert_uniform([case.scene for case in made], 5)
    assert_uniform([9 * case.scene + 3 * case.carried[case.culprit] + case.driven[case.culprit] for case in made], 45)
    assert_uniform([(case.at[seat] - case.scene) % 5 - 1 for case, seat in innocents], 4)
    assert_uniform([3 * case.carried[seat] + case.driven[seat] for case, seat in innocents], 9)
    rings = [sorted(case.object_known) == case.seats and case.object_known[0] - 1 for case in made]
    assert_uniform(rings, 4)
    assert_uniform([case.object_known.index(case.culprit) for case in made], 5)
    orders = [case.stacks[case.scene].index("weapon") for case in made]
    assert_uniform(orders, 2)
    pairs = [stack for case in made for stack in case.stacks if len(stack) == 2 and "weapon" not in stack]
    assert_uniform([int(first > second) for first, second in pairs], 2)
    cleared = [seat in case.traced for case, seat in innocents if case.cleared(seat)]
    assert_uniform(cleared, 2)
    assert all(seat in case.traced for case, seat in innocents if not case.cleared(seat))


def test_a_lot_draws_the_tied_equally_often_and_nobody_else():
    game = Mystery(num_seats=4, rounds=1, ties="lot", opinions=False)
    state, first = game.init(jax.random.key(0)), layout(4)
    ready = dataclasses.replace(
        state, phase=jnp.int8(VOTE), actor=jnp.int8(3), ballots=jnp.asarray([2, 0, 0, -1], jnp.int8)
    )
    step = jax.jit(jax.vmap(game.step, (None, None, 0)), compiler_options=QUICKLY)
    after = step(ready, jnp.int32(first["vote"] + 2), jax.random.split(jax.random.key(1), 2000))
    size = int(after.log.size[0])
    assert np.all(np.asarray(after.log.rows[:, size - 2, 0]) == KIND["convicted"])
    convicted = np.asarray(after.log.rows[:, size - 2, 2])
    assert set(convicted.tolist()) == {0, 2}
    assert_uniform(convicted // 2, 2)


# How players fare.


def innocents_win(games: dict[str, np.ndarray]) -> np.ndarray:
    """bool[games]."""
    return (games["outcome"][:, -1] * np.where(games["roles"] == CULPRIT, -1, 1)).mean(axis=1) > 0


def chance_that_random_votes_convict(seats: int) -> float:
    """From the rules alone: everybody votes for any other seat; a tie acquits."""
    votes = np.indices((seats - 1,) * seats).reshape(seats, -1)
    votes = votes + (votes >= np.arange(seats)[:, None])  # nobody votes for itself
    sums = np.stack([np.sum(votes == seat, axis=0) for seat in range(seats)])
    return float(np.mean((sums[0] == sums.max(axis=0)) & (np.sum(sums == sums.max(axis=0), axis=0) == 1)))


def test_random_play_convicts_as_often_as_reckoned():
    games, expected = recorded(0), chance_that_random_votes_convict(5)
    won = innocents_win(games)[np.arange(GAMES[0]) % 5 != 4]
    assert abs(won.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / len(won))


def test_scripted_players_beat_random_ones_on_both_sides():
    games = recorded(0, scripted=True)
    judge({}, games)
    both, innocents_alone, culprit_alone = (innocents_win(games)[start::3].mean() for start in range(3))
    by_chance = chance_that_random_votes_convict(5)
    assert innocents_alone > by_chance + 0.3
    assert culprit_alone <= by_chance + 0.05
    assert 0.3 < both < 0.7
    assert both < innocents_alone - 0.1
