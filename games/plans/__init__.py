"""Plans by game: what a player means to do with an action, in words that stand as a thought (docs/pnlc.md)."""

from __future__ import annotations

from games.core import GameSpec
from games.plans import avalon, persuasion, shopping
from games.plans.plan import Plans

__all__ = ["OF_GAME", "Plans", "plans_of"]

OF_GAME: dict[str, Plans] = {
    "avalon-v0": avalon.PLANS,
    "persuasion-v0": persuasion.PLANS,
    "shopping-v0": shopping.PLANS,
}


def plans_of(spec: GameSpec) -> Plans | None:
    """The plans of a game; `None` for a game without any."""
    return OF_GAME.get(spec.name)
