"""Goals in liar's dice: who is called, and who was right."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import GameSpec
from games.goals.goal import at_end, during, told_by
from games.hindsight import Hindsight
from games.liars_dice import KIND


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    parameters, seats = dict(spec.parameters), jnp.arange(spec.num_seats)[:, None]
    sides, num_dice = parameters["dice_sides"], parameters["num_dice"]
    mine, bids = episode.actor == seats, episode.logged(KIND["bid"])
    quantity, face = episode.value // sides + 1, episode.value % sides
    calls = episode.logged(KIND["liar"])
    i_call, i_am_called = jnp.any(calls & mine, axis=1), jnp.any(calls & ~mine, axis=1)
    dealt = episode.logged(KIND["dice"]) & mine  # bool[N, M]
    lower, higher = (jnp.max(jnp.where(dealt, die, -1), axis=1)[:, None] for die in (episode.target, episode.value))
    held = (face == lower) | (face == higher)
    wins = episode.outcome > 0
    theirs = bids & ~mine
    return {
        "outcome": wins,
        "loss": episode.outcome < 0,
        "caught": i_am_called & ~wins,
        "bid_holds": i_am_called & wins,
        "catch_them": i_call & wins,
        "call_wrongly": i_call & ~wins,
        "they_raise": theirs,
        "they_bid_what_i_hold": theirs & held,
        "they_bid_what_i_lack": theirs & ~held,
        "high_bid": bids & (quantity > num_dice),
        "wild_bid": theirs & (face == sides - 1),
    }


GOALS = told_by(
    _events,
    at_end("outcome", "I win", "I am right in the end", "the dice decide for me", utility=1.0),
    at_end("loss", "I lose", "they are right in the end", "the dice decide against me"),
    at_end("caught", "I am called a liar and my bid fails", "they catch my bluff", "I am found to bid too high"),
    at_end("bid_holds", "I am called a liar and my bid holds", "they doubt me and are wrong", "the dice bear me out"),
    at_end("catch_them", "I call and their bid fails", "I catch them in a lie", "I doubt them and am right"),
    at_end("call_wrongly", "I call and their bid holds", "I doubt them and am wrong", "I call a true bid"),
    during("they_raise", "they raise my bid", "I hear a higher bid from them", "they do not call me"),
    during("they_bid_what_i_hold", "they bid on a face that I hold", "their bid is on my own dice",
           "my dice make their bid likelier"),
    during("they_bid_what_i_lack", "they bid on a face that I lack", "none of my dice is of the face they bid on",
           "my dice say nothing for their bid"),
    during("high_bid", "a bid is made for more than half of our dice", "the bids between us rise high",
           "we come to bids that are hard to believe"),
    during("wild_bid", "they bid on the wild face", "I hear them bid on wild dice", "their bid leaves me few raises"),
)  # fmt: skip
