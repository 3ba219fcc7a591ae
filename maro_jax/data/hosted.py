"""A game led by the host, kept as an episode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.schema import Header
from maro_jax.data.writer import EpisodeWriter, locked
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.hosted import HostedGames


class HostedRecorder:
    """Appends a game to a dataset once it is over; several processes may append to one."""

    def __init__(self, root: str | Path, game: HostedGames, *, model: str, source: str):
        """Makes sure that the dataset can be appended to, before anybody has played.

        Args:
          root: folder of datasets.
          game: that is to be played, the only one.
          model: whose tokenizer makes the ids.
          source: the command that leads the game.

        Raises:
          ConfigError: the folder holds a dataset of something else, or a damaged one.
        """
        self._game, capacity = game, game.records.tokens.shape[2]
        self._root, self._header = root, Header.of(game.table, capacity=capacity, model=model, source=source)
        with locked(root, game.table.spec.name):
            self._open()

    def keep(self, episodes: Episodes, seed: int, players: Mapping[int, str], weights: Mapping[int, int]) -> Path:
        """Writes the game as a shard of the split `hosted` and returns the dataset's folder.

        Args:
          episodes: the game's records on the host.
          seed: of the game.
          players, weights: of each kind of holder, see `Origin`.
        """
        table = self._game.table
        origin = Origin(seed, players=players, weights=weights, seats=np.asarray(self._game.lanes.holder[0]))
        with locked(self._root, table.spec.name):
            writer = self._open()  # anew: other games may have been kept meanwhile
            number = sum(shard.episodes for shard in writer.shards)
            plan = RolloutPlan(np.array([number], np.int32), np.zeros(1, np.int32), np.zeros((1, 0), np.int8))
            writer.append("hosted", Encoder(table).examples(episodes, plan, origin))
        return writer.folder

    def _open(self) -> EpisodeWriter:
        """The dataset as it is now; within `locked`, since it removes what is not listed."""
        return EpisodeWriter(self._root, self._game.table.spec, self._header)
