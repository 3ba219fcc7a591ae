"""What outcome a critic lets expect before a behaviour: `--decompose=pnlc`.

Φ(x) = w · f(x), where f holds 2 V(s, g) − 1 for each goal g of the critic, V its mean chance before a thought
(`Critic.before_thought`), s the text of all that the seat had seen, and an indicator of the phase. The critic stays as
it is: it knows the games that it was trained on, often a weaker player's. w makes an expectation of the outcome of its
chances, and follows the policy: ridge over past iterations, as for the value function that reads the policy's hidden
states (`maro_jax.learner.value`), lagged like that.

That a value of PNLC (arXiv:2505.18098) serves as MARO's decomposition (arXiv:2601.12323) so is ours.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from maro_jax.learner.value import FadingRidge, Judged, ValueStatistics, variance_explained
from maro_jax.pnlc.embedders import embedder_for
from maro_jax.pnlc.networks import Critic
from maro_jax.pnlc.states import states_of_episode
from maro_jax.pnlc.storage import load
from maro_jax.run.distributed import put
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import Episodes
from maro_jax.selfplay.forks import had_choice
from maro_jax.selfplay.table import Table

STATES_AT_A_TIME = 1024  # one program serves all


class CriticExpectation(FadingRidge):
    """Judges behaviours by what a critic makes of the states before them."""

    def __init__(
        self, folder: str, embedder: str, tables: tuple[Table, ...], replicated: NamedSharding, api_base: str = ""
    ):
        """Opens the critic and its embedder.

        Args:
          folder: of the critic.
          embedder: the one that it was trained with, if that is elsewhere now; empty: where it was then.
          tables: the run's game, laid out for the policy; one only.
          replicated: how the statistics lie on the devices.
          api_base: address of the server of an `api` embedder; empty: where it was then.

        Raises:
          ConfigError: critic or embedder cannot be read, or the critic is of another game.
        """
        saved = load(folder)
        names = [table.spec.name for table in tables]
        if names != [saved.game]:
            raise ConfigError(
                f"--critic={folder} was trained on {saved.game}, and this run plays {' and '.join(names)}; name a "
                "critic of that game, and play it alone"
            )
        [self._table] = tables
        self._critic, self._embedder = saved.critic, embedder_for(saved, embedder, base_url=api_base)
        super().__init__(len(saved.goals) + len(self._table.spec.phases), replicated)

    def judge(
        self,
        params: Any,
        statistics: ValueStatistics | None,
        game: int,
        episodes: Episodes,
        outcome: np.ndarray,
        eligible: np.ndarray,
    ) -> Judged:
        """Judges the behaviours of an iteration; see `maro_jax.learner.value.ValueFunction.judge`."""
        del params, game
        made, judged = episodes.behaviours, eligible & had_choice(episodes)
        chances = self._chances(self._texts(episodes, judged)).astype(np.float64)
        phases = np.eye(len(self._table.spec.phases))[made.phase[judged]]
        features = np.concatenate([2 * chances - 1, phases], axis=1)
        seat = np.maximum(made.seat, 0).astype(np.int64)
        target = np.take_along_axis(outcome, seat, axis=1)[judged].astype(np.float64)
        moments = [(features.T @ of).astype(np.float32) for of in (features, target)]
        sums = put(ValueStatistics(*map(jnp.asarray, moments)), self._replicated)
        weights = np.asarray(self.weights(sums if statistics is None else statistics), np.float64)
        values = np.zeros(judged.shape, np.float32)
        values[judged] = features @ weights
        return Judged(values, judged, variance_explained(target, values[judged]), sums)

    def _texts(self, episodes: Episodes, wanted: np.ndarray) -> list[str]:
        """The states before the wanted behaviours, in order."""
        return [
            text
            for index in np.flatnonzero(wanted.any(axis=1)).tolist()
            for text in states_of_episode(self._table, episodes, index, np.flatnonzero(wanted[index]).tolist())
        ]

    def _chances(self, texts: list[str]) -> np.ndarray:
        """float32[T, G], the chance of each goal in each state, before a thought."""
        parts = []
        for first in range(0, len(texts), STATES_AT_A_TIME):
            part = np.asarray(self._embedder.embed(texts[first : first + STATES_AT_A_TIME]), np.float32)
            padded = np.zeros((STATES_AT_A_TIME, part.shape[1]), np.float32)
            padded[: len(part)] = part
            parts.append(np.asarray(_before_thought(self._critic, padded))[: len(part)])
        return np.concatenate(parts) if parts else np.zeros((0, len(self._critic.goal)), np.float32)


@jax.jit
def _before_thought(critic: Critic, state: jax.Array) -> jax.Array:
    """See `Critic.before_thought`; in one dispatch."""
    return critic.before_thought(state)
