"""Goals in Kuhn poker: who gets how many chips, and how it came about."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import GameSpec
from games.goals.goal import at_end, during, told_by
from games.hindsight import Hindsight
from games.kuhn import KIND

MOST = 1.0  # outcome of who wins the most chips there can be


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    outcome, other = episode.outcome, episode.actor != jnp.arange(spec.num_seats)[:, None]
    shown = jnp.any(episode.logged(KIND["show"]))
    gains = outcome > 0
    return {
        "outcome": gains,
        "loss": outcome < 0,
        "win_two": outcome >= MOST,
        "lose_two": outcome <= -MOST,
        "they_fold": gains & ~shown,
        "i_fold": ~gains & ~shown,
        "mine_is_higher": gains & shown,
        "mine_is_lower": ~gains & shown,
        "they_bet": episode.logged(KIND["bet"]) & other,
        "they_pass": episode.logged(KIND["pass"]) & other,
    }


GOALS = told_by(
    _events,
    at_end("outcome", "I win the pot", "the chips come to me", "I gain from this deal", utility=1.0),
    at_end("loss", "I lose the pot", "the chips go to them", "I lose by this deal"),
    at_end("win_two", "I win two chips", "they bet as I do, and I have the higher card", "I gain as much as can be",
           utility=0.5),
    at_end("lose_two", "I lose two chips", "I bet as they do, and they have the higher card",
           "I lose as much as can be", utility=-0.5),
    at_end("they_fold", "they fold", "my bet makes them give up", "I win without showing my card"),
    at_end("i_fold", "I fold", "their bet makes me give up", "I lose without showing my card"),
    at_end("mine_is_higher", "the cards are shown and mine is higher", "I show the better card",
           "I beat their card"),
    at_end("mine_is_lower", "the cards are shown and mine is lower", "I show the worse card",
           "their card beats mine"),
    during("they_bet", "they bet", "I see them bet a chip", "they raise the price for me"),
    during("they_pass", "they pass", "I see them pass", "they do not bet against me"),
)  # fmt: skip
