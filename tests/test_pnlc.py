"""Runs as players of whom a critic learns, and as embedders."""

import jax
import numpy as np
import pytest

from maro_jax.data.check import check_dataset
from maro_jax.data.reader import EpisodeSource, find_dataset
from maro_jax.pnlc.__main__ import main_cli
from maro_jax.pnlc.embedders import embedder_of
from maro_jax.policy.trained import UNTRAINED, open_trained
from tests.entry_points import ITERATIONS, checkpoint

pytestmark = pytest.mark.usefixtures("kept_programs")


def test_a_run_is_opened_with_its_newest_weights(finished_run):
    trained, stored = open_trained(str(finished_run.folder)), checkpoint(finished_run.folder, ITERATIONS)
    assert (trained.iterations, trained.model) == (ITERATIONS, "tiny")
    leaves = jax.tree_util.tree_leaves_with_path(trained.params)
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        np.testing.assert_array_equal(leaf, stored[f"learner.params.{name}"])
    assert len(leaves) == sum(name.startswith("learner.params") for name in stored)
    fresh = open_trained("tiny")
    assert fresh.iterations == UNTRAINED and jax.tree.structure(fresh.params) == jax.tree.structure(trained.params)


def test_games_of_a_run_are_collected_with_what_it_thought(finished_run, tmp_path):
    """On either side by turns; the ids are replayed by the rules, and the run is an embedder too."""
    run, out = str(finished_run.folder), tmp_path / "data"
    arguments = ["--game=kuhn-v0:thought_tokens=3", "--opponent=random", "--episodes=12", "--lanes=4"]
    with pytest.raises(SystemExit) as stop:
        main_cli(["collect", f"--player={run}", *arguments, f"--out={out}"])
    assert stop.value.code == 0
    [checked] = check_dataset(find_dataset(out), "")
    assert (checked.split, checked.episodes) == ("collected", 12)
    records = list(EpisodeSource(out))
    for number, record in enumerate(records):
        own = record.seats[number % 2]
        assert (own.holder, own.player, own.weights) == ("learner", run, ITERATIONS)
        other = record.seats[1 - number % 2]
        assert (other.holder, other.weights) == ("random", -1)
    made = [made for record in records for made in record.decisions if made.holder == "learner"]
    assert {made.holder for record in records for made in record.decisions} == {"learner", "random"}
    assert any(made.thought for made in made) and all(made.log_prob < 0 for made in made if len(made.legal) > 1)
    embedder = embedder_of(f"policy:{run}@1")
    assert embedder.name.partition("#")[2] != embedder_of("policy:tiny@1").name.partition("#")[2]
    assert np.isfinite(embedder.embed([made[0].thought, "You are a wolf"])).all()
