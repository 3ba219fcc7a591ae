"""Plays batches of two-player games without chance after the deal, and has OpenSpiel judge them step by step."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import Game, GameSpec, SeatView, view_of_actor
from games.players.scripted import random_legal

BEYOND = 2  # steps recorded after the longest game that the spec allows
QUICKLY = {"xla_backend_optimization_level": 0}  # compiling takes longer than running

Player = Callable[[SeatView, jax.Array], jax.Array]
Policy = Callable[[Any, Any, jax.Array], jax.Array]  # (state, what the game was given, time) -> action
Record = dict[str, np.ndarray]


def play(game: Game, policy: Policy, start: Any, given: Any) -> dict[str, jax.Array]:
    """Plays games from the states `start`; the policy is told of each what `given` holds; both have games in front.

    Returns:
      The actions int32[games, T], the state at each time [games, T + 1, ...] and the log at the end.
    """

    def see(state: Any) -> dict[str, jax.Array]:
        names = ("phase", "actor", "step", "outcome", "terminated", "truncated")
        masks = {"legal": game.legal_action_mask(state), "acting": game.acting_mask(state)}
        return {name: getattr(state, name) for name in names} | masks | {"log_size": state.log.size}

    def one(state: Any, given: Any) -> dict[str, jax.Array]:
        def turn(state: Any, time: jax.Array) -> tuple[Any, tuple[jax.Array, dict[str, jax.Array]]]:
            action = policy(state, given, time)
            state = game.step(state, action, jax.random.key(0))  # these games draw nothing after the deal
            return state, (action, see(state))

        last, (actions, seen) = jax.lax.scan(turn, state, jnp.arange(game.spec.max_decisions + BEYOND))
        seen = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), see(state), seen)
        return seen | {"actions": actions, "log_rows": last.log.rows, "log_audience": last.log.audience}

    return jax.vmap(one)(start, given)


@functools.cache
def compiled_init(game: Game) -> Callable[[jax.Array], Any]:
    """Deals one game a key."""
    return jax.jit(jax.vmap(game.init), compiler_options=QUICKLY)


def as_told(state: Any, actions: jax.Array, time: jax.Array) -> jax.Array:
    """A policy that plays the given actions int32[T], and then the last of them again and again."""
    return actions[jnp.minimum(time, actions.shape[0] - 1)]


def at_random(game: Game, state: Any, given: dict[str, jax.Array], time: jax.Array) -> jax.Array:
    """A random policy: `patience` is the share of the legal action first in `order`, `wild` that of any number."""
    which, legal_key, any_key = jax.random.split(jax.random.fold_in(given["key"], time), 3)
    view, draw = view_of_actor(game, state), jax.random.uniform(which, (2,))
    earliest = jnp.argmin(jnp.where(view.legal, given["order"], view.legal.shape[0]))
    action = jnp.where(draw[0] < given["patience"], earliest, random_legal(view, legal_key))
    wild = jax.random.randint(any_key, (), -3, game.spec.num_actions + 4)
    return jnp.where(draw[1] < given["wild"], wild, action)


def against_random(game: Game, player: Player, state: Any, given: dict[str, jax.Array], time: jax.Array) -> jax.Array:
    """`player` in the seats that `given["holds"]` bool[2] names, a random player in the others."""
    player_key, random_key = jax.random.split(jax.random.fold_in(given["key"], time))
    view = view_of_actor(game, state)
    mine = given["holds"][jnp.maximum(state.actor, 0)]
    return jnp.where(mine, player(view, player_key), random_legal(view, random_key))


@functools.cache
def compiled_play(game: Game, player: Player | None = None) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """`play` with random actions or, if there is a player, with it against them."""
    policy: Any = (
        functools.partial(at_random, game) if player is None else functools.partial(against_random, game, player)
    )
    return jax.jit(functools.partial(play, game, policy), compiler_options=QUICKLY)


@functools.cache
def compiled_replay(game: Game) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """`play` with given actions."""
    return jax.jit(functools.partial(play, game, as_told), compiler_options=QUICKLY)


def record_random(game: Game, count: int, seed: int, order: Sequence[int] | None = None) -> tuple[Any, Record]:
    """Records random games: every third is patient, so that games become long, every fifth often plays illegally.

    Args:
      game: the rules.
      count: number of games.
      seed: of everything.
      order: place of each action in the order in which the patient take them; by default that of their indices.

    Returns:
      The dealt states and the record, both with games in front.
    """
    number = np.arange(count)
    keys = jax.random.split(jax.random.key(seed), count)
    given = {
        "key": keys,
        "order": np.tile(np.arange(game.spec.num_actions) if order is None else np.asarray(order), (count, 1)),
        "patience": np.choose(number % 3, [0.0, 0.7, 0.98]).astype(np.float32),
        "wild": np.where(number % 5 == 4, 0.3, 0.0).astype(np.float32),
    }
    start = compiled_init(game)(keys)
    return jax.device_get((start, compiled_play(game)(start, given)))


def scores_against_random(game: Game, player: Player, count: int, seed: int) -> np.ndarray:
    """float[2, count // 2]: outcomes of a player against the random one, in the first seat and in the second."""
    keys = jax.random.split(jax.random.key(seed), count)
    holds = np.arange(2) == np.arange(count)[:, None] // (count // 2)
    record = compiled_play(game, player)(compiled_init(game)(keys), {"key": keys, "holds": holds})
    return np.sum(np.asarray(record["outcome"])[:, -1], axis=1, where=holds).reshape(2, -1)


def single(record: Record) -> Iterator[Record]:
    """Cuts a record into games."""
    for index in range(len(record["actions"])):
        yield {name: values[index] for name, values in record.items()}


def judge(original: Any, chance: Sequence[int], ours: Sequence[int], payoff: float, record: Record) -> int:
    """Replays a game in OpenSpiel; both have to agree at every step.

    Args:
      original: OpenSpiel's game.
      chance: outcomes of its chance nodes, which our deal forces.
      ours: our action index for each of its actions.
      payoff: what an outcome of 1 is worth there.
      record: one game of ours.

    Returns:
      The number of decisions until the end.

    Raises:
      AssertionError: they differ; the message names the time.
    """
    state, theirs = original.new_initial_state(), {action: index for index, action in enumerate(ours)}
    for outcome in chance:
        assert state.is_chance_node()
        state.apply_action(outcome)
    decisions, actions = 0, record["actions"].tolist()
    for time in range(len(actions) + 1):
        over, actor = state.is_terminal(), -1 if state.is_terminal() else state.current_player()
        legal = sorted(range(len(ours)) if over else (ours[action] for action in state.legal_actions()))
        expected = {
            "terminated": over,
            "truncated": False,
            "actor": actor,
            "step": decisions,
            "legal": [action in legal for action in range(len(ours))],
            "acting": [seat == actor for seat in range(2)],
            "outcome": [value / payoff for value in state.returns()],
        }
        found = {name: record[name][time].tolist() for name in expected}
        assert found == expected, f"t={time}: {found} is not {expected} after {state}"
        if time < len(actions) and not over:
            state.apply_action(theirs[actions[time] if actions[time] in legal else legal[0]])
            decisions += 1
    assert state.is_terminal()
    return decisions


def observed_by(seat: int, record: Record) -> list[tuple[Any, ...]]:
    """All that a seat can observe of a game up to its last turn, time by time: rows, whose turn, what it may do."""
    rows, bit = record["log_rows"], record["log_audience"].astype(int) >> seat & 1
    known = (bit == 1) | (rows[:, 1] == seat)
    observed = []
    for time in np.flatnonzero(~record["terminated"]):
        size = int(record["log_size"][time])
        mine = record["actor"][time] == seat
        observed.append(
            (
                rows[:size][known[:size]].tolist(),
                rows[:size][bit[:size] == 1].tolist(),
                int(record["actor"][time]),
                int(record["phase"][time]) if mine else None,
                record["legal"][time].tolist() if mine else None,
            )
        )
    return observed


def most_of(spec: GameSpec, record: Record) -> tuple[Counter[str], Counter[tuple[str, ...]]]:
    """The most that occurs in any of the games, by bound of the spec and by its groups of kinds and of phases."""
    most, groups = Counter[str](), Counter[tuple[str, ...]]()
    for one in single(record):
        most |= Counter(max_decisions=int(one["step"][-1]), max_events=int(one["log_size"][-1]))
        for seat in set(one["actor"].tolist()) - {-1}:
            turns = np.flatnonzero(one["actor"] == seat)
            sizes = one["log_size"][turns]
            most |= Counter(max_new_events=int(np.diff(sizes, prepend=0).max()))
            read = one["log_audience"][: sizes[-1]].astype(int) >> seat & 1 == 1
            kinds = Counter(spec.event_kinds[kind].name for kind in one["log_rows"][: sizes[-1], 0][read])
            phases = Counter(spec.phases[phase].name for phase in one["phase"][turns])
            for counted, bounds in ((kinds, spec.visible_events), (phases, spec.turns)):
                assert set(counted) <= {name for names, _ in bounds for name in names}
                groups |= Counter({names: sum(counted[name] for name in names) for names, _ in bounds})
    return most, groups


def assert_bounds_are_reached(spec: GameSpec, record: Record) -> None:
    """Asserts that no game exceeds a bound of the spec and that each bound is met by some game."""
    most, groups = most_of(spec, record)
    assert most == {name: getattr(spec, name) for name in ("max_decisions", "max_events", "max_new_events")}
    assert groups == {names: bound for names, bound in (*spec.visible_events, *spec.turns) if bound}
