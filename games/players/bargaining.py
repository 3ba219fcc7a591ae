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

FIRST_DEMAND, LAST_DEMAND = 8.0, 5.0  # of the 10 that everything is worth
NOISE = 0.2  # scale of the Gumbel noise that keeps equal offers apart

# int32[120, 3]: every offer that some pool allows.
_COUNTS = np.indices((MOST_ITEMS + 1,) * len(ITEMS)).reshape(len(ITEMS), -1).T.astype(np.int32)
OFFERS = _COUNTS[_COUNTS.sum(axis=1) <= MOST_ITEMS]


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    rows = _Rows(view)
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


class _Rows:
    """The rows a seat knows, by kind of event and type of item."""

    def __init__(self, view: SeatView):
        self.kind, self.actor, self.target, self.value = (view.rows[:, c].astype(jnp.int32) for c in range(4))

    def _are(self, name: str, by: jax.Array | None) -> jax.Array:
        """bool[M]: the rows of a kind, by one actor only if one is given."""
        are = self.kind == KIND[name]
        return are if by is None else are & (self.actor == by)

    def _by_item(self, name: str, by: jax.Array | None) -> jax.Array:
        """bool[3, M]."""
        return self._are(name, by) & (self.target == jnp.arange(len(ITEMS))[:, None])

    def latest(self, name: str, by: jax.Array | None = None) -> jax.Array:
        """int32[3]: the value of the latest such row of each item, 0 if there is none."""
        are = self._by_item(name, by)
        last = jnp.max(jnp.where(are, jnp.arange(are.shape[1]), -1), axis=1)
        return jnp.where(last < 0, 0, self.value[last])

    def total_kept(self, seat: jax.Array) -> jax.Array:
        """int32[3]: items of each type that a seat has asked for, summed over its offers."""
        return jnp.sum(jnp.where(self._by_item("keep", seat), self.value, 0), axis=1)

    def value_of(self, name: str) -> jax.Array:
        """int32[]: the value of the only row of a kind."""
        return jnp.sum(jnp.where(self._are(name, None), self.value, 0))

    def count(self, name: str, by: jax.Array | None = None) -> jax.Array:
        """int32[]: how many such rows there are."""
        return jnp.sum(self._are(name, by))
