"""Everybody against everybody: the matrix of win rates, and one rating a player that explains it best."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from maro_jax.league.arena import Arena
from maro_jax.league.match import NORMAL_95, MatchResult, Rate, play_match

ELO = 400 / np.log(10)  # points of a logit
LARGEST_STEP = 2.0  # of Newton's method, in logits


@dataclasses.dataclass(frozen=True)
class Standings:
    """What a round robin has shown.

    Attributes:
      names: of the players.
      matches: of each pair (i, j), i < j, scored for i.
      ratings: of each player in Elo points; their mean is 0.
      side_ratings: the same of each player on each side, their mean 0 on every side; empty for fewer than three players
        or in games of other than two sides.
    """

    names: tuple[str, ...]
    matches: Mapping[tuple[int, int], MatchResult]
    ratings: tuple[Rate, ...]
    side_ratings: Mapping[str, tuple[Rate, ...]]

    @staticmethod
    def of(names: Sequence[str], matches: Mapping[tuple[int, int], MatchResult]) -> Standings:
        """Rates players by their matches."""
        rates = {pair: result.total for pair, result in matches.items()}
        return Standings(tuple(names), matches, tuple(elo_ratings(len(names), rates)), _rate_sides(len(names), matches))

    def win_rate(self, player: int, other: int) -> Rate:
        """The win rate of one player against another."""
        if player < other:
            return self.matches[player, other].total
        rate = self.matches[other, player].total
        return Rate(1 - rate.mean, 1 - rate.high, 1 - rate.low, rate.count)

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Headers and rows of a table, the best player first; a row's win rates are those of its player."""
        order = sorted(range(len(self.names)), key=lambda player: -self.ratings[player].mean)
        lines = []
        for player in order:
            rating = self.ratings[player]
            rates = ["" if other == player else f"{self.win_rate(player, other).mean:.3f}" for other in order]
            cells = [f"{rating.mean:+.0f}", f"{rating.low:+.0f} to {rating.high:+.0f}"]
            cells += [_with_half_width(of_side[player]) for of_side in self.side_ratings.values()]
            lines.append([self.names[player], *cells, *rates])
        sides = [f"as {side}" for side in self.side_ratings]
        return ["", "Elo", "95 % interval", *sides, *(f"vs {self.names[player]}" for player in order)], lines


def round_robin(
    arena: Arena,
    players: Mapping[str, Any],
    games: int,
    *,
    purpose: int,
    temperatures: Sequence[float],
    finished: Callable[[int], None],
) -> Standings:
    """Plays a match of every pair, each with deals of its own.

    Args:
      arena: where to play.
      players: by name, parameters or `heuristic` or `random`; at least two.
      games: of each match.
      purpose: keeps the randomness apart from that of other matches; as many from here on are used as there are pairs.
      temperatures: of each player's sampling.
      finished: called with the number of matches played after each.
    """
    names, matches = tuple(players), {}
    for number, (one, other) in enumerate(itertools.combinations(range(len(names)), 2)):
        matches[one, other] = play_match(
            arena, players[names[one]], players[names[other]], games, purpose=purpose + number,
            temperature=temperatures[one], opponent_temperature=temperatures[other],
        )  # fmt: skip
        finished(number + 1)
    return Standings.of(names, matches)


def _rate_sides(players: int, matches: Mapping[tuple[int, int], MatchResult]) -> dict[str, tuple[Rate, ...]]:
    """Every player on either side as a player of its own: it has met all the others on the other side."""
    sides = list(next(iter(matches.values())).sides) if matches else []
    if len(sides) != 2 or players < 3:  # two players on two sides are two pairs that never met
        return {}
    rates = {}
    for (one, other), result in matches.items():
        for index, side in enumerate(sides):
            rates[index * players + one, (1 - index) * players + other] = result.sides[side]
    ratings = elo_ratings(2 * players, rates, groups=np.repeat([0, 1], players))
    return {side: tuple(ratings[index * players :][:players]) for index, side in enumerate(sides)}


def _with_half_width(rating: Rate) -> str:
    return f"{rating.mean:+.0f} ± {(rating.high - rating.low) / 2:.0f}"


def elo_ratings(players: int, rates: Mapping[tuple[int, int], Rate], groups: np.ndarray | None = None) -> list[Rate]:
    """Ratings by which player i beats player j with chance 1 / (1 + 10^((r_j - r_i) / 400)).

    The maximum of the Bradley-Terry likelihood (Bradley and Terry 1952). The interval is that of a sandwich estimate
    from the intervals of the win rates, so that it respects deals that games share; it does not cover that one number
    a player may not explain who beats whom. A draw is added to each match: who always wins has a finite rating.

    Args:
      players: P.
      rates: of pairs (i, j), scored for i; they must connect all players.
      groups: int[P], players who are told apart by how far they lie from their group's mean; default: one group.

    Returns:
      A rating for each player; `count` is that of the scores it rests on.
    """
    pairs = list(rates)
    difference = np.zeros((len(pairs), players))
    for row, (one, other) in enumerate(pairs):
        difference[row, one], difference[row, other] = 1, -1
    counts = np.array([rates[pair].count for pair in pairs], float)
    observed = (np.array([rates[pair].mean for pair in pairs]) * counts + 0.5) / (counts + 1)
    errors = np.array([(rates[pair].high - rates[pair].low) / (2 * NORMAL_95) for pair in pairs])
    logits = np.zeros(players)
    for _ in range(100):
        expected = 1 / (1 + np.exp(-difference @ logits))
        slope = (difference * (counts * expected * (1 - expected))[:, None]).T @ difference
        inverse = np.linalg.pinv(slope)  # its null space are ratings all raised alike
        step = inverse @ (difference.T @ (counts * (observed - expected)))
        logits += np.clip(step, -LARGEST_STEP, LARGEST_STEP)
        if np.abs(step).max() < 1e-10:
            break
    spread = inverse @ ((difference * ((counts * errors) ** 2)[:, None]).T @ difference) @ inverse
    groups = np.zeros(players, int) if groups is None else groups
    same = groups[:, None] == groups
    centred = np.eye(players) - same / same.sum(axis=1, keepdims=True)
    half = NORMAL_95 * ELO * np.sqrt(np.maximum(np.diag(centred @ spread @ centred.T), 0))
    ratings = ELO * centred @ logits
    played = [int(sum(counts[row] for row, pair in enumerate(pairs) if player in pair)) for player in range(players)]
    return [
        Rate(float(rating), float(rating - width), float(rating + width), count)
        for rating, width, count in zip(ratings, half, played, strict=True)
    ]
