"""Games on disk to be cloned in the warm start, in place of scripted ones."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from maro_jax.data.reader import EpisodeSource
from maro_jax.data.record import to_episodes
from maro_jax.league.arena import Tally
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import HOLDERS, Episodes
from maro_jax.selfplay.table import Table

MOST_TRIED = 256  # games that are looked into at the beginning


class ClonedGames:
    """The episodes of some datasets, over and over, each time in another order."""

    def __init__(self, folders: Sequence[str], holders: Sequence[str], table: Table, capacity: int, seed: int):
        """Opens the datasets.

        Args:
          folders: each a dataset, or a folder that holds one only.
          holders: whose behaviours are cloned, of `HOLDERS`.
          table: the game laid out for the policy.
          capacity: most stream tokens of a seat.
          seed: of the orders.

        Raises:
          ConfigError: a dataset cannot be read, is of another game or tokenizer, or has nothing to clone in its first
            games.
        """
        self._sources = [EpisodeSource(folder) for folder in folders]
        for folder, source in zip(folders, self._sources, strict=True):
            _check(folder, source, table)
        self._table, self._capacity, self._seed = table, capacity, seed
        self._holders = np.array([HOLDERS.index(holder) for holder in holders])
        self._first = np.cumsum([0, *(len(source) for source in self._sources)])
        tried = min(len(self), MOST_TRIED)
        if not self.episodes(0, tried, Tally())[1].any():
            raise ConfigError(
                f"--warm_start_data: in {tried} games there is no behaviour of {' or '.join(holders)}, or a stream of "
                f"each was full or is longer than {capacity} tokens; choose other --warm_start_holders, for example all"
            )

    def __len__(self) -> int:
        return int(self._first[-1])

    def episodes(self, first: int, count: int, tally: Tally) -> tuple[Episodes, np.ndarray]:
        """Some episodes, and which of their behaviours are to be cloned.

        Args:
          first: number of the first; numbers beyond the last begin anew, in another order.
          count: E.
          tally: counts the games and the time that reading takes.

        Returns:
          Episodes on the host, and bool[E, B]. Nothing is cloned of games in which a stream was full or is too long.
        """
        clock = time.perf_counter()
        turn, place = np.divmod(first + np.arange(count), len(self))
        order = {each: np.random.default_rng((self._seed, each)).permutation(len(self)) for each in np.unique(turn)}
        numbers = np.array([order[each][index] for each, index in zip(turn, place, strict=True)])
        source = np.searchsorted(self._first, numbers, side="right") - 1
        records = [
            self._sources[which][int(number - self._first[which])]
            for which, number in zip(source.tolist(), numbers, strict=True)
        ]
        episodes = to_episodes(records, self._table.spec)
        made = episodes.behaviours
        fits = ~episodes.overflowed & (episodes.lengths.max(axis=1) <= self._capacity)
        wanted = (made.seat >= 0) & np.isin(made.holder, self._holders) & fits[:, None]
        tally.games += count
        tally.seconds += time.perf_counter() - clock
        return episodes, wanted


def _check(folder: str, source: EpisodeSource, table: Table) -> None:
    header, spec = source.manifest.header, table.spec
    if header.game != spec.name or header.parameters != dict(spec.parameters):
        told = ",".join(f"{key}={value}" for key, value in header.parameters.items())
        raise ConfigError(
            f"--warm_start_data={folder} holds games of {header.game}:{told}, which differ from those of this run; set "
            "--games to the same game and parameters"
        )
    if header.tokenizer != table.tokenizer.digest():
        raise ConfigError(
            f"--warm_start_data={folder} has token ids of {header.model}, and this run's model has another tokenizer; "
            "record the games again with this model"
        )
