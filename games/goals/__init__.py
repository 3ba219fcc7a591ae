"""Goals by game: what may come true for a seat after a decision, in words and as predicates (docs/pnlc.md)."""

from __future__ import annotations

from games.core import GameError, GameSpec
from games.goals import avalon, persuasion, shopping
from games.goals.goal import Goal, reached

__all__ = ["OF_GAME", "Goal", "goals_of", "reached"]

OF_GAME: dict[str, tuple[Goal, ...]] = {
    "avalon-v0": avalon.GOALS,
    "persuasion-v0": persuasion.GOALS,
    "shopping-v0": shopping.GOALS,
}


def goals_of(spec: GameSpec) -> tuple[Goal, ...]:
    """The goals of a game, always the same objects; one of them is named `outcome`: the seat's outcome is above 0.

    Raises:
      GameError: the game has none.
    """
    if spec.name not in OF_GAME:
        raise GameError(f"{spec.name} has no goals; games that have some: {', '.join(OF_GAME)}")
    return OF_GAME[spec.name]
