"""Plans in Kuhn poker: what a pass or a bet is meant for depends on the card."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.kuhn import ANSWER, BET, CARDS, KIND
from games.plans.plan import Plans, first_of

TEXTS = (
    " bet because I am strong",
    " bluff",
    " set a trap",
    " wait and see",
    " catch their bluff",
    " save my chip",
    " take a chance against the odds",
)
STRONG, BLUFF, TRAP, WAIT, CATCH, SAVE, AGAINST_ODDS = range(len(TEXTS))
JACK, KING = 0, len(CARDS) - 1


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    kind, actor, _, value = view.rows.T
    card = jnp.max(jnp.where((kind == KIND["card"]) & (actor == view.seat), value, JACK))
    bets, answers, best = action == BET, view.phase == ANSWER, card == KING
    return first_of(
        (bets & best, STRONG),
        (best & answers, AGAINST_ODDS),  # the king folds
        (best, TRAP),
        (bets & ~answers, BLUFF),
        (bets & (card == JACK), AGAINST_ODDS),
        (bets, CATCH),
        (answers, SAVE),
        otherwise=WAIT,
    )


PLANS = Plans(TEXTS, plan_of)
