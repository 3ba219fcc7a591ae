"""Plans by game: what a player means to do with an action, in words that stand as a thought (docs/pnlc.md)."""

from __future__ import annotations

from games.core import GameSpec
from games.plans import avalon, goods, kuhn, liars_dice, mystery, persuasion, shopping, social_deduction, werewolf
from games.plans.plan import Plans

__all__ = ["OF_GAME", "Plans", "plans_of"]

OF_GAME: dict[str, Plans] = {
    "werewolf-v0": werewolf.PLANS,
    "avalon-v0": avalon.PLANS,
    "bargaining-v0": goods.BARGAINING,
    "kuhn-v0": kuhn.PLANS,
    "liars_dice-v0": liars_dice.PLANS,
    "persuasion-v0": persuasion.PLANS,
    "shopping-v0": shopping.PLANS,
    "negotiation-v0": goods.NEGOTIATION,
    "social_deduction-v0": social_deduction.PLANS,
    "mystery-v0": mystery.PLANS,
}


def plans_of(spec: GameSpec) -> Plans | None:
    """The plans of a game; `None` for a game without any."""
    return OF_GAME.get(spec.name)
