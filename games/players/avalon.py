"""Scripted Avalon players: they read only their own view of the log.

They follow the naive players of AvalonBench: the good keep a belief over who is evil and choose and approve the teams
that are most likely good; Merlin does so with what he knows; the evil choose and approve teams with enough of them to
fail, and fail with as many as it takes. Unlike there, the good trust a team whose quest succeeded, take votes as weak
evidence and grow less choosy the nearer the fifth rejection is, and the assassin shoots who voted as Merlin would.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from games import avalon_spec
from games.avalon_spec import IS_EVIL, KIND, MERLIN, PROPOSALS, QUESTS, ROLES, SHOOT
from games.core import SeatView

NOISE = 0.3  # scale of the Gumbel noise that keeps equal choices apart
STEALTH = 1.0  # log-odds that each evil member who did not fail counts against a world
BALLOTS = 0.1  # log-odds that a vote for a team that failed, or against one that did not, counts for an evil voter
PATIENCE = (0.15, 0.3, 0.6, 1.2, 100.0)  # how much likelier to be good a better team may be, in logs, by proposal
TRACES = 0.1  # what a vote that fits Merlin's knowledge is worth to the assassin


def heuristic(view: SeatView, key: jax.Array) -> jax.Array:
    """int32[]: the action of a sensible player with what `view` shows."""
    num_actions = view.legal.shape[0]
    num_seats = (num_actions - len(ROLES) - 5) // 3
    evidence = Evidence(view, num_seats)
    is_evil = jnp.asarray(IS_EVIL)[view.role]
    scores = jnp.where(is_evil, _evil(view, evidence), _good(view, evidence))
    scores = scores + NOISE * jax.random.gumbel(key, (num_actions,))
    return jnp.argmax(jnp.where(view.legal, scores, -jnp.inf)).astype(jnp.int32)


class Evidence:
    """The log as tables by proposal (P = 25 rows) and seat, and a belief over the worlds that fit it.

    Attributes:
      me: bool[N].
      team: f32[P, N], 1 for members.
      votes: f32[P, N], 1 approved, -1 rejected, 0 not voted.
      leads: f32[P, N], 1 for the leader.
      quest, proposal: int[], what is going on now.
      members: f32[N], the team as it is now.
      known: bool[N], evil for certain, oneself included.
      worlds: f32[W, N], 1 for the evil: every set of seats that may be the evil ones.
      belief: f32[W], probability of each world.
    """

    def __init__(self, view: SeatView, num_seats: int):
        kind, actor, target, value = (view.rows[:, column] for column in range(4))
        seats = jnp.arange(num_seats)
        by = (actor[:, None] == seats).astype(jnp.float32)
        about = (target[:, None] == seats).astype(jnp.float32)
        attempt = jnp.cumsum(kind == KIND["leader"]) - 1
        during = (attempt[:, None] == jnp.arange(QUESTS * PROPOSALS)).astype(jnp.float32)

        def table(name: str, worth: jax.Array | float, whom: jax.Array) -> jax.Array:
            return jnp.einsum("m,mp,mn->pn", jnp.where(kind == KIND[name], worth, 0.0), during, whom)

        self.me = seats == view.seat
        self.team, self.leads = table("pick", 1.0, about), table("leader", 1.0, by)
        self.votes = table("vote", 2.0 * value - 1.0, by)
        self.quest = jnp.sum(kind == KIND["quest"]) - 1
        self.proposal = jnp.max(jnp.where((kind == KIND["leader"]) & (attempt == attempt[-1]), value, 0))
        self.members = self.team[attempt[-1]]
        told = jnp.sum(about * (kind == KIND["evil"])[:, None], axis=0) > 0
        is_evil = jnp.asarray(IS_EVIL)[view.role]
        self.known = told | (self.me & is_evil)
        self.worlds = jnp.asarray(_worlds(num_seats))
        ended = (kind == KIND["quest_succeeded"]) | (kind == KIND["quest_failed"])
        fails = jnp.where(ended, value, 0).astype(jnp.float32) @ during
        went, lost = (rows.astype(jnp.float32) @ during for rows in (ended, kind == KIND["quest_failed"]))
        fit = self._fit(fails, went, lost)
        fit -= 1e4 * (self.worlds @ (self.me & ~is_evil) + (1.0 - self.worlds) @ self.known)
        surely_good = jnp.sum(about * (kind == KIND["merlin"])[:, None], axis=0)
        pair = jnp.sum(about * (kind == KIND["merlin_or_morgana"])[:, None], axis=0)
        one_of_them = jnp.abs(self.worlds @ pair - 1.0) * (jnp.sum(pair) > 0)
        self.belief = jax.nn.softmax(fit - 1e4 * (self.worlds @ surely_good + one_of_them))

    def _fit(self, fails: jax.Array, went: jax.Array, lost: jax.Array) -> jax.Array:
        """f32[W]: log-likelihood of the quests' results and of the votes that sent the teams; all are f32[P]."""
        evil = self.worlds @ self.team.T
        results = went * (100.0 * jnp.maximum(fails - evil, 0.0) + STEALTH * jnp.maximum(evil - fails, 0.0))
        return BALLOTS * (self.worlds @ ((2.0 * lost - went) @ self.votes)) - jnp.sum(results, axis=1)

    def all_good(self, teams: jax.Array) -> jax.Array:
        """f32[T]: log-probability that nobody in each of the teams f32[T, N] is evil."""
        return jnp.log(jnp.maximum(self.belief @ (self.worlds @ teams.T == 0), 1e-3))

    def traces(self) -> jax.Array:
        """f32[N]: votes of each seat for teams with nobody known as evil, and against others, less its votes unlike
        that; to have proposed one of the others, as Merlin would not, counts as six of the latter.
        """
        truth = 1.0 - 2.0 * jnp.max(self.team * self.known, axis=1, keepdims=True)  # 1: no evil on it, else -1
        return jnp.sum(self.votes * truth + 6.0 * jnp.minimum(self.leads * truth, 0.0), axis=0)


def _worlds(num_seats: int) -> np.ndarray:
    """f32[W, N]: every set of seats that may be the evil ones."""
    sets = list(itertools.combinations(range(num_seats), avalon_spec.NUM_EVIL[num_seats]))
    worlds = np.zeros((len(sets), num_seats), np.float32)
    for row, evil in enumerate(sets):
        worlds[row, list(evil)] = 1.0
    return worlds


def _good(view: SeatView, evidence: Evidence) -> jax.Array:
    """f32[A]: scores of a good player's actions."""
    num_seats = evidence.me.shape[0]
    size = jnp.asarray(avalon_spec.TEAM_SIZES[num_seats])[evidence.quest]
    suspicion = evidence.belief @ evidence.worlds
    with_each = jnp.clip(evidence.members + jnp.eye(num_seats), 0.0, 1.0)
    pick = 3.0 * evidence.all_good(with_each) + evidence.me
    rank = jnp.argsort(jnp.argsort(suspicion - 0.01 * evidence.me))
    this, best = evidence.all_good(jnp.stack([evidence.members, (rank < size).astype(jnp.float32)]))
    approve = 3.0 * (this - best + jnp.asarray(PATIENCE)[evidence.proposal])
    hush = 5.0 * (view.role == MERLIN)
    accuse, defend = 2.0 * suspicion - 1.0 - hush, 0.4 - 2.0 * suspicion - hush
    return _scores(view, pick, accuse, defend, approve, jnp.float32(-10.0))


def _evil(view: SeatView, evidence: Evidence) -> jax.Array:
    """f32[A]: scores of an evil player's actions."""
    num_seats = evidence.me.shape[0]
    needed = jnp.asarray(avalon_spec.FAILS_NEEDED[num_seats])[evidence.quest]
    fellows = evidence.known & (evidence.members > 0)
    enough = jnp.sum(fellows) >= needed
    pick = jnp.where(enough, -3.0, 3.0) * evidence.known + 3.0 * evidence.me * ~enough
    before_me = jnp.sum(fellows & (jnp.arange(num_seats) < view.seat))
    fail = jnp.where(enough & (before_me < needed), 5.0, -5.0)
    pick = jnp.where(view.phase == SHOOT, TRACES * evidence.traces(), pick)
    accuse, defend = jnp.where(evidence.known, -5.0, 0.3), jnp.where(evidence.known, 0.3, -1.0)
    return _scores(view, pick, accuse, defend, jnp.where(enough, 3.0, -3.0), fail)


def _scores(
    view: SeatView, pick: jax.Array, accuse: jax.Array, defend: jax.Array, approve: jax.Array, fail: jax.Array
) -> jax.Array:
    """f32[A] from scores by seat, of approving and of failing; to pass, reject or succeed is 0, a claim never made."""
    claims = jnp.full((len(ROLES),), -100.0)
    zero = jnp.float32(0.0)
    return jnp.concatenate([pick, accuse, defend, claims, jnp.stack([zero, approve, zero, zero, fail])])
