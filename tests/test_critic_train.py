"""Runs that learn from games on disk and are credited by a critic, as the commands train them."""

import pytest

from maro_jax.data.reader import EpisodeSource, splits
from maro_jax.pnlc.__main__ import main_cli
from tests.entry_points import ITERATIONS, assert_equal, checkpoint, metrics, small_config, train_quietly, train_until

pytestmark = pytest.mark.usefixtures("kept_programs")
GAME = "kuhn-v0:thought_tokens=4"


def test_a_run_with_a_critic_interrupted_ends_where_the_straight_one_does(tmp_path):
    for arguments in (
        ["collect", f"--game={GAME}", "--player=random", "--episodes=24", "--lanes=8", f"--out={tmp_path / 'data'}"],
        ["train", tmp_path / "data", "--steps=30", "--batch_size=32", f"--out={tmp_path / 'critic'}"],
    ):
        with pytest.raises(SystemExit) as stop:
            main_cli(list(map(str, arguments)))
        assert stop.value.code == 0

    def config(name):
        return small_config(
            tmp_path / name, games=GAME, eval_every=0, final_games=8, decompose="pnlc",
            critic=str(tmp_path / "critic"), warm_start_data=str(tmp_path / "data"), warm_start_holders="random",
        )  # fmt: skip

    _, lines = train_quietly(config("straight"))
    train_until(config("cut"), 3)
    train_quietly(config("cut"))
    assert_equal(checkpoint(tmp_path / "straight", ITERATIONS), checkpoint(tmp_path / "cut", ITERATIONS))
    rows = metrics(tmp_path / "straight")
    assert rows == metrics(tmp_path / "cut")
    kept = EpisodeSource(tmp_path / "straight" / "episodes")
    assert splits(kept.manifest) == ["self_play"] and len(kept) == 12  # what was cloned is on disk already
    first, last = rows[0], rows[-1]
    assert last["value_explained"] == last["value_explained"] and "value_explained" not in first
    assert first["negative_log_prob"] > rows[1]["negative_log_prob"]  # the recorded games are being learnt
    assert any("pnlc / role / role_label / kto" in line for line in lines)
