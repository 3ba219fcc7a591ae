"""Plans in liar's dice: how a bid stands to one's own dice and to the odds."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.liars_dice import KIND
from games.plans.plan import Plans, first_of
from games.players.liars_dice import probabilities

TEXTS = (
    " bid what I hold",
    " bid what is likely",
    " raise a little",
    " bluff",
    " call because I doubt it",
    " call against the odds",
)
HOLD, LIKELY, INCH, BLUFF, DOUBT, AGAINST_ODDS = range(len(TEXTS))
FAIR = 0.3  # probability from which on a bid is likely enough, between a third and what is less


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    num_bids = view.legal.shape[0] - 1
    true = probabilities(view, num_bids)
    kind, value = view.rows[:, 0], view.rows[:, 3]
    made = kind == KIND["bid"]
    last = value[jnp.max(jnp.where(made, jnp.arange(made.size), 0))]
    standing = jnp.where(jnp.any(made), true[jnp.clip(last, 0, num_bids - 1)], 1.0)
    bid = true[jnp.minimum(action, num_bids - 1)]
    lowest = action == jnp.argmax(view.legal)
    return first_of(
        ((action == num_bids) & (standing < 0.5), DOUBT),
        (action == num_bids, AGAINST_ODDS),
        (bid >= 1.0, HOLD),
        (bid >= FAIR, LIKELY),
        (lowest, INCH),
        otherwise=BLUFF,
    )


PLANS = Plans(TEXTS, plan_of)
