"""Forks: behaviours before which an episode is taken up again, to be played on with their reply and with another one.

For behaviour k of a seat in the true state s, which replied a, pairs j = 1..m of branches are played to their ends: one
repeats everything up to k and a itself, the other draws a'_j from the policy instead. What follows, chance and
everybody's replies, is new and drawn from the same keys in both. With R_j the seat's outcomes,

  U = (1/m) Σ_j [R_j(s, a) − R_j(s, a'_j)],   E[U | s, a] = Q(s, a) − V(s),

for a'_j may equal a. Roles and all that is hidden stay what they were: to draw them anew would ignore what everybody's
policies have told of them.

A branch is an episode with a *past*: the game is dealt again and the recorded replies are given again, tokens and all,
so that no state of any game has to be kept. The model reads a stream once, when its seat next decides.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from games.text.grammar import GIVEN
from maro_jax.selfplay.episodes import Behaviours, Episodes, RolloutPlan

ARMS = 2  # a branch with the recorded reply, a branch with another one


@dataclasses.dataclass(frozen=True)
class Forks:
    """Behaviours drawn at random from all candidates, each as likely as the others.

    Attributes:
      episode: int[F], index in the batch.
      decision: int[F].
      share: q, the probability of each candidate to be among them; 1 if there is none.
    """

    episode: np.ndarray
    decision: np.ndarray
    share: float

    @staticmethod
    def draw(generator: np.random.Generator, candidates: np.ndarray, count: int) -> Forks:
        """Draws `count` of the candidates bool[E, B] without replacement, or takes all if there are not so many."""
        places = np.argwhere(candidates)
        drawn = np.sort(generator.permutation(len(places))[:count])
        episode, decision = places[drawn].T
        return Forks(episode, decision, len(drawn) / len(places) if len(places) else 1.0)


def had_choice(episodes: Episodes) -> np.ndarray:
    """bool[E, B]: behaviours with a token that was chosen; the others could not have been different."""
    found = np.zeros(episodes.behaviours.seat.shape, bool)
    episode, seat, position = np.nonzero(episodes.node != GIVEN)
    found[episode, episodes.decision[episode, seat, position]] = True
    return found


def branches(plan: RolloutPlan, episodes: Episodes, forks: Forks, pairs: int, first: int) -> RolloutPlan:
    """The branches of some forks: of every fork `pairs` pairs, of every pair the branch with the recorded reply first.

    Args:
      plan: what the episodes were played by.
      episodes: on the host.
      forks: F behaviours.
      pairs: m.
      first: number of the first pair; its branches share it, and with it all that is drawn anew.

    Returns:
      A plan of F · m · 2 episodes, to be played with the key of the episodes.
    """
    count = len(forks.episode) * pairs
    source, fork = (np.repeat(each, pairs * ARMS) for each in (forks.episode, forks.decision))
    keeps = np.tile([1, 0], count)
    return RolloutPlan(
        episode=np.repeat(first + np.arange(count), ARMS).astype(np.int32),
        deal=np.asarray(plan.deal)[source],
        holders=np.asarray(plan.holders)[source],
        past=until(jax.tree.map(lambda leaf: np.asarray(leaf)[source], episodes), fork + keeps),
        fork=fork.astype(np.int32),
    )


def until(episodes: Episodes, decision: np.ndarray) -> Episodes:
    """What had happened before a decision int[E] of each episode: replies, and streams up to each seat's last one."""
    made, seats = episodes.behaviours, np.arange(episodes.lengths.shape[1])
    kept = (np.arange(made.seat.shape[1]) < decision[:, None]) & (made.seat >= 0)
    ends = np.where(kept[..., None] & (made.seat[..., None] == seats), made.end[..., None], 0)
    lengths = ends.max(axis=1).astype(np.int32)
    written = np.arange(episodes.tokens.shape[2]) < lengths[..., None]

    def so_far(values: np.ndarray, present: np.ndarray, otherwise: int = 0) -> np.ndarray:
        present = present.reshape(present.shape + (1,) * (values.ndim - present.ndim))
        return np.where(present, values, np.asarray(otherwise, values.dtype))

    streams = ("tokens", "log_probs", "node", "decision")
    ending = ("outcome", "terminated", "truncated", "overflowed", "event_audience", "event_count", "event_step")
    unknown = {"seat": -1, "holder": -1}
    fields = {field.name: getattr(made, field.name) for field in dataclasses.fields(Behaviours)}
    return dataclasses.replace(
        episodes,
        **{name: so_far(getattr(episodes, name), written) for name in streams},
        **{name: np.zeros_like(getattr(episodes, name)) for name in ending},
        lengths=lengths,
        event_rows=np.full_like(episodes.event_rows, -1),
        behaviours=Behaviours(**{name: so_far(each, kept, unknown.get(name, 0)) for name, each in fields.items()}),
    )


def differences(played: Episodes, seat: np.ndarray, pairs: int) -> tuple[np.ndarray, np.ndarray]:
    """U of each fork, from its branches.

    Args:
      played: the branches, as `branches` orders them.
      seat: int[F], whose behaviour was forked.
      pairs: m.

    Returns:
      float32[F] and bool[F], whether there is one: pairs of which a branch was not ended by the rules do not count.
    """
    outcome = played.outcome.reshape(len(seat), pairs, ARMS, -1)
    of_seat = np.take_along_axis(outcome, seat.astype(np.int64)[:, None, None, None], axis=3)[..., 0]
    ended = np.all(np.reshape(played.finished, (len(seat), pairs, ARMS)), axis=2)
    gains = np.where(ended, of_seat[..., 0] - of_seat[..., 1], 0.0)
    return (gains.sum(axis=1) / np.maximum(ended.sum(axis=1), 1)).astype(np.float32), np.any(ended, axis=1)
