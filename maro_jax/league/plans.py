"""Which episodes are played, and who holds which side in them."""

from __future__ import annotations

import numpy as np

from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, OPPONENT, RANDOM, RolloutPlan


def plan_of(episode: np.ndarray, deal: np.ndarray, holders: np.ndarray) -> RolloutPlan:
    """A plan from arrays of any integer type."""
    return RolloutPlan(episode.astype(np.int32), deal.astype(np.int32), holders.astype(np.int8))


def training_plan(opponents: str, first: int, episodes: int, num_sides: int) -> RolloutPlan:
    """An iteration of self-play.

    Args:
      opponents: `mirror` (the learner holds every seat) or `mix` (half of the episodes mirror; in the other half one
        side, each in turn, is held by the frozen opponent).
      first: number of the first episode.
      episodes: E.
      num_sides: sides of the game.
    """
    index = first + np.arange(episodes)
    holders = np.full((episodes, num_sides), LEARNER)
    if opponents == "mix":
        holders = _odd_one_out(index, holders, OPPONENT)
    return plan_of(index, index, holders)


def warm_start_plan(first: int, episodes: int, num_sides: int) -> RolloutPlan:
    """Games to clone: half of them heuristic throughout; in the other half one side, each in turn, plays at random.

    Noise in whole games keeps who answers whom readable, where noise in single decisions would hide it. There is always
    a side that plays well, so that a bad opponent is no sign to play badly oneself.
    """
    index = first + np.arange(episodes)
    return plan_of(index, index, _odd_one_out(index, np.full((episodes, num_sides), HEURISTIC), RANDOM))


def _odd_one_out(index: np.ndarray, holders: np.ndarray, odd: int) -> np.ndarray:
    """Gives one side of every second episode, each side in turn, to another holder; the only side stays as it is."""
    holders = holders.copy()
    if holders.shape[1] == 1:
        return holders
    differs = index % 2 == 1
    holders[differs, (index // 2 % holders.shape[1])[differs]] = odd
    return holders


def match_plan(first_deal: int, games: int, num_sides: int, holder: int, opponent: int) -> RolloutPlan:
    """A match: every deal is played once for each side, `holder` on that side and `opponent` on the others.

    Args:
      first_deal: number of the first deal.
      games: a multiple of `num_sides`.
      num_sides: sides of the game.
      holder: whose score is kept.
      opponent: who plays against it.

    Raises:
      ValueError: if the games do not divide by the sides.
    """
    if games % num_sides:
        raise ValueError(f"a match of {games} games does not give each of {num_sides} sides as many; for example "
                         f"{games + num_sides - games % num_sides}")  # fmt: skip
    index = np.arange(games)
    holders = np.full((games, num_sides), opponent)
    holders[index, index % num_sides] = holder
    deal = first_deal + index // num_sides
    return plan_of(first_deal * num_sides + index, deal, holders)
