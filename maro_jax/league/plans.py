"""Which episodes are played, and who holds which side in them."""

from __future__ import annotations

import numpy as np

from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, OPPONENT, RANDOM, RolloutPlan


def plan_of(episode: np.ndarray, deal: np.ndarray, holders: np.ndarray) -> RolloutPlan:
    """A plan from arrays of any integer type."""
    return RolloutPlan(episode.astype(np.int32), deal.astype(np.int32), holders.astype(np.int8))


def training_plan(opponents: str, first: int, episodes: int, num_sides: int, deal_group: int = 1) -> RolloutPlan:
    """An iteration of self-play.

    Args:
      opponents: who holds one side, each in turn, in half of the episodes; the learner holds every seat of the others:
        `mirror` (the learner there too), `warm_start` or `past` (the frozen opponent), `scripted` (heuristic players),
        `mix` or `league` (the latter two by turns).
      first: number of the first episode, a multiple of `deal_group`.
      episodes: E.
      num_sides: sides of the game.
      deal_group: episodes that follow each other share a deal and who holds which side, so many at a time.
    """
    index = first + np.arange(episodes)
    deal = index // deal_group
    holders = np.full((episodes, num_sides), LEARNER)
    if opponents != "mirror" and num_sides > 1:  # whoever is alone has no opponents
        rounds = deal // (2 * num_sides)  # in each of which every side is held by another once
        by_turns = rounds % 2 == 0
        frozen = {"mix": by_turns, "league": by_turns, "warm_start": True, "past": True, "scripted": False}[opponents]
        holders = _odd_one_out(deal, holders, np.where(frozen, OPPONENT, HEURISTIC))
    return plan_of(index, deal, holders)


def warm_start_plan(first: int, episodes: int, num_sides: int) -> RolloutPlan:
    """Games to clone: half of them heuristic throughout; in the other half one side, each in turn, plays at random.

    Noise in whole games keeps who answers whom readable, where noise in single decisions would hide it. There is always
    a side that plays well, so that a bad opponent is no sign to play badly oneself. Whoever is alone therefore always
    plays well.
    """
    index = first + np.arange(episodes)
    holders = np.full((episodes, num_sides), HEURISTIC)
    return plan_of(index, index, _odd_one_out(index, holders, np.asarray(RANDOM)) if num_sides > 1 else holders)


def _odd_one_out(index: np.ndarray, holders: np.ndarray, odd: np.ndarray) -> np.ndarray:
    """Gives one side of every second episode, each side in turn, to another holder (one, or one an episode)."""
    differs = index % 2 == 1
    side = np.arange(holders.shape[1]) == (index // 2 % holders.shape[1])[:, None]
    return np.where(differs[:, None] & side, np.broadcast_to(odd, index.shape)[:, None], holders)


def match_plan(first_deal: int, games: int, num_sides: int, holder: int, opponent: int) -> RolloutPlan:
    """A match: every deal is played once for each side, `holder` on that side and `opponent` on the others.

    Where there is one side only, each of the two plays every deal alone.

    Args:
      first_deal: number of the first deal.
      games: a multiple of `games_per_deal(num_sides)`.
      num_sides: sides of the game.
      holder: whose score is kept.
      opponent: who plays against it.

    Raises:
      ValueError: if the games do not divide so.
    """
    turns = games_per_deal(num_sides)
    if games % turns:
        raise ValueError(f"a match of {games} games does not play each deal {turns} times; for example "
                         f"{games + turns - games % turns}")  # fmt: skip
    index = np.arange(games)
    holders = np.where(np.arange(num_sides) == (index % turns)[:, None], holder, opponent)
    return plan_of(first_deal * turns + index, first_deal + index // turns, holders)


def games_per_deal(num_sides: int) -> int:
    """How often a match plays each deal."""
    return max(num_sides, 2)
