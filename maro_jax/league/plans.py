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
    index = np.arange(episodes)
    holders = np.full((episodes, num_sides), LEARNER)
    if opponents == "mix":
        frozen = index % 2 == 1
        side = (index // 2) % num_sides
        holders[index[frozen], side[frozen]] = OPPONENT
    return plan_of(first + index, first + index, holders)


def warm_start_plan(first: int, episodes: int, num_sides: int) -> RolloutPlan:
    """Games to clone: whole games by heuristic players and whole games by random ones, in turn.

    Noise in whole games keeps who answers whom readable, where noise in single decisions would hide it.
    """
    index = np.arange(episodes)
    holder = np.where(index % 2 == 0, HEURISTIC, RANDOM)
    return plan_of(first + index, first + index, np.repeat(holder[:, None], num_sides, axis=1))


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
