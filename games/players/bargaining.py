"""Scripted bargaining player: it reads only its own view of the log.

The heuristic player asks for much at first and for less with every turn. Among the offers that reach its demand it
makes the one that gives the other seat the most, weighed by what the other has asked for, so that it parts first with
what is worth least to itself.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from games.bargaining import AGREE, ANSWER, ITEM_OF_PHASE, ITEMS, KIND, MOST_ITEMS
from games.core import SeatView
from games.players.goods import Rows

FIRST_DEMAND, LAST_DEMAND = 8.0, 5.0  # of the 10 that everything is worth
NOISE = 0.2  # scale of the Gumbel noise that keeps equal offers apart

# int32[120, 3]: every offer that some pool allows.
_COUNTS = np.indices((MOST_ITEMS + 1,) * len(ITEMS)).reshape(len(ITEMS), -1).T.astype(np.int32)
OFFERS = _COUNTS[_COUNTS.sum(axis=1) <= MOST_ITEMS]


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    rows = Rows(view, KIND)
    pool, worth = rows.latest("pool"), rows.latest("worth")
    asked, turns = rows.latest("keep", by=1 - view.seat), rows.value_of("turns")
    made = rows.count("keep") // len(ITEMS)

    progress = jnp.clip(made / jnp.maximum(turns - 2, 1), 0.0, 1.0)  # 1 at the last offer that can be agreed to
    demand = FIRST_DEMAND - (FIRST_DEMAND - LAST_DEMAND) * progress
    no_use_in_offers = made >= turns - 1
    agrees = (view.phase == ANSWER) & ((jnp.dot(pool - asked, worth) >= demand) | no_use_in_offers)

    item = jnp.asarray(ITEM_OF_PHASE)[view.phase]
    offers, picked = jnp.asarray(OFFERS), rows.latest("pick", by=view.seat)
    bound = jnp.arange(len(ITEMS)) < item  # picks already made for this offer
    possible = jnp.all((offers <= pool) & (~bound | (offers == picked)), axis=1)
    mine = offers @ worth
    wish = 1.0 + rows.total_kept(1 - view.seat) / jnp.maximum(pool * rows.count("keep", by=1 - view.seat), 1)
    generous = 100.0 + (pool - offers) @ wish + 0.1 * mine
    score = jnp.where(mine >= demand, generous, mine) + NOISE * jax.random.gumbel(key, mine.shape)
    best = offers[jnp.argmax(jnp.where(possible, score, -jnp.inf))]
    return jnp.where(agrees, AGREE, best[item]).astype(jnp.int32)
