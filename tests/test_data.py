"""The episodes that a run keeps: those it played, checked as a person would."""

import jax
import numpy as np
import pytest

from maro_jax.data.__main__ import main_cli
from maro_jax.data.reader import EpisodeSource
from maro_jax.data.record import to_episodes
from maro_jax.run.config import make_config
from maro_jax.run.fields import ConfigError
from tests.data.material import assert_same
from tests.entry_points import ITERATIONS, SMALL

KEPT = SMALL["record_episodes"]


def test_a_run_keeps_the_first_episodes_of_each_iteration_as_they_were_played(finished_run):
    sources = {split: EpisodeSource(finished_run.folder, split) for split in ("warm_start", "self_play")}
    assert [len(source) for source in sources.values()] == [2 * KEPT, 2 * KEPT]
    iterations = set()
    for (table, episodes, _, _, iteration, _), _ in finished_run.recorded:
        split = "warm_start" if iteration <= 2 else "self_play"
        records = [record for record in sources[split] if record.fields["iteration"] == iteration]
        first = jax.tree.map(lambda leaf: np.asarray(leaf)[:KEPT], episodes)
        assert_same(to_episodes(records, table.spec), first)
        for record in records:
            weights = {seat.holder: seat.weights for seat in record.seats}
            trained = {"learner": iteration - 1, "opponent": 2, "heuristic": -1, "random": -1}
            assert weights == {holder: trained[holder] for holder in weights}
        iterations.add(iteration)
    assert iterations == set(range(1, ITERATIONS + 1))


def test_the_episodes_of_a_run_pass_the_check(finished_run, capsys):
    with pytest.raises(SystemExit) as stop:
        main_cli(["check", str(finished_run.folder)])
    printed = capsys.readouterr().out
    assert stop.value.code == 0 and printed.splitlines()[-1] == "all is as it was written"
    assert [line.split()[1:4] for line in printed.splitlines()[2:4]] == [
        ["warm_start", "2", str(2 * KEPT)], ["self_play", "2", str(2 * KEPT)]
    ]  # fmt: skip


def test_more_episodes_than_an_iteration_plays_cannot_be_kept():
    with pytest.raises(ConfigError, match="--record_episodes=513 exceeds --episodes=512, which an iteration plays"):
        make_config(overrides={"record_episodes": 513})
