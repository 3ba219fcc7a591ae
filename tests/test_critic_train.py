"""Runs that learn from games on disk and are credited by a critic, as the commands train them."""

from pathlib import Path

import pytest

from maro_jax.data.reader import EpisodeSource, splits
from maro_jax.pnlc.__main__ import main_cli
from tests.entry_points import ITERATIONS, assert_equal, checkpoint, metrics, small_config, train_quietly, train_until

pytestmark = pytest.mark.usefixtures("kept_programs")
GAME = "kuhn-v0:thought_tokens=4"


@pytest.fixture(scope="module")
def config(tmp_path_factory, program_folder):
    """Configurations by name; runs of one folder share datasets and critic."""
    folder = tmp_path_factory.mktemp("critic")
    for arguments in (
        ["collect", f"--game={GAME}", "--player=random", "--episodes=24", "--lanes=8", f"--out={folder / 'data'}"],
        ["train", folder / "data", "--steps=30", "--batch_size=32", f"--out={folder / 'critic'}"],
    ):
        with pytest.raises(SystemExit) as stop:
            main_cli(list(map(str, arguments)))
        assert stop.value.code == 0

    def named(name):
        return small_config(
            folder / name, games=GAME, eval_every=0, final_games=8, decompose="pnlc", critic=str(folder / "critic"),
            warm_start_data=str(folder / "data"), warm_start_holders="random",
        )  # fmt: skip

    return named


def test_a_run_clones_games_on_disk_and_is_credited_by_a_critic(config):
    run = config("straight")
    _, lines = train_quietly(run)
    first, second, *_, last = metrics(Path(run.run_dir))
    assert last["value_explained"] == last["value_explained"] and "value_explained" not in first
    assert first["negative_log_prob"] > second["negative_log_prob"]  # the recorded games are being learnt
    kept = EpisodeSource(Path(run.run_dir) / "episodes")
    assert splits(kept.manifest) == ["self_play"] and len(kept) == 12  # what was cloned is on disk already
    assert any("pnlc / role / role_label / kto" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("iteration", [1, 3])
def test_interrupted_it_ends_where_the_straight_one_does(config, iteration):
    straight, cut = config("straight"), config(f"cut-{iteration}")
    train_quietly(straight)
    train_until(cut, iteration)
    train_quietly(cut)
    ends = [checkpoint(Path(run.run_dir), ITERATIONS) for run in (straight, cut)]
    assert_equal(*ends)
    assert metrics(Path(straight.run_dir)) == metrics(Path(cut.run_dir))
