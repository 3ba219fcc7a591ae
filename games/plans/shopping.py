"""Plans of a shopper: how to search, what to look at, and when to buy."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import SeatView
from games.plans.plan import Plans, first_of
from games.players.shopping import Seen, offers, questions, words_of
from games.shopping import BACK, BUY, FEATURES, ITEM, NEXT, PREVIOUS, RESULTS, SEARCH, TO_SEARCH

TEXTS = (
    " search for what I was asked for",
    " search with other words",
    " look around",
    " look at the best offer",
    " see more offers",
    " go back and search",
    " compare with other offers",
    " choose what I was asked for",
    " choose something else",
    " make sure first",
    " buy what I was asked for",
    " buy before it is too late",
)
(SEARCH_ASKED, SEARCH_AGAIN, LOOK_AROUND, BEST_OFFER, MORE_OFFERS, GO_BACK, COMPARE, CHOOSE_ASKED, CHOOSE_ELSE,
 MAKE_SURE, BUY_FITTING, BUY_ANYWAY) = range(len(TEXTS))  # fmt: skip


def plan_of(view: SeatView, action: jax.Array) -> jax.Array:
    """int32[]: the plan that an action serves, see `Plans.of`."""
    words, seen, phase = words_of(view.spec), Seen(view), view.phase
    is_word, command = action < words.first_item, action - words.first_command
    asked_for = seen.wanted[jnp.minimum(action, words.first_item - 1)]
    whole_query = seen.query | (is_word & (jnp.arange(words.first_item) == action))
    strays = jnp.any(whole_query & ~seen.wanted)
    scores, suits = offers(words, seen)
    place = jnp.clip(action - words.first_item, 0, len(scores) - 1)
    is_best = (scores[place] >= jnp.max(scores)) & suits[place]
    asked, unknown = questions(words, seen)
    settled = ~jnp.any(asked & view.legal[: words.first_item] & ~seen.chosen)
    fits = settled & ~jnp.any(unknown)
    return first_of(
        ((phase == SEARCH) & strays, LOOK_AROUND),
        ((phase == SEARCH) & (seen.searches > 0), SEARCH_AGAIN),
        (phase == SEARCH, SEARCH_ASKED),
        (command == TO_SEARCH, GO_BACK),
        ((command == NEXT) | (command == PREVIOUS), MORE_OFFERS),
        ((phase == RESULTS) & is_best, BEST_OFFER),
        (phase == RESULTS, LOOK_AROUND),
        (command == BACK, COMPARE),
        (command == FEATURES, MAKE_SURE),
        ((phase == ITEM) & (command == BUY) & fits, BUY_FITTING),
        ((phase == ITEM) & (command == BUY), BUY_ANYWAY),
        (asked_for, CHOOSE_ASKED),
        otherwise=CHOOSE_ELSE,
    )


PLANS = Plans(TEXTS, plan_of)
