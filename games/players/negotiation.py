"""Scripted negotiation player: it reads only its own view of the log.

The heuristic player asks for much at first and for less with every turn. Its symbols are honest: the one in place d
tells how much an item of type d is worth to it. It takes the other's for honest too, and leaves it what it seems to
want.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from games.core import SeatView
from games.goods import ITEMS, MOST_WORTH
from games.negotiation import AGREE, ANSWER, BALLS, HATS, ITEM_OF_PHASE, KIND, MOST_ITEMS, SIGNAL
from games.players.goods import Rows

FIRST_DEMAND, LAST_DEMAND = 0.8, 0.5  # of what everything is worth
NOISE = 0.2  # scale of the Gumbel noise that keeps equal offers apart

# int32[216, 3]: every offer that some pool allows.
OFFERS = np.indices((MOST_ITEMS + 1,) * len(ITEMS)).reshape(len(ITEMS), -1).T.astype(np.int32)


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    rows, other = Rows(view, KIND), 1 - view.seat
    pool, worth, turns = rows.latest("pool"), rows.latest("worth"), rows.value_of("turns")  # 0 for a type not played
    num_symbols = view.legal.shape[0] - AGREE - 1
    whole = jnp.dot(pool, worth)
    made = _offers_made(rows, view)

    progress = jnp.clip(made / jnp.maximum(turns - 2, 1), 0.0, 1.0)  # 1 at the last offer that can be agreed to
    demand = whole * (FIRST_DEMAND - (FIRST_DEMAND - LAST_DEMAND) * progress)
    no_use_in_offers = made >= turns - 1
    seen = rows.count("keep", by=other) > 0
    offered = jnp.where(seen, jnp.dot(pool - rows.latest("keep", by=other), worth), whole * LAST_DEMAND)
    agrees = (view.phase == ANSWER) & ((offered >= demand) | no_use_in_offers)

    item = jnp.asarray(ITEM_OF_PHASE)[view.phase]
    offers, picked = jnp.asarray(OFFERS), rows.latest("keep", by=view.seat)
    bound = jnp.arange(len(ITEMS)) < item  # picks already made for this offer
    possible = jnp.all((offers <= pool) & (~bound | (offers == picked)), axis=1)
    mine = offers @ worth
    generous = 100.0 + (pool - offers) @ _wish(rows, pool, other, num_symbols) + 0.1 * mine
    score = jnp.where(mine >= demand, generous, mine) + NOISE * jax.random.gumbel(key, mine.shape)
    best = offers[jnp.argmax(jnp.where(possible, score, -jnp.inf))]
    act = jnp.where(agrees, AGREE, best[item])
    return jnp.where(view.phase == SIGNAL, _symbol(rows, view, worth, num_symbols, key), act).astype(jnp.int32)


def _offers_made(rows: Rows, view: SeatView) -> jax.Array:
    """int32[]: complete offers of both seats before this turn, which a seat knows from its own."""
    begun = jnp.sum(rows.by_item("keep", view.seat)[0])
    unfinished = (view.phase == HATS) | (view.phase == BALLS)
    return 2 * (begun - unfinished) + view.seat


def _wish(rows: Rows, pool: jax.Array, other: jax.Array, num_symbols: int) -> jax.Array:
    """f32[3]: how much the other seat seems to want an item of each type, by its symbols, else by what it kept."""
    told = jnp.any(rows.by_item("signal", other), axis=1)
    by_symbol = (2 * rows.latest("signal", by=other) + 1) / max(num_symbols, 1)
    by_offers = 1.0 + rows.total_kept(other) / jnp.maximum(pool * jnp.sum(rows.by_item("keep", other)[0]), 1)
    return jnp.where(told, by_symbol, by_offers)


def _symbol(rows: Rows, view: SeatView, worth: jax.Array, num_symbols: int, key: jax.Array) -> jax.Array:
    """int32[]: the next symbol; beyond the types of item it means nothing and is drawn at random."""
    level, means_something = honest_symbol(rows, view.seat, worth, num_symbols)
    anything = jax.random.randint(key, (), 0, max(num_symbols, 1))
    return AGREE + 1 + jnp.where(means_something, level, anything)


def honest_symbol(rows: Rows, seat: jax.Array, worth: jax.Array, num_symbols: int) -> tuple[jax.Array, jax.Array]:
    """The symbol int32[] that tells what the item in the next place is worth, and whether there is one bool[]."""
    place = jnp.arange(rows.kind.shape[0])
    latest_pick = jnp.max(jnp.where(rows.are("keep", seat), place, -1))
    said = jnp.sum(rows.are("signal", seat) & (place > latest_pick))
    return worth[jnp.minimum(said, len(ITEMS) - 1)] * num_symbols // (MOST_WORTH + 1), said < len(ITEMS)
