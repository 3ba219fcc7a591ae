"""Keeps episodes of a training run: shards are written in a thread beside the next iteration."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.schema import Header
from maro_jax.data.writer import EpisodeWriter
from maro_jax.selfplay.episodes import Episodes, RolloutPlan
from maro_jax.selfplay.table import Table


class Recorder:
    """Appends the first episodes of every iteration to a dataset for each game.

    A shard never holds episodes of two iterations. So the datasets are a function of the iterations done, which is all
    that a checkpoint has to know of them: a resumed run drops what lies beyond and writes it again.
    """

    def __init__(self, root: Path, games: Sequence[tuple[str, Table, int]], *, model: str, episodes: int, done: int):
        """Opens the datasets.

        Args:
          root: folder of datasets.
          games: label, table and stream capacity of each game.
          model: whose tokenizer made the ids.
          episodes: how many of an iteration are kept, of each game.
          done: iterations that the run has done; what was recorded of later ones is dropped.

        Raises:
          ConfigError: a folder holds a dataset of something else, or a damaged one.
        """
        self._episodes, self._thread = episodes, ThreadPoolExecutor(1, "recorder")
        self._writing: list[Future[None]] = []
        self._games = []
        for label, table, capacity in games:
            header = Header.of(table, capacity=capacity, model=model, source="train")
            writer = EpisodeWriter(root, table.spec, header, label=label)
            writer.rewind(done)
            self._games.append((writer, Encoder(table)))

    def add(self, split: str, played: Sequence[tuple[Episodes, RolloutPlan]], origin: Origin) -> None:
        """Begins to write an iteration, once the one before it is written.

        Args:
          split: warm_start or self_play.
          played: of each game, in the order they were given in: the episodes, on the host, and their plan.
          origin: where they come from.
        """
        self.flush()
        for (writer, encoder), (episodes, plan) in zip(self._games, played, strict=True):
            kept, asked = jax.tree.map(lambda leaf: np.array(leaf[: self._episodes]), (episodes, plan))
            self._writing.append(self._thread.submit(_write, writer, encoder, split, kept, asked, origin))

    def flush(self) -> None:
        """Waits until all is written; raises what went wrong."""
        writing, self._writing = self._writing, []
        for each in writing:
            each.result()


def _write(
    writer: EpisodeWriter, encoder: Encoder, split: str, episodes: Episodes, plan: RolloutPlan, origin: Origin
) -> None:
    writer.append(split, encoder.examples(episodes, plan, origin), origin.iteration)
