"""The pool of past selves that a learner meets: who is in it, whom an iteration plays, and how the learner fared.

An iteration plays one of them in all games that a past self sits in, so that a rollout never holds more than two
parameter sets. Entry 0 is the warm start, which stays for ever; the others are past selves, the oldest of which makes
room for the newest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maro_jax.selfplay.episodes import OPPONENT, Episodes, RolloutPlan

FADING = 0.95  # of what is known of the results, each iteration: the learner changes
PRIOR_GAMES = 2.0  # games drawn that every entry begins with, so that nobody is beaten for certain
FREE = -1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pool:
    """Past selves and the learner's record against them.

    Attributes:
      members: parameters of each past self, P of them; those of a free place mean nothing.
      born: int32[1 + P], iterations of self-play after which each entry was frozen: 0 for the warm start, -1 for a free
        place.
      score: float32[1 + P], faded sum of the learner's scores in games against each.
      games: float32[1 + P], faded number of these games.
    """

    members: tuple[Any, ...]
    born: Any
    score: Any
    games: Any

    @staticmethod
    def empty(params: Any, size: int) -> Pool:
        """The warm start alone; `params` say what a member looks like.

        Args:
          params: parameters of the learner.
          size: P, past selves that there is room for.
        """
        return Pool(
            members=tuple(jax.tree.map(jnp.copy, params) for _ in range(size)),
            born=np.array([0] + [FREE] * size, np.int32),
            score=np.zeros(1 + size, np.float32),
            games=np.zeros(1 + size, np.float32),
        )

    def params(self, entry: int, warm_start: Any) -> Any:
        """Parameters of an entry."""
        return self.members[entry - 1] if entry else warm_start

    def present(self) -> np.ndarray:
        """int[.]: the entries that somebody fills, oldest first."""
        born = np.asarray(self.born)
        entries = np.flatnonzero(born != FREE)
        return entries[np.argsort(born[entries], kind="stable")]

    def win_rates(self) -> np.ndarray:
        """float[1 + P]: the learner's score a game against each entry, one half where nothing is known."""
        score, games = np.asarray(self.score, np.float64), np.asarray(self.games, np.float64)
        return (score + PRIOR_GAMES / 2) / (games + PRIOR_GAMES)

    def chances(self, matchmaking: str) -> np.ndarray:
        """float[1 + P]: with what probability an iteration plays each entry.

        Args:
          matchmaking: `uniform`, or `pfsp`: in proportion to (1 - win rate)^2, prioritized fictitious self-play of
            AlphaStar (Vinyals et al. 2019, "hard" weighting with p = 2).
        """
        weight = np.zeros(len(self.born))
        present = self.present()
        weight[present] = 1.0 if matchmaking == "uniform" else np.square(1.0 - self.win_rates()[present])
        return weight / weight.sum()

    def choose(self, matchmaking: str, generator: np.random.Generator) -> int:
        """Draws the entry that an iteration plays."""
        return int(generator.choice(len(self.born), p=self.chances(matchmaking)))

    def record(self, entry: int, score: float, games: int) -> Pool:
        """Counts an iteration: what was known fades, and the new games are added to `entry`.

        Args:
          entry: who was played.
          score: the learner's scores, summed over these games.
          games: how many there were.
        """
        now = np.arange(len(self.born)) == entry
        return dataclasses.replace(
            self,
            score=(FADING * np.asarray(self.score) + now * score).astype(np.float32),
            games=(FADING * np.asarray(self.games) + now * games).astype(np.float32),
        )

    def freeze(self, params: Any, iteration: int) -> Pool:
        """Adds a copy of `params` as they are after `iteration` iterations of self-play.

        It takes a free place, or else that of the oldest past self; its record begins anew.
        """
        born = np.asarray(self.born)
        entry = 1 + int(np.argmin(born[1:]))  # a free place is older than everybody
        fresh = np.arange(len(born)) == entry
        members = list(self.members)
        members[entry - 1] = jax.tree.map(jnp.copy, params)
        return Pool(
            members=tuple(members),
            born=np.where(fresh, iteration, born).astype(np.int32),
            score=np.where(fresh, 0, self.score).astype(np.float32),
            games=np.where(fresh, 0, self.games).astype(np.float32),
        )


def learner_scores(plan: RolloutPlan, episodes: Episodes, side_of_role: Sequence[int]) -> np.ndarray:
    """float[.]: the learner's score in each finished game that the opponent holds a side in.

    One half, and half of what the learner's sides scored more than the opponent's: 1 for a win where one side's win is
    the other's loss, and fair over games in which the opponent holds each side in turn.
    """
    holders = np.asarray(plan.holders)
    chosen = (holders == OPPONENT).any(axis=1) & np.asarray(episodes.finished)
    side = np.asarray(side_of_role)[np.asarray(episodes.roles)[chosen]]
    theirs = np.take_along_axis(holders[chosen] == OPPONENT, side, axis=1)  # [games, seats]
    score = (np.asarray(episodes.outcome)[chosen] + 1) / 2

    def mean(seats: np.ndarray) -> np.ndarray:
        return (score * seats).sum(axis=1) / np.maximum(seats.sum(axis=1), 1)

    return 0.5 + (mean(~theirs) - mean(theirs)) / 2
