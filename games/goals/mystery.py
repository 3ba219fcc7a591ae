"""Goals in the murder mystery, for both sides: what is found out, who is suspected, and who is convicted."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import GameSpec
from games.goals.goal import at_end, during, told_by
from games.hindsight import Hindsight
from games.mystery_spec import CULPRIT, KIND, NOTHING


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    kind, target, roles = KIND, episode.target, episode.roles
    seats = jnp.arange(spec.num_seats)
    at_me, guilty = target == seats[:, None], (target >= 0) & (roles[target] == CULPRIT)
    suspect, trust, convicted = (episode.logged(kind[name]) for name in ("suspect", "trust", "convicted"))
    return {
        "outcome": episode.outcome > 0,
        "loss": episode.outcome < 0,
        "i_am_convicted": jnp.any(convicted & at_me, axis=1),
        "culprit_convicted": jnp.broadcast_to(jnp.any(convicted & guilty), seats.shape),
        "innocent_convicted": jnp.broadcast_to(jnp.any(convicted & ~guilty), seats.shape),
        "nobody_convicted": jnp.broadcast_to(jnp.any(episode.logged(kind["acquitted"])), seats.shape),
        "culprit_suspected": suspect & guilty,
        "innocent_suspected": suspect & ~guilty,
        "i_am_suspected": suspect & at_me,
        "i_am_trusted": trust & at_me,
        "culprit_trusted": trust & guilty,
        "i_am_asked": episode.logged(kind["ask"]) & at_me,
        "no_answer": episode.logged(kind["answer"]) & (episode.value == NOTHING),
        "trace_found": episode.logged(kind["trace"]),
        "my_trace_found": episode.logged(kind["trace"]) & at_me,
        "weapon_or_motive_found": episode.logged(kind["weapon"], kind["motive"]),
        "no_clue_left": episode.logged(kind["no_clue"]),
    }


GOALS = told_by(
    _events,
    at_end("outcome", "my side wins", "we win this game", "I am on the side that wins", utility=1.0),
    at_end("loss", "my side loses", "we lose this game", "I am on the side that loses"),
    at_end("i_am_convicted", "I am convicted", "they convict me", "most votes fall on me"),
    at_end("culprit_convicted", "the culprit is convicted", "we convict the one who did it",
           "I see the right one convicted"),
    at_end("innocent_convicted", "an innocent is convicted", "we convict somebody who did not do it",
           "I see the wrong one convicted"),
    at_end("nobody_convicted", "nobody is convicted", "our votes are tied", "I see everybody acquitted"),
    during("culprit_suspected", "somebody says that they suspect the culprit", "I hear the culprit suspected",
           "suspicion falls on the culprit before us all"),
    during("innocent_suspected", "somebody says that they suspect an innocent", "I hear an innocent suspected",
           "suspicion falls on an innocent before us all"),
    during("i_am_suspected", "somebody says that they suspect me", "I am suspected", "they think that I did it"),
    during("i_am_trusted", "somebody says that they trust me", "I am trusted", "they think that I did not do it"),
    during("culprit_trusted", "somebody says that they trust the culprit", "I hear the culprit trusted",
           "one of us is deceived by the culprit"),
    during("i_am_asked", "somebody asks me", "I am questioned", "they want an answer of me"),
    during("no_answer", "somebody answers with nothing", "I hear a question left open", "one of us will not say"),
    during("trace_found", "a trace tells us where somebody was", "we find a trace", "I hear of a trace in a room"),
    during("my_trace_found", "my own trace is found", "a trace tells them where I was", "they find where I was"),
    during("weapon_or_motive_found", "we learn what the murderer carried or was driven by",
           "a clue tells us of the weapon or the motive", "I hear of the weapon or the motive"),
    during("no_clue_left", "a room has no clue left", "we search in vain", "I see a search find nothing"),
)  # fmt: skip
