"""Games between scripted players, as a dataset."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.data.encode import Encoder, Origin
from maro_jax.selfplay.episodes import HEURISTIC, RANDOM, RolloutPlan
from maro_jax.selfplay.rollout import play
from maro_jax.selfplay.table import RolloutSizes, Table

BATCH = 256  # episodes played together


def scripted_examples(table: Table, capacity: int, players: str, episodes: int, seed: int) -> Iterator[dict[str, Any]]:
    """Plays games and yields a record of each.

    Args:
      table: the game laid out for a tokenizer.
      capacity: stream tokens of a seat.
      players: `heuristic`, `random`, or `either`: every side of a game is held by one of them, all ways in turn.
      episodes: how many.
      seed: of all chance.
    """
    count = min(BATCH, episodes)
    sizes = RolloutSizes.fit(table, count, capacity)
    encoder, key, sides = Encoder(table), jax.random.key(seed), len(table.spec.sides)
    batch = jax.jit(functools.partial(play, table, sizes, 0, True, None, jnp.ones((0,)), key))
    for first in range(0, episodes, count):
        number = first + np.arange(count)
        plan = RolloutPlan(number.astype(np.int32), number.astype(np.int32), holders_of(players, number, sides))
        played, _ = jax.device_get(batch(plan))
        kept = range(min(count, episodes - first))  # a short last batch plays more than is asked for
        yield from encoder.examples(played, plan, Origin(seed), kept)


def holders_of(players: str, number: np.ndarray, sides: int) -> np.ndarray:
    """int8[E, sides]: who holds each side of the games of these numbers."""
    by_turns = number[:, None] >> np.arange(sides) & 1
    at_random = {"heuristic": np.zeros_like(by_turns), "random": np.ones_like(by_turns), "either": by_turns}[players]
    return np.where(at_random == 1, RANDOM, HEURISTIC).astype(np.int8)
