"""Goals in persuasion: how much is given, and how the persuadee comes to it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games import persuasion as rules
from games.core import GameSpec
from games.goals.goal import Wording, at_end, during, told_by
from games.hindsight import Hindsight
from games.persuasion import KIND, PERSUADEE, PERSUADER, QUARTERS

QUARTER = 0.25  # dollars
DOLLAR = 4  # quarters
POSITIVE, NEGATIVE = 0, 2  # replies
OVER_A_DOLLAR = DOLLAR + 1  # quarters with which the persuader's outcome is above 0
STEPS = tuple(quarters for quarters in range(1, QUARTERS + 1) if quarters != OVER_A_DOLLAR)


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    kind, value = KIND, episode.value
    seat = jnp.arange(spec.num_seats)
    persuader, persuadee = seat == PERSUADER, seat == PERSUADEE
    replies = episode.logged(kind["reply"])
    trusts, interests = episode.logged(kind["trust"]), episode.logged(kind["interest"])
    interest, trust = episode.so_far(interests), episode.so_far(trusts)
    willing = interest * trust // 4
    before = jnp.roll(trust, 1)  # the deal comes first, so that the row before a change has the old trust
    changed = trusts | interests
    gifts = episode.logged(kind["donation"])
    given = jnp.max(jnp.where(gifts, value, 0))
    worth, budget = willing[-1], jnp.max(jnp.where(episode.logged(kind["budget"]), value, 0))

    def heard(rows: jax.Array) -> jax.Array:
        """bool[N, M]: for the persuader alone."""
        return persuader[:, None] & rows

    return {
        **{_gives(quarters): persuader & (given >= quarters) for quarters in STEPS},
        "outcome": episode.outcome > 0,
        "nothing_given": jnp.broadcast_to(given == 0, seat.shape),
        "walks_away": jnp.broadcast_to(jnp.any(episode.logged(kind["walks_away"])), seat.shape),
        "out_of_exchanges": jnp.broadcast_to(jnp.any(episode.logged(kind["out_of_exchanges"])), seat.shape),
        "all_they_can": persuader & (given == budget),
        "more_than_worth": persuadee & (given > worth),
        "likes_it": heard(replies & (value == POSITIVE)),
        "dislikes_it": heard(replies & (value == NEGATIVE)),
        "tells_what_counts": heard(replies & (value > NEGATIVE) & (value < rules.AGREE)),
        "interest_grows": interests,
        "trust_grows": trusts & (trust > before),
        "trust_falls": trusts & (trust < before),
        "willing_half": changed & (willing >= DOLLAR // 2),
        "willing_dollar": changed & (willing >= DOLLAR),
    }


def _gives(quarters: int) -> str:
    """The name of the goal that so much is given or more."""
    return f"gives_{25 * quarters}"


def _steps() -> list[Wording]:
    """A goal for each quarter dollar; more than a dollar is the persuader's outcome, told in words for both seats."""
    wordings = ("I get ${:.2f} or more", "they give me at least ${:.2f}", "the donation to me reaches ${:.2f}")
    ways = [
        at_end(_gives(quarters), *(text.format(quarters * QUARTER) for text in wordings), utility=QUARTER)
        for quarters in STEPS
    ]
    ends_well = at_end("outcome", "this talk ends well for me", "I come out of this talk with a gain",
                       "I get more out of this talk than I had to hope for", utility=QUARTER)  # fmt: skip
    return [*ways[:DOLLAR], ends_well, *ways[DOLLAR:]]


GOALS = told_by(
    _events,
    *_steps(),
    at_end("nothing_given", "nothing is given", "this talk ends without a donation", "I see no money change hands"),
    at_end("walks_away", "the persuadee walks away from our talk", "our talk breaks off", "we part in distrust"),
    at_end("out_of_exchanges", "the exchanges run out before we agree", "we talk until it is too late",
           "our time is over without a donation"),
    at_end("all_they_can", "I get all that they can give", "they give me their whole budget",
           "there is nothing left that I could have got"),
    at_end("more_than_worth", "I give more than it is worth to me", "I regret what I gave",
           "I am talked into giving too much"),
    during("likes_it", "they like what I say", "I get a positive answer", "my words move them"),
    during("dislikes_it", "they do not like what I say", "I get a negative answer", "my words leave them cold"),
    during("tells_what_counts", "they tell me what they care for", "I learn what moves them",
           "I find out what they care for"),
    during("interest_grows", "the interest in giving grows between us", "we come nearer to a donation",
           "what I hear or say makes giving more likely"),
    during("trust_grows", "trust grows between us", "we trust each other more", "there is more trust in our talk"),
    during("trust_falls", "trust falls between us", "we trust each other less", "there is less trust in our talk"),
    during("willing_half", "we are at a point where fifty cents would be given", "I could have half a dollar given now",
           "half a dollar is within our reach"),
    during("willing_dollar", "we are at a point where a dollar would be given", "I could have a dollar given now",
           "a dollar is within our reach"),
)  # fmt: skip
