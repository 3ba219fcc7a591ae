"""How the sides of a game fare when scripted players hold them: heuristic or random ones, in all pairings.

    python -m tests.benchmarks.pairings mystery-v0 [--games=4000] [--seed=0] [--parameters=rounds=2,acts=2]

A row tells how often each side won (its mean outcome was above 0), with 95 % intervals; all rows play the same deals.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from games.core import Game, State, view_of_actor
from games.players.scripted import heuristic_player, random_legal
from games.registry import make
from maro_jax.run.console import table

PLAYERS = ("random", "heuristic")


def play(game: Game, sensible: jax.Array, key: jax.Array) -> State:
    """The end of one game in which the sides of `sensible`, bool[sides], are held by the heuristic player."""
    spec, heuristic = game.spec, heuristic_player(game.spec.name)
    side_of = jnp.asarray([spec.sides.index(role.side) for role in spec.roles])

    def turn(time: jax.Array, state: State) -> State:
        act_key, step_key = jax.random.split(jax.random.fold_in(key, 1 + time))
        view = view_of_actor(game, state)
        action = jnp.where(sensible[side_of[view.role]], heuristic(view, act_key), random_legal(view, act_key))
        return game.step(state, action, step_key)

    return jax.lax.fori_loop(0, spec.max_decisions, turn, game.init(jax.random.fold_in(key, 0)))


@functools.cache
def compiled(game: Game):
    """`play` for a batch of keys."""
    return jax.jit(jax.vmap(functools.partial(play, game), (None, 0)))


def side_wins(game: Game, sensible: Sequence[bool], games: int, seed: int, batch: int = 1000) -> np.ndarray:
    """bool[games, sides]: which sides won."""
    sides = [role.side for role in game.spec.roles]
    member = np.array([[side == other for other in game.spec.sides] for side in sides], float)  # [role, side]
    keys, wins = jax.random.split(jax.random.key(seed), games), []
    for start in range(0, games, batch):
        last = jax.device_get(compiled(game)(jnp.asarray(sensible), keys[start : start + batch]))
        belongs = member[last.roles]  # [game, seat, side]
        wins.append(np.einsum("gs,gsd->gd", last.outcome, belongs) > 0)
    return np.concatenate(wins)


def interval(share: float, games: int) -> float:
    """Half the width of the normal 95 % interval of a share."""
    return 1.96 * float(np.sqrt(share * (1 - share) / games))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("game")
    parser.add_argument("--games", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default="")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    chosen = parser.parse_args(arguments)
    game = make(chosen.game, **dict(pair.split("=", 1) for pair in chosen.parameters.split(",") if pair))
    sides, rows = game.spec.sides, []
    for sensible in itertools.product((False, True), repeat=len(sides)):
        shares = side_wins(game, sensible, chosen.games, chosen.seed).mean(axis=0)
        found = [f"{100 * share:.1f} ± {100 * interval(share, chosen.games):.1f}" for share in shares]
        rows.append((*(PLAYERS[held] for held in sensible), *found))
    headers = (*sides, *(f"{side} win %" for side in sides))
    print(table(headers, rows))
    if chosen.json:
        chosen.json.write_text(json.dumps([dict(zip(headers, row, strict=True)) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
