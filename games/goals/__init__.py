"""Goals by game: what may come true for a seat after a decision, in words and as predicates (docs/pnlc.md)."""

from __future__ import annotations

from games.core import GameError, GameSpec
from games.goals import avalon, goods, kuhn, liars_dice, mystery, persuasion, shopping, social_deduction, werewolf
from games.goals.goal import Goal, reached

__all__ = ["OF_GAME", "Goal", "goals_of", "reached"]

OF_GAME: dict[str, tuple[Goal, ...]] = {
    "werewolf-v0": werewolf.GOALS,
    "avalon-v0": avalon.GOALS,
    "bargaining-v0": goods.BARGAINING,
    "kuhn-v0": kuhn.GOALS,
    "liars_dice-v0": liars_dice.GOALS,
    "persuasion-v0": persuasion.GOALS,
    "shopping-v0": shopping.GOALS,
    "negotiation-v0": goods.NEGOTIATION,
    "social_deduction-v0": social_deduction.GOALS,
    "mystery-v0": mystery.GOALS,
}


def goals_of(spec: GameSpec) -> tuple[Goal, ...]:
    """The goals of a game, always the same objects; one of them is named `outcome`: the seat's outcome is above 0.

    Raises:
      GameError: the game has none.
    """
    if spec.name not in OF_GAME:
        raise GameError(f"{spec.name} has no goals; games that have some: {', '.join(OF_GAME)}")
    return OF_GAME[spec.name]
