"""Scripted players by game: functions from what a seat sees to an action."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from games.core import GameError, SeatView
from games.players import (
    avalon,
    bargaining,
    kuhn,
    liars_dice,
    mystery,
    negotiation,
    persuasion,
    shopping,
    social_deduction,
    werewolf,
)

Player = Callable[[SeatView, jax.Array], jax.Array]

HEURISTIC: dict[str, Player] = {
    "werewolf-v0": werewolf.heuristic,
    "avalon-v0": avalon.heuristic,
    "bargaining-v0": bargaining.heuristic,
    "kuhn-v0": kuhn.heuristic,
    "liars_dice-v0": liars_dice.heuristic,
    "persuasion-v0": persuasion.heuristic,
    "shopping-v0": shopping.heuristic,
    "negotiation-v0": negotiation.heuristic,
    "social_deduction-v0": social_deduction.heuristic,
    "mystery-v0": mystery.heuristic,
}


def heuristic_player(game_name: str) -> Player:
    """The sensible scripted player of a game.

    Raises:
      GameError: if the game has none.
    """
    if game_name not in HEURISTIC:
        raise GameError(f"{game_name} has no heuristic player; games that have one: {', '.join(HEURISTIC)}")
    return HEURISTIC[game_name]


def random_legal(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: a uniformly random legal action."""
    return jnp.argmax(jnp.where(view.legal, jax.random.uniform(key, view.legal.shape), -1.0)).astype(jnp.int32)
