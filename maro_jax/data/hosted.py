"""Games led by the host, kept as episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.schema import Header
from maro_jax.data.writer import EpisodeWriter, locked
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.table import Table


class HostedRecorder:
    """Appends games to a dataset once they are over; several processes may append to one.

    Attributes:
      folder: of the dataset.
    """

    folder: Path

    def __init__(self, root: str | Path, table: Table, *, capacity: int, model: str, source: str):
        """Makes sure that the dataset can be appended to, before anybody has played.

        Args:
          root: folder of datasets.
          table: the game laid out for the tokenizer that makes the ids.
          capacity: stream tokens of a seat.
          model: whose tokenizer that is.
          source: the command that leads the games.

        Raises:
          ConfigError: the folder holds a dataset of something else, or a damaged one.
        """
        self._root, self._spec, self._encoder = root, table.spec, Encoder(table)
        self._header = Header.of(table, capacity=capacity, model=model, source=source)
        with locked(root, self._spec.name):
            self.folder = self._open().folder

    def keep(self, episodes: Episodes, plan: RolloutPlan, origin: Origin) -> int:
        """Writes games as a shard of the split `hosted`, numbered on from those it holds, and returns how many.

        Left out are games that are not over, and those in which somebody else moved for the holder of a seat, as
        scripted players do where a model behind an API gives no reply: such a seat's outcome is not its holder's.

        Args:
          episodes: E games on the host.
          plan: as they were asked for, on the host.
          origin: where they come from.
        """
        over = np.flatnonzero(episodes.terminated | episodes.truncated | episodes.overflowed)
        with locked(self._root, self._spec.name):
            writer = self._open()  # anew: other games may have been kept meanwhile
            first = sum(shard.episodes for shard in writer.shards)
            kept = filter(_by_holders_alone, self._encoder.examples(episodes, plan, origin, over))
            return writer.append("hosted", ({**game, "episode": number} for number, game in enumerate(kept, first)))

    def _open(self) -> EpisodeWriter:
        """The dataset as it is now; within `locked`, since it removes what is not listed."""
        return EpisodeWriter(self._root, self._spec, self._header)


def _by_holders_alone(game: Mapping[str, Any]) -> bool:
    """Whether each decision of a record is of who held its seat."""
    made = game["behaviours"]
    return bool(np.array_equal(game["seats"]["holder"][made["seat"]], made["holder"]))
