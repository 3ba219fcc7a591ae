"""Forks of an iteration's behaviours, played on the device and read off on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maro_jax.credit.decomposition import Forked
from maro_jax.league.arena import Arena, Tally
from maro_jax.run.config import round_up
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.forks import ARMS, Forks, branches, differences, had_choice


class Forking:
    """Tries other replies for some behaviours of a game, in a compiled rollout of its own."""

    def __init__(self, arena: Arena, behaviours: int, pairs: int):
        """Prepares the rollout; it is compiled at its first use.

        Args:
          arena: where the episodes are played.
          behaviours: F, forked in an iteration.
          pairs: m, other replies tried of each.
        """
        self.behaviours, self.pairs = behaviours, pairs
        size = round_up(behaviours * pairs * ARMS, arena.mesh.size)
        self.arena = arena.with_lanes(min(arena.lanes, size), episodes=size)

    def play(
        self,
        params: Sequence[Any],
        plan: RolloutPlan,
        purpose: int,
        episodes: Episodes,
        candidates: np.ndarray,
        generator: np.random.Generator,
        iteration: int,
        tally: Tally,
    ) -> Forked:
        """Forks behaviours drawn from the candidates and compares how their branches end.

        Args:
          params: parameter sets, as they played the episodes.
          plan: what these were played by.
          purpose: of their randomness.
          episodes: on the host.
          candidates: bool[E, B], behaviours that may be learnt from; of those without a choice there is nothing to try.
          generator: draws the behaviours.
          iteration: number of the iteration; its branches have keys of their own.
          tally: counts what it costs.
        """
        seat = np.asarray(episodes.behaviours.seat)
        forks = Forks.draw(generator, candidates & had_choice(episodes), self.behaviours)
        found, known = np.zeros(seat.shape, np.float32), np.zeros(seat.shape, bool)
        if len(forks.episode):
            where = forks.episode, forks.decision
            first = iteration * self.behaviours * self.pairs
            taken_up = branches(plan, episodes, forks, self.pairs, first)
            played = self.arena.play(params, taken_up, purpose, tally=tally)
            found[where], known[where] = differences(played, seat[where], self.pairs)
        return Forked(found, known, np.float32(forks.share))


def fork_metrics(forked: Forked) -> dict[str, float]:
    """What to log of a game's forks: how many told something, q, and the root mean square of U."""
    known = np.asarray(forked.differences)[np.asarray(forked.known)]
    spread = float(np.sqrt(np.square(known).mean())) if len(known) else float("nan")
    return {"forked_behaviours": float(len(known)), "fork_probability": float(forked.share), "fork_difference": spread}


def fork_costs(forks: Tally, games: Tally) -> dict[str, float]:
    """What forks cost beside the games they were made in: tokens generated, their share of all, and seconds."""
    share = forks.sampled / max(forks.sampled + games.sampled, 1.0)
    return {"forked_tokens": forks.sampled, "forked_share": share, "fork_seconds": forks.seconds}
