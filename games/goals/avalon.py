"""Goals in Avalon, for both sides: what a good player hopes for an evil one fears."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from games.avalon_spec import FAILS_NEEDED, IS_EVIL, KIND, MAJORITY, MERLIN, PROPOSALS, QUESTS
from games.core import GameSpec
from games.goals.goal import at_end, during, told_by
from games.hindsight import Hindsight


def _events(spec: GameSpec, episode: Hindsight) -> dict[str, jax.Array]:
    kind, n, target = KIND, spec.num_seats, episode.target
    seats = jnp.arange(n)[:, None]
    evil = jnp.asarray(IS_EVIL)[episode.roles]
    at_evil = (target >= 0) & evil[target]
    succeeds, fails = episode.logged(kind["quest_succeeded"]), episode.logged(kind["quest_failed"])
    ours, theirs = jnp.where(evil[:, None], fails, succeeds), jnp.where(evil[:, None], succeeds, fails)
    one_left = MAJORITY - 1
    # Who is on each proposal's team; a pick belongs to the leader's row before it.
    proposal = jnp.maximum(jnp.cumsum(episode.logged(kind["leader"])) - 1, 0)
    picked = episode.logged(kind["pick"])[:, None] & (target[:, None] == jnp.arange(n))
    team = jnp.zeros((QUESTS * PROPOSALS, n), bool).at[proposal].max(picked)[proposal]  # bool[M, N]
    quest = jnp.maximum(jnp.cumsum(episode.logged(kind["quest"])) - 1, 0)
    can_fail = jnp.sum(team & evil, axis=1) >= jnp.asarray(FAILS_NEEDED[n])[quest]
    goes, rejected = episode.logged(kind["approved"], kind["unvoted"]), episode.logged(kind["rejected"])
    about_me = target == seats
    shot = episode.logged(kind["shot"])
    hit = jnp.any(shot & (target >= 0) & (episode.roles[target] == MERLIN))
    return {
        "outcome": episode.outcome > 0,
        "loss": episode.outcome < 0,
        "quest_ours": ours,
        "quest_theirs": theirs,
        "one_quest_left": ours & (jnp.cumsum(ours, axis=1) == one_left),
        "they_need_one": theirs & (jnp.cumsum(theirs, axis=1) == one_left),
        "clean_team_goes": goes & ~can_fail,
        "evil_team_goes": goes & can_fail,
        "i_go": goes & team.T,
        "clean_team_rejected": rejected & ~can_fail,
        "evil_team_rejected": rejected & can_fail,
        "fifth_proposal": episode.logged(kind["leader"]) & (episode.value == PROPOSALS - 1),
        "i_am_accused": episode.logged(kind["accuse"]) & about_me,
        "i_am_defended": episode.logged(kind["defend"]) & about_me,
        "evil_accused": episode.logged(kind["accuse"]) & at_evil,
        "three_quests": succeeds & (jnp.cumsum(succeeds) == MAJORITY),
        "merlin_shot": jnp.broadcast_to(hit, (n,)),
        "merlin_missed": jnp.broadcast_to(jnp.any(shot) & ~hit, (n,)),
    }


GOALS = told_by(
    _events,
    at_end("outcome", "my side wins", "we win this game", "I am on the side that wins", utility=1.0),
    at_end("loss", "my side loses", "we lose this game", "I am on the side that loses"),
    during("quest_ours", "a quest goes our way", "we get this quest", "my side wins a quest"),
    during("quest_theirs", "a quest goes their way", "we do not get this quest", "my side loses a quest"),
    during("one_quest_left", "we need only one more quest", "my side has two quests", "one more quest and we win"),
    during("they_need_one", "they need only one more quest", "the others have two quests",
           "one more quest and we lose"),
    during("clean_team_goes", "a team goes that cannot fail", "too few evil players are on the team that I see go",
           "we send a team that evil cannot stop"),
    during("evil_team_goes", "a team goes that can fail", "evil players are on the team that I see go",
           "we send a team that evil can stop"),
    during("i_go", "I go on the quest", "a team with me goes", "they send me on the quest"),
    during("clean_team_rejected", "a team is rejected that cannot fail", "we reject a team that evil cannot stop",
           "I see a good team rejected"),
    during("evil_team_rejected", "a team is rejected that can fail", "we reject a team that evil could stop",
           "I see a team with evil on it rejected"),
    during("fifth_proposal", "the fifth proposal comes", "one more rejection and evil wins",
           "we have rejected four teams in a row"),
    during("i_am_accused", "somebody accuses me", "I am accused", "they suspect me aloud"),
    during("i_am_defended", "somebody defends me", "I am defended", "they speak up for me"),
    during("evil_accused", "an evil player is accused", "I hear somebody accuse an evil player",
           "suspicion falls on evil before us all"),
    during("three_quests", "three quests succeed, and only the shot at Merlin is left",
           "the good get their third quest before me", "I see the assassin get to shoot"),
    at_end("merlin_shot", "Merlin is shot", "I see the assassin find Merlin", "the shot hits Merlin before us"),
    at_end("merlin_missed", "the shot misses Merlin", "I see the assassin shoot somebody else",
           "Merlin stays hidden among us to the end"),
)  # fmt: skip
