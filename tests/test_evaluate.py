"""Matches as a person asks for them: runs, warm starts, models and scripted players."""

import itertools
import json
import shutil

import jax
import numpy as np
import pytest

from maro_jax.data.reader import EpisodeSource
from maro_jax.evaluate import _main, _print_standings, evaluate
from maro_jax.league import match
from maro_jax.run.evaluate_config import EvaluateConfig
from maro_jax.run.flags import run_cli
from tests.api.server import chat_server
from tests.entry_points import (
    ITERATIONS,
    assert_equal,
    checkpoint,
    contents,
    metrics,
    small_config,
    train_quietly,
    train_until,
)
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
    votes = result["play"]["village_votes_for_wolf"]
    assert votes["count"] > 8 and f"{votes['mean']:.3f}" in next(of for of in lines if of.startswith("village votes"))
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


def test_recorded_games_name_the_run_and_its_checkpoint(finished_run, tmp_path):
    run, folder = str(finished_run.folder), tmp_path / "data"
    with chat_server() as server:
        game = {"games": "kuhn-v0:thought_tokens=20", "num_games": 4, "lanes": 1}
        evaluate(_config(policy=run, opponent="api:m", api_base=server.address, record=str(folder), **game))
    seats = [{seat.holder: (seat.player, seat.weights) for seat in record.seats} for record in EpisodeSource(folder)]
    assert seats == [{"learner": (run, ITERATIONS), "api": ("api:m", -1)}] * 4


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


def _league(folder, finished_run):
    settings = {"opponents": "league", "pool_size": 2, "pool_every": 1, "magnet": 0.1, "magnet_rate": 0.25}
    settings |= {"decompose": "value", "reference_point": "sampled_kl", "eval_every": 0, "final_games": 8}
    return small_config(folder, warm_start_from=str(finished_run.folder), **settings)


@pytest.mark.slow
def test_a_league_goes_on_where_it_was_stopped(finished_run, tmp_path):
    straight, stopped = (_league(tmp_path / name, finished_run) for name in ("straight", "stopped"))
    train_quietly(straight)
    train_until(stopped, 1)
    train_quietly(stopped)
    assert metrics(tmp_path / "stopped") == metrics(tmp_path / "straight")
    assert_equal(checkpoint(tmp_path / "stopped", 2), checkpoint(tmp_path / "straight", 2))


def test_past_selves_of_a_league_are_kept_and_can_be_played(finished_run, tmp_path, capsys):
    train_quietly(_league(tmp_path / "run", finished_run))
    rows, stored = metrics(tmp_path / "run"), checkpoint(tmp_path / "run", 2)
    assert rows[0]["opponent_born"] == 0 and rows[1]["opponent_born"] in (0, 1)
    assert all(0 <= row["opponent_win_rate"] <= 1 for row in rows) and np.sum(stored["pool.games"]) > 0
    assert np.asarray(stored["pool.born"]).tolist() == [0, 1, 2]
    leaves = [name.removeprefix("opponent.") for name in stored if name.startswith("opponent.")]
    for leaf in leaves:
        kinds = ("opponent", "pool.members.0", "pool.members.1", "learner.params", "magnet")
        warm, first, second, last, magnet = (np.asarray(stored[f"{kind}.{leaf}"]) for kind in kinds)
        np.testing.assert_array_equal(second, last, err_msg=leaf)  # frozen after the last iteration
        np.testing.assert_allclose(magnet, 0.5625 * warm + 0.1875 * first + 0.25 * second, rtol=1e-5, atol=1e-6)
    assert len(leaves) > 20 and rows[0]["magnet_kl"] != rows[1]["magnet_kl"] > 0
    assert stored["value.gram"][0, 0] > 0 and all(row["value_explained"] < 1 for row in rows)

    config = _config(policy=tmp_path / "run", opponent="past,random")
    result = evaluate(config)
    players = ["--policy", "after 1", "after 2", "random"]
    assert list(result["ratings"]) == players
    assert [(of["player"], of["against"]) for of in result["matches"]] == list(itertools.combinations(players, 2))
    assert all(of["games"] == 16 for of in result["matches"])
    _print_standings(config, result)
    lines = capsys.readouterr().out.splitlines()
    assert {name for name in players if any(line.startswith(f"{name} ") for line in lines)} == set(players)


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
    for name in ("warm_start", "past"):
        assert f"--opponent={name} is that of a run" in _refusal(capsys, policy="tiny", opponent=name)
    assert "keeps no past selves" in _refusal(capsys, policy=folder, opponent="random,past")
    assert "names somebody twice" in _refusal(capsys, policy=folder, opponent="random,heuristic,random")
    assert "There is no game 'chess-v0'" in _refusal(capsys, policy=folder, opponent="random", games="chess-v0")
    assert "do not both divide by 8 devices" in _refusal(capsys, policy=folder, opponent="random", lanes=12)

    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    for file in (damaged / "checkpoints").rglob("manifest.ocdbt"):
        file.unlink()
    before = contents(damaged)
    errors = _refusal(capsys, policy=damaged, opponent="random")
    assert f"none of the checkpoints [{ITERATIONS - 1}, {ITERATIONS}]" in errors
    assert contents(damaged) == before
