"""Matches: two players on common deals, each on every side, with intervals that respect the shared deals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from games.measures import measures
from maro_jax.league.arena import Arena
from maro_jax.league.plans import games_per_deal, match_plan
from maro_jax.selfplay.episodes import HEURISTIC, LEARNER, OPPONENT, RANDOM, Episodes

NORMAL_95 = 1.959964
SCRIPTED_HOLDERS = {"heuristic": HEURISTIC, "random": RANDOM}


@dataclasses.dataclass(frozen=True)
class Rate:
    """A win rate with its 95 % interval; a draw or a truncated game counts one half."""

    mean: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(scores: np.ndarray) -> Rate:
        """From independent scores in [0, 1]; the normal interval of their mean."""
        count = len(scores)
        mean = float(np.mean(scores)) if count else float("nan")
        half = NORMAL_95 * float(np.std(scores, ddof=1)) / np.sqrt(count) if count > 1 else float("nan")
        return Rate(mean, mean - half, mean + half, count)

    @staticmethod
    def of_ratio(hits: np.ndarray, chances: np.ndarray) -> Rate:
        """Σ hits / Σ chances over independent clusters, with the interval of the ratio's linearisation."""
        total, clusters = float(chances.sum()), int((chances > 0).sum())
        if clusters < 2:
            return Rate(float(hits.sum()) / total if total else float("nan"), float("nan"), float("nan"), int(total))
        mean = float(hits.sum()) / total
        variance = np.square(hits - mean * chances).sum() * clusters / (clusters - 1)
        half = NORMAL_95 * float(np.sqrt(variance)) / total
        return Rate(mean, mean - half, mean + half, int(total))


@dataclasses.dataclass(frozen=True)
class MatchResult:
    """How the first player fared.

    Attributes:
      total: one half, and half of what it scored more than its rival in the same seats on the same deals, mean over
        sides, clustered by deal. Where one side's win is the other's loss this is the mean of the rates on each side.
      sides: score on each side, 1 for a win.
      roles: score of the seats of each role.
      games: games played.
      truncated: share of games cut off.
      play: how often the first player's seats did what `games.measures` counts, where they had the chance on two deals.
    """

    total: Rate
    sides: dict[str, Rate]
    roles: dict[str, Rate]
    games: int
    truncated: float
    play: dict[str, Rate] = dataclasses.field(default_factory=dict)


def play_match(
    arena: Arena,
    player: Any,
    against: Any,
    games: int,
    *,
    purpose: int,
    temperature: float = 1.0,
    opponent_temperature: float = 1.0,
) -> MatchResult:
    """Plays a match and scores it for the first player.

    Args:
      arena: where to play.
      player: parameters, or `heuristic` or `random`.
      against: the other player, likewise.
      games: rounded up to a multiple of `games_per_deal`.
      purpose: keeps the randomness of different matches apart.
      temperature: the first player's sampling temperature.
      opponent_temperature: the other's, if it is a policy.
    """
    sides = len(arena.table.spec.sides)
    games += -games % games_per_deal(sides)
    numbers = iter((LEARNER, OPPONENT))
    both = (player, temperature), (against, opponent_temperature)
    holders = [SCRIPTED_HOLDERS[who] if isinstance(who, str) else next(numbers) for who, _ in both]
    policies = [(who, heat) for who, heat in both if not isinstance(who, str)]
    episodes = arena.play(
        [params for params, _ in policies],
        match_plan(0, games, sides, *holders),
        purpose,
        temperature=[heat for _, heat in policies],
    )
    return score_match(arena, episodes)


def score_match(arena: Arena, episodes: Episodes) -> MatchResult:
    """Scores episodes of a `match_plan`: in the deal's game g the first player holds side g."""
    spec = arena.table.spec
    sides, turns = len(spec.sides), games_per_deal(len(spec.sides))
    scores = (episodes.outcome + 1.0) / 2.0
    seat_side = np.asarray(spec.side_of_role)[episodes.roles]
    held = seat_side[..., None] == np.arange(sides)
    side_score = (scores[..., None] * held).sum(1) / held.sum(1)
    side_score = side_score.reshape(-1, turns, sides)
    own = side_score[:, np.arange(sides), np.arange(sides)]
    rival = (side_score.sum(1) - own) / (turns - 1)
    mine = seat_side == (np.arange(len(scores)) % turns)[:, None]
    by_role = {}
    for index, role in enumerate(spec.roles):
        seats = mine & (episodes.roles == index)
        games = seats.any(1)
        by_role[role.name] = Rate.of((scores * seats).sum(1)[games] / seats.sum(1)[games])
    return MatchResult(
        total=Rate.of(0.5 + (own - rival).mean(1) / 2),
        sides={name: Rate.of(own[:, index]) for index, name in enumerate(spec.sides)},
        roles=by_role,
        games=len(scores),
        truncated=float(np.mean(~episodes.finished)),
        play=_play(arena, episodes, mine, turns),
    )


def _play(arena: Arena, episodes: Episodes, mine: np.ndarray, turns: int) -> dict[str, Rate]:
    """What the seats in `mine` bool[E, N] did, where they had the chance on at least two deals of `turns` games."""
    rates = {}
    for name, (hits, chances) in measured(arena, episodes).items():
        by_deal = [(counts * mine).reshape(-1, turns * mine.shape[1]).sum(axis=1) for counts in (hits, chances)]
        if (by_deal[1] > 0).sum() > 1:
            rates[name] = Rate.of_ratio(*by_deal)
    return rates


def measured(arena: Arena, episodes: Episodes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hits and chances float32[E, N] of each of the game's measures; no episode counts that was cut off."""
    found = measures(arena.table.spec, episodes.roles, episodes.event_rows, episodes.event_count)
    counts = episodes.finished[:, None]
    return {name: (of.hits * counts, of.chances * counts) for name, of in found.items()}
