"""Runs that are killed, or whose disk fails them, and that end as if nothing had been."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from maro_jax.league.trainer import Trainer
from maro_jax.run import exit_codes
from maro_jax.run.checkpoint import Checkpoints
from maro_jax.run.config import TrainConfig
from maro_jax.run.directory import read_games
from maro_jax.run.flags import run_cli
from maro_jax.train import _main
from tests.entry_points import (
    ITERATIONS,
    ROOT,
    assert_equal,
    checkpoint,
    contents,
    flags_of,
    metrics,
    small_config,
    train_quietly,
)

pytestmark = pytest.mark.usefixtures("kept_programs")

OF_THE_LAYOUT = {"lane_occupancy", "useful_ingest_slots", "useful_decode_slots"}  # metrics of how devices were used
# A run of two warm-start and two self-play iterations has these, if each iteration is saved.
ROLLOUTS, UPDATES, SAVES, MOST_MILLISECONDS = 4, 12, 4, 4000


def _config(folder):
    return small_config(folder, games="kuhn-v0", save_every_minutes=0.0)


@pytest.fixture(scope="module")
def told(kept_programs, tmp_path_factory):
    """A run that nothing befell, but that some of its saves seemed to take long; its folder and what it printed."""
    folder, save = tmp_path_factory.mktemp("straight") / "run", Checkpoints.save
    seconds = iter([0.0, 19.0, 31.2, 25.0, 0.0])  # of the save before each
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda *given: save(*given) * 0 + next(seconds))
        _, lines = train_quietly(_config(folder))
    assert next(seconds, None) is None
    return folder, lines


@pytest.fixture(scope="module")
def straight(told):
    """The folder of a run that nothing befell."""
    return told[0]


def _struck(folder, fault, number):
    """Starts the run, or goes on with it, until a fault strikes."""
    command = [sys.executable, "-m", "tests.faulty_trainer", fault, str(number), *flags_of(_config(folder))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def _unfinished(folder):
    return sorted(path.name for path in (folder / "checkpoints").glob("*-tmp"))


def _assert_ends_as(folder, straight, capsys):
    """Goes on to the end: everything but what a clock measured is as in a run that nothing befell."""
    summary, lines = train_quietly(_config(folder))
    assert "damaged" not in capsys.readouterr().err
    assert_equal(checkpoint(folder, ITERATIONS), checkpoint(straight, ITERATIONS))
    assert metrics(folder) == metrics(straight)
    assert read_games(folder) == read_games(straight)
    assert contents(folder / "episodes") == contents(straight / "episodes")
    expected = json.loads((straight / "summary.json").read_text())
    rates = [name for name in expected if name.startswith("win_rate")]
    assert [summary[name] for name in rates] == [expected[name] for name in rates] != []
    return "\n".join(lines)


def test_a_run_killed_in_a_rollout_an_update_and_a_save_ends_as_the_straight_one(straight, tmp_path, capsys):
    folder = tmp_path / "run"
    for fault, number in (("save", 1), ("update", 2), ("rollout", 3)):
        result = _struck(folder, fault, number)
        assert result.returncode == -signal.SIGKILL, result.stderr
        if fault == "save":
            assert _unfinished(folder), "the checkpoint was finished before the kill"
    assert "resumed after iteration" in _assert_ends_as(folder, straight, capsys)
    assert not _unfinished(folder)


def test_a_save_that_takes_longer_than_any_before_is_told(told):
    (note,) = (line for line in told[1] if line.startswith("note: the last checkpoint"))
    assert "took 31 s to write" in note


@pytest.mark.slow
def test_no_kill_of_twenty_loses_anything(straight, tmp_path, capsys):
    choose, landed, in_saves = random.Random(0), 0, 0
    for number in itertools.count():
        folder = tmp_path / f"run-{number}"
        for _ in range(4):
            fault, most = choose.choice(
                [("rollout", ROLLOUTS), ("update", UPDATES), ("save", SAVES), ("time", MOST_MILLISECONDS)]
            )
            result = _struck(folder, fault, choose.randint(1, most))
            if result.returncode == exit_codes.DONE:  # it came to its end before
                break
            assert result.returncode == -signal.SIGKILL, result.stderr
            landed, in_saves = landed + 1, in_saves + bool(_unfinished(folder))
        _assert_ends_as(folder, straight, capsys)
        if landed >= 20 and in_saves >= 3:
            break
    print(f"{landed} kills in {number + 1} runs, {in_saves} of them while a checkpoint was being written")


@pytest.mark.slow
def test_a_run_goes_on_on_another_number_of_devices(straight, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert _struck(folder, "rollout", 3).returncode == -signal.SIGKILL
    monkeypatch.setenv("XLA_FLAGS", re.sub(r"(device_count)=8", r"\1=2", os.environ["XLA_FLAGS"]))
    command = [sys.executable, "-m", "maro_jax.train", *flags_of(_config(folder))]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == exit_codes.DONE, result.stderr
    assert re.search(r"began on .* count 8.*, this is .* count 2.*; numbers may differ in their last", result.stdout)
    rows, expected = metrics(folder), metrics(straight)
    assert rows[0] == expected[0] and len(rows) == len(expected) == ITERATIONS
    # Sums in another order differ in rounding, and from there on runs part slowly.
    for row, other in zip(rows[1:3], expected[1:3], strict=True):
        assert row.keys() == other.keys()
        for name in other.keys() - OF_THE_LAYOUT:
            np.testing.assert_allclose(row[name], other[name], rtol=1e-3, err_msg=name)


def test_a_disk_that_takes_no_more_ends_a_run_with_a_sentence_and_loses_nothing(straight, tmp_path, capsys):
    folder = tmp_path / "run"
    result = _struck(folder, "size", 300_000)
    assert result.returncode == exit_codes.STORAGE == 74, result.stderr
    sentence = rf"^error: {folder}/checkpoints can no longer be written: File too large; what was saved is kept"
    assert re.search(sentence, result.stderr, re.MULTILINE)
    assert "maro_jax/train.py" not in result.stderr  # threads of Orbax's may still say more
    _assert_ends_as(folder, straight, capsys)


@pytest.mark.slow
def test_a_folder_that_is_gone_ends_a_run_with_a_sentence(straight, tmp_path, capsys, monkeypatch):
    folder, away = tmp_path / "run", tmp_path / "away"
    untouched = Trainer.iterate

    def vanishing(self, state, iteration):
        if iteration == 2:
            folder.rename(away)
        return untouched(self, state, iteration)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(Trainer, "iterate", vanishing)
        run_cli(TrainConfig, _main, flags_of(_config(folder)))
    assert stop.value.code == exit_codes.STORAGE
    sentence = rf"^error: {folder}\S* can no longer be written: No such file or directory; what was saved is kept"
    assert re.search(sentence, capsys.readouterr().err, re.MULTILINE)
    assert not (folder / "config.json").exists()
    shutil.rmtree(folder, ignore_errors=True)  # what a thread may have begun to write in its place
    away.rename(folder)
    _assert_ends_as(folder, straight, capsys)
