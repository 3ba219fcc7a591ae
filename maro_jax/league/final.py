"""What a run is judged by: its policy against the warm start it began with, both against scripted players."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from maro_jax.league import match
from maro_jax.league.arena import Arena
from maro_jax.league.match import MatchResult
from maro_jax.run.matches import FINAL_MATCHES

JUDGED_BY = "win_rate"
# One purpose an opponent, so that the matches before and after training share deals and what scripted players draw.
# Those of the matches between iterations lie below.
FINAL_PURPOSES = {"warm start": 1_000_000, "heuristic": 1_000_001, "random": 1_000_002}

Results = dict[str, dict[str, Any]]  # by game: the entries of its matches


def final_matches(
    arenas: Sequence[Arena],
    trained: Any,
    warm_start: Any,
    games: int,
    temperature: float,
    results: Results,
    finished: Callable[[Results], None],
) -> Results:
    """Plays the matches that are missing.

    Args:
      arenas: the run's games.
      trained: parameters at the end.
      warm_start: parameters at the beginning of self-play.
      games: of the match that the run is judged by; see `match_games`.
      temperature: of both policies.
      results: of matches played before an interruption.
      finished: called with the results before each match, and at the end.
    """
    players = {"trained": trained, "warm start": warm_start, "heuristic": "heuristic", "random": "random"}
    for arena in arenas:
        for name, (_, player, against) in FINAL_MATCHES.items():
            finished(results)
            known = results.get(arena.name, {})
            if name not in known:
                result = match.play_match(
                    arena, players[player], players[against], match_games(name, games), purpose=FINAL_PURPOSES[against],
                    temperature=temperature, opponent_temperature=temperature,
                )  # fmt: skip
                results = results | {arena.name: known | _entries(name, result)}
    finished(results)
    return results


def match_games(name: str, games: int) -> int:
    """Games of a final match: all in the one that the run is judged by, half in those that place it."""
    return games if name == JUDGED_BY else games // 2


def _entries(name: str, result: MatchResult) -> dict[str, Any]:
    return {
        name: result.total.mean,
        f"{name}_low": result.total.low,
        f"{name}_high": result.total.high,
        f"{name}_games": result.games,
        f"{name}_sides": {side: dataclasses.asdict(rate) for side, rate in result.sides.items()},
        f"{name}_roles": {role: dataclasses.asdict(rate) for role, rate in result.roles.items()},
    }


def summarise(results: Results) -> dict[str, Any]:
    """The entries of the only game, or means over the games with all of theirs under `games`."""
    if len(results) == 1:
        return dict(*results.values())
    means = {key: value for name in FINAL_MATCHES for key, value in mean_rate(name, list(results.values())).items()}
    return means | {"games": results}


def mean_rate(name: str, games: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of a rate over games, which are independent of each other, with its interval."""
    mean = float(np.mean([game[name] for game in games]))
    halves = [game[f"{name}_high"] - game[name] for game in games]
    half = float(np.sqrt(np.sum(np.square(halves)))) / len(games)
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def rows(summary: dict[str, Any]) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """Headers and rows of a table for each game (under "" if there is but one)."""
    tables = {}
    for game, entries in summary.get("games", {"": summary}).items():
        lines, sides = [], entries["win_rate_sides"]
        for name, (title, _, _) in FINAL_MATCHES.items():
            interval = f"{entries[f'{name}_low']:.3f} to {entries[f'{name}_high']:.3f}"
            scores = [f"{entries[f'{name}_sides'][side]['mean']:.3f}" for side in sides]
            lines.append([title, f"{entries[name]:.3f}", interval, *scores, entries[f"{name}_games"]])
        tables[game] = ["match", "win rate", "95 % interval", *(f"as {side}" for side in sides), "games"], lines
    return tables
