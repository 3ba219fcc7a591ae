"""Plans in bargaining and negotiation: what to hold on to, what to give away, when to agree.

An offer is made item by item, and so is a plan: a pick holds on to a type of item or leaves some of it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from games import bargaining, negotiation
from games.core import SeatView
from games.plans.plan import Plans, first_of
from games.players.goods import Rows
from games.players.negotiation import honest_symbol

TEXTS = (
    " keep what is worth most to me",
    " leave them what is worth little to me",
    " keep as much as I can",
    " give in on what I want",
    " take a good offer",
    " take what I can get",
    " hold out for more",
)
SIGNALS = (" tell what I want", " lead them astray")
HOLD_DEAR, LEAVE_CHEAP, GRASP, GIVE_IN, TAKE_GOOD, SETTLE, HOLD_OUT, TELL, MISLEAD = range(len(TEXTS + SIGNALS))
ANSWER = bargaining.ANSWER  # both games number the phases they share alike


def plan_of(kind: Mapping[str, int], agree: int, view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`.

    Args:
      kind: the game's kinds of event by name.
      agree: its action to agree; those before it keep so many items, those after it are symbols.
      view: what the seat sees.
      action: int32[].
    """
    rows, other = Rows(view, dict(kind)), 1 - view.seat
    pool, worth = rows.latest("pool"), rows.latest("worth")
    whole = jnp.dot(pool, worth)
    seen = rows.count("keep", by=other) > 0
    offered = jnp.where(seen, jnp.dot(pool - rows.latest("keep", by=other), worth), 0)
    good = seen & (2 * offered >= whole)
    item = jnp.asarray(negotiation.ITEM_OF_PHASE)[view.phase]
    many = pool[item]
    dear = worth[item] * jnp.sum(pool) >= whole  # worth as much as the items are on average, or more
    keeps_all = (action >= many) & (many > 0)
    symbols = view.legal.shape[0] - agree - 1
    honest = jnp.bool_(False)
    if symbols:
        symbol, means_something = honest_symbol(rows, view.seat, worth, symbols)
        honest = means_something & (action - agree - 1 == symbol)
    return first_of(
        ((action == agree) & good, TAKE_GOOD),
        (action == agree, SETTLE),
        ((action > agree) & honest, TELL),
        (action > agree, MISLEAD),
        ((view.phase == ANSWER) & good, HOLD_OUT),
        (keeps_all & dear, HOLD_DEAR),
        (keeps_all, GRASP),
        (dear & (many > 0), GIVE_IN),
        otherwise=LEAVE_CHEAP,
    )


BARGAINING = Plans(TEXTS, functools.partial(plan_of, bargaining.KIND, bargaining.AGREE))
NEGOTIATION = Plans(TEXTS + SIGNALS, functools.partial(plan_of, negotiation.KIND, negotiation.AGREE))
