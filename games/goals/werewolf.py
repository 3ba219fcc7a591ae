"""Goals in Werewolf, for both sides: who is found out, who is believed, and who dies."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import GameSpec
from games.goals.goal import at_end, during, told_by
from games.hindsight import Hindsight
from games.werewolf_spec import KIND, VILLAGER, WOLF

THIRD = 3  # day


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    kind, target, value, roles = KIND, episode.target, episode.value, episode.roles
    seats = jnp.arange(spec.num_seats)[:, None]
    at_me = target == seats
    named = jnp.where(target >= 0, roles[target], VILLAGER)
    wolf, special = named == WOLF, (named != WOLF) & (named != VILLAGER)
    killed = episode.logged(kind["death"], kind["death_hidden"])
    expelled = episode.logged(kind["expelled"], kind["expelled_hidden"])
    accuse = episode.logged(kind["accuse"]) | (episode.logged(kind["report"]) & (value == 1))
    speaker_lies = (roles[jnp.maximum(episode.actor, 0)] != value) & (episode.actor >= 0)
    return {
        "outcome": episode.outcome > 0,
        "loss": episode.outcome < 0,
        "i_am_killed": killed & at_me,
        "i_am_expelled": expelled & at_me,
        "wolf_expelled": expelled & wolf,
        "village_expelled": expelled & ~wolf,
        "nobody_expelled": episode.logged(kind["no_expulsion"]),
        "nobody_killed": episode.logged(kind["no_death"]),
        "special_killed": killed & special,
        "seer_finds_wolf": episode.logged(kind["check_result"]) & (value == 1),
        "i_am_accused": accuse & at_me,
        "i_am_defended": episode.logged(kind["defend"]) & at_me,
        "wolf_accused": accuse & wolf,
        "false_claim": episode.logged(kind["claim"]) & speaker_lies,
        "i_get_a_vote": episode.logged(kind["vote"]) & at_me,
        "third_day": episode.logged(kind["day"]) & (value == THIRD),
    }


GOALS = told_by(
    _events,
    at_end("outcome", "my side wins", "we win this game", "I am on the side that wins", utility=1.0),
    at_end("loss", "my side loses", "we lose this game", "I am on the side that loses"),
    during("i_am_killed", "I am killed", "I die in the night", "they kill me"),
    during("i_am_expelled", "I am expelled", "they vote me out", "I have to leave the village"),
    during("wolf_expelled", "a wolf is expelled", "we vote out a wolf", "I see a wolf go"),
    during("village_expelled", "somebody of the village is expelled", "we vote out one of the village",
           "I see an innocent go"),
    during("nobody_expelled", "nobody is expelled", "our vote ends without an expulsion", "I see everybody stay"),
    during("nobody_killed", "nobody is killed in the night", "we all live to see the morning", "I hear of no death"),
    during("special_killed", "the village loses somebody with a gift", "I hear that a seer or another helper died",
           "we have one fewer who knows or protects"),
    during("seer_finds_wolf", "the seer finds a wolf", "a check by one of us hits a wolf",
           "I live with a seer who knows a wolf"),
    during("i_am_accused", "somebody accuses me", "I am accused", "they suspect me aloud"),
    during("i_am_defended", "somebody defends me", "I am defended", "they speak up for me"),
    during("wolf_accused", "a wolf is accused", "I hear somebody accuse a wolf",
           "suspicion falls on a wolf before us all"),
    during("false_claim", "somebody claims to be what they are not", "I hear a false claim", "one of us lies"),
    during("i_get_a_vote", "somebody votes for me", "I get a vote", "they want me expelled"),
    during("third_day", "the third day comes", "we play on to a third day", "I see the game last to day three"),
)  # fmt: skip
