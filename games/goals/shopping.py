"""Goals of a shopper: how much of the score is earned, and what comes into sight on the way."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from games.core import GameSpec
from games.goals.goal import at_end, during, told_by
from games.hindsight import Hindsight
from games.players.shopping import words_of
from games.shopping import ITEM, KIND

STEP = 0.2  # of the score between two of the goals about it
RIGHT_KIND = 3  # what a purchase of the right kind is told as
MUCH = 3  # words of the instruction in the title of an offer that has much of it
LAST_STEPS = 3
ROUNDING = 1e-4  # so that a score that is just a bound is not above it


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    kind, words, value, target = KIND, words_of(spec), episode.value, episode.target
    score = (episode.outcome + 1) / 2 - ROUNDING
    instruction = episode.so_far(episode.logged(kind["instruction"]))
    wanted = jnp.asarray(words.wanted)[instruction]  # bool[M, W]
    listed, page = episode.logged(kind["item"]), episode.logged(kind["page"])
    title = jnp.asarray(words.title)[jnp.where(listed, target, 0)] & wanted
    cheap = jnp.asarray(words.price)[jnp.where(listed, target, 0)] <= jnp.asarray(words.cap)[instruction]
    suits = listed & cheap & jnp.any(title & jnp.asarray(words.head), axis=1)
    decisions = len(episode.seat)
    when = jnp.clip(episode.step, 0, decisions)
    suits_on_page = jnp.zeros((decisions + 1,), bool).at[when].max(suits)[when]

    def names_wanted(name: str, table: np.ndarray) -> jax.Array:
        """bool[M]: rows of a kind whose line has a word of the instruction."""
        rows = episode.logged(kind[name])
        return rows & jnp.any(jnp.asarray(table)[jnp.where(rows, value, 0)] & wanted, axis=1)

    act, features = episode.logged(kind["act"]), episode.logged(kind["features"])
    word = act & (value < words.first_item)
    asked_word = word & jnp.take_along_axis(wanted, jnp.where(word, value, 0)[:, None], axis=1)[:, 0]
    on_item = episode.phase[jnp.maximum(episode.step - 1, 0)] == ITEM
    shown = names_wanted("features", words.features)
    bought = episode.logged(kind["bought"])
    return {
        **{name: score > bound for name, bound in (("score_10", 0.1), ("score_30", 0.3), ("score_70", 0.7))},
        "outcome": episode.outcome > 0,
        "score_90": score > 0.9,
        "right_kind": jnp.any(bought & (value == RIGHT_KIND))[None],
        "wrong_kind": jnp.any(bought & (value < RIGHT_KIND))[None],
        "out_of_steps": jnp.any(episode.logged(kind["out_of_steps"]))[None],
        "offer_suits": suits,
        "offer_has_much": listed & cheap & (jnp.sum(title, axis=1) >= MUCH),
        "no_offer_suits": page & ~suits_on_page,
        "comes_as_asked": names_wanted("option", words.option),
        "option_chosen": asked_word & on_item,
        "features_fit": shown,
        "features_lack": features & ~shown,
        "few_steps_left": act & (jnp.cumsum(act) == words.steps - LAST_STEPS),
    }


GOALS = told_by(
    _events,
    at_end("score_10", "I buy something with a little of what I was asked for", "my score is above 10 of 100",
           "what I buy is not all wrong", utility=STEP),
    at_end("score_30", "I buy something with some of what I was asked for", "my score is above 30 of 100",
           "what I buy has about a third of what I was asked for", utility=STEP),
    at_end("outcome", "I buy something with most of what I was asked for", "my score is above 50 of 100",
           "what I buy has more than half of what I was asked for", utility=STEP),
    at_end("score_70", "I buy something with nearly all that I was asked for", "my score is above 70 of 100",
           "what I buy has three quarters of what I was asked for", utility=STEP),
    at_end("score_90", "I buy just what I was asked for", "my score is above 90 of 100",
           "what I buy has all that I was asked for", utility=STEP),
    at_end("right_kind", "I buy a thing of the right kind", "what I buy is the kind of thing I was asked for",
           "I bought the right kind of thing"),
    at_end("wrong_kind", "I buy a thing of another kind", "what I buy is not the kind of thing I was asked for",
           "I bought the wrong kind of thing"),
    at_end("out_of_steps", "I run out of steps and buy nothing", "the steps are over before I buy",
           "I end without buying anything"),
    during("offer_suits", "I find an offer of the right kind that is cheap enough",
           "the page shows me the right kind of thing at a price that will do", "I see something that suits"),
    during("offer_has_much", "I find an offer that has much of what I was asked for",
           "I see a title with many of the words I was asked for", "the page shows me an offer that nearly fits"),
    during("no_offer_suits", "the page shows me nothing that suits", "I find nothing of the right kind on the page",
           "I see only things that are wrong or cost too much"),
    during("comes_as_asked", "the thing I look at comes as I was asked for", "I see the option that I was asked for",
           "the offer I opened has the colour or size that I want"),
    during("option_chosen", "I have chosen an option that I was asked for", "an option I was asked for is set",
           "I choose the colour or size that I was asked for"),
    during("features_fit", "the features tell me of something I was asked for", "I read features that fit",
           "the features of what I look at are as I want them"),
    during("features_lack", "the features tell me of nothing I was asked for", "I read features that do not fit",
           "the features of what I look at are not what I want"),
    during("few_steps_left", "I have only three steps left", "my steps are nearly over", "I am short of steps"),
)  # fmt: skip
