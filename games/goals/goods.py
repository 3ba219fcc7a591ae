"""Goals in bargaining and negotiation: how much of the pool's worth a seat gets, and what it is offered."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from games import bargaining, negotiation
from games.core import GameSpec
from games.goals.goal import Goal, at_end, during, told_by
from games.goods import ITEMS
from games.hindsight import Hindsight

STEP = 0.2  # of the whole worth between two of the goals about one's share
ROUNDING = 1e-4  # so that a share that is just a bound is not above it


def _events(kind: Mapping[str, int], spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    """What came true; `kind` numbers the game's kinds of event."""
    seats, value, target = jnp.arange(spec.num_seats), episode.value, episode.target
    share = (episode.outcome + 1) / 2 - ROUNDING
    agrees = episode.logged(kind["agree"])
    deal = jnp.any(agrees)
    keeps = episode.logged(kind["keep"])
    pools = episode.logged(kind["pool"])
    pool = jnp.stack([jnp.sum(jnp.where(pools & (target == item), value, 0)) for item in range(len(ITEMS))])
    worth = jnp.stack([episode.told(kind["worth"], item) for item in range(len(ITEMS))], axis=1)  # [N, items]
    whole = (worth @ pool)[:, None]
    # An offer is complete with its row about the last type of item; what it leaves is for who did not make it.
    complete = keeps & (target == jnp.max(jnp.where(pools, target, 0)))
    kept = jnp.stack([episode.so_far(keeps & (target == item)) for item in range(len(ITEMS))])  # [items, M]
    left = worth @ (pool[:, None] - kept)  # int[N, M]
    to_me = complete & (episode.actor != seats[:, None])
    made = jnp.cumsum(complete)
    turns = jnp.max(jnp.where(episode.logged(kind["turns"]), value, 0))
    best = jnp.argmax(worth * pool, axis=1)[:, None]
    best_kept = jnp.take_along_axis(kept.T[None], best[..., None], axis=2)[..., 0]
    return {
        **{name: share > bound for name, bound in (("share_10", 0.1), ("share_30", 0.3), ("share_70", 0.7))},
        "outcome": episode.outcome > 0,
        "share_90": share > 0.9,
        "deal": jnp.broadcast_to(deal, seats.shape),
        "no_deal": jnp.broadcast_to(~deal, seats.shape),
        "i_agree": jnp.any(agrees & (episode.actor == seats[:, None]), axis=1),
        "they_agree": jnp.any(agrees & (episode.actor != seats[:, None]), axis=1),
        "they_get_more": deal & (episode.outcome < episode.outcome[::-1]),
        "offered_half": to_me & (2 * left >= whole) & (whole > 0),
        "offered_little": to_me & (10 * left < 3 * whole),
        "offered_best": to_me & (best_kept == 0) & (whole > 0),
        "last_offers": complete & (made == turns - 2),
    }


def _goals(kind: Mapping[str, int]) -> tuple[Goal, ...]:
    """The goals of the game whose kinds of event are numbered so."""
    return told_by(
        functools.partial(_events, kind),
        at_end("share_10", "I get something out of this deal", "I get more than a tenth of what all is worth to me",
               "I do not leave with nothing", utility=STEP),
        at_end("share_30", "I get a third of what all is worth to me", "I get a fair part for myself",
               "I leave with some of what I wanted", utility=STEP),
        at_end("outcome", "I get more than half of what all is worth to me", "I come out of this deal well",
               "I leave with most of what I wanted", utility=STEP),
        at_end("share_70", "I get three quarters of what all is worth to me", "I come out of this deal very well",
               "I leave with nearly all that I wanted", utility=STEP),
        at_end("share_90", "I get all that is worth something to me", "I get the whole worth of the pool",
               "I leave with everything that I wanted", utility=STEP),
        at_end("deal", "we come to a deal", "we agree", "our talks end with a deal"),
        at_end("no_deal", "we come to no deal", "we do not agree and both get nothing", "our talks fail"),
        at_end("i_agree", "I agree to their offer", "I take what they offer me", "we divide as they said"),
        at_end("they_agree", "they agree to my offer", "they take what I offer", "we divide as I said"),
        at_end("they_get_more", "they get more out of the deal than I do", "I come off worse than they",
               "the deal is better for them than for me"),
        during("offered_half", "they offer me half of what all is worth to me, or more", "I get a good offer",
               "they leave me at least half"),
        during("offered_little", "they offer me little", "I get an offer that is worth hardly anything to me",
               "they leave me less than a third"),
        during("offered_best", "they leave me all of the things I want most", "I am offered what counts most for me",
               "they want none of what is dearest to me"),
        during("last_offers", "only two offers are left", "our turns are nearly over", "I have little time left"),
    )  # fmt: skip


BARGAINING, NEGOTIATION = _goals(bargaining.KIND), _goals(negotiation.KIND)
