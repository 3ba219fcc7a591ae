"""Training as a person starts it: to the end, interrupted, resumed, refused."""

import json
import math
import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest
from transformers import Qwen2ForCausalLM

from maro_jax.league import match, session
from maro_jax.run import exit_codes
from maro_jax.run.config import TrainConfig
from maro_jax.run.directory import RunDirectory, read_games
from maro_jax.run.flags import run_cli
from maro_jax.train import NotFinite, Stopped, _main, train
from tests import entry_points
from tests.entry_points import ITERATIONS, checkpoint, contents, metrics, small_config, train_quietly, train_until
from tests.policy.hf_fixture import make_qwen2_folder

pytestmark = pytest.mark.usefixtures("kept_programs")


def _assert_equal(left, right):
    assert left.keys() == right.keys() and len(left) > 100
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(np.asarray(left[name]), np.asarray(right[name]), err_msg=name)


# ---------------------------------------------------------------------- to the end


def test_a_run_leaves_its_summary_metrics_games_and_replay(finished_run):
    folder, lines = finished_run
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("win_rate", "win_rate_scripted_before", "win_rate_scripted_after", "win_rate_random_before"):
        assert 0 <= summary[name] <= 1
        assert summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"]
        assert summary[f"{name}_games"] == 16
        assert math.isclose(np.mean([rate["mean"] for rate in summary[f"{name}_sides"].values()]), summary[name])
    assert summary["temperature"] == 1.0 and summary["games_per_second"] > 0
    assert summary["seconds_total"] > 0 and 0.1 < summary["peak_rss_gib"] < 64

    rows = metrics(folder)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert ["win_rate" in row for row in rows] == [False, False, False, True]
    for name in ("loss", "entropy", "grad_norm", "learning_rate", "useful_decode_slots", "mirror_win_rate/village"):
        assert math.isfinite(rows[3][name])

    recorded = json.loads((folder / "config.json").read_text())
    assert recorded["devices"]["count"] == 8 and recorded["devices"]["platform"] == "cpu"
    games = read_games(folder)
    assert {game["iteration"] for game in games} == {1, 2, 3, 4}
    page = (folder / "replay.html").read_text()
    embedded = json.loads(re.search(r'<script[^>]*application/json[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert embedded["games"] == games

    assert lines[-1] == str(folder.resolve())
    assert lines[-2] == f"replay: {folder / 'replay.html'}"
    for title in ("trained against its warm start", "warm start against random players"):
        assert sum(line.startswith(title) for line in lines) == 1


def test_a_finished_run_prints_its_table_again_and_plays_nothing(finished_run, monkeypatch, capsys):
    folder, lines = finished_run
    before = contents(folder)
    monkeypatch.setattr(session, "open_session", None)
    summary = train(small_config(folder))
    assert summary == json.loads((folder / "summary.json").read_text())
    # The clock's numbers too, since they are those of the summary.
    assert capsys.readouterr().out.splitlines() == lines[-len(summary_lines(lines)):]
    assert contents(folder) == before


def summary_lines(lines):
    """The lines from the blank one before the table on."""
    return lines[max(index for index, line in enumerate(lines) if line.startswith("match ")) - 1 :]


# ---------------------------------------------------------------------- interrupted and resumed


def test_a_run_interrupted_anywhere_ends_where_the_straight_one_does(finished_run, tmp_path, monkeypatch):
    straight, _ = finished_run
    config = small_config(tmp_path / "run")
    folder = tmp_path / "run"
    train_until(config, 0)
    assert [row["step"] for row in metrics(folder)] == [1]
    train_until(config, 2)
    assert [row["step"] for row in metrics(folder)] == [1, 2, 3]
    train_until(config, 3)
    assert not (folder / "summary.json").exists()
    _assert_equal(checkpoint(folder, ITERATIONS), checkpoint(straight, ITERATIONS))

    # In the middle of the final matches: those played are not played again.
    played = []
    untouched = match.play_match

    def counted(*arguments, **keywords):
        played.append(keywords["purpose"])
        if len(played) == 2:
            signal.raise_signal(signal.SIGTERM)
        return untouched(*arguments, **keywords)

    monkeypatch.setattr(match, "play_match", counted)
    with pytest.raises(Stopped, match="SIGTERM"):
        train_quietly(config)
    assert len(played) == 2 and not (folder / "summary.json").exists()
    summary, lines = train_quietly(config)
    assert len(played) == 5
    # The matches before and after training share their deals; the others are apart.
    assert played[1] == played[2] and played[3] == played[4] and len(set(played)) == 3

    _assert_equal(checkpoint(folder, ITERATIONS), checkpoint(straight, ITERATIONS))
    assert metrics(folder) == metrics(straight)
    assert read_games(folder) == read_games(straight)
    expected = json.loads((straight / "summary.json").read_text())
    assert summary.keys() == expected.keys()
    for name in summary:
        if name.startswith("win_rate"):
            assert summary[name] == expected[name]
    assert lines[-1] == str(folder)


def test_another_seed_ends_elsewhere(finished_run, tmp_path):
    straight, _ = finished_run
    train_until(small_config(tmp_path, seed=1), 0)
    (row,) = metrics(tmp_path)
    assert row["loss"] != metrics(straight)[0]["loss"]


def test_too_many_steps_that_are_not_finite_end_with_3(tmp_path, capsys):
    config = small_config(tmp_path, warm_start_games=0, learning_rate=1e38, learning_rate_final=1.0, max_bad_steps=1)
    with pytest.raises(SystemExit) as stop:
        run_cli(TrainConfig, _main, [*entry_points.flags_of(config), "--warm_start_games=0", "--learning_rate=1e38",
                                     "--learning_rate_final=1", "--max_bad_steps=1"])  # fmt: skip
    assert stop.value.code == exit_codes.NOT_FINITE == 3
    printed = capsys.readouterr()
    assert "not finite" in printed.err and str(tmp_path) in printed.err
    assert not (tmp_path / "summary.json").exists()
    with pytest.raises(NotFinite):
        train(config)


def _start(config, until):
    """The training command as a process of its own; returns it once it has printed a line that starts with `until`."""
    process = subprocess.Popen(
        entry_points.command("maro_jax.train", *entry_points.flags_of(config)),
        cwd=entry_points.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith(until):
            return process
    pytest.fail(f"the command ended early: {process.communicate()[1]}")


@pytest.mark.parametrize(
    ("number", "until"),
    [(signal.SIGTERM, "1/4"), pytest.param(signal.SIGINT, "maro-jax", marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_ends_with_75_and_the_same_command_goes_on(finished_run, tmp_path, number, until):
    straight, _ = finished_run
    config = small_config(tmp_path / "run")
    process = _start(config, until)
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == exit_codes.PREEMPTED == 75, errors
    assert f"{number.name}: saved; the same command goes on from here" in errors and "Traceback" not in errors
    (step,) = os.listdir(tmp_path / "run" / "checkpoints")
    assert 1 <= int(step) < ITERATIONS
    _assert_equal(checkpoint(tmp_path / "run", int(step)), checkpoint(tmp_path / "run", int(step)))
    process = _start(config, "maro-jax")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == exit_codes.DONE, errors
    assert f"resumed after iteration {step}" in output
    assert output.splitlines()[-1] == config.run_dir
    _assert_equal(checkpoint(tmp_path / "run", ITERATIONS), checkpoint(straight, ITERATIONS))
