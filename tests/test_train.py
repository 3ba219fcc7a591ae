"""Training as a person starts it: to the end, interrupted, resumed, refused."""

import contextlib
import dataclasses
import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from maro_jax.league import match, session
from maro_jax.league.final import FINAL_PURPOSES
from maro_jax.league.report import alarms
from maro_jax.league.trainer import Trainer
from maro_jax.run import exit_codes
from maro_jax.run.config import TrainConfig
from maro_jax.run.directory import RunDirectory, read_games
from maro_jax.run.fields import ConfigError
from maro_jax.run.flags import run_cli
from maro_jax.train import Stopped, _main, _trace_if_due, train
from tests.entry_points import (
    ITERATIONS,
    ROOT,
    assert_equal,
    checkpoint,
    contents,
    flags_of,
    metrics,
    run_lightly,
    small_config,
    train_quietly,
    train_until,
)
from tests.policy.hf_fixture import make_model_folder
from tests.run.replay_pages import assert_same, games_in

pytestmark = pytest.mark.usefixtures("kept_programs")


def _command(capsys, *arguments):
    """Runs the training command in this process; returns its exit code and what it said on stderr."""
    with pytest.raises(SystemExit) as stop:
        run_cli(TrainConfig, _main, arguments)
    return stop.value.code, capsys.readouterr().err


# ---------------------------------------------------------------------- to the end


def test_a_run_leaves_its_summary_metrics_games_and_replay(finished_run):
    folder, lines = finished_run.folder, finished_run.lines
    summary = json.loads((folder / "summary.json").read_text())
    for name in ("win_rate", "win_rate_scripted_before", "win_rate_scripted_after", "win_rate_random_before"):
        assert 0 <= summary[name] <= 1
        assert summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"]
        assert summary[f"{name}_games"] == (16 if name == "win_rate" else 8)
        assert math.isclose(np.mean([rate["mean"] for rate in summary[f"{name}_sides"].values()]), summary[name])
    assert summary["temperature"] == 1.0 and summary["games_per_second"] > 0
    assert all(0 < summary["self_play"][name] < 1 for name in ("rollout_of_floor", "mfu", "lane_occupancy"))
    assert summary["compile"]["programs"] > 10 and summary["compile"]["seconds"] > 0
    assert summary["seconds_total"] > 0 and 0.1 < summary["peak_rss_gib"] < 64

    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["3", "4"]  # by --save_every, at the end
    rows = metrics(folder)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert ["win_rate" in row for row in rows] == [False, False, False, True]
    for name in ("loss", "entropy", "grad_norm", "learning_rate", "useful_decode_slots", "mirror_win_rate/village"):
        assert math.isfinite(rows[3][name])

    recorded = json.loads((folder / "config.json").read_text())
    assert recorded["devices"]["count"] == 8 and recorded["devices"]["platform"] == "cpu"
    games = read_games(folder)
    assert {game["iteration"] for game in games} == {1, 2, 3, 4}
    assert_same(games_in(folder / "replay.html"), games)

    assert lines[-1] == str(folder.resolve())
    assert lines[-2] == f"replay: {folder / 'replay.html'}"
    for title in ("trained against its warm start", "warm start against random players"):
        assert sum(line.startswith(title) for line in lines) == 1


def test_a_finished_run_prints_its_table_again_and_plays_nothing(finished_run, monkeypatch, capsys):
    folder, lines = finished_run.folder, finished_run.lines
    before = contents(folder)
    monkeypatch.setattr(session, "open_session", None)
    summary = train(small_config(folder))
    assert summary == json.loads((folder / "summary.json").read_text())
    printed = capsys.readouterr().out.splitlines()
    assert printed == lines[-len(printed) :] and any("warm start against heuristic" in line for line in printed)
    assert contents(folder) == before


# ---------------------------------------------------------------------- interrupted and resumed


def test_a_run_interrupted_anywhere_ends_where_the_straight_one_does(finished_run, tmp_path, monkeypatch):
    straight = finished_run.folder
    config = small_config(tmp_path / "run")
    folder = tmp_path / "run"
    train_until(config, 0)
    assert [row["step"] for row in metrics(folder)] == [1]
    train_until(config, 2)
    assert [row["step"] for row in metrics(folder)] == [1, 2, 3]

    # In the middle of the final matches: those played are not played again.
    played = []
    untouched = match.play_match

    def counted(*arguments, **keywords):
        if keywords["purpose"] in FINAL_PURPOSES.values():
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

    assert_equal(checkpoint(folder, ITERATIONS), checkpoint(straight, ITERATIONS))
    assert metrics(folder) == metrics(straight)
    assert read_games(folder) == read_games(straight)
    assert contents(folder / "episodes") == contents(straight / "episodes")
    expected = json.loads((straight / "summary.json").read_text())
    assert summary.keys() == expected.keys()
    for name in summary:
        if name.startswith("win_rate"):
            assert summary[name] == expected[name]
    assert lines[-1] == str(folder)


def test_another_seed_ends_elsewhere(finished_run, tmp_path):
    straight = finished_run.folder
    train_until(small_config(tmp_path, seed=1), 0)
    (row,) = metrics(tmp_path)
    assert row["loss"] != metrics(straight)[0]["loss"]


def test_a_checkpoint_of_another_run_is_refused(finished_run, tmp_path):
    config = small_config(tmp_path, seed=1)
    train_until(config, 0)
    shutil.rmtree(tmp_path / "checkpoints")
    shutil.copytree(finished_run.folder / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match=r"config.json beside it tells \(seed 0\); choose"):
        train_quietly(config)


def test_too_many_steps_that_are_not_finite_end_with_3(tmp_path, capsys):
    config = small_config(tmp_path, warm_start_games=0, learning_rate=1e38, max_bad_steps=1)
    code, errors = _command(capsys, *flags_of(config))
    assert code == exit_codes.NOT_FINITE == 3
    assert "not finite" in errors and str(tmp_path / "not_finite.json") in errors
    assert not (tmp_path / "summary.json").exists()
    told = json.loads((tmp_path / "not_finite.json").read_text())
    assert told["seed"] == config.seed and told["iteration"] == 1 and told["optimizer_step"] == 2
    for step in told["steps"]:
        assert step["loss"] is None and step["not_finite"].keys() <= step["gradient_norms"].keys()
        assert step["not_finite"] and all(step["gradient_norms"][name] is None for name in step["not_finite"])


def test_a_run_that_ends_with_3_tells_which_games_did_it(tmp_path, capsys, monkeypatch):
    play = Trainer._play

    def poisoned(self, *given):
        played, statistics = play(self, *given)
        log_probs = np.array(played.episodes.log_probs)
        log_probs[3] = np.nan
        episodes = dataclasses.replace(played.episodes, log_probs=log_probs)
        return dataclasses.replace(played, episodes=episodes), statistics

    monkeypatch.setattr(Trainer, "_play", poisoned)
    config = small_config(tmp_path, warm_start_games=0, max_bad_steps=1, iterations=5)
    code, _ = _command(capsys, *flags_of(config))
    told = json.loads((tmp_path / "not_finite.json").read_text())
    assert code == exit_codes.NOT_FINITE and told["games"] == {"werewolf-v0": {"log_probs": [3]}}
    assert told["parameters"] == told["optimizer"] == {}
    first, second = sorted(told["steps"], key=lambda step: 3 in step["episodes"]["werewolf-v0"])
    assert sorted(first["episodes"]["werewolf-v0"] + second["episodes"]["werewolf-v0"]) == list(range(config.episodes))
    assert first["not_finite"] == {} and math.isfinite(first["loss"]) and min(first["gradient_norms"].values()) > 0
    assert second["loss"] is None and second["not_finite"]["embedding"] > 0
    assert {game["iteration"] for game in read_games(tmp_path)} == {told["iteration"]}


@pytest.mark.parametrize(
    ("number", "until"),
    [(signal.SIGTERM, "3/4"), pytest.param(signal.SIGINT, "maro-jax", marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_ends_with_75_and_the_same_command_goes_on(finished_run, tmp_path, number, until):
    straight = finished_run.folder
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "maro_jax.train", *flags_of(small_config(folder))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith(until):
            process.send_signal(number)
            break
    _, errors = process.communicate(timeout=300)
    assert process.returncode == exit_codes.PREEMPTED == 75, errors
    assert f"{number.name}: saved; the same command goes on from here" in errors and "Traceback" not in errors
    (step,) = (folder / "checkpoints").iterdir()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == exit_codes.DONE, result.stderr
    assert f"resumed after iteration {step.name}\n" in result.stdout or step.name == "0"
    assert result.stdout.splitlines()[-1] == str(folder)
    assert_equal(checkpoint(folder, ITERATIONS), checkpoint(straight, ITERATIONS))
    assert contents(folder / "episodes") == contents(straight / "episodes")


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize("module", ["maro_jax.train", "maro_jax.evaluate"])
@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--lerning_rate=3", "there is no flag --lerning_rate"),
        ("learning_rate=3", "unexpected argument learning_rate=3"),
        ("--seed=many", "--seed=many is not allowed: it must be an integer from 0 to 2.14748e+09"),
    ],
)
def test_a_wrong_flag_is_answered_without_loading_a_framework(module, argument, sentence):
    result = run_lightly(module, argument)
    assert (result.returncode, result.stdout) == (2, "heavy: []\n")
    assert sentence in result.stderr and len(result.stderr.splitlines()) == 1


def _pickled_model(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    return folder


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--preset=werewolf-big", "--preset=werewolf-big is not one of werewolf-tiny, werewolf-smoke, bargaining-tiny"),
        ("--games=werwolf-v0", "social_deduction-v0, werewolf-v0; did you mean werewolf-v0?"),
        ("--games=werewolf-v0:seats=6", "werewolf-v0 has no parameter 'seats'; it has: num_seats"),
        ("--games=werewolf-v0:num_seats=4", "num_seats"),
        ("--capacity=50", "--capacity is 50; allow"),
        ("--model=/no/such/folder", "--model=/no/such/folder does not exist"),
        ("--model={pickled}", "holds only pickled weights (pytorch_model.bin)"),
        ("--opponents=league --games=shopping-v0", "but --games=shopping-v0 is played alone"),
        ("--lanes=12", "--lanes=12 does not divide by the 8 devices that share a batch, for example --lanes=16"),
        ("--episodes=36", "--episodes=36 in --minibatches=2 does not divide by the 8 devices"),
        ("--fsdp=3", "--data=0 --fsdp=3 --tensor=1 does not fit 8 devices"),
        ("--tensor=8", "8 devices, which does not divide"),
        ("--cpu_devices=4", "--cpu_devices=4 came too late, since JAX already has 8 CPU devices"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence_and_leaves_no_run(tmp_path, capsys, flag, sentence):
    folder = tmp_path / "run"
    flag = flag.format(pickled=_pickled_model(tmp_path / "model"))
    code, errors = _command(capsys, "--preset=werewolf-smoke", f"--run_dir={folder}", *flag.split())
    assert code == exit_codes.USAGE == 2
    assert sentence in errors and len(errors.splitlines()) == 1
    # The folder may stand, with its lock; a run of the right configuration can begin in it.
    assert contents(tmp_path).keys() - {"run/.lock"} == {"model/config.json", "model/pytorch_model.bin"}
    RunDirectory.open(folder, small_config(folder)).close()


def test_a_run_of_another_configuration_is_refused_and_left_as_it_is(finished_run, capsys):
    folder = finished_run.folder
    before = contents(folder)
    code, errors = _command(capsys, *flags_of(small_config(folder, episodes=32)))
    assert code == exit_codes.USAGE
    assert "episodes is 16 there and 32 here" in errors and len(errors.splitlines()) == 1
    assert contents(folder) == before


# ---------------------------------------------------------------------- a real model folder


LABELS = "werewolf-v0:num_seats=5,max_days=2"
FREE_TEXT = f"{LABELS},speech_tokens=4,thought_tokens=3"


def _assert_learnt_from(folder, step, games):
    """Asserts that a model folder's run holds changed weights, and games that the model played in its own words."""
    stored = checkpoint(folder, step)
    assert stored["learner.params.embedding"].shape[1] == 32 and stored["learner.bad_steps"] == 0
    assert np.any(np.asarray(stored["learner.params.embedding"]) != np.asarray(stored["opponent.embedding"]))
    items = [item for game in read_games(folder) for item in game["items"]]
    behaviours = [item for item in items if item["type"] == "behaviour"]
    assert {"Player 1", "accuse Player 2"} <= {item["action"] for item in behaviours}
    sampled = [item for item in behaviours if item["holder"] == "learner"]
    assert sampled and all(item["action"] in item["legal"] for item in sampled)
    assert any(item["thought"] for item in sampled) == ("thought" in games)
    assert any(item["speech"] for item in sampled) == ("speech" in games)
    for spoken, item in itertools.pairwise(items):
        if item.get("kind") == "utterance":
            assert spoken["phase"] == "speak" and item["text"].endswith(spoken["speech"])


def test_a_run_says_when_its_damping_rather_than_its_outcomes_decides(finished_run):
    lines = (finished_run.folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == ITERATIONS and not any(alarms(json.loads(line)) for line in lines[2:])
    far, farther = alarms({"gradient_scale": 0.42, "saturated": 0.31})
    assert "down to 0.42" in far and "31% of the behaviours" in farther
    assert all("--beta" in note for note in (far, farther))


def test_a_run_begins_with_the_warm_start_of_another_and_plays_as_that_went_on(finished_run, tmp_path):
    """With the same seed and settings it goes the same way, so what differs between two runs is what was set."""
    summary, _ = train_quietly(small_config(tmp_path / "run", warm_start_from=str(finished_run.folder)))
    ours, theirs = checkpoint(tmp_path / "run", ITERATIONS - 2), checkpoint(finished_run.folder, ITERATIONS)
    for name, array in theirs.items():
        np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(array), err_msg=name)
    assert summary["win_rate"] == json.loads((finished_run.folder / "summary.json").read_text())["win_rate"]


def test_kto_measures_to_weights_that_lag_behind(finished_run, tmp_path):
    settings = {"warm_start_from": str(finished_run.folder), "iterations": 2, "eval_every": 0, "final_games": 8}
    settings |= {"utility": "kto", "reference_point": "token_kl", "learning_rate": 0.02, "save_every": 1}
    ways = {"iteration": {}, "lagged": {"reference": "lagged", "magnet_rate": 0.25}}
    for way, changes in ways.items():
        train_quietly(small_config(tmp_path / way, **(settings | changes)))
    (first, second), (lagged_first, lagged_second) = (metrics(tmp_path / way) for way in ways)
    for name in ("loss", "kl", "gradient_scale", "entropy"):  # until then the weights that play are the warm start
        assert lagged_first[name] == pytest.approx(first[name], rel=1e-3, abs=1e-5), name
    assert lagged_second["kl"] > 1.5 * second["kl"] > 0 and lagged_second["gradient_scale"] < second["gradient_scale"]
    before, after = checkpoint(tmp_path / "lagged", 1), checkpoint(tmp_path / "lagged", 2)
    names = [name.removeprefix("magnet.") for name in after if name.startswith("magnet.")]
    for name in names:
        lagging, learnt = np.asarray(before[f"magnet.{name}"]), np.asarray(after[f"learner.params.{name}"])
        np.testing.assert_allclose(after[f"magnet.{name}"], 0.75 * lagging + 0.25 * learnt, rtol=1e-5, atol=1e-6)
    assert names and not any(name.startswith("magnet.") for name in checkpoint(tmp_path / "iteration", 2))


@pytest.mark.parametrize("first, iterations, traced", [(0, 4, 3), (0, 1, 2), (4, 4, 5)])
def test_the_second_iteration_of_self_play_in_a_session_is_traced(first, iterations, traced, tmp_path, monkeypatch):
    folders = []

    @contextlib.contextmanager
    def trace(folder):
        folders.append(folder)
        yield

    monkeypatch.setattr(jax.profiler, "trace", trace)
    trainer, directory = (
        SimpleNamespace(warm_iterations=2, total_iterations=2 + iterations),
        SimpleNamespace(path=tmp_path),
    )
    for profile in (False, True):
        config = small_config(tmp_path, profile=profile)
        for iteration in range(first, trainer.total_iterations):
            before = len(folders)
            with _trace_if_due(config, directory, trainer, first, iteration):
                assert (len(folders) > before) == (profile and iteration == traced)
    assert folders == [tmp_path / "profile"]


def test_a_warm_start_that_is_not_finished_is_refused(tmp_path, capsys):
    source, folder = tmp_path / "source", tmp_path / "run"
    train_until(small_config(source), 0)
    capsys.readouterr()
    code, said = _command(capsys, *flags_of(small_config(folder, warm_start_from=str(source))))
    assert code == 2 and "has finished 1 of 2 warm-start iterations; train on with" in said


def test_an_iteration_of_an_ordinary_model_folder(tmp_path):
    make_model_folder(tmp_path / "model", "qwen3", num_layers=1)
    folder = tmp_path / "run"
    train_until(small_config(folder, model=str(tmp_path / "model"), games=LABELS, warm_start_games=0), 0)
    _assert_learnt_from(folder, 1, LABELS)


@pytest.mark.slow
@pytest.mark.parametrize("games", [LABELS, FREE_TEXT])
def test_an_ordinary_model_folder_is_trained_to_the_end(tmp_path, games):
    model, folder = tmp_path / "model", tmp_path / "run"
    make_model_folder(model, "llama")
    before = contents(model)
    config = small_config(folder, model=str(model), games=games, iterations=1, warm_start_games=16, eval_every=1)
    summary, lines = train_quietly(config)
    assert 0 <= summary["win_rate"] <= 1 and lines[-1] == str(folder)
    _assert_learnt_from(folder, 2, games)
    assert contents(model) == before
