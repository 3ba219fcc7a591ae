"""Matches as a person asks for them: runs, warm starts, models and scripted players."""

import json
import shutil

import jax
import numpy as np
import pytest

from maro_jax.evaluate import _main, evaluate
from maro_jax.league import match
from maro_jax.run.config import EvaluateConfig
from maro_jax.run.flags import run_cli
from tests.entry_points import ITERATIONS, checkpoint, contents
from tests.policy.hf_fixture import make_model_folder

pytestmark = pytest.mark.usefixtures("kept_programs")

# The sizes of a small run's own matches, so that their programs are used again.
SIZES = {"lanes": 8, "num_games": 16}


def _config(**settings):
    config = EvaluateConfig(**(SIZES | {name: str(value) if name in ("policy", "opponent", "json") else value
                                        for name, value in settings.items()}))  # fmt: skip
    config.validate()
    return config


def _refusal(capsys, **settings):
    arguments = [f"--{name}={value}" for name, value in (SIZES | settings).items()]
    with pytest.raises(SystemExit) as stop:
        run_cli(EvaluateConfig, _main, arguments)
    assert stop.value.code == 2
    errors = capsys.readouterr().err
    assert len(errors.splitlines()) == 1
    return errors


@pytest.fixture
def match_arguments(monkeypatch):
    """What `play_match` was called with, instead of playing."""
    calls = []
    rate = match.Rate(0.5, 0.4, 0.6, 8)

    def recorded(arena, params, against, games, **settings):
        calls.append({"params": params, "against": against, "games": games, **settings})
        return match.MatchResult(rate, {"village": rate}, {"seer": rate}, games, 0.0)

    monkeypatch.setattr(match, "play_match", recorded)
    return calls


def _assert_stored(params, stored, prefix):
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    assert len(leaves) > 20
    for path, leaf in leaves:
        name = f"{prefix}.{jax.tree_util.keystr(path, simple=True, separator='.')}"
        np.testing.assert_array_equal(np.asarray(leaf), np.asarray(stored[name]), err_msg=name)


def test_a_match_against_the_warm_start_is_printed_and_written(finished_run, tmp_path, capsys):
    folder = finished_run.folder
    before = contents(folder)
    arguments = [f"--policy={folder}", "--lanes=8", "--num_games=16", f"--json={tmp_path / 'match.json'}"]
    with pytest.raises(SystemExit) as stop:
        run_cli(EvaluateConfig, _main, arguments)
    assert stop.value.code == 0
    result = json.loads((tmp_path / "match.json").read_text())
    assert result["games"] == 16 and result["total"]["count"] == 8
    assert result["total"]["low"] <= result["total"]["mean"] <= result["total"]["high"]
    assert set(result["sides"]) == {"village", "wolves"} and set(result["roles"]) == {
        "wolf", "seer", "doctor", "villager",
    }  # fmt: skip
    assert np.isclose(np.mean([rate["mean"] for rate in result["sides"].values()]), result["total"]["mean"])
    assert result["config"]["policy"] == str(folder) and result["games_per_second"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert f"{folder} against warm_start, 16 games" in lines
    total = next(line for line in lines if line.startswith("all sides"))
    assert f"{result['total']['mean']:.3f}" in total
    assert any(line.startswith("as village") for line in lines)
    assert contents(folder) == before


def test_a_policy_and_itself_on_mirrored_deals_are_even(finished_run):
    folder = finished_run.folder
    # Cold sampling is almost free of chance, so that both games of a deal are the same game seen from two sides.
    result = evaluate(_config(policy=folder, opponent=folder, temperature=1e-6, opponent_temperature=1e-6))
    assert result["total"]["mean"] == 0.5
    assert result["total"]["high"] - result["total"]["low"] < 1e-6


def test_a_match_against_scripted_players(finished_run):
    result = evaluate(_config(policy=finished_run.folder, opponent="heuristic", seed=5))
    assert result["games"] == 16 and 0 <= result["total"]["mean"] <= 1 and result["truncated"] < 1


def test_who_plays_with_which_weights_and_temperatures(finished_run, match_arguments):
    folder = finished_run.folder
    stored = checkpoint(folder, ITERATIONS)
    evaluate(_config(policy=folder, opponent="warm_start", temperature=0.7, opponent_temperature=0.3))
    evaluate(_config(policy=folder, opponent="random"))
    evaluate(_config(policy="tiny", opponent=folder))
    evaluate(_config(policy=folder, opponent="tiny"))
    against_warm, against_random, against_run, against_tiny = match_arguments
    _assert_stored(against_warm["params"], stored, "learner.params")
    _assert_stored(against_warm["against"], stored, "opponent")
    assert (against_warm["temperature"], against_warm["opponent_temperature"]) == (0.7, 0.3)
    assert against_random["against"] == "random"
    _assert_stored(against_run["against"], stored, "learner.params")
    for leaf, other in zip(
        jax.tree.leaves(against_run["params"]), jax.tree.leaves(against_tiny["against"]), strict=True
    ):
        np.testing.assert_array_equal(leaf, other)
    assert {call["purpose"] for call in match_arguments} == {2_000_000}


def test_models_that_do_not_fit_each_other_are_refused(finished_run, tmp_path, capsys):
    folder = finished_run.folder
    model, other = tmp_path / "model", tmp_path / "other"
    make_model_folder(model)
    make_model_folder(other, hidden_size=16)
    capsys.readouterr()
    games = "werewolf-v0:num_seats=5,max_days=1"
    for policy, opponent in ((folder, model), (model, "tiny"), (model, other)):
        errors = _refusal(capsys, policy=policy, opponent=opponent, games=games)
        assert "are models of different shapes or tokenizers" in errors


def test_what_cannot_be_played_is_refused(finished_run, tmp_path, capsys):
    folder = finished_run.folder
    young = tmp_path / "young"
    (young / "checkpoints").mkdir(parents=True)
    shutil.copy(folder / "config.json", young)
    assert "is a run without a checkpoint so far" in _refusal(capsys, policy=young, opponent="random")
    assert "--opponent=warm_start is that of a run" in _refusal(capsys, policy="tiny", opponent="warm_start")
    assert "There is no game 'chess-v0'" in _refusal(capsys, policy=folder, opponent="random", games="chess-v0")
    assert "do not both divide by 8 devices" in _refusal(capsys, policy=folder, opponent="random", lanes=12)

    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    for file in (damaged / "checkpoints").rglob("manifest.ocdbt"):
        file.unlink()
    before = contents(damaged)
    errors = _refusal(capsys, policy=damaged, opponent="random")
    assert f"none of the checkpoints [{ITERATIONS}]" in errors
    assert contents(damaged) == before
