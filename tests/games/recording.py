"""Plays batches of games in one compiled program and hands them out in the form that a replay judges."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from games.core import Game, view_of_actor
from games.players.scripted import heuristic_player, random_legal

BEYOND = 2  # steps recorded after the end of the longest game

STATE_FIELDS = ("phase", "actor", "step", "alive", "outcome", "terminated", "truncated")
TIMED_FIELDS = (*STATE_FIELDS, "legal", "acting", "log_size")

# Half the compile time; the programs here run so briefly that their speed does not matter.
QUICKLY = {"xla_backend_optimization_level": 0}


def snapshot(game: Game, state: Any) -> dict[str, jax.Array]:
    """What a record keeps of every state."""
    kept = {name: getattr(state, name) for name in STATE_FIELDS}
    masks = {"legal": game.legal_action_mask(state), "acting": game.acting_mask(state)}
    return kept | masks | {"log_size": state.log.size}


def choose(game: Game, scripted: bool, state: Any, key: jax.Array, heuristic: jax.Array, wild: jax.Array) -> jax.Array:
    """int32[]: the actor's action.

    Args:
      game: the rules.
      scripted: whether the heuristic player takes part (static).
      state: the state to act in.
      key: of all that is drawn here.
      heuristic: float[], probability that the heuristic player decides instead of the random one.
      wild: float[], probability of any number from -3 to A + 4 instead, most of them illegal.
    """
    which, legal_key, any_key, heuristic_key = jax.random.split(key, 4)
    view, draw = view_of_actor(game, state), jax.random.uniform(which, (2,))
    action = random_legal(view, legal_key)
    if scripted:
        sensible = heuristic_player(game.spec.name)(view, heuristic_key)
        action = jnp.where(draw[0] < heuristic, sensible, action)
    return jnp.where(draw[1] < wild, jax.random.randint(any_key, (), -3, game.spec.num_actions + 5), action)


def init_key(key: jax.Array) -> jax.Array:
    """The key with which `play` deals a game."""
    return jax.random.fold_in(key, 0)


def step_key(key: jax.Array, time: jax.Array | int) -> jax.Array:
    """The key that `play` passes to the step at `time` of a game."""
    return jax.random.fold_in(jax.random.fold_in(key, 2), time)


def play(game: Game, scripted: bool, keys: jax.Array, heuristic: jax.Array, wild: jax.Array) -> dict[str, jax.Array]:
    """Records games, one a key, until the last one is over; the probabilities are float[games]."""
    steps = game.spec.max_decisions + BEYOND
    start = jax.vmap(lambda key: game.init(init_key(key)))(keys)
    see = jax.vmap(functools.partial(snapshot, game))

    def one(state: Any, key: jax.Array, time: jax.Array, heuristic: jax.Array, wild: jax.Array) -> tuple:
        act_key = jax.random.fold_in(jax.random.fold_in(key, 1), time)
        action = choose(game, scripted, state, act_key, heuristic, wild)
        return game.step(state, action, step_key(key, time)), action

    def body(carry: tuple) -> tuple:
        state, time, beyond, actions, seen = carry
        state, action = jax.vmap(one, (0, 0, None, 0, 0))(state, keys, time, heuristic, wild)
        seen = jax.tree.map(lambda kept, new: kept.at[:, time + 1].set(new), seen, see(state))
        return state, time + 1, beyond + jnp.all(state.over), actions.at[:, time].set(action), seen

    first = see(start)
    seen = jax.tree.map(lambda leaf: jnp.zeros((leaf.shape[0], steps + 1, *leaf.shape[1:]), leaf.dtype), first)
    seen = jax.tree.map(lambda kept, new: kept.at[:, 0].set(new), seen, first)
    actions = jnp.zeros((keys.shape[0], steps), jnp.int32)
    last, time, _, actions, seen = jax.lax.while_loop(
        lambda carry: (carry[2] < BEYOND) & (carry[1] < steps), body, (start, jnp.int32(0), jnp.int32(0), actions, seen)
    )
    log = {"log_rows": last.log.rows, "log_audience": last.log.audience}
    return seen | log | {"actions": actions, "roles": last.roles, "steps": time}


@functools.cache
def compiled(game: Game, scripted: bool) -> Callable[..., dict[str, jax.Array]]:
    """`play` of a game as a program; heuristic players take long enough to be worth compiling well."""
    return jax.jit(functools.partial(play, game, scripted), compiler_options={} if scripted else QUICKLY)


def record_games(game: Game, count: int, seed: int, heuristic: float | None = None) -> dict[str, np.ndarray]:
    """Records `count` games, arrays with the games in front.

    Args:
      game: the rules.
      count: number of games.
      seed: of everything; game number i has the key `split(key(seed), count)[i]`.
      heuristic: without it, random play in which every fifth game has 30 % illegal actions and the others 3 %; with
        it, legal play in which heuristic players take this share of the decisions.
    """
    number = np.arange(count)
    wild = np.where(number % 5 == 4, 0.3, 0.03) * (heuristic is None)
    share = np.full(count, heuristic or 0.0)
    keys = jax.random.split(jax.random.key(seed), count)
    program = compiled(game, heuristic is not None)
    games = jax.device_get(program(keys, share.astype(np.float32), wild.astype(np.float32)))
    steps = int(games.pop("steps"))
    timed = {name: games[name][:, : steps + 1] for name in TIMED_FIELDS}
    return games | timed | {"actions": games["actions"][:, :steps]}


def single_records(recorded: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Cuts a batch into games, each with the steps up to its end and `BEYOND` ones after it."""
    for index in range(len(recorded["actions"])):
        game = {name: values[index] for name, values in recorded.items()}
        over = game["terminated"] | game["truncated"]
        steps = min(int(np.argmax(over)) + BEYOND, len(game["actions"]))
        timed = {name: game[name][: steps + 1] for name in TIMED_FIELDS}
        yield game | timed | {"actions": game["actions"][:steps]}


class Peaceful:
    """Plays on the host so that nobody ever dies: the longest game that the rules allow.

    The wolves and the doctor pick the same seat; everybody votes for the next seat, which ties the vote.
    """

    def __init__(self, game: Game):
        self.game = game
        self.step = jax.jit(game.step, compiler_options=QUICKLY)
        self.legal = jax.jit(game.legal_action_mask, compiler_options=QUICKLY)

    def choice(self, state: Any) -> int:
        """The action of the acting seat."""
        spec, legal = self.game.spec, np.flatnonzero(self.legal(state))
        phase = spec.phases[int(state.phase)].name
        if phase == "speak":
            return max(legal.tolist(), key=lambda action: len(spec.action_labels[action]))
        if phase == "vote":
            return (int(state.actor) + 1) % spec.num_seats
        villagers = np.flatnonzero(np.asarray(state.roles) == len(spec.roles) - 1)
        return int(villagers[0]) if phase in ("wolf", "doctor") else int(legal[0])

    def states(self, seed: int) -> Iterator[Any]:
        """Yields every state of a game, the last one included."""
        key = jax.random.key(seed)
        state = self.game.init(init_key(key))
        yield state
        while not state.over:
            state = self.step(state, jnp.int32(self.choice(state)), step_key(key, int(state.step)))
            yield state
