"""Datasets in the warm start: every game once before any comes again, and of each the behaviours asked for."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from maro_jax.data.encode import Encoder, Origin
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.record import to_episodes
from maro_jax.data.retell import text_table
from maro_jax.data.schema import Header
from maro_jax.data.scripted import scripted_examples
from maro_jax.data.writer import write_dataset
from maro_jax.league.arena import Tally
from maro_jax.league.cloned import ClonedGames
from maro_jax.run.fields import ConfigError
from maro_jax.selfplay.episodes import HEURISTIC, HOLDERS, RANDOM
from tests.data import material

pytestmark = pytest.mark.usefixtures("kept_programs")
CAPACITY = material.capacity()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Games between persons, and games of scripted players."""
    root, table = tmp_path_factory.mktemp("datasets"), material.table()
    told = Encoder(table).examples(material.told(), material.plan_of(), Origin(material.SEED), range(5))
    for name, examples in (("told", told), ("played", scripted_examples(table, CAPACITY, "either", 3, 1))):
        header = Header.of(table, capacity=CAPACITY, model="tiny", source="test")
        write_dataset(root / name, table.spec, header, "test", examples)
    return [str(root / name) for name in ("told", "played")]


def cloned(folders, holders=HOLDERS, capacity=CAPACITY, seed=0):
    return ClonedGames(folders, holders, material.table(), capacity, seed)


def as_known(episodes):
    return [row.tobytes() for row in episodes.tokens]


def test_every_game_comes_once_before_any_comes_again_each_time_in_another_order(folders):
    records = [record for folder in folders for record in EpisodeSource(folder)]
    whole = as_known(to_episodes(records, material.table().spec))
    games, tally = cloned(folders), Tally()
    assert len(games) == len(whole) == len(set(whole)) == 8
    seen = as_known(games.episodes(0, 5, tally)[0]) + as_known(games.episodes(5, 11, tally)[0])
    assert sorted(seen[:8]) == sorted(seen[8:]) == sorted(whole) and seen[:8] != seen[8:]
    assert tally.games == 16 and tally.seconds > 0
    assert as_known(cloned(folders).episodes(6, 4, tally)[0]) == seen[6:10]  # wherever a run goes on
    assert as_known(cloned(folders, seed=1).episodes(0, 8, tally)[0]) != seen[:8]


def test_behaviours_are_those_of_the_holders_in_games_that_fit(folders):
    everything, wanted = cloned(folders).episodes(0, 8, Tally())
    made = everything.behaviours
    np.testing.assert_array_equal(wanted, made.seat >= 0)
    for names in (["heuristic"], ["random", "person"]):
        chosen = cloned(folders, names).episodes(0, 8, Tally())[1]
        np.testing.assert_array_equal(chosen, wanted & np.isin(made.holder, [HOLDERS.index(name) for name in names]))
    assert {HEURISTIC, RANDOM} <= set(made.holder[wanted].tolist())
    longest = everything.lengths.max(axis=1)
    room = int(np.median(longest))
    fitting = cloned(folders, capacity=room).episodes(0, 8, Tally())[1]
    np.testing.assert_array_equal(fitting.any(axis=1), longest <= room)
    assert not fitting.any(axis=1).all()


def test_what_cannot_be_cloned_is_refused(folders, tmp_path):
    with pytest.raises(ConfigError, match="in 8 games there is no behaviour of learner or api, or a stream of each"):
        cloned(folders, ["learner", "api"])
    with pytest.raises(ConfigError, match="or is longer than 2 tokens"):
        cloned(folders, capacity=2)
    with pytest.raises(ConfigError, match="holds no dataset"):
        cloned([str(tmp_path)])
    other = text_table("kuhn-v0", {}, "tiny")
    with pytest.raises(ConfigError, match="holds games of kuhn-v0:.*set --games to the same"):
        ClonedGames(folders, HOLDERS, other, CAPACITY, 0)
    words = SimpleNamespace(digest=lambda: "another")
    with pytest.raises(ConfigError, match="token ids of tiny, and this run's model has another tokenizer"):
        ClonedGames(folders, HOLDERS, SimpleNamespace(spec=material.table().spec, tokenizer=words), CAPACITY, 0)


def test_nothing_is_cloned_of_games_in_which_a_stream_was_full(folders, monkeypatch):
    def cut(records, spec):
        whole = to_episodes(records, spec)
        return dataclasses.replace(whole, overflowed=np.arange(len(records)) % 2 == 0)

    games = cloned(folders)
    monkeypatch.setattr("maro_jax.league.cloned.to_episodes", cut)
    np.testing.assert_array_equal(games.episodes(0, 8, Tally())[1].any(axis=1), np.arange(8) % 2 == 1)
