"""Goals in social deduction, for both sides: who is pointed at, by signals and by players, and who goes."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.core import GameSpec
from games.goals.goal import at_end, during, told_by
from games.hindsight import Hindsight
from games.social_deduction import IMPOSTOR, KIND


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    kind, target, value = KIND, episode.target, episode.value
    seats = jnp.arange(spec.num_seats)[:, None]
    at_me, guilty = target == seats, (target >= 0) & (episode.roles[target] == IMPOSTOR)
    expelled, signal, accuse = (episode.logged(kind[name]) for name in ("expelled", "signal", "accuse"))
    return {
        "outcome": episode.outcome > 0,
        "loss": episode.outcome < 0,
        "i_am_expelled": expelled & at_me,
        "impostor_expelled": expelled & guilty,
        "innocent_expelled": expelled & ~guilty,
        "nobody_expelled": episode.logged(kind["no_expulsion"]),
        "i_am_accused": accuse & at_me,
        "i_am_defended": episode.logged(kind["defend"]) & at_me,
        "impostor_accused": accuse & guilty,
        "innocent_accused": accuse & ~guilty,
        "i_get_a_vote": episode.logged(kind["vote"]) & at_me,
        "true_signal": signal & ((value == 1) == guilty),
        "false_signal": signal & ((value == 1) != guilty),
        "signal_on_me": signal & at_me & (value == 1),
    }


GOALS = told_by(
    _events,
    at_end("outcome", "my side wins", "we win this game", "I am on the side that wins", utility=1.0),
    at_end("loss", "my side loses", "we lose this game", "I am on the side that loses"),
    during("i_am_expelled", "I am expelled", "they vote me out", "I have to leave the game"),
    during("impostor_expelled", "an impostor is expelled", "we vote out an impostor", "I see an impostor go"),
    during("innocent_expelled", "an innocent is expelled", "we vote out an innocent", "I see an innocent go"),
    during("nobody_expelled", "nobody is expelled", "our vote ends in a tie", "I see everybody stay"),
    during("i_am_accused", "somebody accuses me", "I am accused", "they suspect me aloud"),
    during("i_am_defended", "somebody defends me", "I am defended", "they speak up for me"),
    during("impostor_accused", "an impostor is accused", "I hear somebody accuse an impostor",
           "suspicion falls on an impostor before us all"),
    during("innocent_accused", "an innocent is accused", "I hear somebody accuse an innocent",
           "suspicion falls on an innocent before us all"),
    during("i_get_a_vote", "somebody votes for me", "I get a vote", "they want me expelled"),
    during("true_signal", "the signal tells us the truth", "we see a signal that is right", "the next signal helps us"),
    during("false_signal", "the signal misleads us", "we see a signal that is wrong", "the next signal deceives us"),
    during("signal_on_me", "the signal makes me look suspicious", "I look suspicious by the signal",
           "the signal points at me"),
)  # fmt: skip
